"""`workbench pipelines run`, `show`, `output`, `cancel` and `repair`: one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    shown_time,
)
from pipelines.states import State, shown_seconds
from workbench.errors import NoSuchRun
from workbench.security.audit import Action
from workbench.security.audit.commands import audited, not_audited

if TYPE_CHECKING:
    from pipelines.cli.following import Seen
    from pipelines.store.database import Store
    from pipelines.store.pages.runs import RunPage

ATTEMPTS = "\0"  #: stands where the numbers of attempts come
RUN = typer.Argument(help="The number of the run.")


def add_commands(group: typer.Typer) -> None:
    """Register the commands of this module."""
    group.command("run")(pipelines_run)
    group.command("show")(pipelines_show)
    group.command("output")(pipelines_output)
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
    from pipelines.acting import start_run

    plan, texts = plan_of(name), parse_given(given)
    with open_store() as store:
        run_id = start_run(store, person(), plan, texts=texts)["run"]
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


@not_audited("It reads what is in files of who types it.")
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


@audited(Action.RUN_CANCELLED, "run:{run_id}")
def pipelines_cancel(
    run_id: int = RUN,
    reason: str = typer.Option("", help="Why; people read it."),
    as_json: bool = JSON,
) -> None:
    """End a run: no more steps begin, and those that run are interrupted. What they have put out is kept.

    Example: workbench pipelines cancel 17 --reason "wrong month"
    """
    from pipelines.acting import cancel_run

    with open_store() as store:
        done = cancel_run(store, person(), run=run_id, reason=reason)
    if as_json:
        typer.echo(as_line(done))
    else:
        typer.echo(
            f"Run {run_id} is being ended." if done["cancelled"] else f"Run {run_id} has ended or is being ended."
        )


@audited(Action.RUN_REPAIRED, "run:{run_id}")
def pipelines_repair(  # noqa: PLR0917 - typer
    run_id: int = RUN,
    steps: list[str] = typer.Option([], "--step", help="Run this step again, whatever became of it."),
    from_start: bool = typer.Option(
        False, "--from-start", help="Begin notebooks with their first cell, not a checkpoint."
    ),
    wait: bool = typer.Option(False, "--wait", help="Wait for its end; exit 1 unless it succeeded."),
    follow: bool = typer.Option(False, "--follow", help="As --wait, and show what it prints as it prints it."),
    as_json: bool = JSON,
) -> None:
    """Run again what did not succeed and what follows from it; what succeeded is kept.

    A notebook that has come to a checkpoint goes on from there.

    Example: workbench pipelines repair 17 --follow
    """
    from pipelines.acting import repair_run
    from pipelines.cli.following import seen_of_run

    with open_store() as store:
        seen = seen_of_run(store, run_id)
        done = repair_run(store, person(), run=run_id, steps=steps, from_start=from_start)
        if not as_json:
            typer.echo(f"Run {run_id} runs again: {', '.join(done['steps'])}.", err=True)
        _report(store, run_id, wait=wait, follow=follow, as_json=as_json, seen=seen)


def _report(store: Store, run_id: int, *, wait: bool, follow: bool, as_json: bool, seen: Seen | None = None) -> None:
    """Say what there is to say of a run that has just begun; exit 1 when it was waited for and did not succeed."""
    if not wait and not follow:
        if as_json:
            typer.echo(as_line({"run": run_id}))
        return
    from pipelines.cli.following import follow_run
    from pipelines.store.pages.runs import read_run

    follow_run(store, run_id, keys=reading_keys(), with_output=follow, is_quiet=as_json, seen=seen)
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
    for text, numbers in _errors(page).items():
        typer.echo(text.replace(ATTEMPTS, named_attempts(numbers), 1))


def _errors(page: RunPage) -> dict[str, list[int]]:
    """What is to be told of failed attempts, once for all of a step that failed alike, with their numbers."""
    found: dict[str, list[int]] = {}
    for each in page.attempts:
        if each["error"]:
            lines = [*each["error"].splitlines(), *(each["last_lines"] or "").splitlines()[-10:]]
            where = "" if each["cell"] is None else f", cell {each['cell'] + 1}"
            text = f"\n{each['step']}, {ATTEMPTS}{where}:\n" + "\n".join(f"  {line}" for line in lines)
            found.setdefault(text, []).append(each["number"])
    return found


def named_attempts(numbers: list[int]) -> str:
    """Attempts with the same error, by their numbers, which are in order."""
    if len(numbers) == 1:
        return f"attempt {numbers[0]}"
    spans: list[list[int]] = []
    for number in numbers:
        if spans and number == spans[-1][-1] + 1:
            spans[-1][1:] = [number]
        else:
            spans.append([number])
    return f"same error in attempts {', '.join('-'.join(map(str, each)) for each in spans)}"


def _number(attempt: dict[str, Any]) -> str:
    resumed = attempt["resumed_from"]
    return str(attempt["number"]) if resumed is None else f"{attempt['number']}, on from {resumed}"


def _row(attempt: dict[str, Any]) -> list[str]:
    memory = attempt["peak_memory_bytes"]
    return [
        attempt["step"],
        _number(attempt),
        attempt["state"],
        shown_time(attempt["started_at"]),
        shown_seconds(attempt),
        f"{memory / 1e6:.0f} MB" if memory else "",
        attempt["output_path"] or "",
    ]
