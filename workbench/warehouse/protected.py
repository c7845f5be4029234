"""Which columns hold values that are encrypted by subject, as the warehouse remembers it.

Policies are in a file, and a file can be another one, elsewhere or by mistake: whoever writes a table without
its encryption, or with the keys of another workbench, is refused by what stands here.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from workbench.errors import WarehouseError
from workbench.security.subjects.columns import EncryptedColumns
from workbench.warehouse.ledger import make_ledger

PROTECTED = sa.Table(
    "encrypted_columns",
    sa.MetaData(),
    sa.Column("target", sa.Text, primary_key=True, comment="schema.table"),
    sa.Column("column_name", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False, comment="of subject, whose keys encrypt it"),
    sa.Column("subject_column", sa.Text, nullable=False, comment="says whose row it is"),
    sa.Column("keyset", sa.Text, nullable=False, comment="that wraps the keys"),
    schema="workbench",
)


def read_protected(connection: sa.Connection, table: str) -> tuple[EncryptedColumns, ...]:
    """What is encrypted in a table."""
    return tuple(
        EncryptedColumns(table=table, kind=row.kind, subject=row.subject_column, columns=(row.column_name,))
        for row in _rows(connection, table)
    )


def settle_protected(connection: sa.Connection, table: str, rules: Sequence[EncryptedColumns], keyset: str) -> None:
    """Make sure that a flow encrypts what was encrypted before it, and remember what it does.

    Args:
        connection: in a transaction; PostgreSQL.
        table: that the flow writes.
        rules: what it encrypts.
        keyset: id of its keyset; empty without rules.

    Raises:
        WarehouseError: when the flow would write in clear, for other subjects or with other keys what is encrypted.
    """
    wanted = {column: (rule.kind, rule.subject) for rule in rules for column in rule.columns}
    known = {}
    for row in _rows(connection, table):
        known[row.column_name] = row
        if wanted.get(row.column_name) != (row.kind, row.subject_column):
            raise WarehouseError(
                f"{table}.{row.column_name} is encrypted for the {row.kind} of {row.subject_column}, and the policies say otherwise",
                remedy="Write it into `data:` of the file of policies, or have WORKBENCH_POLICIES_FILE name that file.",
            )
        if row.keyset != keyset:
            raise WarehouseError(
                f"{table}.{row.column_name} is encrypted with the keyset {row.keyset[:8]}…, and this is {keyset[:8]}…",
                remedy="Run the flow where its keys are: with the WORKBENCH_HOME that wrote the table.",
            )
    if fresh := [name for name in wanted if name not in known]:
        make_ledger(connection)
        PROTECTED.create(connection, checkfirst=True)
        rows = [
            {"target": table, "column_name": name, "kind": wanted[name][0], "subject_column": wanted[name][1]}
            for name in fresh
        ]
        connection.execute(sa.insert(PROTECTED), [{**row, "keyset": keyset} for row in rows])


def _rows(connection: sa.Connection, table: str) -> Sequence[sa.Row[tuple[str, str, str, str, str]]]:
    if not sa.inspect(connection).has_table(PROTECTED.name, PROTECTED.schema):
        return ()
    query = sa.select(PROTECTED).where(PROTECTED.c.target == table).order_by(PROTECTED.c.column_name)
    return connection.execute(query).all()
