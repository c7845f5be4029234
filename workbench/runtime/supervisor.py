"""Starts components side by side, each kept by a thread of its own, and stops them all; one for each home."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from workbench.errors import ComponentError, WorkbenchError
from workbench.logs.rotation import LogKeeper, LogLimits
from workbench.runtime.external import ExternalServer
from workbench.runtime.keeper import STARTING_POLL_SECONDS, Keeper, Listener
from workbench.runtime.process import Component, holding, wait_for_lock
from workbench.runtime.state import (
    ComponentStatus,
    WorkbenchStatus,
    status_file,
    supervisor_lock,
    write_status,
)

logger = logging.getLogger(__name__)
STATUS_AGAIN_SECONDS = 5.0  # between tries to write the status
PREVIOUS_RUN_SECONDS = 30.0  # how long the servers of a killed run may take to end


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
        self._groups: list[list[Keeper]] = []
        self._external: list[ExternalServer] = []
        self._lock = contextlib.ExitStack()
        self._publishing = threading.Lock()
        self._again: threading.Timer | None = None  #: when the status could not be written
        self._is_over = False

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
        with self._publishing:
            self._is_over = True
            if self._again:
                self._again.cancel()
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

    def launch(self, components: Sequence[Component], *, retry: bool = False) -> list[Keeper]:
        """Begin to start *components* side by side and return at once; the listener hears how it goes.

        Args:
            components: what to start.
            retry: whether a first start that fails is tried again like a later one: for what nobody waits for. What
                a person has to correct (ClusterError) is told at once nevertheless.
        """
        keepers = [Keeper(component, self._publish, self._write_status, retry=retry) for component in components]
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
        self._write_status()
        try:
            self._listener(status)
        except (Exception, SystemExit):  # rich ends the process so when its pipe is broken
            # It would end the thread that keeps the component.
            logger.exception("nobody could be told that %s is %s", status.name, status.state)

    def _write_status(self) -> None:
        # What is true now, not what was when another thread began to write.
        with self._publishing:
            if self._is_over:
                return
            try:
                write_status(self._home, self._status())
            except (OSError, WorkbenchError):
                # A full disk must not end servers that run. What has become of them is told when there is room.
                if self._again is None:
                    self._again = threading.Timer(STATUS_AGAIN_SECONDS, self._write_again)
                    self._again.daemon = True
                    self._again.start()

    def _write_again(self) -> None:
        with self._publishing:
            self._again = None
        self._write_status()

    def _status(self) -> WorkbenchStatus:
        external = (server.status for server in self._external)
        components = (*external, *(keeper.status for group in self._groups for keeper in group))
        return WorkbenchStatus(pid=os.getpid(), url=self._url, ready=self._ready, components=components)


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
