"""How to reach a Kafka cluster, spelled for each client that we use."""

from __future__ import annotations

import os
import ssl
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from workbench.errors import KafkaError
from workbench.ingestion.cluster import connection_errors
from workbench.ingestion.cluster.client_certificate import check_client_certificate, java_keystore
from workbench.ingestion.cluster.oauth import TokenProvider, form_encoded
from workbench.ingestion.cluster.wire_log import hide_logins
from workbench.resolving import References
from workbench.sections import KafkaSettings

if TYPE_CHECKING:
    from confluent_kafka.admin import ClusterMetadata

CLIENT_ID = "workbench"
ANSWER_SECONDS = 15.0
ATTEMPT_SECONDS = 1.0
OAUTHBEARER = "OAUTHBEARER"
NO_SECRET = SecretStr("")

# Names of Kafka's Java client from 3.4 to 4.3; the package `oauthbearer.secured` is gone in 4.0 (KIP-768).
JAVA_SECURITY = "org.apache.kafka.common.security"
JAVA_LOGINS = {
    "PLAIN": f"{JAVA_SECURITY}.plain.PlainLoginModule",
    "SCRAM-SHA-256": f"{JAVA_SECURITY}.scram.ScramLoginModule",
    "SCRAM-SHA-512": f"{JAVA_SECURITY}.scram.ScramLoginModule",
    OAUTHBEARER: f"{JAVA_SECURITY}.oauthbearer.OAuthBearerLoginModule",
}


class _Revealed(str):
    """A secret as drivers need it: a plain text that does not show itself in the repr of what holds it.

    kafka-python writes the arguments of its admin client to its debug log.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'****'"


@dataclass(frozen=True, kw_only=True)
class KafkaConnection:
    """One value for one cluster. Builds no client and opens no socket."""

    bootstrap_servers: tuple[str, ...]
    security_protocol: str = "SSL"  #: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL
    sasl_mechanism: str = ""  #: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER
    username: str = ""  #: with OAUTHBEARER the client id
    password: SecretStr = NO_SECRET  #: with OAUTHBEARER the client secret
    ca_file: str = ""  #: empty trusts what the system trusts
    certificate_file: str = ""
    key_file: str = ""
    key_password: SecretStr = NO_SECRET
    token_url: str = ""
    token_scope: str = ""
    token_ca_file: str = ""
    client_id: str = ""  #: the name by which brokers know us; empty is CLIENT_ID, and in Spark what Kafka makes up
    cluster: str = ""  #: its name in the clusters file; empty for the cluster of the KAFKA_ variables

    @classmethod
    def from_settings(cls, settings: KafkaSettings, *, cluster: str = "") -> KafkaConnection:
        """The cluster that the settings name.

        Args:
            settings: the section of the variables, or an entry of the clusters file.
            cluster: the name of that entry.

        Raises:
            KafkaError: when they name none and no broker runs here.
        """
        if not settings.brokers:
            raise KafkaError(
                "no Kafka cluster is configured, and none is running here",
                remedy="Start one with `workbench up`, or set KAFKA_BROKERS.",
            )
        transport = "SSL" if settings.ssl_enabled else "PLAINTEXT"
        return cls(
            bootstrap_servers=settings.brokers,
            security_protocol=f"SASL_{transport}" if settings.username else transport,
            sasl_mechanism=settings.sasl_mechanism if settings.username else "",
            username=settings.username,
            password=settings.password,
            ca_file=str(settings.ca_file or ""),
            certificate_file=str(settings.certificate_file or ""),
            key_file=str(settings.key_file or ""),
            key_password=settings.key_password,
            token_url=settings.token_url,
            token_scope=settings.token_scope,
            token_ca_file=str(settings.token_ca_file or ""),
            client_id=settings.client_id,
            cluster=cluster,
        )

    @classmethod
    def named(cls, name: str, file: Path, *, references: References | None = None) -> KafkaConnection:
        """The cluster *name* of the YAML file of clusters (docs/kafka.md has the format).

        Args:
            name: the key under `clusters:`.
            file: WORKBENCH_KAFKA_CLUSTERS_FILE, or pipelines/clusters.yaml.
            references: read its secrets; without, those of `env:` and `file:` are read.

        Raises:
            SettingsError: with every problem of the file and of that cluster.
        """
        from workbench.ingestion.cluster.clusters import read_cluster

        return cls.from_settings(read_cluster(file, name, references or References(os.environ)), cluster=name)

    @property
    def is_encrypted(self) -> bool:
        """Whether the brokers are spoken to over TLS."""
        return self.security_protocol.endswith("SSL")

    def for_confluent(self) -> dict[str, Any]:
        """Properties of librdkafka (CONFIGURATION.md of its repository)."""
        properties: dict[str, Any] = {
            "bootstrap.servers": ",".join(self.bootstrap_servers),
            "security.protocol": self.security_protocol,
            "client.id": self.client_id or CLIENT_ID,
            # librdkafka prints its log to stderr; errors reach us by callback.
            "log_level": 2,
        }
        if self.is_encrypted:
            properties |= {
                "ssl.ca.location": self.ca_file or system_authorities(),
                "ssl.certificate.location": self.certificate_file,
                "ssl.key.location": self.key_file,
                "ssl.key.password": _revealed(self.key_password),
            }
        if self.username:
            properties["sasl.mechanism"] = self.sasl_mechanism
        if self.sasl_mechanism == OAUTHBEARER:
            properties |= {
                "sasl.oauthbearer.method": "oidc",
                "sasl.oauthbearer.client.id": form_encoded(self.username),
                "sasl.oauthbearer.client.secret": _Revealed(form_encoded(self.password.get_secret_value())),
                "sasl.oauthbearer.token.endpoint.url": self.token_url,
                "sasl.oauthbearer.scope": form_encoded(self.token_scope),
                "https.ca.location": self.token_ca_file or system_authorities(),
            }
        elif self.username:
            properties |= {"sasl.username": self.username, "sasl.password": _revealed(self.password)}
        return {name: value for name, value in properties.items() if value != ""}

    def for_kafka_python(self) -> dict[str, Any]:
        """Keyword arguments of kafka-python's clients; from then on its debug log leaves out logins."""
        hide_logins()
        arguments: dict[str, Any] = {
            "bootstrap_servers": list(self.bootstrap_servers),
            "security_protocol": self.security_protocol,
            "client_id": self.client_id or CLIENT_ID,
        }
        if self.is_encrypted:
            arguments |= {
                "ssl_cafile": self.ca_file,
                "ssl_certfile": self.certificate_file,
                "ssl_keyfile": self.key_file,
                "ssl_password": _revealed(self.key_password),
            }
        if self.username:
            arguments["sasl_mechanism"] = self.sasl_mechanism
        if self.sasl_mechanism == OAUTHBEARER:
            from kafka.net.sasl.oauth import AbstractTokenProvider

            AbstractTokenProvider.register(TokenProvider)
            arguments["sasl_oauth_token_provider"] = TokenProvider(self)
        elif self.username:
            arguments |= {"sasl_plain_username": self.username, "sasl_plain_password": _revealed(self.password)}
        return {name: value for name, value in arguments.items() if value != ""}

    def for_spark(self) -> dict[str, str]:
        """Options of Spark's Kafka source and sink: those of Kafka's Java client, with `kafka.` before them.

        The certificate and key are in them as PEM text, so executors elsewhere need no file; the
        authority's file has to be where they run.

        Raises:
            KafkaError: when the client's certificate or key cannot be read.
        """
        options = {
            "bootstrap.servers": ",".join(self.bootstrap_servers),
            "security.protocol": self.security_protocol,
        }
        if self.client_id:
            options["client.id"] = self.client_id
        if self.is_encrypted and self.ca_file:
            options |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": self.ca_file}
        if self.is_encrypted and self.certificate_file:
            chain, key = java_keystore(self)
            options |= {
                "ssl.keystore.type": "PEM",
                "ssl.keystore.certificate.chain": chain,
                "ssl.keystore.key": _Revealed(key),
            }
        if self.username:
            options |= {"sasl.mechanism": self.sasl_mechanism, "sasl.jaas.config": _Revealed(self._jaas())}
        if self.sasl_mechanism == OAUTHBEARER:
            options |= {
                "sasl.login.callback.handler.class": f"{JAVA_SECURITY}.oauthbearer.OAuthBearerLoginCallbackHandler",
                "sasl.oauthbearer.token.endpoint.url": self.token_url,
                "sasl.oauthbearer.header.urlencode": "true",
            }
        return {f"kafka.{name}": value for name, value in options.items()}

    def _jaas(self) -> str:
        secret = self.password.get_secret_value()
        if self.sasl_mechanism == OAUTHBEARER:
            given = {"clientId": self.username, "clientSecret": secret, "scope": self.token_scope}
            if self.token_ca_file:
                given |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": self.token_ca_file}
        else:
            given = {"username": self.username, "password": secret}
        pairs = " ".join(f'{name}="{_escaped(value)}"' for name, value in given.items() if value)
        return f"{JAVA_LOGINS[self.sasl_mechanism]} required {pairs};"

    def check(self) -> str:
        """Ask the cluster for its id; raises as `metadata` does."""
        return str(self.metadata().cluster_id)

    def metadata(self, seconds: float = ANSWER_SECONDS) -> ClusterMetadata:
        """Ask the cluster for its brokers, topics and partitions.

        Args:
            seconds: that it may take to answer.

        Raises:
            KafkaError: which names the cause, where the drivers only say that they timed out: nobody
                answers; no TLS, or TLS where none was asked for; the broker's certificate expired,
                is not trusted or is for another host; ours is missing, expired or refused; the
                password is wrong; the token endpoint refuses us, or the broker the token.
        """
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        def listen(error: Any) -> None:
            # librdkafka repeats itself with every attempt, and that all brokers are down says nothing more.
            if "brokers are down" not in error.str():
                said[error.str()] = None

        check_client_certificate(self)
        said: dict[str, None] = {}
        callback = {"error_cb": listen, "log_level": 0}
        deadline = time.monotonic() + seconds
        with self.reported():
            client = AdminClient({**self.for_confluent(), **callback})
        while True:
            try:
                return client.list_topics(timeout=ATTEMPT_SECONDS)
            except KafkaException as error:
                client.poll(0)  # hands over what the callback has to say
                text = connection_errors.joined([*said, str(error.args[0].str())])
                known = connection_errors.known_cause(self, text)
                if known or time.monotonic() > deadline:
                    raise known or connection_errors.unknown_cause(self, text) from None

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Turn the errors of librdkafka and of kafka-python into KafkaError."""
        from confluent_kafka import KafkaException

        try:
            yield
        except KafkaException as error:
            raise self.explain(str(error.args[0].str())) from None
        except Exception as error:
            # kafka-python is loaded when the error is its own.
            drivers = sys.modules.get("kafka.errors")
            if drivers is None or not isinstance(error, drivers.KafkaError):
                raise
            raise self._explain_kafka_python(error) from None

    def explain(self, text: str) -> KafkaError:
        """The error for what a client said, with its cause and remedy; may ask the broker."""
        return connection_errors.known_cause(self, text) or connection_errors.unknown_cause(self, text)

    def _explain_kafka_python(self, error: Exception) -> KafkaError:
        # It says of most causes that it timed out; librdkafka and our own handshake say more.
        try:
            self.check()
        except KafkaError as known:
            return known
        return self.explain(f"{type(error).__name__}: {error}")


def system_authorities() -> str:
    """The file of authorities that Python's `ssl` trusts (SSL_CERT_FILE counts), so that librdkafka trusts the same.

    Empty when there is none: librdkafka then looks in the usual places itself.
    """
    return ssl.get_default_verify_paths().cafile or ""


def _revealed(secret: SecretStr) -> _Revealed:
    return _Revealed(secret.get_secret_value())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
