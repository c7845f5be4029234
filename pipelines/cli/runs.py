"""`workbench pipelines run`, `show`, `output`, `cancel` and `repair`: one run."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
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
    reading_keys,
    shown_seconds,
    shown_time,
)
from pipelines.states import State
from workbench.errors import NoSuchRun

if TYPE_CHECKING:
    from pipelines.planning.runs import Plan
    from pipelines.store.database import Store
    from pipelines.store.pages.runs import RunPage

RUN = typer.Argument(help="The number of the run.")


def add_commands(group: typer.Typer) -> None:
    """Register the commands of this module."""
    group.command("run")(pipelines_run)
    group.command("show")(pipelines_show)
    group.command("output")(pipelines_output)
    group.command("cancel")(pipelines_cancel)
    group.command("repair")(pipelines_repair)


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


def pipelines_output(
    run_id: int = RUN,
    step: str = typer.Option("", "--step", help="Of this step; needed when the run has several."),
    to: Path | None = typer.Option(None, "--to", help="Write it to this file, which is replaced; else it is printed."),
) -> None:
    """Give the notebook of a step's last attempt, decrypted; of one that runs or was cut off, as far as it came.

    What is written to a file is no longer encrypted.

    Example: workbench pipelines output 17 --to delays.ipynb
    """
    from pipelines.service.site.outputs import read_output
    from pipelines.store.pages.runs import read_run
    from workbench.security.secrets import write_private

    with open_store() as store, store.transaction() as connection:
        attempts = read_run(connection, run_id, events=0).attempts
    content = read_output(_last_output(run_id, attempts, step), reading_keys())
    if to is None:
        typer.echo(content, nl=False)
    else:
        write_private(to, content)


def _last_output(run_id: int, attempts: Sequence[Mapping[str, Any]], step: str) -> Path:
    found = {each["step"]: Path(each["output_path"]) for each in attempts if each["output_path"]}
    if not found:
        raise NoSuchRun(f"run {run_id} has put out nothing", remedy="Wait until a step has begun.")
    if not step and len(found) > 1:
        raise NoSuchRun(f"run {run_id} has several steps", remedy=f"Say --step and one of {', '.join(found)}.")
    if step and step not in found:
        raise NoSuchRun(f"step {step} of run {run_id} has put out nothing", remedy=f"Others have: {', '.join(found)}.")
    return found[step] if step else next(iter(found.values()))


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

    follow_run(store, run_id, keys=reading_keys(), with_output=follow, is_quiet=as_json)
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
