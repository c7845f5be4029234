"""Where JupyterHub listens, and what it gives to people."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field

from workbench.sections.base import SIZE, AbsolutePath, CommaSeparated, Memory, Port, Section, is_loopback, variable
from workbench.sections.login import ROLES

EVERYWHERE = ("0.0.0.0", "::", "")  # noqa: S104 - compared, not bound


class HubSettings(Section):
    """Where JupyterHub listens, and what it gives to people."""

    host: str = variable("WORKBENCH_HUB_HOST", "127.0.0.1", "address the proxy listens on")
    port: Port = variable("WORKBENCH_HUB_PORT", 8000, "port the proxy listens on")
    public_url: str = variable("WORKBENCH_HUB_PUBLIC_URL", "", "how browsers reach the hub; unset is its host and port")
    cors_origins: CommaSeparated = variable("WORKBENCH_HUB_CORS_ORIGINS", (), "origins that may call with credentials")
    tls: Literal["off", "generated", "files", "acme"] = variable(
        "WORKBENCH_HUB_TLS", "off", "`off` (loopback, or behind a proxy with TLS), `generated`, `files` or `acme`"
    )
    tls_certificate_file: AbsolutePath | None = variable(
        "WORKBENCH_HUB_TLS_CERTIFICATE_FILE", None, "PEM file of the certificate with its chain, for `files`"
    )
    tls_key_file: AbsolutePath | None = variable(
        "WORKBENCH_HUB_TLS_KEY_FILE", None, "PEM file of its private key, for `files`"
    )
    acme_mail: str = variable("WORKBENCH_HUB_ACME_MAIL", "", "mail address of the account, for `acme`")
    acme_server: str = variable(
        "WORKBENCH_HUB_ACME_SERVER", "", "directory of the authority, for `acme`; unset is Let's Encrypt"
    )
    subdomains: bool = variable(
        "WORKBENCH_HUB_SUBDOMAINS", False, "an origin for each user: needs DNS and a certificate for `*.host`"
    )
    spawner: Literal["simple", "local", "systemd", "kubernetes"] = variable(
        "WORKBENCH_HUB_SPAWNER",
        "simple",
        "`simple` (one OS user, loopback only), `local` (an OS user each), `systemd` or `kubernetes`",
    )
    memory_limits: CommaSeparated = variable(
        "WORKBENCH_HUB_MEMORY_LIMITS", (), "memory of a user's server with all it starts: `analyst=4g,engineer=8g`"
    )
    cpu_limits: CommaSeparated = variable("WORKBENCH_HUB_CPU_LIMITS", (), "processors of a user: `analyst=2`")
    process_limits: CommaSeparated = variable(
        "WORKBENCH_HUB_PROCESS_LIMITS", (), "processes and threads of a user: `analyst=1024`"
    )
    spark_queues: CommaSeparated = variable(
        "WORKBENCH_HUB_SPARK_QUEUES", (), "queue of YARN for the Spark of a role: `analyst=adhoc,engineer=batch`"
    )
    spark_executors: CommaSeparated = variable(
        "WORKBENCH_HUB_SPARK_EXECUTORS", (), "executors that a user's Spark asks for at most: `analyst=2`"
    )
    spark_memory: CommaSeparated = variable(
        "WORKBENCH_HUB_SPARK_MEMORY", (), "heap of one executor of a user's Spark: `analyst=2g`"
    )
    server_limit: Annotated[int, Field(ge=0)] = variable(
        "WORKBENCH_HUB_SERVER_LIMIT", 0, "servers that may run at once; 0 is any number"
    )
    memory_reserve: Memory = variable(
        "WORKBENCH_HUB_MEMORY_RESERVE", "512m", "memory that has to be left when a server is started"
    )
    idle_seconds: Annotated[int, Field(ge=0)] = variable(
        "WORKBENCH_HUB_IDLE_SECONDS", 7200, "a server that nobody and nothing uses is stopped after this; 0 is never"
    )
    idle_warning_seconds: Annotated[int, Field(ge=0)] = variable(
        "WORKBENCH_HUB_IDLE_WARNING_SECONDS", 600, "how long before that its owner is warned"
    )
    kubernetes_namespace: str = variable(
        "WORKBENCH_HUB_KUBERNETES_NAMESPACE", "workbench", "namespace of the users' pods, for `kubernetes`"
    )
    kubernetes_image: str = variable("WORKBENCH_HUB_KUBERNETES_IMAGE", "", "image of the users' pods, for `kubernetes`")
    kubernetes_storage: Memory = variable(
        "WORKBENCH_HUB_KUBERNETES_STORAGE", "10g", "size of a user's home, for `kubernetes`"
    )

    def problems(self) -> list[str]:
        """What contradicts itself inside the section, one sentence with its remedy each."""
        return [*self._address_problems(), *self._tls_problems(), *self._server_problems(), *self._limit_problems()]

    def limit_of(self, kind: Literal["memory", "cpu", "process"], role: str) -> str:
        """What `<kind>_limits` says for *role*, as it was written; empty is no limit."""
        limits = {"memory": self.memory_limits, "cpu": self.cpu_limits, "process": self.process_limits}[kind]
        return _of_role(limits, role)

    def spark_environment(self, role: str) -> dict[str, str]:
        """The variables of Spark that are another for *role*, with their values."""
        said = {
            "WORKBENCH_SPARK_QUEUE": self.spark_queues,
            "WORKBENCH_SPARK_MAX_EXECUTORS": self.spark_executors,
            "SPARK_EXECUTOR_MEMORY": self.spark_memory,
        }
        return {name: value for name, limits in said.items() if (value := _of_role(limits, role))}

    @property
    def is_encrypted(self) -> bool:
        """Whether browsers reach the hub by https, here or at a proxy before it."""
        return self.tls != "off" or self.public_url.startswith("https://")

    def _address_problems(self) -> list[str]:
        found = []
        url = urlsplit(self.public_url)
        if self.public_url and (url.scheme not in {"http", "https"} or not url.hostname):
            found.append(
                f"WORKBENCH_HUB_PUBLIC_URL: {self.public_url!r} is no http(s) address. Write https://hub.example.com."
            )
        elif url.path.rstrip("/") or url.query or url.fragment:
            found.append(
                f"WORKBENCH_HUB_PUBLIC_URL: {self.public_url!r} has a path. Write the address alone, https://hub.example.com."
            )
        if self.host in EVERYWHERE and not self.public_url:
            found.append(
                f"WORKBENCH_HUB_HOST is {self.host}, which is no address to open. Set WORKBENCH_HUB_PUBLIC_URL to what people open."
            )
        if self.subdomains and (not url.hostname or url.hostname.replace(".", "").isdigit()):
            found.append(
                "WORKBENCH_HUB_SUBDOMAINS needs WORKBENCH_HUB_PUBLIC_URL with a name that has subdomains. Set it, or unset the other."
            )
        for origin in self.cors_origins:
            if origin == "*":
                found.append("WORKBENCH_HUB_CORS_ORIGINS: '*' may not be combined with credentials. List the origins.")
            elif not _is_origin(origin):
                found.append(
                    f"WORKBENCH_HUB_CORS_ORIGINS: {origin!r} is no origin. Write scheme and host alone, such as https://app.example.com."
                )
        return found

    def _tls_problems(self) -> list[str]:
        found = []
        if not is_loopback(self.host) and not self.is_encrypted:
            found.append(
                f"WORKBENCH_HUB_HOST is {self.host}, which other machines reach, but WORKBENCH_HUB_TLS is off. "
                "Set it to files, acme or generated, or set WORKBENCH_HUB_PUBLIC_URL to the https address of a proxy before the hub."
            )
        if self.tls != "off" and self.public_url.startswith("http://"):
            found.append("WORKBENCH_HUB_PUBLIC_URL is http though WORKBENCH_HUB_TLS is on. Write https.")
        for name in ("tls_certificate_file", "tls_key_file"):
            path = getattr(self, name)
            if self.tls == "files" and not path:
                found.append(f"WORKBENCH_HUB_TLS is files but {self.label(name)} is not set. Set it.")
            elif path and self.tls != "files":
                found.append(
                    f"{self.label(name)} is set but WORKBENCH_HUB_TLS is {self.tls}. Set it to files, or unset the other."
                )
            elif path and not path.is_file():
                found.append(f"{self.label(name)}: there is no file {path}. Give the path of a PEM file.")
        if self.tls == "acme" and not (self.acme_mail and self.public_url):
            found.append("WORKBENCH_HUB_TLS is acme. Set WORKBENCH_HUB_ACME_MAIL and WORKBENCH_HUB_PUBLIC_URL.")
        return found

    def _server_problems(self) -> list[str]:
        found = []
        if self.spawner == "simple" and not is_loopback(self.host):
            found.append(
                f"WORKBENCH_HUB_SPAWNER is simple, which has no wall between users, but WORKBENCH_HUB_HOST is {self.host}. "
                "Set it to local, systemd or kubernetes, or listen on 127.0.0.1."
            )
        if self.spawner == "kubernetes" and not self.kubernetes_image:
            found.append("WORKBENCH_HUB_SPAWNER is kubernetes but WORKBENCH_HUB_KUBERNETES_IMAGE is not set. Set it.")
        if self.idle_seconds and self.idle_warning_seconds >= self.idle_seconds:
            found.append(
                f"WORKBENCH_HUB_IDLE_WARNING_SECONDS is {self.idle_warning_seconds}, not less than WORKBENCH_HUB_IDLE_SECONDS. Lower it."
            )
        return found

    def _limit_problems(self) -> list[str]:
        patterns = {
            "memory_limits": SIZE,
            "cpu_limits": re.compile(r"\d+(\.\d+)?"),
            "process_limits": re.compile(r"\d+"),
            "spark_queues": re.compile(r"[\w.-]+"),
            "spark_executors": re.compile(r"[1-9]\d*"),
            "spark_memory": SIZE,
        }
        return [
            f"{self.label(name)}: {each!r} is not role=limit. Write for example analyst=4; roles are {', '.join(ROLES)}."
            for name, pattern in patterns.items()
            for each in getattr(self, name)
            if each.partition("=")[0] not in ROLES or not pattern.fullmatch(each.partition("=")[2])
        ]


def _of_role(limits: tuple[str, ...], role: str) -> str:
    return next((value for name, _, value in (each.partition("=") for each in limits) if name == role), "")


def _is_origin(text: str) -> bool:
    """Whether *text* is a scheme and a host, as a browser sends it (RFC 6454 §6.2)."""
    url = urlsplit(text)
    return (
        url.scheme in {"http", "https"}
        and bool(url.hostname)
        and text == f"{url.scheme}://{url.netloc}"
        and "*" not in text
    )
