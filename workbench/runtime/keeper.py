"""Keeps one component running: starts it, watches it, restarts what dies."""

from __future__ import annotations

import contextlib
import errno
import logging
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from workbench.errors import ClusterError, ComponentError, WorkbenchError
from workbench.runtime.process import Component, GuardedProcess, Renewing, Telling
from workbench.runtime.state import ComponentStatus, State

logger = logging.getLogger(__name__)

STARTING_POLL_SECONDS = 0.1
HEALTH_INTERVAL_SECONDS = 5.0
RENEWAL_INTERVAL_SECONDS = 60.0
FAILED_CHECKS_TO_RESTART = 6  # half a minute and more: a busy two-core machine is no dead server
RESTART_DELAYS_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0)
FAILED_INTERVAL_SECONDS = 60.0  # between tries of what was started again and again without an answer
RESTARTS_FORGOTTEN_AFTER_SECONDS = 300.0

Listener = Callable[[ComponentStatus], None]


class Keeper(threading.Thread):
    """The thread that keeps one component running.

    Args:
        component: what it starts, watches and restarts.
        publish: called with each change of the component's state.
        note: called when only its readiness has changed: no news for who waits for starts and ends.
        retry: whether a first start that fails is tried again like a later one.
    """

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
        self._next_check = self._next_renewal = 0.0
        self._answered = False  #: whether the present run became healthy

    @property
    def log(self) -> Path | None:
        """Where its server writes, once it was started."""
        return self._process.launch.log if self._process else None

    def request_stop(self) -> None:
        """Ask it to stop its server and to end; returns at once."""
        self._stopping.set()
        if process := self._process:
            # Ends a warm-up that waits for the server, too.
            process.release()

    def run(self) -> None:
        """Keep the component running until a stop is asked for, or its failure is final."""
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
            # What answers is of use however often it is killed; what never answers most likely needs a person.
            unanswered = 0 if self._answered else unanswered + 1
            if self._is_final:
                raise start_error(self.component, self._process, reason)
            self._pause(ended, unanswered, reason)
        self._change(State.STOPPED)

    def _pause(self, ended: int, unanswered: int, reason: str) -> None:
        """Say why it has ended, and wait before the next start."""
        restarts = self.status.restarts + 1
        if unanswered <= len(RESTART_DELAYS_SECONDS):
            logger.warning("%s: %s; restarting", self.component.name, reason)
            self._change(State.RESTARTING, reason=reason, restarts=restarts)
            self._stopping.wait(RESTART_DELAYS_SECONDS[min(ended, len(RESTART_DELAYS_SECONDS)) - 1])
            return
        told = f"it was started {unanswered} times without an answer: {reason}"
        self._fail(start_error(self.component, self._process, told), restarts=restarts)
        self.settled.set()
        # Nobody may be there, and a disk that was full has room again.
        self._stopping.wait(FAILED_INTERVAL_SECONDS)

    @property
    def _is_final(self) -> bool:
        """Whether a failure now is told to whoever waits for the first start, instead of trying again."""
        return not self._retry and not self.settled.is_set()

    def _run_once(self) -> str:
        """Start the server and stay until it has ended or stopped answering; returns why."""
        if self.error is None:
            # What is tried now and then is failed, and says why, until it answers.
            self._change(State.STARTING)
        try:
            process = self._process = GuardedProcess(self.component.prepare())
        except WorkbenchError as error:
            if self._is_final:
                raise
            return error.message
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the keeper
            return self._unforeseen(error)
        try:
            process.start()
            return self._wait_until_healthy(process) or self._complete(process) or self._watch(process)
        except ClusterError as error:
            # What a person has to correct is told at once, in its own words. Later it is an outage, which passes.
            if not self.settled.is_set():
                raise
            return error.message
        except Exception as error:  # noqa: BLE001 - whatever it is, it must not end the keeper
            return self._unforeseen(error)
        finally:
            process.stop()

    def _unforeseen(self, error: Exception) -> str:
        """The reason for the end of a run that nobody foresaw; raises *error* when it is final."""
        if isinstance(error, OSError):
            if error.errno in {errno.ENOSPC, errno.EDQUOT}:
                return f"no room under {Path(error.filename or self.component.lock).parent}"
            return str(error)
        if self._is_final:
            raise error
        logger.error("a run of %s failed", self.component.name, exc_info=error)
        return repr(error)

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
        self._answered, self.error = True, None
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
            if is_healthy:
                self._renew()
            if failed >= FAILED_CHECKS_TO_RESTART:
                return f"it failed {failed} health checks"
        return "stopped"

    def _renew(self) -> None:
        if not isinstance(self.component, Renewing) or time.monotonic() < self._next_renewal:
            return
        self._next_renewal = time.monotonic() + RENEWAL_INTERVAL_SECONDS
        try:
            if self.component.renew():
                logger.info("%s: its certificate was renewed", self.component.name)
        except (WorkbenchError, OSError) as error:
            logger.warning("%s could not be renewed, and is tried again: %s", self.component.name, error)

    def _tell_readiness(self, obstacle: str) -> None:
        status = replace(self.status, ready=not obstacle, reason=obstacle)
        if status != self.status:
            # No news for the listener: it is about starts and ends.
            self.status = status
            self._note()

    def _fail(self, error: WorkbenchError, **fields: int) -> None:
        self.error = error
        # The person who reads it, in a notebook for one, does not see the error itself.
        remedy = f". {error.remedy}" if isinstance(error, ClusterError) else ""
        self._change(State.FAILED, reason=f"{error.message}{remedy}", **fields)

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
