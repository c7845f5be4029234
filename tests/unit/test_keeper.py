"""What a component's keeper and its supervisor do when something that nobody foresaw fails."""

from __future__ import annotations

import errno
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.services.workbench import wait_until
from workbench.errors import ComponentError
from workbench.runtime import keeper
from workbench.runtime import supervisor as supervising
from workbench.runtime.process import Launch
from workbench.runtime.state import ComponentStatus, State, WorkbenchStatus, read_status, write_status
from workbench.runtime.supervisor import Supervisor

FULL = OSError(errno.ENOSPC, "No space left on device", "/disk/server/server.properties")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "STARTING_POLL_SECONDS", 0.001)
    monkeypatch.setattr(keeper, "RESTART_DELAYS_SECONDS", (0.001,) * 5)


@dataclass
class Sleeper:
    """A server that answers at once; what is in `failures` is raised first, by the step of that name."""

    home: Path
    failures: list[tuple[str, Exception]] = field(default_factory=list)
    name = "sleeper"
    address = ""
    start_seconds = 10.0

    @property
    def lock(self) -> Path:
        return self.home / "run" / "sleeper.lock"

    def prepare(self) -> Launch:
        self._fail("prepare")
        argv = (sys.executable, "-I", "-S", "-c", "import time; time.sleep(60)")
        return Launch(argv=argv, log=self.home / "logs" / "sleeper.log", lock=self.lock, folder=self.home)

    def is_healthy(self) -> bool:
        self._fail("is_healthy")
        return True

    def complete(self) -> None:
        self._fail("complete")

    def _fail(self, step: str) -> None:
        if self.failures and self.failures[0][0] == step:
            raise self.failures.pop(0)[1]


@pytest.fixture
def heard() -> list[ComponentStatus]:
    return []


@pytest.fixture
def supervise(tmp_path: Path, heard: list[ComponentStatus]) -> Iterator[Callable[..., Supervisor]]:
    running: list[Supervisor] = []

    def make(listener: Callable[[ComponentStatus], None] = heard.append) -> Supervisor:
        running.append(Supervisor(tmp_path, listener).__enter__())
        return running[0]

    yield make
    for supervisor in running:
        supervisor.__exit__(None, None, None)


def test_a_run_that_fails_unforeseen_is_tried_again(supervise, heard, tmp_path: Path):
    failures: list[tuple[str, Exception]] = [("prepare", FULL), ("complete", ValueError("odd")), ("is_healthy", FULL)]

    supervise().start([Sleeper(tmp_path, failures)], retry=True)

    reasons = [each.reason for each in heard if each.state is State.RESTARTING]
    assert reasons == ["no room under /disk/server", "ValueError('odd')", "no room under /disk/server"]
    assert heard[-1].state is State.RUNNING


def test_what_is_given_up_is_tried_again_later_and_its_state_is_written_when_there_is_room(
    supervise, heard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(keeper, "FAILED_INTERVAL_SECONDS", 0.001)
    monkeypatch.setattr(keeper, "HEALTH_INTERVAL_SECONDS", 0.001)
    monkeypatch.setattr(supervising, "STATUS_AGAIN_SECONDS", 0.001)
    is_full = threading.Event()

    def write(home: Path, status: WorkbenchStatus) -> None:
        if is_full.is_set():
            raise FULL
        write_status(home, status)

    monkeypatch.setattr(supervising, "write_status", write)
    sleeper = Sleeper(tmp_path)
    (kept,) = supervise().launch([sleeper])
    wait_until(lambda: kept.status.state is State.RUNNING, 20, "the first start")
    is_full.set()
    sleeper.failures += [("is_healthy", FULL), *[("prepare", FULL)] * 8, ("prepare", ValueError("odd"))]

    wait_until(lambda: heard[-1].state is State.RUNNING and not sleeper.failures, 20, "another start")
    failed = [each.reason for each in heard if each.state is State.FAILED]
    tried = [each.state for each in heard[[each.state for each in heard].index(State.FAILED) :]]
    assert set(tried[:-1]) == {State.FAILED}  # also while it is tried: `workbench status` has the reason
    assert "was started 6 times without an answer: no room under /disk/server" in failed[0]
    assert kept.error is None
    assert read_status(tmp_path, memory=False).components[0].restarts == 0
    is_full.clear()
    wait_until(lambda: read_status(tmp_path, memory=False).components == (heard[-1],), 20, "the state to be written")


def test_a_full_disk_at_the_first_start_is_told_in_words(supervise, tmp_path: Path):
    with pytest.raises(ComponentError, match="sleeper could not be started: no room under /disk/server"):
        supervise().start([Sleeper(tmp_path, [("prepare", FULL)])])


@pytest.mark.parametrize("error", [FULL, SystemExit(1)])
def test_whoever_listens_and_fails_ends_no_keeper(supervise, tmp_path: Path, error: BaseException):
    written: list[State] = []

    def listen(_: ComponentStatus) -> None:
        written.append(read_status(tmp_path, memory=False).components[0].state)
        raise error

    supervise(listen).start([Sleeper(tmp_path)])

    # The state is written before anybody hears of it.
    assert written == [State.STARTING, State.RUNNING]
