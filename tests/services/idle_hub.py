"""A real JupyterHub that stops idle servers soon, with its culler, traefik and real users' servers, and nothing else.

with running_idle_hub(tmp_path, idle_seconds=20, warning_seconds=0) as hub:
    server = hub.start_server("ada")
    server.call("GET", "api/kernels")
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import httpx
import psutil
import websocket

from hub.addresses import HubPorts
from tests.services.browser import send
from tests.services.process_tree import stop
from tests.services.workbench import ROOT, environment, wait_until
from workbench.runtime.ports import any_free
from workbench.security.secrets import ensure_token, private_folder, write_private

CONFIG = Path(__file__).parent / "idle_hub_config.py"
UP_SECONDS = 60
SERVER_SECONDS = 90


@dataclass(frozen=True, kw_only=True)
class IdleServer:
    """A user's server, called with a token of that user."""

    hub: IdleHub
    user: str
    token: str = field(repr=False)

    @property
    def path(self) -> str:
        return f"/user/{self.user}"

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        return send(method, f"{self.hub.url}{self.path}/{path}", token=self.token, **options)

    def connect(self, path: str) -> Any:
        """Open a websocket of the server, such as a kernel's channels."""
        address = f"{self.hub.url.replace('http', 'ws', 1)}{self.path}/{path}"
        return websocket.create_connection(address, header=[f"Authorization: token {self.token}"], timeout=30)

    def is_running(self) -> bool:
        return "" in self.hub.api("GET", f"users/{self.user}").json()["servers"]

    def process(self) -> psutil.Process:
        """The server's own process."""
        return self.hub.child("jupyterhub.singleuser", JUPYTERHUB_USER=self.user)


@dataclass(frozen=True, kw_only=True)
class IdleHub:
    """A hub that answers."""

    home: Path
    url: str
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        return (self.home / "hub.log").read_text(encoding="utf-8", errors="replace")

    def api(self, method: str, path: str, **options: Any) -> httpx.Response:
        answer = send(method, f"{self.url}/hub/api/{path}", token=_token(self.home), **options)
        assert answer.is_success, answer.text
        return answer

    def start_server(self, user: str) -> IdleServer:
        """Make the user, start the server, and wait until it answers."""
        self.api("POST", f"users/{user}")
        self.api("POST", f"users/{user}/server")
        token = self.api("POST", f"users/{user}/tokens", json={}).json()["token"]
        server = IdleServer(hub=self, user=user, token=token)
        wait_until(lambda: self._is_ready(user), SERVER_SECONDS, "the server to run")
        return server

    def child(self, module: str, **variables: str) -> psutil.Process:
        """The process that the hub started to run *module* with these variables."""
        for each in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):
                if module in each.cmdline() and variables.items() <= each.environ().items():
                    return each
        raise AssertionError(f"the hub has no process of {module}; its log:\n{self.log}")

    def _is_ready(self, user: str) -> bool:
        return bool(self.api("GET", f"users/{user}").json()["servers"].get("", {}).get("ready"))


@contextmanager
def running_idle_hub(folder: Path, *, idle_seconds: int, warning_seconds: int) -> Iterator[IdleHub]:
    """Start the hub with its culler, and stop both with all servers at the end."""
    home = private_folder(folder / "home")
    ports = HubPorts(**{each.name: any_free() for each in fields(HubPorts)})
    write_private(private_folder(home / "run") / "hub.json", ports.as_json())
    _token(home)
    variables = {
        "WORKBENCH_HUB_IDLE_SECONDS": str(idle_seconds),
        "WORKBENCH_HUB_IDLE_WARNING_SECONDS": str(warning_seconds),
        "WORKBENCH_SPARK_REMOTE": "sc://localhost:1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
    }
    with (home / "hub.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "-f", str(CONFIG)],
            env=environment(home, **variables),
            stdout=output,
            stderr=output,
            cwd=private_folder(home / "hub"),
            start_new_session=True,
        )
    hub = IdleHub(home=home, url=f"http://127.0.0.1:{ports.proxy}", process=process)
    try:
        wait_until(lambda: _answers(hub) or process.poll() is not None, UP_SECONDS, "the hub to answer")
        assert process.poll() is None, hub.log
        yield hub
    finally:
        stop(process)


def _answers(hub: IdleHub) -> bool:
    with suppress(httpx.HTTPError):
        return send("GET", f"{hub.url}/hub/health").status_code == 200
    return False


def _token(home: Path) -> str:
    return ensure_token(home / "keys" / "tests-api-token")
