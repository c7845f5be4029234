"""Schemas out of a Confluent Schema Registry, and the decoders of the formats that need one.

Source: Confluent's wire format (docs.confluent.io, "Formats, Serializers, and Deserializers") and
its registry's HTTP interface ("Schema Registry API Reference").
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from weakref import finalize

import pyarrow as pa

from workbench.errors import KafkaError, KafkaUnavailable
from workbench.ingestion.decoding import Decoder
from workbench.sections import SchemaRegistrySettings

FORMATS = ("avro", "protobuf")
ANSWER_SECONDS = 10
RETRY_MILLISECONDS = 200

SUBJECT_NOT_FOUND = 40401
VERSION_NOT_FOUND = 40402
SCHEMA_NOT_FOUND = 40403


def make_decoder(
    kind: str, registry: SchemaRegistry | SchemaRegistrySettings, schema: pa.Schema | None = None
) -> Decoder:
    """The decoder of one of FORMATS.

    Args:
        kind: `avro` or `protobuf`; JSON Schema has `workbench.ingestion.decoding.json_schema.JsonSchemaDecoder`.
        registry: where the writers' schemas are, or the settings that lead there.
        schema: the columns to take, with their types; None takes every column that the writers'
            schemas have.

    Raises:
        KafkaError: when the format is unknown, or the settings name no registry.
    """
    from workbench.ingestion.decoding import avro, protobuf
    from workbench.ingestion.decoding.framed import FramedDecoder, MakeReader

    readers: dict[str, MakeReader] = {
        "avro": avro.make_reader,
        "protobuf": protobuf.make_reader,
    }
    if kind not in readers:
        raise KafkaError(f"there is no format {kind!r}", remedy=f"Choose among {', '.join(FORMATS)}.")
    if isinstance(registry, SchemaRegistrySettings):
        registry = SchemaRegistry.from_settings(registry)
    return FramedDecoder(registry, readers[kind], schema, serialized=kind == "protobuf")


@dataclass(frozen=True, kw_only=True)
class SchemaRegistry:
    """A registry and the schemas that were asked of it. Opens no socket before the first question."""

    url: str
    username: str = ""
    password: str = field(default="", repr=False)
    ca_file: str = ""

    @classmethod
    def from_settings(cls, settings: SchemaRegistrySettings) -> SchemaRegistry:
        """The registry that the settings name.

        Raises:
            KafkaError: when they name none.
        """
        if not settings.url:
            raise KafkaError(
                "no schema registry is configured", remedy="Set WORKBENCH_REGISTRY_URL, or use the format json."
            )
        return cls(
            url=settings.url,
            username=settings.username,
            password=settings.password.get_secret_value(),
            ca_file=str(settings.ca_file or ""),
        )

    def find_schema(self, schema_id: int, *, serialized: bool = False) -> Any | None:
        """The schema with that id; None when the registry does not know the id.

        Args:
            schema_id: out of a record.
            serialized: whether to ask for a descriptor in base64, which only Protobuf has.

        Raises:
            KafkaError: when the registry refuses us or does not answer.
        """
        from confluent_kafka.schema_registry import SchemaRegistryError

        with self._reported():
            try:
                return self._client.get_schema(schema_id, fmt=_format(serialized))
            except SchemaRegistryError as error:
                if error.error_code == SCHEMA_NOT_FOUND:
                    return None
                raise

    def version(self, subject: str, version: int, *, serialized: bool = False) -> Any:
        """The schema of one version of a subject, for schemas that refer to it. Raises KafkaError."""
        with self._reported():
            return self._client.get_version(subject, version, deleted=True, fmt=_format(serialized)).schema

    def latest(self, subject: str, *, serialized: bool = False) -> tuple[int, Any]:
        """Id and schema of the newest version of a subject.

        Raises:
            KafkaError: when there is none, or the registry does not answer.
        """
        with self._reported(subject):
            found = self._client.get_latest_version(subject, fmt=_format(serialized))
            return found.schema_id, found.schema

    def ensure_schema(self, subject: str, kind: str, text: str, *, register: bool) -> int:
        """The id of a schema under a subject; only with *register* is it made when absent.

        Raises:
            KafkaError: when it is absent and may not be made, or the registry refuses it.
        """
        from confluent_kafka.schema_registry import Schema

        schema = Schema(text, kind)
        with self._reported(subject):
            if register:
                return int(self._client.register_schema(subject, schema))
            return int(self._client.lookup_schema(subject, schema).schema_id)

    @cached_property
    def _client(self) -> Any:
        from confluent_kafka.schema_registry import SchemaRegistryClient

        properties: dict[str, Any] = {
            "url": self.url,
            "timeout": ANSWER_SECONDS,
            "retries.wait.ms": RETRY_MILLISECONDS,
        }
        if self.username:
            properties["basic.auth.user.info"] = f"{self.username}:{self.password}"
        if self.ca_file:
            properties["ssl.ca.location"] = self.ca_file
        client = SchemaRegistryClient(properties)
        # Whoever holds a decoder need not know that there is a connection to close.
        finalize(self, client.close)
        return client

    @contextmanager
    def _reported(self, subject: str = "") -> Iterator[None]:
        from confluent_kafka.schema_registry import SchemaRegistryError

        try:
            yield
        except SchemaRegistryError as error:
            raise self._refused(error, subject) from None
        # The client hands its HTTP library's errors on, and uses whichever of two it finds.
        except Exception as error:  # noqa: BLE001
            raise KafkaUnavailable(
                f"the schema registry at {self.url} did not answer: {type(error).__name__}: {str(error)[:200]}",
                remedy="Check WORKBENCH_REGISTRY_URL and WORKBENCH_REGISTRY_CA_FILE, and that this machine reaches it.",
            ) from None

    def _refused(self, error: Any, subject: str) -> KafkaError:
        if error.http_status_code in {401, 403}:
            return KafkaError(
                f"the schema registry at {self.url} refused the user {self.username!r} (HTTP {error.http_status_code})",
                remedy="Check WORKBENCH_REGISTRY_USERNAME and WORKBENCH_REGISTRY_PASSWORD, and what that user may do.",
            )
        if subject and error.error_code in {SUBJECT_NOT_FOUND, VERSION_NOT_FOUND, SCHEMA_NOT_FOUND}:
            return KafkaError(
                f"the schema registry at {self.url} has no such schema for {subject}",
                remedy="Register it there, or give schema= and register=True.",
            )
        if error.http_status_code >= 500:
            return KafkaUnavailable(
                f"the schema registry at {self.url} answered: {str(error)[:300]}", remedy="See its log."
            )
        if error.http_status_code in {409, 422}:
            return KafkaError(
                f"the schema registry refused the schema for {subject}: {str(error.error_message)[:300]}",
                remedy="Change the schema so that readers of the earlier versions can go on, or use another topic.",
            )
        return KafkaError(
            f"the schema registry at {self.url} answered: {str(error)[:300]}",
            remedy="Check that WORKBENCH_REGISTRY_URL is the root of a schema registry, and see its log.",
        )


def _format(serialized: bool) -> str | None:
    return "serialized" if serialized else None
