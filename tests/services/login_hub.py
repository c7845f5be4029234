"""A real JupyterHub behind traefik, and nothing else of the workbench: who logs in and what becomes of it.

    with IdentityProvider() as provider, running_login_hub(tmp_path, provider) as hub:
        with hub.browser() as browser:
            home = browser.login("github", person="grace")
        hub.api("/users/gh-grace").json()

Users' servers can be started too; they are told of a Spark server that is not there, and start none.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import httpx

from hub.addresses import HubPorts
from tests.services.browser import Browser, send
from tests.services.identity_provider import IdentityProvider
from tests.services.process_tree import kill, process_tree, stop
from tests.services.workbench import ROOT, environment, wait_until
from workbench.runtime.ports import any_free
from workbench.security.secrets import ensure_token, private_folder, write_private

CONFIG = Path(__file__).parent / "login_hub_config.py"
UP_SECONDS = 90
STOP_SECONDS = 40
ORGANIZATION = "example"
DOMAIN = "example.com"


@dataclass
class LoginHub:
    """A hub that answers; its home and database outlive a restart."""

    home: Path
    url: str
    provider: IdentityProvider
    ports: HubPorts
    variables: dict[str, str] = field(repr=False)
    process: subprocess.Popen[bytes] | None = None

    @property
    def log_path(self) -> Path:
        return self.home / "logs" / "hub.log"

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start JupyterHub and wait until it answers through the proxy."""
        private_folder(self.log_path.parent)
        with self.log_path.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", "-f", str(CONFIG)],
                env=environment(self.home, **self.variables),
                stdout=output,
                stderr=output,
                cwd=private_folder(self.home / "hub"),
                start_new_session=True,
            )
        self.process = process
        wait_until(lambda: self.is_healthy() or process.poll() is not None, UP_SECONDS, "the hub to answer")
        assert process.poll() is None, self.log

    def is_healthy(self) -> bool:
        with suppress(httpx.HTTPError):
            return send("GET", f"{self.url}/hub/health", verify=False).status_code == 200
        return False

    def stop(self) -> None:
        """Stop it as the supervisor does, users' servers and proxy included."""
        if self.process is not None:
            stop(self.process, seconds=STOP_SECONDS)

    def kill(self) -> None:
        """`kill -9`, and the end of what it started, which is what the guard sees to."""
        assert self.process is not None
        kill(process_tree(self.pid))
        self.process.wait(STOP_SECONDS)

    def restart(self, **variables: str) -> None:
        """Stop it, change some variables, and start it on the same home."""
        self.stop()
        self.variables |= variables
        self.start()

    def browser(self, **options: Any) -> Browser:
        """A browser of its own, with no cookies."""
        return Browser(self.url, **options)

    def api(self, path: str, method: str = "GET", **options: Any) -> httpx.Response:
        """Call JupyterHub's API as an administrator; *path* begins behind `/hub/api`."""
        return send(method, f"{self.url}/hub/api{path}", token=api_token(self), verify=False, **options)

    def has_running_server(self, name: str) -> bool:
        """Whether the user's default server is ready."""
        return bool(self.api(f"/users/{name}").json()["servers"].get("", {}).get("ready"))


def api_token(hub: LoginHub) -> str:
    """A token of JupyterHub's API that may do all; kept in the hub's home at mode 0600."""
    return ensure_token(_token_file(hub.home))


@contextmanager
def running_login_hub(
    folder: Path,
    provider: IdentityProvider,
    *,
    providers: Sequence[str] = ("github", "google"),
    **variables: str,
) -> Iterator[LoginHub]:
    """Start a hub that believes to have real clients, registered with *provider*, and stop it at the end.

    The organization `example` at GitHub and the domain `example.com` at Google may enter, unless
    *variables*, which are settings, say otherwise.
    """
    home = private_folder(folder / "home")
    ports = HubPorts(**{each.name: any_free() for each in fields(HubPorts)})
    write_private(private_folder(home / "run") / "hub.json", ports.as_json())
    scheme = "http" if variables.get("WORKBENCH_HUB_TLS", "off") == "off" else "https"
    url = f"{scheme}://127.0.0.1:{ports.proxy}"
    register(provider, variables.get("WORKBENCH_HUB_PUBLIC_URL", url))
    ensure_token(_token_file(home))
    settings = {**_settings(home, provider, providers, ports), **variables}
    hub = LoginHub(home=home, url=url, provider=provider, ports=ports, variables=settings)
    try:
        hub.start()
        yield hub
    finally:
        hub.stop()


def register(provider: IdentityProvider, url: str) -> None:
    """Tell the provider of the hub's callbacks, as one does when an OAuth client is made."""
    for name, protocol in provider.protocols.items():
        protocol.client.callbacks.add(f"{url}/hub/{name}/callback")
        protocol.client.after_logout |= {url, f"{url}/", f"{url}/hub/", f"{url}/hub/login", f"{url}/hub/logout"}


def _settings(home: Path, provider: IdentityProvider, names: Sequence[str], ports: HubPorts) -> dict[str, str]:
    found = {
        "OAUTH2_ENABLED_PROVIDERS": ",".join(names),
        "OAUTH2_STATE_SECRET": secrets.token_hex(32),
        "WORKBENCH_HUB_PORT": str(ports.proxy),
        "WORKBENCH_LOGIN_GITHUB_URL": provider.url,
        "WORKBENCH_LOGIN_GITHUB_ORGANIZATIONS": ORGANIZATION,
        "WORKBENCH_LOGIN_GOOGLE_DOMAINS": DOMAIN,
        "WORKBENCH_SPARK_REMOTE": "sc://localhost:1",
        "TEST_PROVIDER_URL": provider.url,
        "TEST_API_TOKEN_FILE": str(_token_file(home)),
        # JupyterHub finds traefik on PATH, and its configuration imports the checkout.
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        "PYTHONPATH": str(ROOT),
    }
    prefixes = {"github": "GITHUB", "google": "GOOGLE", "oidc": "WORKBENCH_LOGIN_OIDC"}
    for name in names:
        client = provider.protocols[name].client
        found |= {f"{prefixes[name]}_CLIENT_ID": client.id, f"{prefixes[name]}_CLIENT_SECRET": client.secret}
    if "oidc" in names:
        found |= {"WORKBENCH_LOGIN_OIDC_ISSUER": provider.issuer, "WORKBENCH_LOGIN_OIDC_GROUPS": "staff@example.com"}
    return found


def _token_file(home: Path) -> Path:
    return home / "keys" / "tests-api-token"
