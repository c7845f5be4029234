"""Definitions are pinned, and runs are made: each once, whoever makes it and how often."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from pipelines.store.records import Json, NewRun
from pipelines.store.runs.settling import enqueue
from pipelines.store.tables import DEFINITIONS, PIPELINES, POOLS, RUNS, STEPS
from workbench.errors import NoSuchRun, StoreError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a pipeline allows, and how long its runs are kept; None is no limit."""

    max_runs: int | None = None  #: at once; runs of backfills do not count, they have a pool of their own
    keep_runs: int | None = None
    keep_days: int | None = None


def register(
    connection: sa.Connection, pipeline: str, definition: Mapping[str, Json], limits: Limits = Limits()
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


def pause_pool(connection: sa.Connection, name: str, *, paused: bool) -> None:
    """Let no step begin that names the pool, or let them begin again; what runs goes on.

    Raises:
        NoSuchRun: when there is no such pool.
    """
    if not connection.execute(sa.update(POOLS).where(POOLS.c.name == name).values(paused=paused)).rowcount:
        raise NoSuchRun(f"there is no pool {name}", remedy="`workbench pipelines queue` shows pools.")


def make_runs(connection: sa.Connection, runs: Sequence[NewRun]) -> dict[str, int]:
    """Make those of *runs* whose key is new, and let their first steps be claimed; returns ids by key.

    Raises:
        StoreError: when a step names a pool that is not there; nothing was made.
    """
    _check_pools(connection, {pool for run in runs for step in run.steps for pool in step.pools})
    # In one order, so that two who make the same runs at once do not wait for each other.
    by_key = _sorted(runs)
    if not by_key:
        return {}
    new = insert(RUNS).on_conflict_do_nothing(index_elements=[RUNS.c.key]).returning(RUNS.c.key, RUNS.c.id)
    made: dict[str, int] = {
        row.key: row.id for row in connection.execute(new, [_row(key, run) for key, run in by_key.items()])
    }
    steps = [row for key, run_id in made.items() for row in _step_rows(run_id, by_key[key])]
    if steps:
        connection.execute(insert(STEPS).returning(STEPS.c.id), steps)
        for names, run_ids in _first_steps({run_id: by_key[key] for key, run_id in made.items()}).items():
            enqueue(connection, run_ids, names)
    return made


def _sorted(runs: Iterable[NewRun]) -> dict[str, NewRun]:
    found = {run.key: run for run in runs}
    return {key: found[key] for key in sorted(found)}


def _first_steps(made: Mapping[int, NewRun]) -> dict[tuple[str, ...], list[int]]:
    """Runs by what their first steps are called: those of a backfill are all the same."""
    found: dict[tuple[str, ...], list[int]] = {}
    for run_id, run in made.items():
        found.setdefault(tuple(step.name for step in run.steps if not step.after), []).append(run_id)
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


def _row(key: str, run: NewRun) -> dict[str, Json]:
    return {
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


def _step_rows(run_id: int, run: NewRun) -> list[dict[str, Json]]:
    return [
        {
            "run_id": run_id,
            "name": step.name,
            "position": position,
            "after": list(step.after),
            "pools": list(step.pools),
            "retries": step.retries.as_json(),
        }
        for position, step in enumerate(run.steps)
    ]
