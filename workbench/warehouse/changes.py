"""Whether a table of PostgreSQL has changed since a moment, whoever changed it and with what.

A trigger on the table writes the number of each transaction that changes it into
`workbench.table_changes`, in that transaction: a change that is rolled back leaves nothing, and one that
is committed is never without its row. Who looks keeps the snapshot that it has looked with. A row
whose transaction that snapshot does not show is new, however long its transaction has taken
(postgresql.org, "Transaction ID and Snapshot Information Functions").
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa

from workbench.errors import WarehouseError, WarehouseUnavailable
from workbench.sections import WarehouseSettings
from workbench.warehouse.engine import make_engine, reported
from workbench.warehouse.schema import literal, lock_ddl, quoted, split_name

LOCK_SECONDS = 2  # writers wait as long behind who waits for the lock
TRIGGER = "workbench_note_change"
TABLES = "rp"  # pg_class.relkind: ordinary and partitioned tables
NOTES = """
CREATE TABLE IF NOT EXISTS workbench.watched_tables (
  relation  oid PRIMARY KEY,
  until     timestamptz NOT NULL
);
CREATE TABLE IF NOT EXISTS workbench.table_changes (
  relation     oid NOT NULL,
  transaction  xid8 NOT NULL,
  done_before  xid8 NOT NULL,
  PRIMARY KEY (relation, transaction)
);
COMMENT ON TABLE workbench.watched_tables IS 'tables whose changes are noted, until nobody has looked for a month';
COMMENT ON COLUMN workbench.table_changes.done_before IS 'all transactions below it had ended when this row was written';
-- With the rights of whoever made it: who may write to the table needs no right to write here.
CREATE OR REPLACE FUNCTION workbench.note_change() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  INSERT INTO workbench.table_changes (relation, transaction, done_before)
  SELECT TG_RELID, pg_current_xact_id(), pg_snapshot_xmin(pg_current_snapshot())
  WHERE NOT EXISTS (SELECT FROM workbench.watched_tables w WHERE w.relation = TG_RELID AND w.until <= now())
  ON CONFLICT DO NOTHING;
  RETURN NULL;
END $$;
REVOKE ALL ON FUNCTION workbench.note_change() FROM PUBLIC;
DELETE FROM workbench.watched_tables w WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = w.relation);
DELETE FROM workbench.table_changes t WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.relation);
"""
FIND = sa.text("""
SELECT c.oid, c.relkind,
       EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid AND t.tgname = :trigger AND t.tgenabled <> 'D')
         AS has_trigger,
       to_regclass('workbench.watched_tables') IS NOT NULL AS has_notes
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = :schema AND c.relname = :name
""")
NOW = "SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system, pg_current_snapshot()::text AS snapshot"
IS_WATCHED = sa.text("SELECT until > now() FROM workbench.watched_tables WHERE relation = :relation")
WATCH = sa.text("""
INSERT INTO workbench.watched_tables AS w (relation, until) VALUES (:relation, now() + interval '30 days')
ON CONFLICT (relation) DO UPDATE SET until = excluded.until WHERE w.until < now() + interval '15 days'
""")
# Snapshot and rows of one statement: what the one shows, the other has. Numbers of transactions that are
# still to come are those of a server that this one was restored from.
LOOK = sa.text(f"""
{NOW}, pg_snapshot_xmax(CAST(:since AS pg_snapshot)) > pg_snapshot_xmax(pg_current_snapshot()) AS went_back,
  EXISTS (
    SELECT FROM workbench.table_changes
    WHERE relation = :relation AND transaction < pg_snapshot_xmax(pg_current_snapshot())
      AND NOT pg_visible_in_snapshot(transaction, CAST(:since AS pg_snapshot))
  ) AS is_new
""")
# Of two rows, one is enough for whoever has seen neither, if its transaction wrote it after the other's had ended.
FORGET = sa.text("""
DELETE FROM workbench.table_changes WHERE relation = :relation AND transaction < (
  SELECT done_before FROM workbench.table_changes WHERE relation = :relation ORDER BY done_before DESC LIMIT 1
)
""")


@dataclass(frozen=True, kw_only=True)
class TableMoment:
    """A table at a moment. As JSON it is `as_json`; comparable by `TableWatch.look`."""

    system: str  #: identifier of the server's data
    relation: int  #: oid of the table; 0 when there was none
    snapshot: str  #: of PostgreSQL: which transactions were over

    def as_json(self) -> dict[str, Any]:
        """As it is kept."""
        return asdict(self)


class TableWatch:
    """Looks at tables of one warehouse, over a connection that stays. Not for several threads.

    Args:
        settings: the warehouse.

    Raises:
        WarehouseError: when it is no PostgreSQL.
    """

    def __init__(self, settings: WarehouseSettings) -> None:
        if settings.dialect != "postgresql":
            raise WarehouseError(
                f"changes of tables are seen in PostgreSQL only, and the warehouse is {settings.dialect}",
                remedy="Take a schedule, or a trigger by the pipeline that writes the table.",
            )
        self._settings = settings
        self._engine: sa.Engine | None = None

    def __enter__(self) -> Self:
        self._engine = make_engine(self._settings, lock_seconds=LOCK_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._engine is not None:
            self._engine.dispose()

    def look(self, table: str, since: TableMoment | None) -> tuple[TableMoment, bool]:
        """The table now, and whether it has changed since; the first look makes the trigger.

        When that cannot be known, as of a table that was made anew or a warehouse that was restored, it has changed.

        Args:
            table: `schema.table`.
            since: of an earlier look; None begins now, and nothing has changed.

        Raises:
            WarehouseUnavailable: when the warehouse does not answer.
            WarehouseError: when it is no table, or the trigger cannot be made.
        """
        try:
            with reported(self._settings):
                relation, is_known = self._prepare(table)
                return self._compare(relation, since, is_known=is_known)
        except WarehouseUnavailable:
            raise
        except WarehouseError as error:
            raise WarehouseError(
                f"changes of {table} cannot be seen: {error.message}",
                remedy=f"Let {self._settings.user} own the table, or grant it TRIGGER on it and CREATE on the database.",
            ) from None

    def _prepare(self, table: str) -> tuple[int, bool]:
        """The table, 0 for none, and whether all of its changes were noted until now; from now on they are."""
        schema, name = split_name(table)
        with self._opened().begin() as connection:
            found = connection.execute(FIND, {"schema": schema, "name": name, "trigger": TRIGGER}).one_or_none()
            if found is None:
                return 0, True
            if found.relkind not in TABLES:
                raise WarehouseError("it is no table, but a view or the like", remedy="")
            own = {"relation": int(found.oid)}
            is_known = found.has_trigger and found.has_notes and bool(connection.execute(IS_WATCHED, own).scalar())
            if not is_known:
                _make_notes(connection)
                # Until the end of the transaction nobody writes, and whoever has written is done.
                connection.execute(literal(f"LOCK TABLE {quoted(schema, name)} IN SHARE ROW EXCLUSIVE MODE"))
                if not found.has_trigger:
                    _make_trigger(connection, quoted(schema, name))
            connection.execute(WATCH, own)
        return int(found.oid), is_known

    def _compare(self, relation: int, since: TableMoment | None, *, is_known: bool) -> tuple[TableMoment, bool]:
        with self._opened().begin() as connection:
            if since is not None and not relation:
                return since, False  # a table that is gone has changed when it is there again
            if since is None:
                found = connection.execute(sa.text(NOW)).one()
                return TableMoment(system=found.system, relation=relation, snapshot=found.snapshot), False
            found = connection.execute(LOOK, {"relation": relation, "since": since.snapshot}).one()
            if found.is_new:
                connection.execute(FORGET, {"relation": relation})
        moment = TableMoment(system=found.system, relation=relation, snapshot=found.snapshot)
        is_same = (moment.system, moment.relation) == (since.system, since.relation) and not found.went_back
        return moment, found.is_new or not is_known or not is_same

    def _opened(self) -> sa.Engine:
        assert self._engine is not None, "use it as a context manager"
        return self._engine


def _make_notes(connection: sa.Connection) -> None:
    lock_ddl(connection)
    if not sa.inspect(connection).has_schema("workbench"):
        connection.execute(sa.schema.CreateSchema("workbench"))
    connection.execute(literal(NOTES))


def _make_trigger(connection: sa.Connection, table: str) -> None:
    # One that somebody has disabled is there, and notes nothing.
    connection.execute(literal(f"DROP TRIGGER IF EXISTS {TRIGGER} ON {table}"))
    connection.execute(
        literal(
            f"CREATE TRIGGER {TRIGGER} AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION workbench.note_change()"
        )
    )
