"""The run of an order: made once, and kept from the workers of the workbench."""

from __future__ import annotations

from dataclasses import replace

from pipelines.elsewhere.order import Cause, Order
from pipelines.planning.registering import ensure_registered
from pipelines.planning.runs import Plan, Start
from pipelines.store.database import Store
from pipelines.store.records import ELSEWHERE, NewRun, Trigger
from pipelines.store.runs.making import ensure_pools, find_run, make_runs


def ensure_run(store: Store, plan: Plan, order: Order, *, requested_by: str) -> int:
    """Make the run, unless it is there; returns its id.

    Raises:
        ParametersRefused: when a value does not fit.
        WorkbenchError: when the pipeline needs something that is not there in this version.
        StoreError: when the store refuses or does not answer.
    """
    run = _run(plan, order, requested_by)
    with store.transaction() as connection:
        if (found := find_run(connection, run.key)) is not None:
            return found
        ensure_pools(connection, [ELSEWHERE], size=0)
        ensure_registered(connection, plan.pipeline, plan.run_as)
        made = make_runs(connection, [run])
        # Of two that begin at once one makes it, and the other has waited for that.
        found = made.get(run.key) or find_run(connection, run.key)
    assert found is not None, "it was made, or was there"
    return found


def _run(plan: Plan, order: Order, requested_by: str) -> NewRun:
    given = {**plan.resolved(order.raw_parameters(plan.pipeline), order.instant, order.run_key), **order.given}
    start = Start(
        trigger=Trigger.EVENT,
        instant=order.instant,
        event_id=f"elsewhere/{order.run_key}",
        event=order.run_key,
        requested_by=requested_by,
    )
    run = plan.run(start, given)
    instant = order.instant if order.cause is Cause.SCHEDULE else None
    return replace(run, instant=instant, steps=tuple(replace(each, pools=(ELSEWHERE,)) for each in run.steps))
