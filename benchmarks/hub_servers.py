"""Ten servers that are started in the same moment, by the way in which they are started."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from benchmarks.hub_client import Order, log_in
from benchmarks.hub_logins import OUR_BUTTONS, add_people
from tests.services.identity_provider import IdentityProvider
from tests.services.login_hub import LoginHub, running_login_hub
from tests.services.walled_hub import remove_os_user
from tests.services.workbench import make_home, wait_until

LONGEST_SECONDS = 300.0
POLL_SECONDS = 0.2
ELSEWHERE = {"WORKBENCH_SPARK_REMOTE": "sc://localhost:1"}
LANES = {
    "simple": {"WORKBENCH_HUB_SPAWNER": "simple", **ELSEWHERE},
    "local": {"WORKBENCH_HUB_SPAWNER": "local", **ELSEWHERE},
    "simple_spark_of_ones_own": {"WORKBENCH_HUB_SPAWNER": "simple", "WORKBENCH_SPARK_REMOTE": ""},
}


def measure_servers(folder: Path, *, runs: int, count: int) -> dict[str, Any]:
    """For each lane and run: a new hub, people who have logged in, and all their servers at once."""
    found: dict[str, list[dict[str, Any]]] = {lane: [] for lane in LANES}
    for number in range(runs):
        for lane, variables in LANES.items():
            # An OS user for each person takes root.
            if lane == "local" and os.geteuid() != 0:
                continue
            place = folder / f"{lane}-{number}"
            make_home(place)
            with IdentityProvider() as provider:
                people = add_people(provider, count)
                names = [f"gh-{login}" for login in people]
                try:
                    with running_login_hub(place, provider, **variables) as hub:
                        log_in(Order(url=hub.url, button=f"{OUR_BUTTONS['github']}?next=/hub/home", people=people))
                        found[lane].append(start_all(hub, names))
                finally:
                    if lane == "local":
                        for name in names:
                            remove_os_user(name, place / "home" / "users" / name)
            print(f"servers {number + 1} {lane:<26} {found[lane][-1]}", flush=True)
    return {lane: each for lane, each in found.items() if each}


def start_all(hub: LoginHub, names: list[str]) -> dict[str, Any]:
    """Start the servers and wait until each answers through the proxy; then stop them."""
    ready: dict[str, float] = {}
    gave_up: set[str] = set()
    started = time.perf_counter()
    with ThreadPoolExecutor(len(names)) as pool:
        asked = list(pool.map(lambda name: hub.api(f"/users/{name}/server", "POST").status_code, names))
    with httpx.Client(base_url=hub.url, trust_env=False, timeout=60) as client:
        while len(ready) + len(gave_up) < len(names) and time.perf_counter() - started < LONGEST_SECONDS:
            servers = {user["name"]: user["servers"].get("") for user in hub.api("/users").json()}
            for name in set(names) - set(ready) - gave_up:
                server = servers[name]
                if server is None:
                    gave_up.add(name)
                elif server["ready"] and client.get(f"/user/{name}/api").is_success:
                    ready[name] = round(time.perf_counter() - started, 2)
            time.sleep(POLL_SECONDS)
    stopping = time.perf_counter()
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: hub.api(f"/users/{name}/server", "DELETE"), ready))
    wait_until(lambda: not any(hub.has_running_server(name) for name in names), 60, "the servers to stop")
    return {
        "servers": len(names),
        "failures": len(names) - len(ready),
        "refused": sorted({code for code in asked if code >= 400}),
        "first_seconds": min(ready.values(), default=None),
        "all_seconds": max(ready.values(), default=None),
        "stop_seconds": round(time.perf_counter() - stopping, 2),
    }
