"""What dies is started again for as long as it answers in between; what never answers is given up."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.services.workbench import wait_until
from workbench.errors import ClusterError, ComponentError
from workbench.logs import rotation
from workbench.logs.rotation import LogLimits, older_logs
from workbench.runtime import external
from workbench.runtime import keeper as keeping
from workbench.runtime.process import Launch
from workbench.runtime.state import State, read_status
from workbench.runtime.supervisor import Supervisor

KILLS = 9  # more than there are delays


@dataclass(frozen=True)
class Sleeper:
    """A server that answers once it has made its file, and makes none while `broken` is there."""

    home: Path

    name = "sleeper"
    address = "nowhere"
    start_seconds = 10.0

    @property
    def lock(self) -> Path:
        return self.home / "sleeper.lock"

    @property
    def answer(self) -> Path:
        return self.home / "answer"

    @property
    def broken(self) -> Path:
        return self.home / "broken"

    def prepare(self) -> Launch:
        self.answer.unlink(missing_ok=True)
        program = (
            "import sys, signal, pathlib\n"
            "answer, broken = map(pathlib.Path, sys.argv[1:])\n"
            "broken.exists() and sys.exit(3)\n"
            "answer.touch()\n"
            "signal.pause()\n"
        )
        return Launch(
            argv=(sys.executable, "-I", "-S", "-c", program, str(self.answer), str(self.broken)),
            log=self.home / "sleeper.log",
            lock=self.lock,
            folder=self.home,
        )

    def is_healthy(self) -> bool:
        return self.answer.exists()

    def complete(self) -> None:
        """Nothing to do."""


@pytest.fixture
def quick_restarts(monkeypatch):
    monkeypatch.setattr(keeping, "RESTART_DELAYS_SECONDS", (0.01,) * 5)


def test_a_server_that_answers_is_restarted_however_often_it_is_killed(tmp_path, quick_restarts):
    with Supervisor(tmp_path) as supervisor:
        (keeper,) = supervisor.launch([Sleeper(tmp_path)])
        for killed in range(KILLS):
            wait_until(
                lambda n=killed: keeper.status.state is State.RUNNING and keeper.status.restarts == n,
                20,
                f"start {killed + 1}",
            )
            os.kill(keeper.status.pid, signal.SIGKILL)
        wait_until(
            lambda: keeper.status.state is State.RUNNING and keeper.status.restarts == KILLS, 20, "the last start"
        )


def test_a_server_that_no_longer_answers_is_given_up_with_its_reason(tmp_path, quick_restarts):
    sleeper = Sleeper(tmp_path)
    with Supervisor(tmp_path) as supervisor:
        (keeper,) = supervisor.launch([sleeper])
        wait_until(lambda: keeper.status.state is State.RUNNING, 20, "the first start")
        sleeper.broken.touch()
        os.kill(keeper.status.pid, signal.SIGKILL)
        wait_until(lambda: keeper.status.state is State.FAILED, 30, "giving up")
        assert "started 6 times without an answer: it ended with code 3" in keeper.status.reason


@dataclass(frozen=True)
class Aging(Sleeper):
    """One whose certificate is made anew at the second try, and never has to be again."""

    def renew(self) -> bool:
        tries = self.home / "tries"
        tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
        if tries.read_text() == "x":
            raise ComponentError("it is busy")
        return tries.read_text() == "xx"


def test_what_ages_is_renewed_while_it_runs_and_tried_again(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(keeping, "HEALTH_INTERVAL_SECONDS", 0.01)
    monkeypatch.setattr(keeping, "RENEWAL_INTERVAL_SECONDS", 0.01)
    caplog.set_level("INFO", keeping.__name__)

    def told() -> list[str]:
        return [each.message for each in caplog.records if each.name == keeping.__name__]

    with Supervisor(tmp_path) as supervisor:
        (keeper,) = supervisor.launch([Aging(tmp_path)])
        wait_until(lambda: len(told()) == 2 and (tmp_path / "tries").read_text() > "xx", 20, "the second try")
        assert (keeper.status.state, keeper.status.restarts) == (State.RUNNING, 0)
    assert told() == [
        "sleeper could not be renewed, and is tried again: it is busy",
        "sleeper: its certificate was renewed",
    ]


def test_the_log_of_a_server_is_bounded_while_it_runs_and_users_servers_too(tmp_path, monkeypatch):
    monkeypatch.setattr(rotation, "LOOK_SECONDS", 0.1)
    others = [tmp_path / "logs" / "up.log", tmp_path / "servers" / "logs" / "ada.log"]
    for each in others:
        each.parent.mkdir(parents=True)
        each.write_bytes(b"x" * 20_000)
    with Supervisor(tmp_path, limits=LogLimits(size_bytes=10_000, keep=1)) as supervisor:
        supervisor.start([Sleeper(tmp_path)])
        log = tmp_path / "sleeper.log"
        with log.open("ab") as file:
            file.write(b"y" * 20_000)
        wait_until(lambda: all(older_logs(each) for each in [log, *others]), 20, "the logs to be cut")
        wait_until(lambda: all(each.stat().st_size <= 10_000 for each in [log, *others]), 20, "the logs to be short")


def test_what_nobody_waits_for_is_tried_again_when_its_first_start_fails(tmp_path, quick_restarts):
    sleeper = Sleeper(tmp_path)
    sleeper.broken.touch()
    with Supervisor(tmp_path) as supervisor:
        (keeper,) = supervisor.launch([sleeper], retry=True)
        wait_until(lambda: keeper.status.restarts >= 2, 20, "two failed starts")
        sleeper.broken.unlink()
        wait_until(lambda: keeper.status.state is State.RUNNING, 20, "a start that succeeds")


def test_whoever_waits_for_a_first_start_hears_at_once_that_it_failed(tmp_path, quick_restarts):
    sleeper = Sleeper(tmp_path)
    sleeper.broken.touch()
    with Supervisor(tmp_path) as supervisor, pytest.raises(ComponentError, match="it ended with code 3"):
        supervisor.start([sleeper])


class Waiting(Sleeper):
    """A server that says what it waits for, though it lives."""

    @property
    def waits_for(self) -> Path:
        return self.home / "waits-for"

    def obstacle(self) -> str:
        return self.waits_for.read_text()


def told_ready(home: Path) -> list[bool]:
    return [each.ready for each in read_status(home, memory=False).components]


def test_what_waits_for_another_lives_and_is_not_ready(tmp_path, monkeypatch):
    monkeypatch.setattr(keeping, "HEALTH_INTERVAL_SECONDS", 0.01)
    waiting = Waiting(tmp_path)
    waiting.waits_for.touch()
    with Supervisor(tmp_path) as supervisor:
        (keeper,) = supervisor.launch([waiting])
        # What is told is in a file, which is written after the keeper knows.
        wait_until(lambda: told_ready(tmp_path) == [True], 20, "the start")
        assert read_status(tmp_path, memory=False).is_healthy

        waiting.waits_for.write_text("the store does not answer")
        wait_until(lambda: told_ready(tmp_path) == [False], 20, "the obstacle")

        status = read_status(tmp_path, memory=False)
        (told,) = json.loads(status.as_json())["components"]
        assert not status.is_healthy
        assert (told["state"], told["live"], told["ready"]) == ("running", True, False)
        assert (told["reason"], told["restarts"]) == ("the store does not answer", 0)

        waiting.waits_for.write_text("")
        wait_until(lambda: keeper.status.ready, 20, "the end of the obstacle")
        assert (keeper.status.reason, keeper.status.restarts) == ("", 0)


def test_a_server_of_somebody_else_is_ready_while_it_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(external, "CHECK_SECONDS", 0.01)
    refusing = threading.Event()

    def check() -> None:
        if refusing.is_set():
            raise ComponentError("broker:9092 does not answer")

    with Supervisor(tmp_path) as supervisor:
        supervisor.add_external("kafka", "broker:9092", check)
        supervisor.announce("")
        assert read_status(tmp_path).is_healthy
        refusing.set()
        wait_until(lambda: not read_status(tmp_path).is_healthy, 20, "the refusal")

        (kafka,) = read_status(tmp_path).components
        assert (kafka.state, kafka.live, kafka.reason) == (State.EXTERNAL, True, "broker:9092 does not answer")
        refusing.clear()
        wait_until(lambda: read_status(tmp_path).is_healthy, 20, "the answer")


class Misconfigured(Sleeper):
    """A server that says that it can never work as it is configured."""

    def complete(self) -> None:
        raise ClusterError("there is no master at spark://nowhere:7077", remedy="Correct SPARK_MASTER_URL.")


def test_what_a_person_has_to_correct_is_not_tried_again(tmp_path, quick_restarts):
    with Supervisor(tmp_path) as supervisor, pytest.raises(ClusterError, match="no master at"):
        supervisor.start([Misconfigured(tmp_path)], retry=True)
