"""Starts components side by side, watches them, restarts what dies, stops them all."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from workbench.errors import ClusterError, ComponentError, WorkbenchError
from workbench.logs.rotation import LogKeeper, LogLimits
from workbench.runtime.external import ExternalServer
from workbench.runtime.process import Component, GuardedProcess, Telling, holding, wait_for_lock
from workbench.runtime.state import (
    ComponentStatus,
    State,
    WorkbenchStatus,
    status_file,
    supervisor_lock,
    write_status,
)

logger = logging.getLogger(__name__)

STARTING_POLL_SECONDS = 0.1
HEALTH_INTERVAL_SECONDS = 5.0
FAILED_CHECKS_TO_RESTART = 6  # half a minute and more: a busy two-core machine is no dead server
RESTART_DELAYS_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
RESTARTS_FORGOTTEN_AFTER_SECONDS = 300.0
PREVIOUS_RUN_SECONDS = 30.0  # how long the servers of a killed run may take to end

Listener = Callable[[ComponentStatus], None]


class Supervisor:
    """Keeps components running under one WORKBENCH_HOME; a context manager that stops them on exit.

    Only one supervisor runs per home: `__enter__` takes a lock and raises ComponentError when
    it is held. Every change of a component's state goes to `listener` and to run/state.json.

    Args:
        home: of the workbench.
        listener: called with each change of a component's state.
        limits: of the logs of all components, and of users' servers.
    """

    def __init__(self, home: Path, listener: Listener = lambda _: None, limits: LogLimits = LogLimits()) -> None:
        self._home = home
        self._log_keeper = LogKeeper(self._logs, limits)
        self._url = ""
        self._ready = False
        self._listener = listener
        self._groups: list[list[_Keeper]] = []
        self._external: list[ExternalServer] = []
        self._lock = contextlib.ExitStack()
        self._publishing = threading.Lock()

    def __enter__(self) -> Self:
        path = supervisor_lock(self._home)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        taken = ComponentError(
            f"a workbench already runs on {self._home}", remedy="Use it, or stop it with `workbench down`."
        )
        self._lock.enter_context(holding(path, taken))
        try:
            # Whoever asks from now on hears of us, not of the run before.
            self._write_status()
            wait_for_previous_run(path.parent)
        except ComponentError:
            self._lock.close()
            raise
        self._log_keeper.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._log_keeper.__exit__(kind, error, trace)
        status_file(self._home).unlink(missing_ok=True)
        self._lock.close()

    def add_external(self, name: str, address: str, check: Callable[[], object]) -> None:
        """Show a server that somebody else runs in the status, and whether it answers; see `ExternalServer`."""
        server = ExternalServer(name, address, check, self._write_status)
        self._external.append(server)
        server.start()

    def start(self, components: Sequence[Component], *, retry: bool = False) -> None:
        """Start *components* side by side and return when all of them answer.

        Args:
            components: what to start.
            retry: as `launch` says.

        Raises:
            WorkbenchError: of the first that could not be started; the others keep running
                until `stop`.
        """
        keepers = self.launch(components, retry=retry)
        while pending := [keeper for keeper in keepers if not keeper.settled.is_set()]:
            if any(keeper.error for keeper in keepers):
                break
            pending[0].settled.wait(STARTING_POLL_SECONDS)
        for keeper in keepers:
            if keeper.error:
                raise keeper.error

    def launch(self, components: Sequence[Component], *, retry: bool = False) -> list[_Keeper]:
        """Begin to start *components* side by side and return at once; the listener hears how it goes.

        Args:
            components: what to start.
            retry: whether a first start that fails is tried again like a later one: for what nobody waits for. What
                a person has to correct (ClusterError) is told at once nevertheless.
        """
        keepers = [_Keeper(component, self._publish, self._write_status, retry=retry) for component in components]
        self._groups.append(keepers)
        for keeper in keepers:
            keeper.start()
        return keepers

    def announce(self, url: str) -> None:
        """Publish the address to open, if there is one: the servers can be used from now on."""
        self._url, self._ready = url, True
        self._write_status()

    def stop(self) -> None:
        """Stop everything, the components of the last `start` first. Safe to call twice."""
        for server in self._external:
            server.request_stop()
        for keepers in reversed(self._groups):
            for keeper in keepers:
                keeper.request_stop()
            for keeper in keepers:
                keeper.join()

    def _logs(self) -> set[Path]:
        own = {keeper.log for group in self._groups for keeper in group if keeper.log is not None}
        return {*own, *(self._home / "logs").glob("*.log"), *(self._home / "servers" / "logs").glob("*.log")}

    def _publish(self, status: ComponentStatus) -> None:
        self._listener(status)
        self._write_status()

    def _write_status(self) -> None:
        external = (server.status for server in self._external)
        components = (*external, *(keeper.status for group in self._groups for keeper in group))
        status = WorkbenchStatus(pid=os.getpid(), url=self._url, ready=self._ready, components=components)
        # A full disk must not end servers that run.
        with self._publishing, contextlib.suppress(OSError):
            write_status(self._home, status)


def wait_for_previous_run(folder: Path) -> None:
    """Wait until the servers of a run that was killed have ended; their guards see to it.

    Args:
        folder: where the lock files of the servers are.

    Raises:
        ComponentError: when one still holds its lock after 30 s.
    """
    deadline = time.monotonic() + PREVIOUS_RUN_SECONDS
    for lock in folder.glob("*.lock"):
        if lock.name == "supervisor.lock":
            continue
        if not wait_for_lock(lock, max(0.0, deadline - time.monotonic())):
            raise ComponentError(
                f"a server of an earlier run still holds {lock}", remedy=f"End the process that `fuser {lock}` names."
            )


class _Keeper(threading.Thread):
    """The thread that keeps one component running."""

    def __init__(self, component: Component, publish: Listener, note: Callable[[], None], *, retry: bool) -> None:
        super().__init__(name=f"keep-{component.name}", daemon=True)
        self.component = component
        self._retry = retry
        self.status = ComponentStatus(name=component.name, state=State.WAITING, address=component.address)
        self.settled = threading.Event()  #: running for the first time, or failed
        self.error: WorkbenchError | None = None
        self._publish, self._note = publish, note
        self._stopping = threading.Event()
        self._process: GuardedProcess | None = None
        self._next_check = 0.0
        self._answered = False  #: whether the present run became healthy

    @property
    def log(self) -> Path | None:
        """Where its server writes, once it was started."""
        return self._process.launch.log if self._process else None

    def request_stop(self) -> None:
        self._stopping.set()
        if process := self._process:
            # Ends a warm-up that waits for the server, too.
            process.release()

    def run(self) -> None:
        try:
            self._keep()
        except WorkbenchError as error:
            self._fail(error)
        except Exception as error:
            logger.exception("keeping %s failed", self.component.name)
            self._fail(
                ComponentError(
                    f"{self.component.name} could not be kept running: {error!r}",
                    remedy="This is a defect; please report it.",
                )
            )
        finally:
            self.settled.set()

    def _keep(self) -> None:
        ended = unanswered = 0  # in a row: runs that were short, and runs that never answered
        while not self._stopping.is_set():
            started = time.monotonic()
            self._answered = False
            reason = self._run_once()
            if self._stopping.is_set():
                break
            ended = 1 if time.monotonic() - started > RESTARTS_FORGOTTEN_AFTER_SECONDS else ended + 1
            # What answers is of use however often it is killed; what never answers needs a person.
            unanswered = 0 if self._answered else unanswered + 1
            if self._is_final:
                raise start_error(self.component, self._process, reason)
            if unanswered > len(RESTART_DELAYS_SECONDS):
                raise start_error(
                    self.component, self._process, f"it was started {unanswered} times without an answer: {reason}"
                )
            logger.warning("%s: %s; restarting", self.component.name, reason)
            self._change(State.RESTARTING, reason=reason, restarts=self.status.restarts + 1)
            self._stopping.wait(RESTART_DELAYS_SECONDS[min(ended, len(RESTART_DELAYS_SECONDS)) - 1])
        self._change(State.STOPPED)

    @property
    def _is_final(self) -> bool:
        """Whether a failure now is told to whoever waits for the first start, instead of trying again."""
        return not self._retry and not self.settled.is_set()

    def _run_once(self) -> str:
        """Start the server and stay until it has ended or stopped answering; returns why."""
        self._change(State.STARTING)
        try:
            process = self._process = GuardedProcess(self.component.prepare())
        except WorkbenchError as error:
            if self._is_final:
                raise
            return error.message
        try:
            process.start()
            return self._wait_until_healthy(process) or self._complete(process) or self._watch(process)
        except ClusterError as error:
            # What a person has to correct is told at once, in its own words. Later it is an outage, which passes.
            if not self.settled.is_set():
                raise
            return error.message
        finally:
            process.stop()

    def _wait_until_healthy(self, process: GuardedProcess) -> str:
        deadline = time.monotonic() + self.component.start_seconds
        while not self._stopping.wait(STARTING_POLL_SECONDS):
            if process.poll() is not None:
                return f"it ended with code {process.poll()}"
            if self.component.is_healthy():
                return ""
            if time.monotonic() > deadline:
                return f"it did not answer within {self.component.start_seconds:.0f} s"
        return "stopped"

    def _complete(self, process: GuardedProcess) -> str:
        try:
            self.component.complete()
        except ClusterError:
            raise
        except WorkbenchError as error:
            return error.message
        self._answered = True
        obstacle = obstacle_of(self.component)
        self._change(State.RUNNING, pid=process.pid, ready=not obstacle, reason=obstacle)
        self.settled.set()
        return ""

    def _watch(self, process: GuardedProcess) -> str:
        failed = 0
        while not self._stopping.is_set():
            with contextlib.suppress(subprocess.TimeoutExpired):
                return f"it ended with code {process.wait(0.2)}"
            if time.monotonic() < self._next_check:
                continue
            self._next_check = time.monotonic() + HEALTH_INTERVAL_SECONDS
            began = time.monotonic()
            is_healthy = self.component.is_healthy()
            failed = 0 if is_healthy else failed + 1
            unanswered = f"it did not answer a health check within {time.monotonic() - began:.1f} s"
            self._tell_readiness(obstacle_of(self.component) if is_healthy else unanswered)
            if failed >= FAILED_CHECKS_TO_RESTART:
                return f"it failed {failed} health checks"
        return "stopped"

    def _tell_readiness(self, obstacle: str) -> None:
        status = replace(self.status, ready=not obstacle, reason=obstacle)
        if status != self.status:
            # No news for the listener: it is about starts and ends.
            self.status = status
            self._note()

    def _fail(self, error: WorkbenchError) -> None:
        self.error = error
        # The person who reads it, in a notebook for one, does not see the error itself.
        remedy = f". {error.remedy}" if isinstance(error, ClusterError) else ""
        self._change(State.FAILED, reason=f"{error.message}{remedy}")

    def _change(self, state: State, **fields: int | str | None) -> None:
        self.status = replace(self.status, **{"state": state, "pid": None, "reason": "", "ready": False, **fields})  # type: ignore[arg-type]
        self._publish(self.status)


def obstacle_of(component: Component) -> str:
    """What keeps a component that lives from its work; empty when nothing does."""
    return component.obstacle() if isinstance(component, Telling) else ""


def start_error(component: Component, process: GuardedProcess | None, reason: str) -> ComponentError:
    """The error for a component that could not be started, with the last lines of its log."""
    if process is None:
        return ComponentError(f"{component.name} could not be started: {reason}")
    tail = "\n".join(f"    {line}" for line in process.log_tail().splitlines())
    return ComponentError(
        f"{component.name} could not be started: {reason}. The end of {process.launch.log}:\n{tail}",
        remedy="Correct what the log names, then run the command again; `workbench doctor` checks the rest.",
    )
