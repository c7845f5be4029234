"""Definitions are pinned, and runs are made: each once, whoever makes it and how often."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from pipelines.store.records import Json, NewRun, NewStep
from pipelines.store.runs.settling import enqueue
from pipelines.store.tables import DEFINITIONS, PIPELINES, POOLS, RUNS
from workbench.errors import NoSuchRun, StoreError

NEXT_IDS = sa.text("SELECT nextval('pipelines.runs_id_seq') FROM generate_series(1, :count)")
STEPS_OF_RUNS = sa.text("""
INSERT INTO pipelines.steps (run_id, name, position, after, pools, retries)
SELECT run_id, :name, :position, CAST(:after AS text[]), CAST(:pools AS text[]), CAST(:retries AS json)
FROM unnest(CAST(:run_ids AS bigint[])) AS run_id
""")


@dataclass(frozen=True, kw_only=True)
class PipelineLimits:
    """What a pipeline allows, and how long its runs are kept; None is no limit."""

    max_runs: int | None = None  #: at once; runs of backfills do not count, they have a pool of their own
    keep_runs: int | None = None
    keep_days: int | None = None


def register(
    connection: sa.Connection, pipeline: str, definition: Mapping[str, Json], limits: PipelineLimits = PipelineLimits()
) -> str:
    """Make *definition* the one that new runs of the pipeline pin; returns its sha256.

    Older ones stay as long as a run pins them.
    """
    body = json.dumps(definition, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    sha256 = hashlib.sha256(body.encode()).hexdigest()
    connection.execute(insert(DEFINITIONS).values(sha256=sha256, body=body).on_conflict_do_nothing())
    now = {
        "definition_sha256": sha256,
        "max_runs": limits.max_runs,
        "keep_runs": limits.keep_runs,
        "keep_days": limits.keep_days,
    }
    new = insert(PIPELINES).values(name=pipeline, **now)
    changed = {**now, "updated_at": sa.func.now()}
    connection.execute(new.on_conflict_do_update(index_elements=[PIPELINES.c.name], set_=changed))
    return sha256


def read_definition(connection: sa.Connection, sha256: str) -> Json:
    """The definition that a run pins.

    Raises:
        NoSuchRun: when nothing pins it.
    """
    body = connection.execute(sa.select(DEFINITIONS.c.body).where(DEFINITIONS.c.sha256 == sha256)).scalar_one_or_none()
    if body is None:
        raise NoSuchRun(f"there is no definition {sha256}", remedy="Register the pipeline again.")
    return json.loads(body)


def set_pool(connection: sa.Connection, name: str, size: int) -> None:
    """Let so many steps run at once that name the pool; a smaller size stops none that runs."""
    new = insert(POOLS).values(name=name, size=size)
    connection.execute(new.on_conflict_do_update(index_elements=[POOLS.c.name], set_={"size": size}))


def ensure_pools(connection: sa.Connection, names: Iterable[str], size: int = 1) -> None:
    """Make those that are not there, with *size* slots; the others stay as they are."""
    rows = [{"name": name, "size": size} for name in sorted(names)]
    if rows:
        connection.execute(insert(POOLS).on_conflict_do_nothing(), rows)


def pause_pool(connection: sa.Connection, name: str, *, paused: bool) -> None:
    """Let no step begin that names the pool, or let them begin again; what runs goes on.

    Raises:
        NoSuchRun: when there is no such pool.
    """
    if not connection.execute(sa.update(POOLS).where(POOLS.c.name == name).values(paused=paused)).rowcount:
        raise NoSuchRun(f"there is no pool {name}", remedy="Correct the name, or set its size first.")


def make_runs(connection: sa.Connection, runs: Sequence[NewRun]) -> dict[str, int]:
    """Make those of *runs* whose key is new, and let their first steps be claimed; returns ids by key.

    Raises:
        StoreError: when a step names a pool that is not there; nothing was made.
    """
    _check_pools(connection, {pool for run in runs for step in run.steps for pool in step.pools})
    by_key = {run.key: run for run in runs}
    if not by_key:
        return {}
    # Ids in the order of *runs*, since of equal runs the least is claimed first; rows in the order of their keys,
    # so that two who make the same runs at once do not wait for each other.
    ids = connection.execute(NEXT_IDS, {"count": len(by_key)}).scalars()
    rows = sorted((_row(run_id, key, run) for run_id, (key, run) in zip(ids, by_key.items(), strict=True)), key=_key)
    new = insert(RUNS).on_conflict_do_nothing(index_elements=[RUNS.c.key]).returning(RUNS.c.key, RUNS.c.id)
    found = {row.key: row.id for row in connection.execute(new, rows)}
    made: dict[str, int] = {key: found[key] for key in by_key if key in found}
    for steps, run_ids in _by_steps({run_id: by_key[key] for key, run_id in made.items()}):
        connection.execute(STEPS_OF_RUNS, [{**row, "run_ids": run_ids} for row in _step_rows(steps)])
        enqueue(connection, run_ids, [step.name for step in steps if not step.after])
    return made


def find_run(connection: sa.Connection, key: str) -> int | None:
    """The id of the run with this key; None when there is none."""
    return connection.execute(sa.select(RUNS.c.id).where(RUNS.c.key == key)).scalar_one_or_none()


def _key(row: Mapping[str, Json]) -> str:
    return str(row["key"])


def _by_steps(made: Mapping[int, NewRun]) -> list[tuple[tuple[NewStep, ...], list[int]]]:
    """Runs by their steps: those of a backfill all have the same, which are then written for all at once."""
    found: list[tuple[tuple[NewStep, ...], list[int]]] = []
    for run_id, run in made.items():
        same = next((run_ids for steps, run_ids in found if steps == run.steps), None)
        if same is None:
            found.append((run.steps, [run_id]))
        else:
            same.append(run_id)
    return found


def _check_pools(connection: sa.Connection, names: set[str]) -> None:
    if not names:
        return
    there = set(connection.execute(sa.select(POOLS.c.name).where(POOLS.c.name.in_(names))).scalars())
    if missing := sorted(names - there):
        # Its steps would wait for ever.
        raise StoreError(
            f"there is no pool {', '.join(missing)}", remedy="Set its size, or take it out of the pipeline."
        )


def _row(run_id: int, key: str, run: NewRun) -> dict[str, Json]:
    return {
        "id": run_id,
        "key": key,
        "pipeline": run.pipeline,
        "trigger": run.trigger,
        "instant": run.instant,
        "event_id": run.event_id,
        "partition": run.partition,
        "backfill_id": run.backfill_id,
        "definition_sha256": run.definition_sha256,
        "git_commit": run.git_commit,
        "notebook_hashes": dict(run.notebook_hashes),
        "lock_hash": run.lock_hash,
        "parameters": run.parameters,
        "run_as": run.run_as,
        "requested_by": run.requested_by,
        "priority": run.priority,
        "timeout_seconds": run.timeout_seconds,
    }


def _step_rows(steps: Sequence[NewStep]) -> list[dict[str, Json]]:
    return [
        {
            "name": step.name,
            "position": position,
            "after": list(step.after),
            "pools": list(step.pools),
            "retries": json.dumps(step.retries.as_json()),
        }
        for position, step in enumerate(steps)
    ]
