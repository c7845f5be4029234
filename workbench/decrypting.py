"""Columns that are encrypted by subject, in clear: for who may use the keys, and in the audit log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from workbench.errors import WarehouseError
from workbench.security.audit import Action
from workbench.security.audit.commands import recording
from workbench.security.keyset.opening import Keys
from workbench.security.subjects.columns import EncryptedColumns, decrypt_values
from workbench.security.subjects.keys import SubjectKeys
from workbench.settings import Settings
from workbench.warehouse.engine import transaction
from workbench.warehouse.policies.data.tables import refuse_other_dialects
from workbench.warehouse.protected import read_protected

if TYPE_CHECKING:
    import pandas as pd


def decrypt_frame(
    settings: Settings, frame: pd.DataFrame, table: str, *, columns: Sequence[str], erased: str
) -> pd.DataFrame:
    """See `workbench.decrypt`; *frame* stays as it is."""
    if erased not in {"error", "null"}:
        raise WarehouseError(f"erased is {erased!r}", remedy="Give error or null.")
    refuse_other_dialects(settings.warehouse)
    with transaction(settings.warehouse) as connection:
        known = {rule.columns[0]: rule for rule in read_protected(connection, table)}
    chosen = _chosen(frame, table, columns, known)
    clear = frame.copy()
    with recording(settings.home, Action.SUBJECT_KEYS_USED, table) as details:
        details.update(columns=",".join(chosen), rows=len(frame))
        keys = SubjectKeys(settings.home, Keys.of(settings.home, settings.keys))
        for name in chosen:
            rule = known[name]
            clear[name] = decrypt_values(
                _listed(frame, name),
                _listed(frame, rule.subject),
                rule,
                name,
                keys,
                skips_erased=erased == "null",
            )
    return clear


def _chosen(
    frame: pd.DataFrame, table: str, columns: Sequence[str], known: dict[str, EncryptedColumns]
) -> tuple[str, ...]:
    chosen = tuple(columns) or tuple(name for name in known if name in frame.columns)
    strange = [name for name in chosen if name not in known]
    told = ": " + ", ".join(strange) if strange else ""
    if strange or not chosen:
        raise WarehouseError(
            f"{table} has no column that is encrypted by subject{told}",
            remedy=f"Name one of {', '.join(known)}." if known else "Name the table that a flow wrote.",
        )
    needed = {*chosen, *(known[name].subject for name in chosen)}
    if missing := sorted(needed.difference(frame.columns)):
        raise WarehouseError(
            f"the frame has no {', '.join(missing)}",
            remedy="Read it as well: a value is bound to the subject of its row.",
        )
    return chosen


def _listed(frame: pd.DataFrame, name: str) -> list[str | None]:
    # pandas has several values for none, and turns integers with gaps into floats.
    import pandas as pd

    values = frame[name].tolist()
    return [None if pd.isna(each) else int(each) if isinstance(each, float) else each for each in values]  # type: ignore[misc]
