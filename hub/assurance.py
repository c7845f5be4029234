"""The rows of `workbench doctor --security` that are the hub's: proxy, APIs, people's servers, database, files."""

from __future__ import annotations

import contextlib
import sqlite3
import ssl
import tomllib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from hub.addresses import ANY_ADDRESS, HubPorts, local_url, public_host
from hub.configuration import database_file
from hub.spawning.environment import users_folder
from workbench.sections import is_loopback
from workbench.security.assurance import Kind, NotProtected, Row, Site, examine, not_in_use
from workbench.security.assurance.files import is_private, on_encrypted_disk
from workbench.security.assurance.http import refuses_strangers
from workbench.security.assurance.rows import Check
from workbench.security.assurance.tls import Server, has_tls, refuses_plaintext
from workbench.security.certificates import CertificateFiles

LOG_IN_ANEW = "Stop the hub, move its database away, revoke these tokens, and have people log in anew."
NOT_RUNNING = "the workbench does not run here; `workbench up` starts it"
PLAIN_PORT = 80  #: of the proxy with ACME: redirects to https, and nothing else
FERNET = b"gAAAAA"  #: what the tokens of JupyterHub's CryptKeeper begin with: version 0x80 and a time (Fernet's spec)


def rows(site: Site) -> Iterator[Row]:
    """Called through the entry point group `workbench.assurance`."""
    ports = HubPorts.read(site.home)
    yield _proxy(site, ports)
    for subject, port, path in (
        ("hub API", ports.hub_api, "/hub/api/users"),
        ("proxy API", ports.proxy_api, "/api/http/routers"),
    ):
        yield _on_loopback(site, subject, port, path)
    if site.settings.login.is_demo:
        yield _on_loopback(site, "demo identity provider", ports.identity, "/api/v3/user")
    yield _servers(site)
    yield _database(site)
    yield _files(site)


def _proxy(site: Site, ports: HubPorts) -> Row:
    settings = site.settings.hub
    if site.pid is None:
        return not_in_use(Kind.HOP, "proxy", NOT_RUNNING)
    # Whatever TLS there is, these rows are about them: `other ports` is not.
    for port in (ports.proxy, *([PLAIN_PORT] if settings.tls == "acme" else [])):
        site.at(port)
    host = ANY_ADDRESS.get(settings.host, settings.host)
    authority = _authority(site)
    server = Server(
        host=host,
        port=ports.proxy,
        name=public_host(site.settings, ports),
        authority=authority,
        authority_is_server=authority is not None,
    )
    checks: list[Check] = []
    if settings.tls != "off":
        checks += [partial(has_tls, server), partial(refuses_plaintext, server)]
    elif is_loopback(settings.host):
        checks.append(partial(site.stays_here, ports.proxy))
    if settings.tls == "off" and settings.public_url.startswith("https://"):
        checks.append(partial(_tls_before, settings.public_url))
    url = f"{local_url(site.settings, ports)}/hub/api/users"
    checks.append(partial(refuses_strangers, url, context=_context(server) if settings.tls != "off" else None))
    return examine(Kind.HOP, "proxy", *checks)


def _authority(site: Site) -> Path | None:
    if site.settings.hub.tls == "generated":
        return CertificateFiles.of(site.home / "keys" / "hub").authority
    return site.settings.hub.tls_certificate_file


def _context(server: Server) -> ssl.SSLContext:
    """For HTTP at the address that is listened on, whose name the certificate need not have: `has_tls` looks at that."""
    context = ssl.create_default_context(cafile=None if server.authority is None else str(server.authority))
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.check_hostname = False
    return context


def _tls_before(public_url: str) -> str:
    """The proxy before ours, which ends TLS."""
    parts = urlsplit(public_url)
    server = Server(host=parts.hostname or "", port=parts.port or 443, name=parts.hostname or "")
    return f"before it: {has_tls(server)}"


def _on_loopback(site: Site, subject: str, port: int, path: str) -> Row:
    if site.pid is None:
        return not_in_use(Kind.HOP, subject, NOT_RUNNING)
    url = f"http://127.0.0.1:{port}{path}"
    return examine(Kind.HOP, subject, partial(_stays, site, port), partial(refuses_strangers, url))


def _stays(site: Site, port: int) -> str:
    if site.settings.hub.spawner == "kubernetes" and any(not is_loopback(each.address) for each in site.at(port)):
        raise NotProtected(
            f"port {port} is open to the pods of the cluster, in clear",
            remedy="Keep the network policies of deploy/, and let the cluster's network encrypt.",
            promised=False,
        )
    return site.stays_here(port)


def _servers(site: Site) -> Row:
    """The servers of people, at the addresses to which the proxy sends their browsers."""
    subject = "people's servers"
    if site.pid is None:
        return not_in_use(Kind.HOP, subject, NOT_RUNNING)
    targets = dict(_routes(site.home / "hub" / "routes.toml"))
    if not targets:
        return not_in_use(Kind.HOP, subject, "nobody has a server now")
    checks: list[Check] = [lambda: f"{len(targets)} running"]
    for prefix, target in targets.items():
        checks.append(partial(_stays, site, urlsplit(target).port or 80))
        checks.append(partial(refuses_strangers, f"{target}{prefix}api/contents"))
    return examine(Kind.HOP, subject, *checks)


def _routes(file: Path) -> Iterator[tuple[str, str]]:
    """The path and the target of each server of a person, as the proxy has them."""
    with contextlib.suppress(FileNotFoundError):
        found = tomllib.loads(file.read_text(encoding="utf-8"))
        for route in found.get("jupyterhub", {}).get("routes", {}).values():
            data = route.get("data", {})
            if "user" in data and "target" in route:
                spec = str(route.get("routespec", ""))
                yield spec[spec.index("/") :], str(route["target"]).rstrip("/")


def _database(site: Site) -> Row:
    file = database_file(site.settings)
    if not file.exists():
        return not_in_use(Kind.STORE, "hub database", "nobody has logged in yet")
    return examine(
        Kind.STORE,
        "hub database",
        partial(is_private, file.parent),
        partial(_no_token_in_clear, file),
        partial(on_encrypted_disk, file.parent),
    )


def _no_token_in_clear(file: Path) -> str:
    """API tokens are kept as hashes, and what the providers gave is encrypted."""
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        states = [bytes(each) for (each,) in connection.execute(
            "SELECT encrypted_auth_state FROM users WHERE encrypted_auth_state IS NOT NULL"
        )]  # fmt: skip
        hashes = [str(each) for (each,) in connection.execute("SELECT hashed FROM api_tokens")]
    if any(not each.startswith(FERNET) for each in states):
        raise NotProtected("tokens of a provider are in the database in clear", remedy=LOG_IN_ANEW)
    if any(len(each.split(":")) != 4 for each in hashes):
        raise NotProtected("API tokens are in the database in clear", remedy=LOG_IN_ANEW)
    return f"{len(hashes)} tokens as hashes, {len(states)} logins encrypted"


def _files(site: Site) -> Row:
    subject, settings = "jupyter files", site.settings.hub
    if settings.spawner == "kubernetes":
        why = "volumes of the cluster cannot be looked at from here"
        return examine(Kind.STORE, subject, partial(_open, why, "Give them a storage class that encrypts."))
    folder = users_folder(site.settings)
    homes = sorted(each for each in folder.iterdir() if each.is_dir()) if folder.is_dir() else []
    if not homes:
        return not_in_use(Kind.STORE, subject, "nobody has had a server yet")
    checks: list[Check] = [partial(_homes_are_private, homes)]
    if settings.spawner == "simple":
        why = "with the spawner simple, people's notebooks run as one OS user and reach each other's files"
        checks.append(partial(_open, why, "Set WORKBENCH_HUB_SPAWNER to local or systemd."))
    return examine(Kind.STORE, subject, *checks, partial(on_encrypted_disk, folder))


def _homes_are_private(homes: list[Path]) -> str:
    owners = tuple(each.stat().st_uid for each in homes)
    for each in homes:
        is_private(each, others=owners)
    return f"{len(homes)} homes of mode 0700"


def _open(why: str, remedy: str) -> str:
    raise NotProtected(why, remedy=remedy, promised=False)
