"""What the hub and its parts keep of websockets that browsers have abandoned.

Two thousand are opened to a user's server through the proxy. Half are dropped without a close
frame, as by a browser that was killed. The others belong to a process that is then frozen, as by
a laptop that sleeps: the connection stands, and nobody reads or answers. Then the server is
stopped, and two thousand more ask for it, as tabs do that were left open: these meet the hub.
"""

from __future__ import annotations

import asyncio
import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from benchmarks.hub_client import Order, log_in
from benchmarks.hub_logins import OUR_BUTTONS
from tests.services.identity_provider import IdentityProvider
from tests.services.login_hub import LoginHub, running_login_hub
from tests.services.workbench import wait_until

NAME = "gh-ada"
OPEN_FILES = 20_000
OPENED_AT_ONCE = 50
SETTLE_SECONDS = 10.0
UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\nAuthorization: token {token}\r\n\r\n"
)


def measure_sockets(folder: Path, *, count: int, patience_seconds: float) -> dict[str, Any]:
    """Resident memory of hub, proxy and server, step by step."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # The hub and what it starts inherit it.
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(OPEN_FILES, hard)), hard))
    steps: dict[str, Any] = {}
    with IdentityProvider() as provider, running_login_hub(folder, provider) as hub:
        time.sleep(SETTLE_SECONDS)  # idle means idle
        steps["idle"] = memory(hub)
        log_in(Order(url=hub.url, button=f"{OUR_BUTTONS['github']}?next=/hub/home", people=["ada"]))
        hub.api(f"/users/{NAME}/server", "POST")
        wait_until(lambda: hub.has_running_server(NAME), 90, "the server to run")
        token = hub.api(f"/users/{NAME}/tokens", "POST", json={"expires_in": 3600}).json()["token"]
        steps["server_runs"] = memory(hub)
        with abandoned(hub, token, count) as counted:
            steps["opened"] = {**counted, **memory(hub)}
            time.sleep(patience_seconds)
            steps["abandoned"] = memory(hub)
        time.sleep(SETTLE_SECONDS)
        steps["all_ended"] = memory(hub)
        hub.api(f"/users/{NAME}/server", "DELETE")
        wait_until(lambda: not hub.api(f"/users/{NAME}").json()["servers"], 60, "the server to stop")
        with abandoned(hub, token, count) as counted:
            time.sleep(SETTLE_SECONDS)
            steps["asked_for_a_stopped_server"] = {**counted, **memory(hub)}
        answered = log_in(Order(url=hub.url, button=f"{OUR_BUTTONS['github']}?next=/hub/home", people=["grace"]))
        steps["login_after_it"] = {"seconds": round(answered[0].seconds, 3), "problem": answered[0].problem}
    for name, values in steps.items():
        print(f"sockets {name:<28} {values}", flush=True)
    return steps


def memory(hub: LoginHub) -> dict[str, float]:
    """Resident megabytes of the hub, of traefik and of users' servers; and how many connections traefik has."""
    children = psutil.Process(hub.pid).children()
    proxy = next(each for each in children if "traefik" in each.name())
    servers = [each for each in children if each.environ().get("JUPYTERHUB_SERVICE_PREFIX", "").startswith("/user/")]
    return {
        "hub": _megabytes(psutil.Process(hub.pid)),
        "proxy": _megabytes(proxy),
        "servers": round(sum(map(_megabytes, servers)), 1),
        "proxy_connections": len([each for each in proxy.net_connections("tcp") if each.status == "ESTABLISHED"]),
    }


@contextmanager
def abandoned(hub: LoginHub, token: str, count: int) -> Iterator[dict[str, int]]:
    """Open websockets from another process, drop half and freeze the process with the others.

    The value says how many were upgraded and how many were answered otherwise.
    """
    order = json.dumps({"url": f"{hub.url}/user/{NAME}/api/events/subscribe", "token": token, "count": count})
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.hub_sockets"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(order + "\n")
        process.stdin.flush()
        counted = json.loads(process.stdout.readline())
        process.stdin.write("drop\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGSTOP)
        yield counted
    finally:
        process.kill()
        process.wait()


async def open_and_drop() -> None:
    """What the other process does."""
    order = json.loads(await asyncio.to_thread(sys.stdin.readline))
    url = urlsplit(order["url"])
    request = UPGRADE.format(path=url.path, host=url.netloc, token=order["token"]).encode()
    slots = asyncio.Semaphore(OPENED_AT_ONCE)

    async def open_one() -> tuple[bytes, asyncio.StreamWriter]:
        async with slots:
            reader, writer = await asyncio.open_connection(url.hostname, url.port)
            writer.write(request)
            status = await reader.readline()
            return status, writer

    opened = await asyncio.gather(*(open_one() for _ in range(order["count"])))
    upgraded = sum(b" 101 " in status for status, _ in opened)
    others = sorted({status.decode().strip() for status, _ in opened if b" 101 " not in status})
    print(json.dumps({"upgraded": upgraded, "answered_otherwise": len(opened) - upgraded, "how": others}), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    for _, writer in opened[::2]:
        writer.transport.abort()
    await asyncio.sleep(0)
    print("dropped", flush=True)
    await asyncio.to_thread(sys.stdin.readline)


def _megabytes(process: psutil.Process) -> float:
    return round(process.memory_info().rss / 1e6, 1)


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(OPEN_FILES, most), most))
    asyncio.run(open_and_drop())
