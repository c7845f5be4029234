"""What can be set: each section is a group of variables, with what contradicts itself inside it.

A field's alias is the name of its variable, its description the line in docs/settings.md.
`workbench.settings` reads them; tests and the documentation look at them.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PROVIDERS = ("google", "github")
EMBEDDED_SUPERUSER = "postgres"


def _split(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _memory(value: str) -> str:
    if not re.fullmatch(r"\d+[kmgt]", value, re.IGNORECASE):
        raise ValueError("a size is a number and one of k, m, g, t, such as 2g")
    return value


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Port = Annotated[int, Field(ge=1, le=65535)]
AbsolutePath = Annotated[Path, AfterValidator(Path.absolute)]
Memory = Annotated[str, AfterValidator(_memory)]


def _variable(name: str, default: Any, description: str) -> Any:
    return Field(default, validation_alias=name, description=description)


class Section(BaseSettings):
    """One group of variables; each field's alias is the name of its variable."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, case_sensitive=True, hide_input_in_errors=True
    )

    def problems(self) -> list[str]:
        """What contradicts itself inside the section, one sentence with its remedy each."""
        return []

    def as_environment(self) -> dict[str, str]:
        """The variables that were set, with their values, secrets in clear: for a child process only."""
        return {
            str(type(self).model_fields[name].validation_alias): _as_text(getattr(self, name))
            for name in self.model_fields_set
        }


class KafkaSettings(Section):
    """How to reach the Kafka cluster; without KAFKA_BROKERS an embedded broker is started."""

    brokers: CommaSeparated = _variable(
        "KAFKA_BROKERS", (), "`host:port,host:port` of the cluster; unset starts the embedded broker"
    )
    username: str = _variable("KAFKA_USERNAME", "", "SASL user")
    password: SecretStr = _variable("KAFKA_PASSWORD", SecretStr(""), "SASL password")
    ssl_enabled: bool = _variable("KAFKA_SSL_ENABLED", True, "TLS to the brokers; `false` has to be asked for")
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = _variable(
        "WORKBENCH_KAFKA_SASL_MECHANISM", "PLAIN", "`PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`"
    )
    ca_file: AbsolutePath | None = _variable(
        "WORKBENCH_KAFKA_CA_FILE", None, "PEM file of the certificate authority; unset uses the system's"
    )

    def problems(self) -> list[str]:
        """What contradicts itself inside the section, one sentence with its remedy each."""
        found = [
            f"KAFKA_BROKERS: {broker!r} is not host:port. Write for example localhost:9092."
            for broker in self.brokers
            if not broker.rpartition(":")[0] or not broker.rpartition(":")[2].isdigit()
        ]
        if not self.brokers and self.model_fields_set:
            names = ", ".join(sorted(self.as_environment()))
            found.append(
                f"KAFKA_BROKERS is not set but {names} is. Set KAFKA_BROKERS, or unset the others to use the embedded broker."
            )
        if self.username and not self.password.get_secret_value():
            found.append("KAFKA_USERNAME is set but KAFKA_PASSWORD is not. Set KAFKA_PASSWORD.")
        if self.ca_file and not self.ca_file.is_file():
            found.append(f"WORKBENCH_KAFKA_CA_FILE: there is no file {self.ca_file}. Give the path of a PEM file.")
        return found


class SparkSettings(Section):
    """Where Spark runs; without WORKBENCH_SPARK_REMOTE a Connect server is started."""

    master_url: str = _variable(
        "SPARK_MASTER_URL", "local[*]", "where executors run: `local[*]`, `yarn`, `spark://…`, `k8s://…`"
    )
    executor_memory: Memory = _variable("SPARK_EXECUTOR_MEMORY", "2g", "heap of one executor")
    driver_memory: Memory = _variable("SPARK_DRIVER_MEMORY", "1g", "heap of the driver, which is the Connect server")
    remote: str = _variable(
        "WORKBENCH_SPARK_REMOTE", "", "`sc://host:port` of a Spark Connect server; unset starts one"
    )
    token: SecretStr = _variable("WORKBENCH_SPARK_TOKEN", SecretStr(""), "token of that Connect server")
    endpoint_file: Path | None = _variable(
        "WORKBENCH_SPARK_ENDPOINT_FILE",
        None,
        "set by JupyterLab for its kernels: where the user's own Connect server is told",
    )

    def problems(self) -> list[str]:
        """What contradicts itself inside the section, one sentence with its remedy each."""
        if self.remote and not re.fullmatch(r"sc://[^/;]+:\d+/?", self.remote):
            # The address is shown in places where its parameters, the token among them, must not be.
            where = self.remote.partition(";")[0]
            return [
                f"WORKBENCH_SPARK_REMOTE: {where!r} is not sc://host:port. Write sc://host:15002, and the token in WORKBENCH_SPARK_TOKEN."
            ]
        return []


class WarehouseSettings(Section):
    """How to reach the SQL warehouse; without DW_HOST an embedded PostgreSQL is started."""

    host: str = _variable("DW_HOST", "", "host of the warehouse; unset starts the embedded PostgreSQL")
    port: Port = _variable("DW_PORT", 5439, "port of the warehouse")
    database: str = _variable("DW_DATABASE", "analytics", "database name")
    user: str = _variable("DW_USER", "", "role to connect as")
    password: SecretStr = _variable("DW_PASSWORD", SecretStr(""), "password of that role")
    sslmode: Literal["disable", "require", "verify-ca", "verify-full"] | None = _variable(
        "WORKBENCH_WAREHOUSE_SSLMODE", None, "libpq's sslmode; unset is `verify-full`, on loopback `disable`"
    )

    ca_file: AbsolutePath | None = _variable(
        "WORKBENCH_WAREHOUSE_CA_FILE",
        None,
        "PEM file of the authority that signed the warehouse's certificate; unset trusts the system's authorities",
    )

    def problems(self) -> list[str]:
        """What contradicts itself inside the section, one sentence with its remedy each."""
        needed = {"DW_USER": self.user, "DW_PASSWORD": self.password.get_secret_value()}
        found = [
            f"DW_HOST is set but {name} is not. Set {name}, or unset DW_HOST to use the embedded warehouse."
            for name, value in needed.items()
            if self.host and not value
        ]
        if not self.host and (self.sslmode or self.ca_file):
            found.append(
                "WORKBENCH_WAREHOUSE_SSLMODE and WORKBENCH_WAREHOUSE_CA_FILE are for an external warehouse. Set DW_HOST or unset them."
            )
        if not self.host and self.user == EMBEDDED_SUPERUSER:
            found.append(
                f"DW_USER is {self.user}, which is the superuser of the embedded warehouse. Choose another name, or set DW_HOST."
            )
        if self.ca_file and not self.ca_file.is_file():
            found.append(f"WORKBENCH_WAREHOUSE_CA_FILE: there is no file {self.ca_file}. Give the path of a PEM file.")
        return found

    @property
    def effective_sslmode(self) -> str:
        """The sslmode in force: what was set, else encrypted and verified but on loopback."""
        return self.sslmode or ("disable" if is_loopback(self.host) else "verify-full")


class LoginSettings(Section):
    """Who may log in, and through which identity providers."""

    providers: CommaSeparated = _variable(
        "OAUTH2_ENABLED_PROVIDERS", PROVIDERS, "the buttons on the login page: `google,github`"
    )
    state_secret: SecretStr = _variable(
        "OAUTH2_STATE_SECRET",
        SecretStr(""),
        "signs the cookies of the hub, those of OAuth logins included; needed with a real client",
    )
    google_client_id: str = _variable("GOOGLE_CLIENT_ID", "", "OAuth client registered with Google")
    google_client_secret: SecretStr = _variable("GOOGLE_CLIENT_SECRET", SecretStr(""), "its secret")
    github_client_id: str = _variable("GITHUB_CLIENT_ID", "", "OAuth app registered with GitHub")
    github_client_secret: SecretStr = _variable("GITHUB_CLIENT_SECRET", SecretStr(""), "its secret")
    github_users: CommaSeparated = _variable("WORKBENCH_LOGIN_GITHUB_USERS", (), "GitHub logins that may enter")
    github_organizations: CommaSeparated = _variable(
        "WORKBENCH_LOGIN_GITHUB_ORGANIZATIONS", (), "members of these organizations (`org` or `org:team`) may enter"
    )
    google_users: CommaSeparated = _variable("WORKBENCH_LOGIN_GOOGLE_USERS", (), "Google mail addresses that may enter")
    google_domains: CommaSeparated = _variable(
        "WORKBENCH_LOGIN_GOOGLE_DOMAINS", (), "everyone of these Google Workspace domains may enter"
    )
    admins: CommaSeparated = _variable(
        "WORKBENCH_LOGIN_ADMINS", (), "hub names of administrators, for example `gh-octo`"
    )

    @property
    def is_demo(self) -> bool:
        """Whether the loopback identity provider stands in: no real client is configured."""
        return not (self.google_client_id or self.github_client_id)

    def problems(self) -> list[str]:
        """What contradicts itself inside the section, one sentence with its remedy each."""
        known = ", ".join(PROVIDERS)
        found = [
            f"OAUTH2_ENABLED_PROVIDERS: unknown provider {name!r}. Known are {known}."
            for name in self.providers
            if name not in PROVIDERS
        ]
        if not self.providers:
            found.append(f"OAUTH2_ENABLED_PROVIDERS names no provider. Choose among {known}.")
        if not self.is_demo:
            found += self._real_client_problems()
        return found

    def _real_client_problems(self) -> list[str]:
        found = []
        if not self.state_secret.get_secret_value():
            found.append(
                "OAUTH2_STATE_SECRET is not set. Set it to a random string, for example from `openssl rand -hex 32`."
            )
        for name in (name for name in self.providers if name in PROVIDERS):
            if not getattr(self, f"{name}_client_id"):
                found.append(
                    f"{name.upper()}_CLIENT_ID is not set but {name} is enabled. Set it, or drop {name} from OAUTH2_ENABLED_PROVIDERS."
                )
            if not getattr(self, f"{name}_client_secret").get_secret_value():
                found.append(
                    f"{name.upper()}_CLIENT_SECRET is not set but {name} is enabled. Set it, or drop {name} from OAUTH2_ENABLED_PROVIDERS."
                )
        return found


class HubSettings(Section):
    """Where JupyterHub listens."""

    host: str = _variable("WORKBENCH_HUB_HOST", "127.0.0.1", "address the proxy listens on")
    port: Port = _variable("WORKBENCH_HUB_PORT", 8000, "port the proxy listens on")
    public_url: str = _variable("WORKBENCH_HUB_PUBLIC_URL", "", "how browsers reach the hub; unset is http://host:port")
    cors_origins: CommaSeparated = _variable("WORKBENCH_HUB_CORS_ORIGINS", (), "origins that may call with credentials")

    def problems(self) -> list[str]:
        """What contradicts itself inside the section, one sentence with its remedy each."""
        found = []
        if self.public_url and urlsplit(self.public_url).scheme not in {"http", "https"}:
            found.append(
                f"WORKBENCH_HUB_PUBLIC_URL: {self.public_url!r} is no http(s) address. Write https://hub.example.com."
            )
        if "*" in self.cors_origins:
            found.append("WORKBENCH_HUB_CORS_ORIGINS: '*' may not be combined with credentials. List the origins.")
        return found


class EmbeddedSettings(Section):
    """How the embedded servers are provided."""

    jars_repository: str = _variable(
        "WORKBENCH_EMBEDDED_JARS_REPOSITORY",
        "",
        "root of a Maven repository to fetch jars from; unset is Maven Central",
    )


SECTIONS: dict[str, type[Section]] = {
    "kafka": KafkaSettings,
    "spark": SparkSettings,
    "warehouse": WarehouseSettings,
    "login": LoginSettings,
    "hub": HubSettings,
    "embedded": EmbeddedSettings,
}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach *host*: `localhost`, 127.0.0.0/8 or ::1."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def variables() -> dict[str, type[Section]]:
    """Every variable that is read, with the section that it belongs to."""
    return {
        str(field.validation_alias): section for section in SECTIONS.values() for field in section.model_fields.values()
    }


def _as_text(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)
