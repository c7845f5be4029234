"""A real JupyterHub behind traefik, with the demo identity provider and nothing else of the workbench.

Users' servers can be started; they are told of a Spark server that is not there, and start none.
"""

from __future__ import annotations

import json
import secrets
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpcore
import httpx

from hub.addresses import HubPorts
from tests.services.browser import send
from tests.services.process_tree import stop
from tests.services.workbench import ROOT, environment, wait_until
from workbench.runtime.ports import any_free
from workbench.security.secrets import ensure_code, private_folder, write_private

CONFIG = Path(__file__).parent / "proxied_hub_config.py"
UP_SECONDS = 90
ANSWER_SECONDS = 10
SILENT_SECONDS = 1  # after the first of an answer nothing more comes
NAME = "hub.localhost"


class Loopback(httpcore.SyncBackend):
    """Every name is this machine."""

    def connect_tcp(self, host: str, port: int, **options: Any) -> httpcore.NetworkStream:
        return super().connect_tcp("127.0.0.1", port, **options)


@dataclass
class ProxiedHub:
    """A hub that answers."""

    home: Path
    url: str
    ports: HubPorts
    token: str = field(repr=False)
    authority: Path  #: certificate to trust
    process: subprocess.Popen[bytes] | None = None

    @property
    def is_encrypted(self) -> bool:
        return self.url.startswith("https://")

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.authority) if self.authority.exists() else None)

    def client(self, **options: Any) -> httpx.Client:
        """A browser of its own, for which every name is this machine."""
        trust = self.trust
        transport = httpx.HTTPTransport(verify=trust)
        transport._pool = httpcore.ConnectionPool(ssl_context=trust, network_backend=Loopback())
        return httpx.Client(base_url=self.url, transport=transport, timeout=60, **options)

    def log_in(self, client: httpx.Client, person: str = "ada") -> None:
        """As gh-ada or somebody else, through the demo identity provider's consent page."""
        address = client.get("/hub/github/login").headers["location"]
        code = ensure_code(self.home / "keys" / "sign-in-code")
        consent = send("POST", address, data={"login": person, "sign_in_code": code})
        assert client.get(consent.headers["location"]).status_code == 302
        assert any("jupyterhub-hub-login" in name for name in client.cookies)

    def api(self, path: str, method: str = "GET", **options: Any) -> httpx.Response:
        """Call the hub's API as an administrator; *path* begins behind `/hub/api`."""
        with self.client(headers={"Authorization": f"token {self.token}"}) as client:
            return client.request(method, f"/hub/api{path}", **options)

    def start_server_of(self, person: str) -> None:
        """Let somebody log in for the first time, and start their server."""
        with self.client() as client:
            self.log_in(client, person)
        self.start_server(f"gh-{person}")

    def start_server(self, name: str = "gh-ada") -> None:
        assert self.api(f"/users/{name}/server", "POST").status_code in (201, 202)
        wait_until(lambda: self.api(f"/users/{name}").json()["servers"].get("", {}).get("ready"), 90, "the server")

    def raw(self, request: bytes, *, encrypted: bool | None = None) -> bytes:
        """What comes back on a connection of its own for exactly these bytes, until it is closed or silent."""
        with socket.create_connection(("127.0.0.1", self.ports.proxy), 10) as plain:
            if self.is_encrypted if encrypted is None else encrypted:
                with self.trust.wrap_socket(plain, server_hostname="127.0.0.1") as secured:
                    return _talk(secured, request)
            return _talk(plain, request)

    @property
    def log(self) -> str:
        return (self.home / "hub.log").read_text(encoding="utf-8", errors="replace")


def _talk(connection: socket.socket, request: bytes) -> bytes:
    connection.sendall(request)
    connection.settimeout(ANSWER_SECONDS)
    answer = b""
    with suppress(OSError):
        while part := connection.recv(65536):
            answer += part
            connection.settimeout(SILENT_SECONDS)
    return answer


@contextmanager
def running_hub(
    home: Path, *, tls: str = "off", authority: Path | None = None, **variables: str
) -> Iterator[ProxiedHub]:
    """Start the demo identity provider and JupyterHub, and stop both with all that they started."""
    ports = HubPorts(
        proxy=any_free(), hub_api=any_free(), proxy_api=any_free(), identity=any_free(), services=any_free()
    )
    url = f"https://{NAME}:{ports.proxy}" if tls != "off" else f"http://127.0.0.1:{ports.proxy}"
    write_private(private_folder(home / "run") / "hub.json", ports.as_json())
    hub = ProxiedHub(home, url, ports, secrets.token_hex(16), authority or home / "keys" / "hub" / "ca.pem")
    told = {
        "WORKBENCH_HUB_TLS": tls,
        "WORKBENCH_SPARK_REMOTE": "sc://localhost:1",
        "TEST_API_TOKEN": hub.token,
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        **({"WORKBENCH_HUB_PUBLIC_URL": url} if tls != "off" else {}),
        **variables,
    }
    log = (home / "hub.log").open("ab")
    commands = (["-m", "hub.demo_identity"], ["-m", "jupyterhub", "-f", str(CONFIG)])
    processes = [
        subprocess.Popen(
            [sys.executable, *command],
            env=environment(home, **told),
            stdout=log,
            stderr=log,
            cwd=private_folder(home / "hub"),
            start_new_session=True,
        )
        for command in commands
    ]
    hub.process = processes[1]
    try:
        wait_until(lambda: _is_healthy(hub, tls) or hub.process.poll() is not None, UP_SECONDS, "the hub to answer")
        assert hub.process.poll() is None, hub.log
        yield hub
    finally:
        log.close()
        stop(*processes)


def _is_healthy(hub: ProxiedHub, tls: str) -> bool:
    # Nobody signs for `acme` here: what traefik has then is known to nobody.
    url = f"http://127.0.0.1:{hub.ports.hub_api}" if tls == "acme" else ""
    with suppress(httpx.HTTPError, OSError), hub.client() as client:
        return client.get(f"{url}/hub/health").status_code == 200
    return False


def routes(hub: ProxiedHub, kind: str) -> list[str]:
    """Patterns of all handlers of the running `hub` or the last started `server`."""
    return list(json.loads((hub.home / f"{kind}-routes.json").read_text(encoding="utf-8")))
