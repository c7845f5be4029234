"""`workbench pipelines scheduler`, `worker`, `service` and `monitor`: processes that `workbench up` starts by itself."""

from __future__ import annotations

import typer

from workbench.security.audit import Action
from workbench.security.audit.commands import audited


def add_commands(group: typer.Typer) -> None:
    """Register the commands of this module."""
    group.command("scheduler")(pipelines_scheduler)
    group.command("worker")(pipelines_worker)
    group.command("service")(pipelines_service)
    group.command("monitor")(pipelines_monitor)


@audited(Action.COMPONENT_STARTED, "pipelines-scheduler")
def pipelines_scheduler() -> None:
    """Make runs when they are due, until Ctrl-C or `kill`. Several may run: each run is made once.

    Example: workbench pipelines scheduler
    """
    from pipelines.definition import Project
    from pipelines.scheduler.process import SchedulerOptions, run_scheduler
    from workbench.settings import Settings

    _log("pipelines-scheduler")
    run_scheduler(Settings.load(), SchedulerOptions(project=Project.installed()))


@audited(Action.COMPONENT_STARTED, "pipelines-worker")
def pipelines_worker(
    slots: int = typer.Option(0, min=0, help="How many steps run at once; 0 is as many as there are processors."),
    flows: bool = typer.Option(True, "--flows/--no-flows", help="Whether it keeps flows running, too."),
) -> None:
    """Run steps, and keep flows running, until Ctrl-C or `kill`. Any number of workers may run, on any machine that reaches the store.

    Example: workbench pipelines worker --slots 2
    """
    from pipelines.definition import Project
    from pipelines.worker.process import WorkerOptions, default_slots, run_worker
    from workbench.settings import Settings

    _log("pipelines-worker")
    run_worker(Settings.load(), WorkerOptions(slots=slots or default_slots(), project=Project.installed(), flows=flows))


@audited(Action.COMPONENT_STARTED, "pipelines-service")
def pipelines_service(
    port: int = typer.Option(8096, min=1, max=65535, help="On this machine's loopback; nobody else reaches it."),
) -> None:
    """Show the page of pipelines without a hub, until Ctrl-C or `kill`. Whoever has the printed address owns them all.

    Behind the hub it is there by itself, at /services/pipelines/, under the roles of the hub.

    Example: workbench pipelines service
    """
    import secrets

    from pipelines.cli.asking import person
    from pipelines.definition import Project
    from pipelines.service.entrance.alone import AloneEntrance
    from pipelines.service.process import ServiceOptions, run_service
    from pipelines.service.rights import Person, Right
    from workbench.settings import Settings

    _log("pipelines-service")
    token = secrets.token_urlsafe(32)
    entrance = AloneEntrance({token: Person(name=person(), right=Right.OWNER)})
    options = ServiceOptions(project=Project.installed(), entrance=entrance, port=port)
    address = f"http://127.0.0.1:{port}/sign-in?token={token}"
    run_service(Settings.load(), options, ready=lambda: typer.echo(f"Open {address}"))


@audited(Action.COMPONENT_STARTED, "monitor")
def pipelines_monitor() -> None:
    """Read metrics, evaluate the alerts on them and have people told, until Ctrl-C or `kill`. One runs for a WORKBENCH_HOME.

    Example: workbench pipelines monitor
    """
    from pipelines.definition import Project
    from pipelines.monitor.process import MonitorOptions, run_monitor
    from workbench.settings import Settings

    _log("monitor")
    run_monitor(Settings.load(), MonitorOptions(project=Project.installed()))


def _log(component: str) -> None:
    from workbench.logs.beginning import begin_logs
    from workbench.settings import log_settings

    begin_logs(component, log_settings().options)
