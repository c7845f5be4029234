"""Login round trips without the human: one after another and fifty at once, beside other JupyterHubs."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.hub_client import Login, Order, log_in
from benchmarks.peers.hubs import BUTTONS, running_peer
from tests.services.identity.wire import Answer, Request
from tests.services.identity_provider import IdentityProvider, Person
from tests.services.login_hub import ORGANIZATION, running_login_hub

OURS = "workbench"
OUR_BUTTONS = {"github": "/hub/github/login", "google": "/hub/google/login"}


class TimedProvider(IdentityProvider):
    """Notes how long each of its answers took it."""

    def __init__(self) -> None:
        super().__init__()
        self.spent: list[tuple[float, float]] = []  #: time.time() of the answer, seconds
        self._guard = threading.Lock()

    def _respond(self, request: Request) -> Answer | None:
        started = time.perf_counter()
        answer = super()._respond(request)
        with self._guard:
            self.spent.append((time.time(), time.perf_counter() - started))
        return answer

    def seconds_between(self, began: float, ended: float) -> float:
        """What it spent on its answers in that time."""
        with self._guard:
            return sum(seconds for at, seconds in self.spent if began <= at <= ended)


@dataclass(frozen=True, kw_only=True)
class Lane:
    """A hub and one of its buttons."""

    hub: str
    provider: str
    url: str
    button: str
    pid: int

    @property
    def label(self) -> str:
        """What figures of it are called."""
        return f"{self.hub}-{self.provider}"

    def cpu_seconds(self) -> float:
        """What the hub's process has used since its start."""
        times = psutil.Process(self.pid).cpu_times()
        return times.user + times.system


@dataclass(frozen=True, kw_only=True)
class Round:
    """Some logins at one hub, and what they cost it."""

    logins: Sequence[Login]
    cpu_seconds: float


def measure_logins(folder: Path, *, rounds: int, people: int, at_once: int) -> dict[str, Any]:
    """All hubs run at the same time; they take turns, round by round.

    Each of the crowds comes twice: when the hub has never seen its people, and when it knows them.
    """
    with TimedProvider() as provider, ExitStack() as stack:
        names = add_people(provider, rounds * at_once)
        crowds = [names[number * at_once :][:at_once] for number in range(rounds)]
        lanes = _lanes(folder, provider, stack)
        first = {lane.label: _checked(lane, ["ada"])[0].seconds for lane in lanes}
        new = _take_turns(lanes, crowds, at_once=True)
        known = _take_turns(lanes, crowds, at_once=True)
        single = _take_turns(lanes, [names[:people]] * rounds)
        return {
            "first_after_start_seconds": {name: round(seconds, 3) for name, seconds in first.items()},
            "one_after_another": {name: _summary(found, provider) for name, found in single.items()},
            "at_once_new_accounts": {name: _crowd(found) for name, found in new.items()},
            "at_once_known_accounts": {name: _crowd(found) for name, found in known.items()},
        }


def _lanes(folder: Path, provider: IdentityProvider, stack: ExitStack) -> list[Lane]:
    ours = stack.enter_context(running_login_hub(folder, provider))
    lanes = [_lane(OURS, name, ours.url, button, ours.pid) for name, button in OUR_BUTTONS.items()]
    for kind, buttons in BUTTONS.items():
        peer = stack.enter_context(running_peer(kind, folder, provider))
        lanes += [_lane(kind, name, peer.url, button, peer.pid) for name, button in buttons.items()]
    return lanes


def _lane(hub: str, provider: str, url: str, button: str, pid: int) -> Lane:
    return Lane(hub=hub, provider=provider, url=url, button=f"{button}?next=/hub/home", pid=pid)


def add_people(provider: IdentityProvider, count: int) -> list[str]:
    """Make accounts that may enter through both providers; returns their logins."""
    names = [f"person-{number}" for number in range(count)]
    for number, name in enumerate(names):
        mail = f"{name}@example.com"
        person = Person(name, 20_000 + number, name.title(), mail, hd="example.com", organizations={ORGANIZATION})
        provider.people.append(person)
    return names


def _take_turns(
    lanes: Sequence[Lane], groups: Sequence[Sequence[str]], *, at_once: bool = False
) -> dict[str, list[Round]]:
    found: dict[str, list[Round]] = {lane.label: [] for lane in lanes}
    for number, people in enumerate(groups):
        for lane in lanes:
            before = lane.cpu_seconds()
            logins = _log_in(lane, people, at_once=at_once) if at_once else _checked(lane, people)
            found[lane.label].append(Round(logins=logins, cpu_seconds=lane.cpu_seconds() - before))
            slowest = max(login.seconds for login in logins)
            print(f"logins {number + 1} {lane.label:<28} {len(logins)} slowest {slowest:.3f} s", flush=True)
    return found


def _log_in(lane: Lane, people: Sequence[str], *, at_once: bool = False) -> list[Login]:
    return log_in(Order(url=lane.url, button=lane.button, people=people, at_once=at_once))


def _checked(lane: Lane, people: Sequence[str]) -> list[Login]:
    logins = _log_in(lane, people)
    problems = [login.problem for login in logins if login.problem]
    assert not problems, f"{lane.label}: {problems[:3]}"
    return logins


def _summary(rounds: Sequence[Round], provider: TimedProvider) -> dict[str, Any]:
    """Round trips, and what of each the identity provider took for itself."""
    logins = [login for each in rounds for login in each.logins]
    spent = [provider.seconds_between(login.began, login.ended) for login in logins]
    own = [login.seconds - seconds for login, seconds in zip(logins, spent, strict=True)]
    return {
        "logins": len(logins),
        "seconds": percentiles([login.seconds for login in logins]),
        "without_provider_seconds": percentiles(own),
        "callback_seconds": percentiles([login.callback_seconds for login in logins]),
        "provider_seconds": percentiles(spent),
        "cpu_milliseconds_each": [_cost(each) for each in rounds],
        "each": [round(login.seconds, 4) for login in logins],
    }


def _crowd(rounds: Sequence[Round]) -> dict[str, Any]:
    """Round by round."""
    runs = [
        {
            "failures": sum(bool(login.problem) for login in each.logins),
            "problems": sorted({login.problem for login in each.logins if login.problem})[:3],
            "all_seconds": round(
                max(login.ended for login in each.logins) - min(login.began for login in each.logins), 3
            ),
            "seconds": percentiles([login.seconds for login in each.logins]),
            "hub_seconds": percentiles([login.hub_seconds for login in each.logins]),
            "callback_seconds": percentiles([login.callback_seconds for login in each.logins]),
            "cpu_milliseconds_each": _cost(each),
        }
        for each in rounds
    ]
    return {"logins": len(rounds[0].logins), "failures": sum(run["failures"] for run in runs), "runs": runs}


def _cost(each: Round) -> float:
    return round(each.cpu_seconds / len(each.logins) * 1000, 1)


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95 and the most."""
    return {f"p{each}": round(float(np.percentile(values, each)), 4) for each in (50, 95, 100)}
