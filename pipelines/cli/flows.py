"""`workbench pipelines flows …`: flows that workers keep running."""

from __future__ import annotations

import sys
import time
from typing import Any

import typer

from pipelines.cli.asking import JSON, as_line, open_store, person, print_table, shown_time
from workbench.errors import WorkbenchError
from workbench.security.audit import Action
from workbench.security.audit.commands import audited, not_audited

Row = dict[str, Any]
NAME = typer.Argument(help="The flow: a file of pipelines/flows/ without .yaml.")
LOOK_SECONDS = 0.5


def add_commands(group: typer.Typer) -> None:
    """Register the commands of this module."""
    flows = typer.Typer(help="Flows that workers keep running, whatever ends them.", invoke_without_command=True)
    flows.callback()(flows_list)
    flows.command("start")(flows_start)
    flows.command("stop")(flows_stop)
    flows.command("restart")(flows_restart)
    flows.command("log")(flows_log)
    group.add_typer(flows, name="flows")


@not_audited("It only looks.")
def flows_list(context: typer.Context, as_json: bool = JSON) -> None:
    """Show all flows: how they stand, since when, and why they were started again.

    Example: workbench pipelines flows
    """
    if context.invoked_subcommand is not None:
        return
    from pipelines.definition import Project
    from pipelines.store.flows.listing import list_flows

    with open_store() as store, store.transaction() as connection:
        found = list_flows(connection, Project.installed().flows)
    if as_json:
        typer.echo(as_line({"flows": found}))
        return
    rows = [
        [
            each["name"],
            each["state"],
            shown_time(each["since"]),
            str(each["restarts"]),
            each["worker"] or "",
            _why(each),
        ]
        for each in found
    ]
    print_table(["flow", "state", "since", "restarts", "worker", "last end"], rows, typer.echo)


@audited(Action.FLOW_STARTED, "flow:{name}")
def flows_start(name: str = NAME, as_json: bool = JSON) -> None:
    """Let workers keep a flow running, from now on and after each `workbench up`. One that has failed is tried again.

    Example: workbench pipelines flows start flights
    """
    _act("start", name, as_json=as_json)


@audited(Action.FLOW_STOPPED, "flow:{name}")
def flows_stop(name: str = NAME, as_json: bool = JSON) -> None:
    """Let nobody run it any more. It commits what it has, within 10 seconds.

    Example: workbench pipelines flows stop flights
    """
    _act("stop", name, as_json=as_json)


@audited(Action.FLOW_RESTARTED, "flow:{name}")
def flows_restart(name: str = NAME, as_json: bool = JSON) -> None:
    """End its process and start another; one that was stopped is started.

    Example: workbench pipelines flows restart flights
    """
    _act("restart", name, as_json=as_json)


@not_audited("It only looks.")
def flows_log(
    name: str = NAME,
    follow: bool = typer.Option(False, "--follow", help="Go on with what is written, until Ctrl-C."),
    lines: int = typer.Option(100, "--lines", "-n", min=0, help="How many of its last lines to begin with."),
) -> None:
    """Print the end of its log, which is on the machine of its worker.

    Example: workbench pipelines flows log flights --follow
    """
    from pipelines.definition.targets.flow import is_flow_name
    from pipelines.runner.flows.files import FlowFiles
    from pipelines.runner.flows.log import LogTail
    from workbench.settings import Settings

    log = FlowFiles(Settings.load().home, name).log
    if not is_flow_name(name) or not log.exists():
        _miss(name)
    tail = LogTail.near_end(log, lines)
    while True:
        sys.stdout.write(tail.new_text())
        sys.stdout.flush()
        if not follow:
            return
        time.sleep(LOOK_SECONDS)


def _miss(name: str) -> None:
    """Say why there is no log.

    Raises:
        NoSuchRun: when there is no such flow.
        WorkbenchError: when it is elsewhere, or there is none yet.
    """
    from pipelines.definition import Project
    from pipelines.definition.targets.flow import check_flow_name
    from pipelines.store.flows.listing import read_flow_row

    with open_store() as store, store.transaction() as connection:
        row = read_flow_row(connection, name)
    if row is None:
        check_flow_name(Project.installed(), name)
    if row is not None and row["worker"]:
        raise WorkbenchError(
            f"the log of {name} is not in this workbench's folder", remedy=f"Look where worker {row['worker']} runs."
        )
    raise WorkbenchError(
        f"{name} has no log: no worker has started it", remedy=f"Start it: workbench pipelines flows start {name}"
    )


def _act(what: str, name: str, *, as_json: bool) -> None:
    from pipelines import acting
    from pipelines.definition import Project

    acts = {"start": acting.start_flow, "stop": acting.stop_flow, "restart": acting.restart_flow}
    with open_store() as store:
        done = acts[what](store, person(), Project.installed(), flow=name)
    if as_json:
        typer.echo(as_line(done))
        return
    told = {
        "start": "is to run" if done["changed"] else "runs already",
        "stop": "is to stop" if done["changed"] else "is to stop, or has stopped, already",
        "restart": "is to be started anew",
    }
    typer.echo(f"{name} {told[what]}; `workbench pipelines flows` shows how it stands.")


def _why(row: Row) -> str:
    reason = row["reason"] or ""
    return reason if len(reason) <= 100 else f"{reason[:99]}…"
