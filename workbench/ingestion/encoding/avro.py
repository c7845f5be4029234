"""Rows to Avro in a schema registry's frame."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

from workbench.errors import KafkaError
from workbench.ingestion.decoding.avro import parse_avro
from workbench.ingestion.decoding.framed import MAGIC, SchemaUnusable, check_kind
from workbench.ingestion.decoding.registry import SchemaRegistry
from workbench.ingestion.encoding.rows import Row, Unfit, plain


class AvroEncoder:
    """One framed Avro record for each row."""

    format = "avro"

    def __init__(self, schema_id: int, schema: Any) -> None:
        self._header = bytes([MAGIC]) + schema_id.to_bytes(4, "big")
        self._schema = schema

    def encode(self, row: Row) -> bytes:
        """The record of one row."""
        from fastavro import schemaless_writer
        from fastavro.validation import ValidationError, validate

        stream = io.BytesIO()
        stream.write(self._header)
        record = {name: plain(value) for name, value in row.items()}
        try:
            # The writer alone would cut 1.5 to an int, and write a long where the schema says int.
            if not validate(record, self._schema, raise_errors=False):
                validate(record, self._schema)  # many times slower, and says what is wrong
            schemaless_writer(stream, self._schema, record, strict_allow_default=True)
        except ValidationError as error:
            found = error.errors[0]
            field = str(found.field).removeprefix(f"{self._schema['name']}.")
            raise Unfit(field, f"the schema says {_shown(found.schema)}") from None
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            raise Unfit("", str(error)) from None
        return stream.getvalue()


def _shown(schema: Any) -> str:
    return schema if isinstance(schema, str) else json.dumps(schema)


def make_encoder(
    registry: SchemaRegistry, subject: str, schema: Mapping[str, Any] | str | None, *, register: bool
) -> AvroEncoder:
    """The encoder for the newest schema of a subject, or for *schema*.

    Raises:
        KafkaError: when it is no Avro record, is not registered and may not be, or the registry
            refuses or does not answer.
    """
    from confluent_kafka.schema_registry import Schema

    if schema is None:
        schema_id, registered = registry.latest(subject)
    else:
        text = schema if isinstance(schema, str) else json.dumps(schema)
        registered = Schema(text, "AVRO")
        _parsed(registry, registered, subject)  # what is no schema is not sent
        schema_id = registry.ensure_schema(subject, "AVRO", text, register=register)
    return AvroEncoder(schema_id, _parsed(registry, registered, subject))


def _parsed(registry: SchemaRegistry, schema: Any, subject: str) -> Any:
    try:
        check_kind(schema, "AVRO")
        parsed = parse_avro(registry, schema, {})
        problem = "" if isinstance(parsed, dict) and parsed.get("type") == "record" else "is not an Avro record"
    except SchemaUnusable as error:
        problem = str(error)[:300]
    if problem:
        raise KafkaError(
            f"the schema for {subject} {problem}", remedy="Give an Avro record, or the format that the topic has."
        )
    return parsed
