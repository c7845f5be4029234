"""`workbench up`, `status`, `down`, `code` and `doctor`: the servers on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import typer
from rich.console import Console
from rich.table import Table

from workbench.cli.foreground import run_until_stopped
from workbench.console import plain_console
from workbench.errors import ComponentError, WorkbenchError
from workbench.runtime.process import is_lock_held, wait_for_lock
from workbench.runtime.state import WorkbenchStatus, read_status, supervisor_lock
from workbench.security.audit import Action
from workbench.security.audit.commands import audited, not_audited
from workbench.security.secrets import private_folder
from workbench.settings import Settings, find_home

DOWN_SECONDS = 60.0
DETACHED_SECONDS = 600.0  # the first start fetches jars


def add_commands(application: typer.Typer) -> None:
    """Register the commands of this module."""
    for command in (up, status, down, code, doctor):
        application.command()(command)


def _sign(home: Path) -> None:
    """Sign the audit log with its last events: until the next start nobody else does."""
    from workbench.security.audit.proof.anchors import anchors_of
    from workbench.security.audit.proof.checkpointer import Checkpointer, try_tick

    try:
        anchors = anchors_of(Settings.load().audit)
    except WorkbenchError:
        anchors = ()  # the settings are wrong, and the workbench stops all the same
    try_tick(Checkpointer.of(home, anchors), is_forced=True)


@audited(Action.WORKBENCH_STARTED, "workbench", after=_sign)
def up(
    detach: bool = typer.Option(
        False, "--detach", "-d", help="Return as soon as everything runs, and keep it running."
    ),
) -> None:
    """Start what is missing, then JupyterHub, and print the address to open.

    Runs until Ctrl-C or `workbench down`. A server that is configured to be elsewhere
    (KAFKA_BROKERS, DW_HOST, WORKBENCH_SPARK_REMOTE) is used and not started.

    Example: workbench up --detach && workbench status
    """
    home = find_home()
    running = read_status(home)
    if running.ready and running.url:
        typer.echo(f"Already running (pid {running.pid}): {running.url}")
        return
    if detach:
        _detach(home)
    else:
        run_until_stopped(Settings.load(embedded=False), Console(soft_wrap=True, highlight=False))


def _detach(home: Path) -> None:
    log_path = private_folder(home / "logs") / "up.log"
    private_folder(home)
    with os.fdopen(os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600), "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "workbench.cli", "up"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait_until_up(home, process, log_path)
    except BaseException:
        # Ctrl-C, too: whoever gave up would find it running later. It stops its servers in its own time.
        process.terminate()
        process.wait()
        raise


def _wait_until_up(home: Path, process: subprocess.Popen[bytes], log_path: Path) -> None:
    deadline = time.monotonic() + DETACHED_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ComponentError(
                f"the workbench could not be started:\n{log_path.read_text(encoding='utf-8').strip()}",
                remedy="Correct what it says, then run the command again.",
            )
        if (found := read_status(home)).ready:
            typer.echo(f"Running (pid {found.pid}): {found.url}")
            return
        time.sleep(0.2)
    raise ComponentError(f"the workbench was not up after {DETACHED_SECONDS:.0f} s", remedy=f"See {log_path}.")


@not_audited("It only looks.")
def status(
    as_json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Tell each component's state, whether it can do its work, address, process id and memory. Exit code 1 when one cannot.

    Example: workbench status --json
    """
    found = read_status(find_home())
    if as_json:
        typer.echo(found.as_json())
    else:
        _print_status(found)
    if not found.is_healthy:
        raise typer.Exit(1)


def _print_status(found: WorkbenchStatus) -> None:
    if found.pid is None:
        typer.echo("Not running. `workbench up` starts it.")
        return
    table = Table("component", "state", "ready", "address", "pid", "memory", "restarts", box=None, header_style="bold")
    for each in found.components:
        memory = f"{each.memory_bytes / 1e6:.0f} MB" if each.memory_bytes else ""
        ready = "yes" if each.ready else "no"
        table.add_row(each.name, each.state, ready, each.address, str(each.pid or ""), memory, str(each.restarts or ""))
    console = plain_console()
    console.print(f"{found.url}  (pid {found.pid}, {found.memory_bytes / 1e6:.0f} MB in all)", markup=False)
    console.print(table)
    for each in found.components:
        if each.reason:
            console.print(f"{each.name}: {each.reason}", markup=False)


@audited(Action.WORKBENCH_STOPPED, "workbench", after=_sign)
def down() -> None:
    """Stop everything that `workbench up` started, users' servers included.

    Example: workbench down
    """
    home = find_home()
    lock = supervisor_lock(home)
    if not is_lock_held(lock):
        typer.echo("Not running.")
        return
    pid = read_status(home).pid
    if pid is None or not psutil.pid_exists(pid):
        raise ComponentError("a workbench is just starting or stopping", remedy="Try again in a few seconds.")
    os.kill(pid, signal.SIGTERM)
    if not wait_for_lock(lock, DOWN_SECONDS):
        raise ComponentError(
            f"the workbench (pid {pid}) did not stop within {DOWN_SECONDS:.0f} s",
            remedy=f"End it with `kill -9 {pid}`; its servers end by themselves then.",
        )
    typer.echo("Stopped.")


@audited(Action.CODE_SHOWN, "sign-in-code")
def code() -> None:
    """Print the sign-in code of the demo identity provider, for the person who owns this workbench.

    Example: workbench code
    """
    path = find_home() / "keys" / "sign-in-code"
    if not path.is_file():
        raise WorkbenchError(
            f"there is no sign-in code in {path.parent}",
            remedy="`workbench up` makes one, unless a real identity provider is configured.",
        )
    typer.echo(path.read_text(encoding="utf-8").strip())


@not_audited("It only looks.")
def doctor(
    as_json: bool = typer.Option(False, "--json", help="Print a JSON array of findings."),
    security: bool = typer.Option(
        False, "--security", help="List every hop and every store, with what protects it, proved by trying."
    ),
) -> None:
    """Name what is missing or unsafe, each with its remedy. Exit code 1 when there is anything.

    Example: workbench doctor --security
    """
    if security:
        _assess(as_json)
        return
    from workbench.cli.doctor import Finding, examine

    findings = examine(find_home())
    if as_json:
        typer.echo(Finding.as_json(findings))
    for finding in [] if as_json else findings:
        typer.echo(finding.as_text())
    if any(not finding.ok for finding in findings):
        raise typer.Exit(1)


def _assess(as_json: bool) -> None:
    from workbench.cli.assurance import assess, show

    rows = assess(Settings.load())
    if as_json:
        typer.echo(json.dumps([row.as_fields() for row in rows], indent=2))
    else:
        show(rows)
    if any(row.is_broken for row in rows):
        raise typer.Exit(1)
