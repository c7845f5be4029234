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


def measure_logins(folder: Path, *, rounds: int, people: int, at_once: int) -> dict[str, Any]:
    """All hubs run at the same time; they take turns, round by round."""
    with TimedProvider() as provider, ExitStack() as stack:
        names = add_people(provider, max(people, at_once))
        ours = stack.enter_context(running_login_hub(folder, provider))
        hubs = {OURS: (ours.url, OUR_BUTTONS)}
        for kind, buttons in BUTTONS.items():
            hubs[kind] = (stack.enter_context(running_peer(kind, folder, provider)), buttons)
        lanes = [
            Lane(hub=hub, provider=name, url=url, button=f"{button}?next=/hub/home")
            for hub, (url, buttons) in hubs.items()
            for name, button in buttons.items()
        ]
        first = {_label(lane): _checked(lane, ["ada"])[0].seconds for lane in lanes}
        single = _take_turns(lanes, names[:people], rounds)
        crowds = _take_turns(lanes, names[:at_once], rounds, at_once=True)
        return {
            "first_after_start_seconds": {name: round(seconds, 3) for name, seconds in first.items()},
            "one_after_another": {
                name: _summary([login for run in runs for login in run], provider) for name, runs in single.items()
            },
            "at_once": {name: _crowd(runs) for name, runs in crowds.items()},
        }


def add_people(provider: IdentityProvider, count: int) -> list[str]:
    """Make accounts that may enter through both providers; returns their logins."""
    names = [f"person-{number}" for number in range(count)]
    for number, name in enumerate(names):
        mail = f"{name}@example.com"
        person = Person(name, 20_000 + number, name.title(), mail, hd="example.com", organizations={ORGANIZATION})
        provider.people.append(person)
    return names


def _take_turns(
    lanes: Sequence[Lane], people: Sequence[str], rounds: int, *, at_once: bool = False
) -> dict[str, list[list[Login]]]:
    found: dict[str, list[list[Login]]] = {_label(lane): [] for lane in lanes}
    for number in range(rounds):
        for lane in lanes:
            logins = _log_in(lane, people, at_once=at_once) if at_once else _checked(lane, people)
            found[_label(lane)].append(logins)
            slowest = max(login.seconds for login in logins)
            print(f"logins {number + 1} {_label(lane):<28} {len(logins)} slowest {slowest:.3f} s", flush=True)
    return found


def _log_in(lane: Lane, people: Sequence[str], *, at_once: bool = False) -> list[Login]:
    return log_in(Order(url=lane.url, button=lane.button, people=people, at_once=at_once))


def _checked(lane: Lane, people: Sequence[str]) -> list[Login]:
    logins = _log_in(lane, people)
    problems = [login.problem for login in logins if login.problem]
    assert not problems, f"{_label(lane)}: {problems[:3]}"
    return logins


def _summary(logins: Sequence[Login], provider: TimedProvider) -> dict[str, Any]:
    """Round trips, and what of each the identity provider took for itself."""
    provider_seconds = [provider.seconds_between(login.began, login.ended) for login in logins]
    own = [login.seconds - spent for login, spent in zip(logins, provider_seconds, strict=True)]
    return {
        "logins": len(logins),
        "seconds": percentiles([login.seconds for login in logins]),
        "without_provider_seconds": percentiles(own),
        "callback_seconds": percentiles([login.callback_seconds for login in logins]),
        "provider_seconds": percentiles(provider_seconds),
        "each": [round(login.seconds, 4) for login in logins],
    }


def _crowd(runs: Sequence[Sequence[Login]]) -> dict[str, Any]:
    """Round by round: the first has accounts that the hub does not know yet."""
    each = [
        {
            "failures": sum(bool(login.problem) for login in run),
            "problems": sorted({login.problem for login in run if login.problem})[:3],
            "all_seconds": round(max(login.ended for login in run) - min(login.began for login in run), 3),
            "seconds": percentiles([login.seconds for login in run]),
            "hub_seconds": percentiles([login.hub_seconds for login in run]),
            "callback_seconds": percentiles([login.callback_seconds for login in run]),
        }
        for run in runs
    ]
    return {"logins": len(runs[0]), "failures": sum(run["failures"] for run in each), "runs": each}


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95 and the most."""
    return {f"p{each}": round(float(np.percentile(values, each)), 4) for each in (50, 95, 100)}


def _label(lane: Lane) -> str:
    return f"{lane.hub}-{lane.provider}"
