"""Where Kafka and its schema registry are."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import SecretStr

from workbench.sections.base import AbsolutePath, CommaSeparated, Section, as_text, is_loopback, variable


class KafkaSettings(Section):
    """How to reach the Kafka cluster; without KAFKA_BROKERS an embedded broker is started."""

    brokers: CommaSeparated = variable(
        "KAFKA_BROKERS", (), "`host:port,host:port` of the cluster; unset starts the embedded broker"
    )
    username: str = variable("KAFKA_USERNAME", "", "SASL user; with `OAUTHBEARER` the client id")
    password: SecretStr = variable(
        "KAFKA_PASSWORD", SecretStr(""), "SASL password; with `OAUTHBEARER` the client secret"
    )
    ssl_enabled: bool = variable("KAFKA_SSL_ENABLED", True, "TLS to the brokers; `false` has to be asked for")
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = variable(
        "WORKBENCH_KAFKA_SASL_MECHANISM", "PLAIN", "`PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512` or `OAUTHBEARER`"
    )
    ca_file: AbsolutePath | None = variable(
        "WORKBENCH_KAFKA_CA_FILE", None, "PEM file of the certificate authority; unset uses the system's"
    )
    certificate_file: AbsolutePath | None = variable(
        "WORKBENCH_KAFKA_CERTIFICATE_FILE", None, "PEM file of the client's certificate, for brokers that ask for one"
    )
    key_file: AbsolutePath | None = variable(
        "WORKBENCH_KAFKA_KEY_FILE", None, "PEM file of that certificate's private key; may be the same file"
    )
    key_password: SecretStr = variable(
        "WORKBENCH_KAFKA_KEY_PASSWORD", SecretStr(""), "password of that key, if it is encrypted"
    )
    token_url: str = variable(
        "WORKBENCH_KAFKA_TOKEN_URL", "", "token endpoint for `OAUTHBEARER` (OAuth 2 client credentials)"
    )
    token_scope: str = variable(
        "WORKBENCH_KAFKA_TOKEN_SCOPE", "", "scope to ask the token endpoint for, if it wants one"
    )
    token_ca_file: AbsolutePath | None = variable(
        "WORKBENCH_KAFKA_TOKEN_CA_FILE",
        None,
        "PEM file of the authority that signed the token endpoint's certificate; unset uses the system's",
    )
    client_id: str = variable(
        "WORKBENCH_KAFKA_CLIENT_ID",
        "",
        "`client.id` of every client of this cluster, by which brokers log and give quotas; unset is `workbench`, and in Spark what Kafka makes up",
    )
    clusters_file: AbsolutePath | None = variable(
        "WORKBENCH_KAFKA_CLUSTERS_FILE", None, "YAML file of named clusters; unset is `pipelines/clusters.yaml`"
    )

    def problems(self) -> list[str]:
        """What contradicts itself inside the section, one sentence with its remedy each."""
        found = [
            f"{self.label('brokers')}: {broker!r} is not host:port. Write for example localhost:9092."
            for broker in self.brokers
            if not broker.rpartition(":")[0] or not broker.rpartition(":")[2].isdigit()
        ]
        if others := {*self.model_fields_set} - {"brokers", "client_id", "clusters_file"}:
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

    def _missing(self, because: str, *names: str) -> list[str]:
        """A sentence for each of *names* that is not set though *because* is."""
        given = {name: as_text(getattr(self, name) or "") for name in names}
        return [
            f"{self.label(because)} is set but {self.label(name)} is not. Set {self.label(name)}."
            for name, value in given.items()
            if not value
        ]

    def _set(self, *names: str) -> str:
        """Those of *names* that are set, as people write them."""
        return ", ".join(self.label(name) for name in names if as_text(getattr(self, name) or ""))

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

    url: str = variable("WORKBENCH_REGISTRY_URL", "", "http(s) address of the schema registry; unset is none")
    username: str = variable("WORKBENCH_REGISTRY_USERNAME", "", "user of the registry, by basic authentication")
    password: SecretStr = variable("WORKBENCH_REGISTRY_PASSWORD", SecretStr(""), "password of that user")
    ca_file: AbsolutePath | None = variable(
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
