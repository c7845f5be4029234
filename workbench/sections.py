"""What can be set: each section is a group of variables, with what contradicts itself inside it.

A field's alias is the name of its variable, its description the line in docs/settings.md.
`workbench.settings` reads them; tests and the documentation look at them.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
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
    username: str = _variable("KAFKA_USERNAME", "", "SASL user; with `OAUTHBEARER` the client id")
    password: SecretStr = _variable(
        "KAFKA_PASSWORD", SecretStr(""), "SASL password; with `OAUTHBEARER` the client secret"
    )
    ssl_enabled: bool = _variable("KAFKA_SSL_ENABLED", True, "TLS to the brokers; `false` has to be asked for")
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = _variable(
        "WORKBENCH_KAFKA_SASL_MECHANISM", "PLAIN", "`PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`"
    )
    ca_file: AbsolutePath | None = _variable(
        "WORKBENCH_KAFKA_CA_FILE", None, "PEM file of the certificate authority; unset uses the system's"
    )
    certificate_file: AbsolutePath | None = _variable(
        "WORKBENCH_KAFKA_CERTIFICATE_FILE", None, "PEM file of the client's certificate, for brokers that ask for one"
    )
    key_file: AbsolutePath | None = _variable(
        "WORKBENCH_KAFKA_KEY_FILE", None, "PEM file of that certificate's private key; may be the same file"
    )
    key_password: SecretStr = _variable(
        "WORKBENCH_KAFKA_KEY_PASSWORD", SecretStr(""), "password of that key, if it is encrypted"
    )
    token_url: str = _variable(
        "WORKBENCH_KAFKA_TOKEN_URL", "", "token endpoint for `OAUTHBEARER` (OAuth 2 client credentials)"
    )
    token_scope: str = _variable(
        "WORKBENCH_KAFKA_TOKEN_SCOPE", "", "scope to ask the token endpoint for, if it wants one"
    )
    token_ca_file: AbsolutePath | None = _variable(
        "WORKBENCH_KAFKA_TOKEN_CA_FILE",
        None,
        "PEM file of the authority that signed the token endpoint's certificate; unset uses the system's",
    )
    clusters_file: AbsolutePath | None = _variable(
        "WORKBENCH_KAFKA_CLUSTERS_FILE", None, "YAML file of named clusters; unset is `pipelines/clusters.yaml`"
    )

    def problems(self) -> list[str]:
        """What contradicts itself inside the section, one sentence with its remedy each."""
        found = [
            f"{self.label('brokers')}: {broker!r} is not host:port. Write for example localhost:9092."
            for broker in self.brokers
            if not broker.rpartition(":")[0] or not broker.rpartition(":")[2].isdigit()
        ]
        if others := {*self.model_fields_set} - {"brokers", "clusters_file"}:
            brokers, names = self.label("brokers"), ", ".join(sorted(self.label(name) for name in others))
            if not self.brokers:
                found.append(
                    f"{brokers} is not set but {names} is. Set {brokers}, or unset the others to use the embedded broker."
                )
        found += self._login_problems() + self._tls_problems()
        found += [
            f"{self.label(name)}: there is no file {path}. Give the path of a PEM file."
            for name in ("ca_file", "certificate_file", "key_file", "token_ca_file")
            if (path := getattr(self, name)) and not path.is_file()
        ]
        if self.clusters_file and not self.clusters_file.is_file():
            found.append(f"{self.label('clusters_file')}: there is no file {self.clusters_file}. See docs/kafka.md.")
        return found

    def label(self, field: str) -> str:
        """What people write to set *field*: its variable."""
        return str(type(self).model_fields[field].validation_alias)

    def _missing(self, because: str, *names: str) -> list[str]:
        """A sentence for each of *names* that is not set though *because* is."""
        given = {name: _as_text(getattr(self, name) or "") for name in names}
        return [
            f"{self.label(because)} is set but {self.label(name)} is not. Set {self.label(name)}."
            for name, value in given.items()
            if not value
        ]

    def _set(self, *names: str) -> str:
        """Those of *names* that are set, as people write them."""
        return ", ".join(self.label(name) for name in names if _as_text(getattr(self, name) or ""))

    def _login_problems(self) -> list[str]:
        found: list[str] = []
        mechanism = self.label("sasl_mechanism")
        if self.username:
            found += self._missing("username", "password")
        elif self.password.get_secret_value():
            found += self._missing("password", "username")
        elif "sasl_mechanism" in self.model_fields_set:
            found += self._missing("sasl_mechanism", "username", "password")
        if self.sasl_mechanism != "OAUTHBEARER":
            if names := self._set("token_url", "token_scope", "token_ca_file"):
                found.append(f"{names}: for OAUTHBEARER only. Set {mechanism}=OAUTHBEARER, or unset it.")
            return found
        url = urlsplit(self.token_url)
        if not self.token_url:
            found.append(f"{mechanism} is OAUTHBEARER but {self.label('token_url')} is not set. Set it.")
        elif url.username or url.password:
            found.append(
                f"{self.label('token_url')} has a user in it. Write the client in {self.label('username')} and {self.label('password')}."
            )
        elif url.scheme != "https" and not (url.scheme == "http" and is_loopback(url.hostname or "")):
            # The client secret goes there.
            found.append(
                f"{self.label('token_url')}: {self.token_url!r} is not an https address. Write https://login.example.com/token."
            )
        return found

    def _tls_problems(self) -> list[str]:
        found: list[str] = []
        if self.certificate_file:
            found += self._missing("certificate_file", "key_file")
        elif self.key_file:
            found += self._missing("key_file", "certificate_file")
        elif self.key_password.get_secret_value():
            found += self._missing("key_password", "certificate_file", "key_file")
        if not self.ssl_enabled and (names := self._set("ca_file", "certificate_file", "key_file")):
            found.append(
                f"{self.label('ssl_enabled')} is false but {names} is set. Without TLS no certificate is used: unset one or the other."
            )
        return found


class SchemaRegistrySettings(Section):
    """How to reach a Confluent Schema Registry; without WORKBENCH_REGISTRY_URL there is none."""

    url: str = _variable("WORKBENCH_REGISTRY_URL", "", "http(s) address of the schema registry; unset is none")
    username: str = _variable("WORKBENCH_REGISTRY_USERNAME", "", "user of the registry, by basic authentication")
    password: SecretStr = _variable("WORKBENCH_REGISTRY_PASSWORD", SecretStr(""), "password of that user")
    ca_file: AbsolutePath | None = _variable(
        "WORKBENCH_REGISTRY_CA_FILE",
        None,
        "PEM file of the authority that signed the registry's certificate; unset trusts the usual authorities",
    )

    def problems(self) -> list[str]:
        """What contradicts itself inside the section, one sentence with its remedy each."""
        if not self.url:
            names = ", ".join(sorted(self.as_environment()))
            return [f"WORKBENCH_REGISTRY_URL is not set but {names} is. Set it, or unset the others."] if names else []
        found = self._address_problems()
        if bool(self.username) != bool(self.password.get_secret_value()):
            found.append(
                "Of WORKBENCH_REGISTRY_USERNAME and WORKBENCH_REGISTRY_PASSWORD only one is set. Set both, or unset it."
            )
        if self.ca_file and not self.ca_file.is_file():
            found.append(f"WORKBENCH_REGISTRY_CA_FILE: there is no file {self.ca_file}. Give the path of a PEM file.")
        return found

    def _address_problems(self) -> list[str]:
        # An address may carry a password, so it is not shown.
        try:
            address = urlsplit(self.url)
            host, user = address.hostname or "", address.username or address.password
        except ValueError:
            return ["WORKBENCH_REGISTRY_URL is no address. Write https://registry.example.com."]
        if address.scheme not in {"http", "https"} or not host:
            return ["WORKBENCH_REGISTRY_URL is not http(s)://host. Write https://registry.example.com."]
        if user:
            return [
                "WORKBENCH_REGISTRY_URL holds a user. Write it in WORKBENCH_REGISTRY_USERNAME and WORKBENCH_REGISTRY_PASSWORD."
            ]
        if address.scheme == "http" and self.username and not is_loopback(host):
            return ["WORKBENCH_REGISTRY_URL is http, which would send the password in clear. Use https."]
        return []


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
    dialect: Literal["postgresql", "duckdb", "redshift"] = _variable(
        "WORKBENCH_WAREHOUSE_DIALECT", "postgresql", "what flows write to: `postgresql`, `duckdb` or `redshift`"
    )
    file: AbsolutePath | None = _variable(
        "WORKBENCH_WAREHOUSE_FILE",
        None,
        "DuckDB: the encrypted file; unset is `warehouse/workbench.duckdb` under WORKBENCH_HOME",
    )
    key_file: AbsolutePath | None = _variable(
        "WORKBENCH_WAREHOUSE_KEY_FILE",
        None,
        "DuckDB: the file with the encryption key, made when there is none; unset is `keys/duckdb-key` under WORKBENCH_HOME",
    )
    staging_url: str = _variable(
        "WORKBENCH_WAREHOUSE_STAGING_URL", "", "Redshift: `s3://bucket/prefix` where files wait to be copied"
    )
    iam_role: str = _variable(
        "WORKBENCH_WAREHOUSE_IAM_ROLE",
        "",
        "Redshift: ARN of the role with which the cluster reads those files, or `default`",
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
        return found + self._dialect_problems()

    @property
    def effective_sslmode(self) -> str:
        """The sslmode in force: what was set, else encrypted and verified but on loopback."""
        return self.sslmode or ("disable" if is_loopback(self.host) else "verify-full")

    def at(self, home: Path) -> Self:
        """The same with the files of DuckDB named, for a workbench at *home*; other dialects have none."""
        if self.dialect != "duckdb":
            return self
        file = self.file or home / "warehouse" / "workbench.duckdb"
        return self.model_copy(update={"file": file, "key_file": self.key_file or home / "keys" / "duckdb-key"})

    def _dialect_problems(self) -> list[str]:
        found = []
        for name, dialect in (
            ("file", "duckdb"),
            ("key_file", "duckdb"),
            ("staging_url", "redshift"),
            ("iam_role", "redshift"),
        ):
            variable = type(self).model_fields[name].validation_alias
            if getattr(self, name) and self.dialect != dialect:
                found.append(f"{variable} is for {dialect}. Set WORKBENCH_WAREHOUSE_DIALECT={dialect}, or unset it.")
            elif dialect == "redshift" == self.dialect and not getattr(self, name):
                found.append(f"WORKBENCH_WAREHOUSE_DIALECT is redshift but {variable} is not set. Set it.")
        if self.dialect == "redshift" and not self.host:
            found.append("WORKBENCH_WAREHOUSE_DIALECT is redshift but DW_HOST is not set. Set it.")
        if self.staging_url and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]+(/[^?#\s']*)?", self.staging_url):
            # The address is not shown: somebody may have put access keys into it.
            found.append("WORKBENCH_WAREHOUSE_STAGING_URL is not s3://bucket/prefix. Write it so, without keys.")
        if self.iam_role and not re.fullmatch(r"default|arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+", self.iam_role):
            found.append(
                f"WORKBENCH_WAREHOUSE_IAM_ROLE: {self.iam_role!r} is no ARN of a role. Write arn:aws:iam::123456789012:role/name, or default."
            )
        return found


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
    "registry": SchemaRegistrySettings,
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
