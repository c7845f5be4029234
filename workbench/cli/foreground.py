"""What `workbench up` does until Ctrl-C: it starts everything in its order, and tells how that goes."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from rich.console import Console

from workbench.errors import ClusterError, WorkbenchError
from workbench.logs.beginning import begin_logs
from workbench.runtime.process import Component, Contribution
from workbench.runtime.state import ComponentStatus, State
from workbench.runtime.supervisor import Supervisor
from workbench.security.secrets import private_folder
from workbench.settings import Settings

if TYPE_CHECKING:
    from workbench.embedded.machine import Machine

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SYMBOLS = {State.RUNNING: "✓", State.FAILED: "✗", State.RESTARTING: "↻", State.EXTERNAL: "→"}


def run_until_stopped(settings: Settings, console: Console) -> None:
    """Start the servers that *settings* lack, tell how it goes, and stay until a signal asks to stop.

    Raises:
        WorkbenchError: when something that people need to log in cannot be started.
    """
    from workbench.embedded.machine import plan_machine
    from workbench.security.audit.proof.anchors import anchors_of
    from workbench.security.audit.proof.checkpointer import Checkpointer, making_checkpoints

    _heed_signals()
    report = partial(_report, console, time.monotonic())
    if not sys.stderr.isatty():
        begin_logs("up", settings.logs.options)
    private_folder(settings.home)
    checkpointer = Checkpointer.of(settings.home, anchors_of(settings.audit))
    # Outside of the rest: the last checkpoint covers what its processes have recorded.
    with making_checkpoints(checkpointer), Supervisor(settings.home, report, settings.logs.limits) as supervisor:
        contributions: list[Contribution] = [
            entry.load()(settings) for entry in entry_points(group="workbench.components")
        ]
        console.print(f"Starting the workbench in {settings.home}", markup=False)
        machine = plan_machine(settings, console.print)
        try:
            _start_everything(supervisor, machine, contributions, settings, console)
            while True:
                signal.pause()
        except KeyboardInterrupt:
            console.print("Stopping…")
        finally:
            machine.forget()


def _heed_signals() -> None:
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup has set SIGHUP
            signal.signal(number, _interrupt)


def _report(console: Console, started: float, status: ComponentStatus) -> None:
    """Print a change of a component's state, with the time since *started* on the monotonic clock."""
    if symbol := SYMBOLS.get(status.state):
        seconds = f"{time.monotonic() - started:5.1f} s"
        first_line = status.reason.partition("\n")[0]
        console.print(f"  {symbol} {seconds}  {status.name:<10} {status.address}  {first_line}".rstrip(), markup=False)


def _start_everything(
    supervisor: Supervisor,
    machine: Machine,
    contributions: list[Contribution],
    settings: Settings,
    console: Console,
) -> None:
    """Start what people need to log in, tell them the address, then the rest, and Spark as the last."""
    from workbench.embedded.archive import ensure_archive

    for name, address in machine.external.items():
        supervisor.add_external(name, address, machine.checks.get(name, _is_a_file))
    others = [component for contribution in contributions for component in contribution.components]
    supervisor.start([*machine.data, *others])
    supervisor.announce(next((each.url for each in contributions if each.url), ""))
    _welcome(console, contributions)
    later = [*machine.later, *(component for contribution in contributions for component in contribution.later)]
    supervisor.launch(later, retry=True)
    _start_spark(supervisor, machine.spark, console)
    if machine.spark:
        # The first start does not wait for it; later ones, and those of users, are quicker.
        ensure_archive(settings, console.print)


def _is_a_file() -> None:
    """Nothing to ask: a warehouse of DuckDB is a file."""


def _start_spark(supervisor: Supervisor, components: tuple[Component, ...], console: Console) -> None:
    """Start the jobs' Spark server last: people can log in meanwhile, and their own servers do not need it."""
    try:
        supervisor.start(components, retry=True)
    except WorkbenchError as error:
        until = "this is restarted" if isinstance(error, ClusterError) else "it answers; it is tried again every minute"
        console.print(
            f"{error.message}\nThe hub runs on; jobs on this machine have no Spark until {until}.", markup=False
        )


def _welcome(console: Console, contributions: list[Contribution]) -> None:
    for contribution in contributions:
        if contribution.url:
            console.print(f"\n  Open {contribution.url}", markup=False)
        if contribution.sign_in_code:
            # A terminal is read by one person; a log file by many.
            shown = contribution.sign_in_code if console.is_terminal else f"printed by `{_own_command()} code`"
            console.print(f"  Sign-in code: {shown}\n", markup=False)


def _own_command() -> str:
    """How this command is typed here: by its name when it is on PATH, else by its path."""
    command = Path(sys.executable).parent / "workbench"
    return "workbench" if shutil.which("workbench") else os.path.relpath(command)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Begin to stop; a second signal (make passes on what its group got too) does not break that off."""
    for each in STOP_SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt
