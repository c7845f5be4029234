"""A real JupyterHub with a server for each of a few users, and nothing else of the workbench.

    with running_hub(folder, {"analyst": ["two-a", "two-b"]}, WORKBENCH_HUB_SPAWNER="local") as hub:
        hub.start_server("two-a")
        with hub.kernel("two-a") as kernel:
            kernel.run("import os; print(os.getuid())")

The OS users that were made are removed at the end.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx
from tornado.httpclient import HTTPRequest
from tornado.ioloop import IOLoop
from tornado.websocket import WebSocketClientConnection, websocket_connect

from hub.addresses import HubPorts
from hub.spawning import os_users
from tests.services.browser import send
from tests.services.process_tree import stop
from tests.services.workbench import ROOT, environment, wait_until
from workbench.runtime.ports import any_free
from workbench.security.secrets import private_folder, write_private

CONFIG = Path(__file__).parent / "walled_hub_config.py"
SECONDS = 60


@dataclass
class Kernel:
    """A kernel of a user's server; `run` returns what a cell printed."""

    loop: IOLoop = field(repr=False)
    connection: WebSocketClientConnection = field(repr=False)

    def run(self, code: str, seconds: float = SECONDS) -> str:
        return self.loop.run_sync(lambda: self._run(code), timeout=seconds)

    def close(self) -> None:
        async def close() -> None:  # a frame is written, which needs the loop
            self.connection.close()

        self.loop.run_sync(close)

    async def _run(self, code: str) -> str:
        number = uuid.uuid4().hex
        header = {"msg_id": number, "msg_type": "execute_request", "username": "", "session": number, "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        await self.connection.write_message(json.dumps(message))
        printed = ""
        while True:
            text = await self.connection.read_message()
            if text is None:
                raise ConnectionError("the kernel's websocket was closed")
            answer = json.loads(text)
            if answer["msg_type"] == "status" and answer["content"].get("execution_state") == "restarting":
                raise ConnectionError("the kernel died")
            if answer["parent_header"].get("msg_id") != number:
                continue
            if answer["msg_type"] == "stream":
                printed += answer["content"]["text"]
            elif answer["msg_type"] == "error":
                raise AssertionError("\n".join(answer["content"]["traceback"]))
            elif answer["msg_type"] == "status" and answer["content"]["execution_state"] == "idle":
                return printed


@dataclass(frozen=True)
class WalledHub:
    """A hub that answers; `api` calls it as an administrator."""

    home: Path
    ports: HubPorts
    process: subprocess.Popen[bytes]
    token: str = field(repr=False)
    tokens: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports.proxy}"

    def api(self, path: str, method: str = "GET", **options: Any) -> httpx.Response:
        url = f"http://127.0.0.1:{self.ports.hub_api}/hub/api{path}"
        return send(method, url, token=self.token, timeout=120, **options)

    def token_of(self, name: str) -> str:
        """A token of the user's own, that may do what they may."""
        if name not in self.tokens:
            self.tokens[name] = self.api(f"/users/{name}/tokens", "POST", json={}).json()["token"]
        return self.tokens[name]

    def server(self, name: str) -> dict[str, Any]:
        return dict(self.api(f"/users/{name}").json()["servers"].get("", {}))

    def start_server(self, *names: str) -> None:
        """Start the server of each, all at once."""
        for name in names:
            answer = self.api(f"/users/{name}/server", "POST")
            assert answer.status_code in {201, 202}, answer.text
        are_ready = lambda: all(self.server(name).get("ready") for name in names)  # noqa: E731
        wait_until(are_ready, 120, f"the servers of {names} in {self.home}/hub.log")

    def stop_server(self, name: str) -> None:
        self.api(f"/users/{name}/server", "DELETE")
        wait_until(lambda: not self.server(name), 60, f"the server of {name} to end")

    def account(self, name: str) -> pwd.struct_passwd:
        return pwd.getpwnam(os_users.os_name(name, self.user_home(name)))

    def user_home(self, name: str) -> Path:
        return self.home / "users-demo" / name

    @contextmanager
    def kernel(self, name: str) -> Iterator[Kernel]:
        """A new kernel of the user's server, through the proxy."""
        headers = {"Authorization": f"token {self.token_of(name)}"}
        base = f"{self.url}/user/{name}/api/kernels"
        # The route appears a moment after the server.
        wait_until(lambda: send("GET", base, headers=headers).status_code == 200, SECONDS, f"a route to {name}")
        number = send("POST", base, headers=headers).json()["id"]
        loop = IOLoop(make_current=False)
        try:
            request = HTTPRequest(f"{base.replace('http', 'ws', 1)}/{number}/channels", headers=headers)
            connection = loop.run_sync(lambda: websocket_connect(request), timeout=SECONDS)
            kernel = Kernel(loop, connection)
            yield kernel
            kernel.close()
            send("DELETE", f"{base}/{number}", headers=headers)
        finally:
            loop.close(all_fds=True)


@contextmanager
def running_hub(folder: Path, roles: Mapping[str, list[str]], **variables: str) -> Iterator[WalledHub]:
    """Start a hub with users in *roles*; *variables* are settings. Its OS users are gone at the end."""
    home = private_folder(folder.resolve() / "home")
    if (ROOT / ".workbench" / "jars").is_dir():
        (home / "jars").symlink_to(ROOT / ".workbench" / "jars")
    ports = HubPorts(
        proxy=any_free(), hub_api=any_free(), proxy_api=any_free(), identity=any_free(), services=any_free()
    )
    write_private(private_folder(home / "run") / "hub.json", json.dumps(asdict(ports)))
    token = secrets.token_hex(32)
    binaries = str(Path(sys.executable).parent)
    extra = {
        "TEST_API_TOKEN": token,
        "TEST_ROLES": json.dumps(roles),
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "WORKBENCH_SPARK_REMOTE": "sc://localhost:1",
        **variables,
    }
    names = [name for each in roles.values() for name in each]
    log = home / "hub.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "-f", str(CONFIG)],
            env=environment(home, **extra),
            stdout=output,
            stderr=output,
            cwd=private_folder(home / "hub"),
            umask=0o077,  # as the command `workbench` sets it
        )
    hub = WalledHub(home, ports, process, token)
    try:
        wait_until(lambda: process.poll() is not None or _answers(hub), SECONDS, "the hub to answer")
        assert process.poll() is None, log.read_text()
        yield hub
    finally:
        stop(process, seconds=SECONDS)
        for name in names:
            remove_os_user(name, hub.user_home(name))


def remove_os_user(name: str, home: Path) -> None:
    """End what the OS user runs and remove it, if it was made."""
    account = os_users.find(name, home)
    if account:
        os_users.end_processes(account.pw_name)
        subprocess.run(["userdel", account.pw_name], check=True, capture_output=True)


def _answers(hub: WalledHub) -> bool:
    try:
        return hub.api("/").status_code == 200
    except httpx.HTTPError:
        return False
