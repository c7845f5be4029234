"""JupyterHub as others run it: with OAuthenticator's class alone, and with jupyterhub-multiauthenticator.

Both stand behind the same traefik as the workbench's hub, so that what differs is who logs people in.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.peers.environment import PEERS, ensure_environment, pinned_version
from tests.services.identity_provider import IdentityProvider
from tests.services.login_hub import DOMAIN, ORGANIZATION
from tests.services.process_tree import stop
from tests.services.workbench import wait_until
from workbench.runtime.ports import any_free
from workbench.security.secrets import private_folder

UP_SECONDS = 90
STOP_SECONDS = 30
BUTTONS = {
    "stock": {"github": "/hub/oauth_login"},
    "multiauthenticator": {"github": "/hub/github/oauth_login", "google": "/hub/google/oauth_login"},
}
CALLBACKS = {
    "stock": {"github": "/hub/oauth_callback"},
    "multiauthenticator": {"github": "/hub/github/oauth_callback", "google": "/hub/google/oauth_callback"},
}


@dataclass(frozen=True)
class Peer:
    """A peer that answers."""

    url: str
    pid: int


@contextmanager
def running_peer(kind: str, folder: Path, provider: IdentityProvider) -> Iterator[Peer]:
    """Start the peer `stock` or `multiauthenticator`, registered with *provider*."""
    python = sys.executable if kind == "stock" else str(ensure_environment(kind))
    ports = [any_free() for _ in range(3)]
    url = f"http://127.0.0.1:{ports[0]}"
    for name, path in CALLBACKS[kind].items():
        provider.protocols[name].client.callbacks.add(url + path)
    process = _start(python, private_folder(folder / kind), _told(kind, url, ports, provider))
    try:
        wait_until(lambda: _is_healthy(url) or process.poll() is not None, UP_SECONDS, f"the peer {kind} to answer")
        assert process.poll() is None, (folder / kind / "hub.log").read_text(encoding="utf-8")
        yield Peer(url, process.pid)
    finally:
        stop(process, seconds=STOP_SECONDS)


def version(kind: str) -> str:
    """What the peer is made of."""
    names = ["jupyterhub", "oauthenticator", *(["jupyterhub-multiauthenticator"] if kind != "stock" else [])]
    return ", ".join(f"{name} {pinned_version('multiauthenticator', name)}" for name in names)


def _told(kind: str, url: str, ports: list[int], provider: IdentityProvider) -> dict[str, object]:
    clients = {name: provider.protocols[name].client for name in CALLBACKS[kind]}
    return {
        "kind": kind,
        "url": url,
        "hub_port": ports[1],
        "proxy_api_port": ports[2],
        "provider": provider.url,
        "organization": ORGANIZATION,
        "domain": DOMAIN,
        "clients": {
            name: {
                "client_id": each.id,
                "client_secret": each.secret,
                "oauth_callback_url": url + CALLBACKS[kind][name],
            }
            for name, each in clients.items()
        },
    }


def _start(python: str, folder: Path, told: dict[str, object]) -> subprocess.Popen[bytes]:
    with (folder / "hub.log").open("wb") as log:
        return subprocess.Popen(
            [python, "-m", "jupyterhub", "-f", str(PEERS / "hubs_config.py")],
            env={
                "PATH": f"{Path(python).parent}:{os.environ.get('PATH', os.defpath)}",
                "HOME": str(folder),
                "PEER": json.dumps(told),
            },
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _is_healthy(url: str) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"{url}/hub/health", trust_env=False).is_success
    return False
