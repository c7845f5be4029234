"""Columns whose values are encrypted by subject: rows on their way into a table, and what was read of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from workbench.errors import UnknownSubjectKey
from workbench.security.subjects.keys import SubjectKey, SubjectKeys
from workbench.security.subjects.sealing import erased, seal, unseal


@dataclass(frozen=True, kw_only=True)
class EncryptedColumns:
    """What is encrypted in one table with the keys of one kind of subject."""

    table: str  #: schema.table
    kind: str  #: of subject, such as customer
    subject: str  #: the column that says whose row it is
    columns: tuple[str, ...]

    def place(self, column: str) -> str:
        """What a value is bound to, beside its subject."""
        return f"{self.table}\0{column}"


def encrypt_columns(rows: pa.Table, rule: EncryptedColumns, keys: SubjectKeys) -> tuple[pa.Table, list[int]]:
    """The rows encrypted, and the numbers of those that have a value but no subject, whose values are null.

    Values of subjects that were erased become null: whatever comes of them late is nothing that can be read.

    Raises:
        KeysetError, EncryptionError: when the keys cannot be used.
    """
    present = [name for name in rule.columns if name in rows.column_names]
    if not present or not rows.num_rows:
        return rows, []
    subjects: list[object] = (
        rows[rule.subject].to_pylist() if rule.subject in rows.column_names else [None] * rows.num_rows
    )
    named = {each: keys.fingerprints.of(rule.kind, str(each)) for each in set(subjects) if each is not None}
    found = keys.ensure(rule.kind, named.values())
    mine = [None if each is None else found[named[each]] for each in subjects]
    nobodys: set[int] = set()
    for name in present:
        values = rows[name].to_pylist()
        nobodys |= {
            row
            for row, (value, subject) in enumerate(zip(values, subjects, strict=True))
            if subject is None and value is not None
        }
        place = rule.place(name)
        sealed = [
            None if key is None or value is None else seal(key, value, place)
            for value, key in zip(values, mine, strict=True)
        ]
        rows = rows.set_column(rows.column_names.index(name), rows.schema.field(name), pa.array(sealed, pa.string()))
    return rows, sorted(nobodys)


def decrypt_values(
    values: Sequence[str | None],
    subjects: Sequence[object],
    rule: EncryptedColumns,
    column: str,
    keys: SubjectKeys,
    *,
    skips_erased: bool,
) -> list[str | None]:
    """The values of one column in clear.

    Args:
        values: as the table has them.
        subjects: whose each of them is.
        rule: of the table.
        column: of the values.
        keys: of the workbench.
        skips_erased: whether a value of an erased subject is null, instead of an error.

    Raises:
        SubjectErased: when a subject was erased.
        UnknownSubjectKey: when a subject has no key here, or another one.
        OtherContext, Corrupt, Truncated, UnsupportedFormat: as `workbench.security.subjects.sealing.unseal`.
        KeysetError: when the keys cannot be used.
    """
    named = {each: keys.fingerprints.of(rule.kind, str(each)) for each in set(subjects) if each is not None}
    found = keys.find(rule.kind, named.values())
    clear: list[str | None] = []
    for row, (value, subject) in enumerate(zip(values, subjects, strict=True)):
        if value is None:
            clear.append(None)
            continue
        what = f"{column} in row {row}"
        key = _key(found, named.get(subject), what, rule)
        if key is None and not skips_erased:
            raise erased(rule.kind, what)
        clear.append(None if key is None else unseal(key, value, rule.place(column), what=what))
    return clear


def _key(
    found: dict[str, SubjectKey | None], fingerprint: str | None, what: str, rule: EncryptedColumns
) -> SubjectKey | None:
    if fingerprint is None or fingerprint not in found:
        raise UnknownSubjectKey(
            f"{what} is of a {rule.kind} that has no key here",
            remedy=f"Give {rule.subject} as the table has it, and use the WORKBENCH_HOME of the flow that wrote it.",
        )
    return found[fingerprint]
