"""The processes that `workbench up` runs for the hub: JupyterHub itself and, at first, the demo identity provider."""

from __future__ import annotations

import os
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hub.addresses import HubPorts, local_url, public_url
from hub.proxy import ensure_hub_certificates
from hub.spawning.configuration import check_env_file
from workbench.resources import resource
from workbench.runtime.ports import any_free, choose
from workbench.runtime.process import Contribution, Launch
from workbench.sections import without_keys
from workbench.security.secrets import ensure_code, private_folder, write_private
from workbench.settings import Settings

READY_PATH = "/hub/readyz"  #: see `hub.health`
MOST_BYTES = 200  #: that are read of a reason


@dataclass(frozen=True, kw_only=True)
class _HttpComponent:
    """A process that answers HTTP on loopback when it is healthy."""

    name: str
    home: Path
    address: str
    probe: str  #: URL that answers 200
    ready_probe: str = ""  #: URL that answers 200 when it can do its work, else with the reason
    argv: tuple[str, ...]
    ports: HubPorts
    environment: Mapping[str, str] = field(repr=False)
    trusted: Path | None = None  #: certificates that the probe's answer may be signed with, when it is https
    stop_seconds: float = 5.0
    start_seconds: float = 90.0

    @property
    def lock(self) -> Path:
        """Locked while the process runs."""
        return self.home / "run" / f"{self.name}.lock"

    def prepare(self) -> Launch:
        """Write the ports for the process to read."""
        write_private(private_folder(self.home / "run") / "hub.json", self.ports.as_json())
        binaries = str(Path(sys.executable).parent)
        return Launch(
            argv=self.argv,
            # JupyterHub finds traefik on PATH.
            environment={
                **self.environment,
                "WORKBENCH_HOME": str(self.home),
                "PATH": f"{binaries}:{os.environ.get('PATH', os.defpath)}",
            },
            log=self.home / "logs" / f"{self.name}.log",
            lock=self.lock,
            folder=private_folder(self.home / "hub"),
            stop_seconds=self.stop_seconds,
        )

    def is_healthy(self) -> bool:
        """Whether the probe answers 200."""
        try:
            with _opener(self.trusted).open(self.probe, timeout=5) as response:
                return bool(response.status == 200)
        except (OSError, urllib.error.URLError):
            return False

    def obstacle(self) -> str:
        """What it says that keeps it from its work."""
        if not self.ready_probe:
            return ""
        try:
            with _opener(None).open(self.ready_probe, timeout=5):
                return ""
        except urllib.error.HTTPError as error:
            with error:
                return error.read(MOST_BYTES).decode("utf-8", "replace") or f"it answers with status {error.code}"
        except OSError as error:
            return f"it does not say whether it is ready: {error}"

    def complete(self) -> None:
        """Nothing is left to do once it answers."""


def contribute(settings: Settings) -> Contribution:
    """What `workbench up` runs for the hub. Called through the entry point group `workbench.components`.

    Raises:
        PortTaken: when the hub's port was asked for, or is registered with a real provider, and is in use.
        WorkbenchError: when people's servers could read the secrets in `.env`.
    """
    check_env_file(settings)
    asked_for = "port" in settings.hub.model_fields_set or not settings.login.is_demo
    ports = HubPorts(
        proxy=choose(settings.hub.port, variable="WORKBENCH_HUB_PORT", asked_for=asked_for, host=settings.hub.host),
        hub_api=any_free(),
        proxy_api=any_free(),
        identity=any_free(),
        services=any_free(),
    )
    url, issuer = public_url(settings, ports), f"http://127.0.0.1:{ports.identity}"
    # Each process reads the settings anew, in another folder: what `.env` said goes along.
    environment = without_keys(settings.as_environment())
    hub = _HttpComponent(
        name="hub",
        home=settings.home,
        address=url,
        probe=_probe(settings, ports),
        ready_probe=f"http://127.0.0.1:{ports.hub_api}{READY_PATH}",
        trusted=_trusted(settings, ports),
        argv=(sys.executable, "-P", "-m", "jupyterhub", "-f", str(resource("jupyterhub_config.py"))),
        ports=ports,
        environment=environment,
        stop_seconds=20.0,
    )
    if not settings.login.is_demo:
        return Contribution(url=url, components=(hub,))
    identity = _HttpComponent(
        name="identity",
        home=settings.home,
        address=f"127.0.0.1:{ports.identity}",  # no link: the address to open is the hub's
        probe=f"{issuer}/health",
        argv=(sys.executable, "-P", "-m", "hub.demo_identity"),
        ports=ports,
        environment=environment,
    )
    return Contribution(
        url=url, components=(identity, hub), sign_in_code=ensure_code(settings.home / "keys" / "sign-in-code")
    )


def _probe(settings: Settings, ports: HubPorts) -> str:
    if settings.hub.tls == "acme":
        # Before the authority has signed there is no certificate to check, and a restart would only ask it again.
        return f"http://127.0.0.1:{ports.hub_api}/hub/health"
    # Through the proxy: what a browser would see.
    return f"{local_url(settings, ports)}/hub/health"


def _trusted(settings: Settings, ports: HubPorts) -> Path | None:
    if settings.hub.tls == "generated":
        return ensure_hub_certificates(settings, ports).authority
    return settings.hub.tls_certificate_file


def _opener(trusted: Path | None) -> urllib.request.OpenerDirector:
    # Without the proxies of the environment: they do not lead to loopback.
    direct = urllib.request.ProxyHandler({})
    if trusted is None:
        return urllib.request.build_opener(direct)
    # Read anew each time: whoever renews a certificate replaces its file.
    context = ssl.create_default_context(cafile=str(trusted))
    # That very certificate is trusted, or what its authority signed. It need not name the address we dial.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = False
    return urllib.request.build_opener(direct, urllib.request.HTTPSHandler(context=context))
