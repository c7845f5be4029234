"""How fast the hub is: logins, JupyterLab in a browser, many servers at once, abandoned websockets.

    python -m benchmarks.hub [--runs 3] [--only logins,lab,servers,sockets] [--output FILE]

- *logins*: the round trip without the human, one after another and fifty at once, through traefik,
  beside JupyterHub with other authenticators; they take turns. The identity provider is on loopback.
- *lab*: from the button to a JupyterLab that can be used, in Chromium.
- *servers*: ten at once, until each answers through the proxy.
- *sockets*: resident memory after two thousand abandoned websockets.

Everything runs on this machine, browsers and identity provider included. Writes
benchmarks/results/hub.json, where a part that is measured alone replaces only itself, and prints
each figure beside its goal.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.hub_lab import measure_lab
from benchmarks.hub_logins import OURS, measure_logins
from benchmarks.hub_servers import measure_servers
from benchmarks.hub_sockets import measure_sockets
from benchmarks.machine import machine, measure_part
from benchmarks.peers.hubs import BUTTONS, version

RESULTS = Path(__file__).parent / "results" / "hub.json"
PEOPLE = 20  # of each round of logins
AT_ONCE = 50
SERVERS = 10
SOCKETS = 2000
PATIENCE_SECONDS = 120.0  # more than JupyterLab's server waits for the answer to a ping

Figure = tuple[str, float, str, float | None]  #: what, value, unit, goal


def main() -> None:
    """Measure, print, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="logins,lab,servers,sockets")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    runs: int = arguments.runs
    parts: dict[str, Callable[[Path], dict[str, Any]]] = {
        "logins": lambda folder: measure_logins(folder, rounds=runs, people=PEOPLE, at_once=AT_ONCE),
        "lab": lambda folder: measure_lab(folder, runs=runs),
        "servers": lambda folder: measure_servers(folder, runs=runs, count=SERVERS),
        "sockets": lambda folder: measure_sockets(folder, count=SOCKETS, patience_seconds=PATIENCE_SECONDS),
    }
    result: dict[str, Any] = json.loads(arguments.output.read_text("utf-8")) if arguments.output.exists() else {}
    result |= {"machine": machine(), "peers": {kind: version(kind) for kind in BUTTONS}}
    for name in arguments.only.split(","):
        command = f"python -m benchmarks.hub --runs {runs} --only {name}"
        measure_part(result, name, parts[name], command=command, output=arguments.output)
    for what, value, unit, goal in figures(result):
        shown = f"{value:10.3f} {unit}" if unit == "s" else f"{value:10.0f} {unit}"
        print(f"{what:<62}{shown:<16}{'' if goal is None else f'(goal: at most {goal:g})'}")


def figures(result: dict[str, Any]) -> Iterator[Figure]:
    """The figures that have goals, and those of the peers beside them."""
    found = {name: result[name]["measured"] for name in ("logins", "lab", "servers", "sockets") if name in result}
    for name, of in (("logins", _logins), ("lab", _lab), ("servers", _servers), ("sockets", _sockets)):
        if name in found:
            yield from of(found[name])


def _logins(found: dict[str, Any]) -> Iterator[Figure]:
    for lane, each in found["one_after_another"].items():
        is_ours = lane.startswith(OURS)
        yield f"login, {lane}, p95", each["seconds"]["p95"], "s", 0.3 if is_ours else None
        yield f"login, {lane}, processor time of the hub", statistics.median(each["cpu_milliseconds_each"]), "ms", None
    for kind in ("new", "known"):
        for lane, each in found[f"at_once_{kind}_accounts"].items():
            what, is_ours = f"{each['logins']} {kind} at once, {lane}", lane.startswith(OURS)
            yield f"{what}, failures", each["failures"], "", 0 if is_ours else None
            for part in ("callback", "hub"):
                median = statistics.median(run[f"{part}_seconds"]["p95"] for run in each["runs"])
                yield f"{what}, p95, {part}", median, "s", 1.0 if is_ours else None


def _lab(found: dict[str, Any]) -> Iterator[Figure]:
    goals = {"first": 6.0, "back": 2.5, "other_browser": 2.5}
    for lane, kinds in found.items():
        for kind, runs in kinds.items():
            for what in ("usable", "kernel"):
                goal = goals[kind] if what == "usable" else None
                yield f"Lab, {lane}, {kind}, {what}", statistics.median(run[what] for run in runs), "s", goal


def _servers(found: dict[str, Any]) -> Iterator[Figure]:
    for lane, runs in found.items():
        yield f"servers at once, {lane}, failures", sum(run["failures"] for run in runs), "", 0
        times = [run["all_seconds"] for run in runs if run["all_seconds"] is not None]
        if times:
            yield f"servers at once, {lane}, all answer", statistics.median(times), "s", 25.0


def _sockets(found: dict[str, Any]) -> Iterator[Figure]:
    for step, values in found.items():
        if "hub" in values:
            yield f"resident memory of the hub, {step}", values["hub"], "MB", 200.0
            yield f"resident memory of traefik, {step}", values["proxy"], "MB", None


if __name__ == "__main__":
    main()
