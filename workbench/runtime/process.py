"""One guarded server process: how it is launched, watched and stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import psutil

from workbench.errors import WorkbenchError
from workbench.runtime import guard
from workbench.sections import ALERTS, variables
from workbench.security.secrets import locked

KILL_MARGIN_SECONDS = 10.0  # what the guard needs beyond the server's own time to stop
LOG_TAIL_LINES = 15


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What to run for a component. Secrets belong in files or `environment`, never in `argv`."""

    argv: tuple[str, ...]
    log: Path
    lock: Path
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    stop_signal: int = signal.SIGTERM
    stop_seconds: float = 10.0


class Component(Protocol):
    """A server that the supervisor keeps running. Implementations hold settings, not processes."""

    @property
    def name(self) -> str:
        """Short name, as `workbench status` shows it."""

    @property
    def address(self) -> str:
        """Where it can be reached once it is healthy."""

    @property
    def start_seconds(self) -> float:
        """How long a start may take before it counts as failed."""

    @property
    def lock(self) -> Path:
        """The file that is locked while the server runs."""

    def prepare(self) -> Launch:
        """Write what the server needs and tell how to run it.

        Called before each start, so it must be repeatable. Raises ComponentError when the
        server cannot be started, with the remedy.
        """

    def is_healthy(self) -> bool:
        """Ask the server once, in at most a second or two; False for every failure that waiting may cure.

        Raises ClusterError when the server cannot become healthy as it is configured.
        """

    def complete(self) -> None:
        """Do what needs the running server (roles, databases, a first query). Repeatable."""


@runtime_checkable
class Telling(Protocol):
    """A component that tells what keeps it from its work while it lives; another one is ready when it is healthy."""

    def obstacle(self) -> str:
        """What keeps it from its work now, such as a database that is away; empty when nothing does."""


@runtime_checkable
class Renewing(Protocol):
    """A component with something that ages, such as a certificate, which its server takes anew while it runs."""

    def renew(self) -> bool:
        """Renew what is near its end; whether anything was. Called each minute.

        Raises:
            WorkbenchError, OSError: when it could not be; it is tried again.
        """


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """What another package adds to `workbench up`, through the entry point group `workbench.components`."""

    components: tuple[Component, ...]
    later: tuple[Component, ...] = ()  #: started once the door is open; nobody waits for them
    url: str = ""  #: the address to open
    sign_in_code: str = field(default="", repr=False)  #: what the person at the terminal types to log in


class GuardedProcess:
    """A server under its guard. `start` runs it, `stop` ends it and everything it started."""

    def __init__(self, launch: Launch) -> None:
        self.launch = launch
        self._guard: subprocess.Popen[bytes] | None = None
        self._lifeline: int | None = None
        self._releasing = threading.Lock()
        self._server: int | None = None

    def start(self) -> None:
        """Run the server; its output is appended to the log file."""
        launch = self.launch
        for file in (launch.log, launch.lock):
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        read_end, self._lifeline = os.pipe()
        command = [
            *(sys.executable, "-I", "-S", guard.__file__, str(read_end), str(launch.lock)),
            *(str(int(launch.stop_signal)), str(launch.stop_seconds), "--", *launch.argv),
        ]
        try:
            with os.fdopen(os.open(launch.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
                self._guard = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=launch.folder,
                    env={**_inherited(), **launch.environment},
                    pass_fds=(read_end,),
                    # Ctrl-C and a closing terminal signal the whole group; what stops, and in
                    # which order, is the supervisor's to say.
                    start_new_session=True,
                )
        finally:
            os.close(read_end)

    @property
    def pid(self) -> int | None:
        """Process id of the server itself, while it runs."""
        with contextlib.suppress(psutil.Error):
            if self._guard and self._guard.poll() is None:
                # Orphans of the server become children of the guard; the server is the oldest.
                children = psutil.Process(self._guard.pid).children()
                self._server = min(children, key=psutil.Process.create_time).pid if children else None
                return self._server
        return None

    def poll(self) -> int | None:
        """The guard's exit code, or None while the server runs."""
        return self._guard.poll() if self._guard else None

    def wait(self, seconds: float | None = None) -> int:
        """Wait for the end and return the exit code; raises subprocess.TimeoutExpired."""
        assert self._guard is not None, "wait() before start()"
        return self._guard.wait(seconds)

    def release(self) -> None:
        """Tell the guard to stop the server, and return at once. Safe to call twice."""
        with self._releasing:
            if self._lifeline is not None:
                os.close(self._lifeline)
                self._lifeline = None

    def stop(self) -> None:
        """Stop the server as its launch says, and everything that it started. Safe to call twice."""
        self.release()
        if not self._guard:
            return
        try:
            self._guard.wait(self.launch.stop_seconds + KILL_MARGIN_SECONDS)
        except subprocess.TimeoutExpired:
            self._guard.kill()
            self._guard.wait()
        if self._guard.returncode == -signal.SIGKILL and self._server:
            # A guard that was killed could not clean up; the server led a process group of its own.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._server, signal.SIGKILL)

    def log_tail(self) -> str:
        """The last lines that the server wrote, without the frames of Java's stack traces, which hide what they are of."""
        with contextlib.suppress(OSError):
            lines = self.launch.log.read_text(encoding="utf-8", errors="replace").splitlines()
            return "\n".join([line for line in lines if not line.startswith("\tat ")][-LOG_TAIL_LINES:])
        return ""


def _inherited() -> dict[str, str]:
    """Our environment without our settings: of those a server has what its launch names, and no others."""
    return {
        name: value for name, value in os.environ.items() if name not in variables() and not name.startswith(ALERTS)
    }


def wait_for_lock(path: Path, seconds: float) -> bool:
    """Whether nobody holds the lock at *path*, waiting for that up to *seconds*."""
    deadline = time.monotonic() + seconds
    while is_lock_held(path):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def is_lock_held(path: Path) -> bool:
    """Whether a running process holds the lock at *path*."""
    if not path.exists():
        return False
    # Shared, so that two who ask do not see each other.
    with locked(path, shared=True, waits=False) as is_free:
        return not is_free


@contextlib.contextmanager
def holding(path: Path, taken: WorkbenchError, seconds: float = 0.5) -> Iterator[None]:
    """Hold the lock at *path* while the context is open; patient enough for somebody who only asks whether it is held.

    Raises:
        WorkbenchError: *taken*, when somebody else holds it.
    """
    deadline = time.monotonic() + seconds
    while True:
        with locked(path, waits=False) as is_ours:
            if is_ours:
                yield
                return
        if time.monotonic() > deadline:
            raise taken
        time.sleep(0.02)
