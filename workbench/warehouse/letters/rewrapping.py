"""Dead letters brought under the primary: the headers of their data keys change, the letters do not."""

from __future__ import annotations

import base64

import sqlalchemy as sa

from workbench.errors import WrongKey
from workbench.loading import Target
from workbench.security.encryption.data_keys import open_data_key, rewrapped
from workbench.security.encryption.values import encrypting_anew
from workbench.security.keyset.opening import Keys
from workbench.settings import Settings
from workbench.warehouse.dialects import make_warehouse
from workbench.warehouse.letters.keys import holder
from workbench.warehouse.letters.sealing import CONTEXT, SUBJECT, header_in

NAME = "dead_letters"  #: of the tables, one in each schema (`workbench.loading.Target.dead_letters`)


def rewrap_letters(settings: Settings, keys: Keys) -> int:
    """Wrap the data keys of the dead letters in the warehouse of *settings* under the primary; returns how many there were.

    Args:
        settings: of the workbench.
        keys: of the workbench.

    Raises:
        WarehouseError: when the warehouse does not answer or refuses; the inventory still names the letters.
        KeysetError, EncryptionError: when a data key cannot be opened; the inventory still names the letters.
    """
    mine = holder(settings.warehouse)
    if not keys.file.exists:
        return 0
    older = keys.inventory.entries(other_than=keys.file.read().primary.number)
    needed = [
        each for each in older if each.kind == "values" and (each.name == mine or each.name.startswith(f"{mine}, "))
    ]
    if not needed:
        return 0
    # Who ended before this look at the letters has none to add.
    ended = [each.id for each in needed if each.is_cut_off]
    moved = 0
    warehouse_of = make_warehouse(settings.warehouse, Target(table="", topic=""))
    with encrypting_anew(keys, mine), warehouse_of as warehouse:
        with warehouse.transaction() as connection:
            tables = _tables(connection)
        for table in tables:
            with warehouse.transaction() as connection:
                moved += _rewrap(connection, table, keys, mine)
    keys.inventory.forget(ended)
    return moved


def _rewrap(connection: sa.Connection, table: sa.Table, keys: Keys, mine: str) -> int:
    column, moved = table.c.encrypted_with, 0
    # Whoever writes letters now has the primary, or is named in the inventory by an entry of its own.
    with keys.file.writing_key() as (_, primary):
        for (text,) in connection.execute(sa.select(column).where(column.is_not(None)).distinct()).all():
            try:
                key = open_data_key(keys, header_in(text) or b"", CONTEXT, subject=SUBJECT)
            except WrongKey:
                continue  # of another workbench that writes into the same warehouse
            keys.inventory.hold(mine, primary.number)
            if key.version != primary.number:
                fresh = base64.b64encode(rewrapped(key, primary).header).decode()
                connection.execute(sa.update(table).where(column == text).values(encrypted_with=fresh))
                moved += 1
    return moved


def _tables(connection: sa.Connection) -> list[sa.Table]:
    inspector = sa.inspect(connection)
    found = [
        sa.Table(NAME, sa.MetaData(), schema=schema, autoload_with=connection)
        for schema in inspector.get_schema_names()
        if inspector.has_table(NAME, schema)
    ]
    return [table for table in found if "encrypted_with" in table.c]
