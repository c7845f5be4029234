"""`workbench pipelines run`, `show`, `cancel` and `repair`: one run."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import typer

from pipelines.cli.asking import (
    JSON,
    PARAMETER,
    as_line,
    open_store,
    parse_given,
    person,
    plan_of,
    print_table,
    shown_seconds,
    shown_time,
)
from pipelines.states import State
from workbench.security.audit import Action
from workbench.security.audit.commands import audited, not_audited

if TYPE_CHECKING:
    from pipelines.planning.runs import Plan
    from pipelines.store.database import Store
    from pipelines.store.pages.runs import RunPage

RUN = typer.Argument(help="The number of the run.")


def add_commands(group: typer.Typer) -> None:
    """Register the commands of this module."""
    group.command("run")(pipelines_run)
    group.command("show")(pipelines_show)
    group.command("cancel")(pipelines_cancel)
    group.command("repair")(pipelines_repair)


@audited(Action.RUN_STARTED, "pipeline:{name}")
def pipelines_run(
    name: str = typer.Argument(help="The pipeline: a file of pipelines/jobs/ without .yaml."),
    given: list[str] = PARAMETER,
    wait: bool = typer.Option(False, "--wait", help="Wait for its end; exit 1 unless it succeeded."),
    follow: bool = typer.Option(False, "--follow", help="As --wait, and show what it prints as it prints it."),
    as_json: bool = JSON,
) -> None:
    """Make a run now. A worker begins with it as soon as it has room.

    Example: workbench pipelines run daily-delays -p month=2 --follow
    """
    plan, values = plan_of(name), parse_given(given)
    with open_store() as store:
        run_id = _make_run(store, plan, values)
        if not as_json:
            typer.echo(f"Run {run_id} of {name} waits for a worker.", err=True)
        _report(store, run_id, wait=wait, follow=follow, as_json=as_json)


@not_audited("It only looks.")
def pipelines_show(run_id: int = RUN, as_json: bool = JSON) -> None:
    """Show a run: its steps, what became of each attempt, where their outputs are.

    Example: workbench pipelines show 17
    """
    from pipelines.store.pages.runs import read_run

    with open_store() as store, store.transaction() as connection:
        page = read_run(connection, run_id)
    if as_json:
        typer.echo(as_line(_as_dict(page)))
    else:
        _print(page)


@audited(Action.RUN_CANCELLED, "run:{run_id}")
def pipelines_cancel(
    run_id: int = RUN,
    reason: str = typer.Option("", help="Why; people read it."),
    as_json: bool = JSON,
) -> None:
    """End a run: no more steps begin, and those that run are interrupted. What they have put out is kept.

    Example: workbench pipelines cancel 17 --reason "wrong month"
    """
    from pipelines.store.runs.stopping import stop

    with open_store() as store, store.transaction() as connection:
        is_stopped = stop(connection, run_id, reason or f"cancelled by {person()}")
    if as_json:
        typer.echo(as_line({"run": run_id, "cancelled": is_stopped}))
    else:
        typer.echo(f"Run {run_id} is being ended." if is_stopped else f"Run {run_id} has ended or is being ended.")


@audited(Action.RUN_REPAIRED, "run:{run_id}")
def pipelines_repair(
    run_id: int = RUN,
    steps: list[str] = typer.Option([], "--step", help="Run this step again, whatever became of it."),
    wait: bool = typer.Option(False, "--wait", help="Wait for its end; exit 1 unless it succeeded."),
    follow: bool = typer.Option(False, "--follow", help="As --wait, and show what it prints as it prints it."),
    as_json: bool = JSON,
) -> None:
    """Run again what did not succeed and what follows from it; what succeeded is kept.

    Example: workbench pipelines repair 17 --follow
    """
    from pipelines.store.runs.stopping import repair

    with open_store() as store:
        with store.transaction() as connection:
            again = repair(connection, run_id, by=person(), steps=steps)
        if not as_json:
            typer.echo(f"Run {run_id} runs again: {', '.join(sorted(again))}.", err=True)
        _report(store, run_id, wait=wait, follow=follow, as_json=as_json)


def _make_run(store: Store, plan: Plan, values: dict[str, str]) -> int:
    from pipelines.parameters import parse_texts
    from pipelines.planning.registering import ensure_registered
    from pipelines.planning.runs import Start
    from pipelines.store.records import Trigger
    from pipelines.store.runs.making import make_runs

    start = Start(trigger=Trigger.MANUAL, instant=datetime.now(UTC), event_id=uuid.uuid4().hex, requested_by=person())
    run = plan.run(start, parse_texts(plan.pipeline.parameters, values))
    with store.transaction() as connection:
        ensure_registered(connection, plan.pipeline)
        return make_runs(connection, [run])[run.key]


def _report(store: Store, run_id: int, *, wait: bool, follow: bool, as_json: bool) -> None:
    """Say what there is to say of a run that has just begun; exit 1 when it was waited for and did not succeed."""
    if not wait and not follow:
        if as_json:
            typer.echo(as_line({"run": run_id}))
        return
    from pipelines.cli.following import follow_run
    from pipelines.store.pages.runs import read_run

    follow_run(store, run_id, with_output=follow, is_quiet=as_json)
    with store.transaction() as connection:
        page = read_run(connection, run_id)
    if as_json:
        typer.echo(as_line(_as_dict(page)))
    elif not follow:
        _print(page)
    if page.run["state"] != State.SUCCEEDED:
        raise typer.Exit(1)


def _as_dict(page: RunPage) -> dict[str, Any]:
    return {"run": page.run, "steps": page.steps, "attempts": page.attempts, "events": page.events}


def _print(page: RunPage) -> None:
    run = page.run
    reason = f": {run['reason']}" if run["reason"] else ""
    typer.echo(f"Run {run['id']} of {run['pipeline']} {run['state']}{reason}")
    for name, value in run["parameters"].get("run", {}).items():
        typer.echo(f"  {name} = {value}")
    columns = ["step", "attempt", "state", "started", "took", "memory", "output"]
    print_table(columns, [_row(each) for each in page.attempts], lambda _: typer.echo("No step has begun."))
    for each in page.attempts:
        if each["error"]:
            lines = [*each["error"].splitlines(), *(each["last_lines"] or "").splitlines()[-10:]]
            where = "" if each["cell"] is None else f", cell {each['cell'] + 1}"
            typer.echo(f"\n{each['step']}, attempt {each['number']}{where}:\n" + "\n".join(f"  {it}" for it in lines))


def _row(attempt: dict[str, Any]) -> list[str]:
    memory = attempt["peak_memory_bytes"]
    return [
        attempt["step"],
        str(attempt["number"]),
        attempt["state"],
        shown_time(attempt["started_at"]),
        shown_seconds(attempt),
        f"{memory / 1e6:.0f} MB" if memory else "",
        attempt["output_path"] or "",
    ]
