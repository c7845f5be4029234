"""How to reach a Kafka cluster, spelled for each client that we use."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from workbench.errors import KafkaError
from workbench.sections import KafkaSettings

CLIENT_ID = "workbench"
ANSWER_SECONDS = 15.0
ATTEMPT_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class KafkaConnection:
    """One value for one cluster. Builds no client and opens no socket."""

    bootstrap_servers: tuple[str, ...]
    security_protocol: str  #: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL
    sasl_mechanism: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: str = ""

    @classmethod
    def from_settings(cls, settings: KafkaSettings) -> KafkaConnection:
        """The cluster that the settings name.

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
            password=settings.password.get_secret_value(),
            ca_file=str(settings.ca_file or ""),
        )

    def for_confluent(self) -> dict[str, Any]:
        """Properties of librdkafka (CONFIGURATION.md of its repository)."""
        properties: dict[str, Any] = {
            "bootstrap.servers": ",".join(self.bootstrap_servers),
            "security.protocol": self.security_protocol,
            "client.id": CLIENT_ID,
            # librdkafka prints its log to stderr; errors reach us by callback.
            "log_level": 2,
        }
        if self.ca_file:
            properties["ssl.ca.location"] = self.ca_file
        if self.username:
            properties |= {
                "sasl.mechanism": self.sasl_mechanism,
                "sasl.username": self.username,
                "sasl.password": self.password,
            }
        return properties

    def for_kafka_python(self) -> dict[str, Any]:
        """Keyword arguments of kafka-python's clients."""
        arguments: dict[str, Any] = {
            "bootstrap_servers": list(self.bootstrap_servers),
            "security_protocol": self.security_protocol,
            "client_id": CLIENT_ID,
        }
        if self.ca_file:
            arguments["ssl_cafile"] = self.ca_file
        if self.username:
            arguments |= {
                "sasl_mechanism": self.sasl_mechanism,
                "sasl_plain_username": self.username,
                "sasl_plain_password": self.password,
            }
        return arguments

    def for_spark(self) -> dict[str, str]:
        """Options of Spark's Kafka source and sink."""
        options = {
            "kafka.bootstrap.servers": ",".join(self.bootstrap_servers),
            "kafka.security.protocol": self.security_protocol,
        }
        if self.ca_file:
            options |= {"kafka.ssl.truststore.type": "PEM", "kafka.ssl.truststore.location": self.ca_file}
        if self.username:
            module = "plain.PlainLoginModule" if self.sasl_mechanism == "PLAIN" else "scram.ScramLoginModule"
            login = f'org.apache.kafka.common.security.{module} required username="{_escaped(self.username)}" password="{_escaped(self.password)}";'
            options |= {"kafka.sasl.mechanism": self.sasl_mechanism, "kafka.sasl.jaas.config": login}
        return options

    def check(self) -> str:
        """Ask the cluster for its id.

        Raises:
            KafkaError: which says whether nobody answered, the certificate is not trusted, or
                the password is wrong; kafka-python and librdkafka only say that they timed out.
        """
        from confluent_kafka import KafkaException
        from confluent_kafka.admin import AdminClient

        problems: set[str] = set()  # librdkafka repeats itself with every attempt
        callback = {"error_cb": lambda error: problems.add(error.str()), "log_level": 0}
        client = AdminClient({**self.for_confluent(), **callback})
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                return str(client.list_topics(timeout=ATTEMPT_SECONDS).cluster_id)
            except KafkaException as error:
                client.poll(0)  # hands over what the callback has to say
                text = " ".join([*sorted(problems), str(error.args[0].str())])
                if self._known_cause(text) or time.monotonic() > deadline:
                    raise self.explain(text) from None

    @contextmanager
    def reported(self) -> Iterator[None]:
        """Turn librdkafka's errors into KafkaError."""
        from confluent_kafka import KafkaException

        try:
            yield
        except KafkaException as error:
            raise self.explain(str(error.args[0].str())) from None

    def explain(self, text: str) -> KafkaError:
        """The error for what a client said, with its cause and remedy."""
        return self._known_cause(text) or KafkaError(
            f"Kafka at {self._where} did not answer: {text[:200]}",
            remedy="Check that KAFKA_BROKERS names running brokers and that this machine reaches them.",
        )

    @property
    def _where(self) -> str:
        return ",".join(self.bootstrap_servers)

    def _known_cause(self, text: str) -> KafkaError | None:
        """The error for causes that another attempt does not cure."""
        lowered = text.lower()
        if "authentication failed" in lowered or "sasl authentication error" in lowered:
            return KafkaError(
                f"Kafka at {self._where} refused the user {self.username!r} or its password ({self.sasl_mechanism})",
                remedy="Check KAFKA_USERNAME, KAFKA_PASSWORD and WORKBENCH_KAFKA_SASL_MECHANISM.",
            )
        if "certificate" in lowered:
            return KafkaError(
                f"the certificate of Kafka at {self._where} is not trusted: {text[:200]}",
                remedy="Set WORKBENCH_KAFKA_CA_FILE to the PEM file of the authority that signed it.",
            )
        if "wrong version number" in lowered or "connecting to a plaintext" in lowered:
            return KafkaError(
                f"Kafka at {self._where} does not speak TLS: {text[:200]}",
                remedy="Set KAFKA_SSL_ENABLED=false if the cluster really is plaintext, or give its TLS port.",
            )
        return None


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
