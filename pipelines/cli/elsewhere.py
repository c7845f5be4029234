"""`workbench pipelines compile` and `exec`: pipelines on the scheduler of somebody else."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import typer

from pipelines.cli.asking import JSON, as_line, plan_of, reading_keys
from pipelines.states import State
from workbench.errors import RootKeyUnavailable, StoreUnavailable, WorkbenchError
from workbench.security.audit import Action
from workbench.security.audit.commands import audited, not_audited

TRY_AGAIN = 75  # EX_TEMPFAIL of sysexits.h


def add_commands(group: typer.Typer) -> None:
    """Register the commands of this module."""
    group.command("compile")(pipelines_compile)
    group.command("exec")(pipelines_exec)


@not_audited("It writes files of the project.")
def pipelines_compile(
    names: list[str] = typer.Argument(None, help="Pipelines: files of pipelines/jobs/ without .yaml; none is all."),
    *,
    to: str = typer.Option(..., "--to", help="airflow or kubernetes."),
    out: Path | None = typer.Option(None, "--out", help="The folder for the files; without it they are printed."),
    check: bool = typer.Option(False, "--check", help="Write nothing; exit 1 when a file in --out is stale."),
    since: datetime | None = typer.Option(
        None, formats=["%Y-%m-%d"], help="airflow: the day, in UTC, from which `catch_up: all` catches up."
    ),
    image: str = typer.Option("registry.example.com/workbench:0.1.0", help="kubernetes: the image of the workbench."),
    namespace: str = typer.Option("workbench", help="kubernetes: where the jobs run."),
) -> None:
    """Write pipelines for another scheduler, which then runs their steps with our runner.

    What it has no way to do is refused, with file and line; nothing is written then.

    Example: workbench pipelines compile daily-delays --to airflow --out dags
    """
    from pipelines.compile import Options, compile_pipelines, write_compiled
    from pipelines.definition import Project

    options = Options(target=_target(to), since=since, image=image, namespace=namespace)
    compiled = compile_pipelines(Project.installed(), names or [], options)
    if check:
        if out is None:
            raise typer.BadParameter("--check needs --out, the folder whose files are looked at")
        stale = [each for each in compiled if each.is_stale(out)]
        for each in stale:
            typer.echo(f"{out / each.file} is not what {each.pipeline} compiles to.")
        raise typer.Exit(1 if stale else 0)
    for each in compiled:
        if out is None:
            typer.echo(each.text, nl=False)
        else:
            typer.echo(f"{write_compiled(each, out)}")


@audited(Action.RUN_STARTED, "pipeline:{name}")
def pipelines_exec(
    name: str = typer.Argument(help="The pipeline: a file of pipelines/jobs/ without .yaml."),
    *,
    run_key: str = typer.Option(..., help="The other scheduler's name of the run; the same name is the same run."),
    step: str | None = typer.Option(None, help="The step; without it, all of the run."),
    cause: str = typer.Option("hand", help="What started the run: schedule, trigger or hand; or Airflow's word."),
    instant: str = typer.Option("", help="The logical instant, as 2013-01-31T06:00:00+00:00; empty is now."),
    job: bool = typer.Option(
        False, "--job", help="The run key is the name of a Job of Kubernetes: it says the instant."
    ),
    attempt: int = typer.Option(1, min=1, help="Which try of the other scheduler this is."),
    first_attempt: int = typer.Option(1, min=1, help="Its first try since somebody wanted the step to run again."),
    given: str = typer.Option("{}", envvar="WB_GIVEN", help="Values of parameters, as one JSON object."),
    as_json: bool = JSON,
) -> None:
    """Run a step, or a whole run, for another scheduler, in this process and its children, and record it in our store.

    Exits with 1 when it did not succeed, and with 75 when it may be tried again: another call of the same goes on.
    This is what compiled pipelines call; people use `run`.

    Example: workbench pipelines exec daily-delays --step delays --run-key manual-1
    """
    from pipelines.cli.following import shown_log
    from pipelines.definition import Project
    from pipelines.elsewhere.executing import execute
    from pipelines.elsewhere.order import Order, is_new_cycle
    from workbench.settings import Settings

    order = Order(
        run_key=run_key,
        **_start(cause, instant, run_key if job else ""),
        step=step,
        is_new_cycle=step is not None and is_new_cycle(attempt, first_attempt),
        given=_given(given),
    )
    more: dict[str, Any] = {} if as_json else {"shown": partial(shown_log, keys=reading_keys())}
    try:
        done = execute(Settings.load(), Project.installed(), plan_of(name), order, **more)
    except (StoreUnavailable, RootKeyUnavailable) as error:
        typer.echo(f"{error.message} {error.remedy}", err=True)
        raise typer.Exit(TRY_AGAIN) from None
    if as_json:
        typer.echo(as_line({"run": done.run_id, "step": step, "state": done.state, "reason": done.reason}))
    else:
        what = f"Step {step} of run" if step else "Run"
        typer.echo(f"{what} {done.run_id} {done.state}{f': {done.reason}' if done.reason else ''}", err=True)
    if not done.state.is_end:
        raise typer.Exit(TRY_AGAIN)
    if done.state is not State.SUCCEEDED:
        raise typer.Exit(1)


def _target(text: str) -> Any:
    if text not in {"airflow", "kubernetes"}:
        raise typer.BadParameter(f"--to {text}; known are airflow and kubernetes")
    return text


def _start(cause: str, instant: str, job: str) -> dict[str, Any]:
    """What has started the run, and for which instant; the name of a job says both."""
    from pipelines.elsewhere.order import CAUSES, Cause, instant_of_job

    if cause not in CAUSES:
        raise WorkbenchError(f"--cause {cause} is unknown", remedy=f"Known are {', '.join(CAUSES)}.")
    now = datetime.now(UTC)
    if (scheduled := instant_of_job(job, now)) is not None:
        return {"cause": Cause.SCHEDULE, "instant": scheduled}
    return {"cause": CAUSES[cause], "instant": _instant(instant) or now}


def _instant(text: str) -> datetime | None:
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise WorkbenchError(
            f"--instant {text!r} is no instant with its zone", remedy="Write it as 2013-01-31T06:00:00+00:00."
        )
    return found


def _given(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        # Its text may hold what was meant to be a secret.
        raise WorkbenchError("--given is no JSON object", remedy='Write it as {"month": 2}.')
    return found
