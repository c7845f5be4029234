"""A store of pipelines on a real PostgreSQL, and short ways to make runs in it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.store.claims.beating import beat
from pipelines.store.claims.taking import take
from pipelines.store.database import Store
from pipelines.store.records import Claim, NewRun, NewStep, Trigger, Worker
from pipelines.store.runs.making import PipelineLimits, make_runs, register
from pipelines.store.tables import METADATA
from tests.services.postgres_server import USER, OwnPostgres, running_postgres
from workbench.runtime.ports import LOOPBACK
from workbench.sections import PipelinesSettings, WarehouseSettings

WORKER = Worker(id="one", host="here", pid=1, version="test", slots=8)


@contextmanager
def store_server(home: Path) -> Iterator[OwnPostgres]:
    """A server of its own, in which `new_store` makes databases."""
    with running_postgres(home) as server:
        yield server


@contextmanager
def new_store(server: OwnPostgres, *, connections: int = 10) -> Iterator[Store]:
    """A store in a database of its own; migrated."""
    database = f"store_{uuid.uuid4().hex[:12]}"
    server.ask(f"CREATE DATABASE {database} OWNER {USER}")
    address = store_settings(server, database).as_warehouse(WarehouseSettings())
    with Store(address, connections=connections) as store:
        store.migrate()
        yield store
    server.ask(f"DROP DATABASE {database} WITH (FORCE)")


def emptied(store: Store) -> Store:
    """The same store without anything in it: sooner there than a new one."""
    names = ", ".join(table.fullname for table in METADATA.sorted_tables)
    with store.transaction() as connection:
        connection.exec_driver_sql(f"TRUNCATE {names}")
    return store


def store_settings(server: OwnPostgres, database: str) -> PipelinesSettings:
    """The settings that lead to *database* of the server."""
    return PipelinesSettings(WORKBENCH_PIPELINES_DATABASE_URL=store_url(server, database))


def store_url(server: OwnPostgres, database: str) -> str:
    """The address of *database*, its password included."""
    return f"postgresql://{USER}:{server.server.password}@{LOOPBACK}:{server.server.port}/{database}"


def new_run(
    store: Store, *steps: NewStep, pipeline: str = "p", limits: PipelineLimits = PipelineLimits(), **more: object
) -> int:
    """A run by hand of these steps, or of one named `a`; returns its id."""
    with store.transaction() as connection:
        sha256 = register(connection, pipeline, {"name": pipeline}, limits)
        more = {"trigger": Trigger.MANUAL, "event_id": uuid.uuid4().hex, **more}
        run = NewRun(pipeline=pipeline, definition_sha256=sha256, steps=steps or (NewStep(name="a"),), **more)
        return make_runs(connection, [run])[run.key]


def claim(store: Store, worker: Worker = WORKER) -> Claim | None:
    """The next step."""
    with store.transaction() as connection:
        beat(connection, worker)
        return take(connection, worker.id)


def ask(store: Store, query: str) -> list[tuple[object, ...]]:
    """What a query answers."""
    with store.transaction() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(query)]


def lose(store: Store, taken: Claim) -> None:
    """Let the lease of a claim end, as if its worker had not beaten for long."""
    with store.transaction() as connection:
        connection.exec_driver_sql(
            "UPDATE pipelines.queue SET lease_until = clock_timestamp() - interval '1 second' WHERE attempt_id = %s",
            (taken.attempt_id,),
        )
