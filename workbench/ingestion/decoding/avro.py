"""Avro records in a schema registry's frame to Arrow (Apache Avro 1.11 specification, fastavro).

Times, dates and UUIDs are read as the numbers and texts that they are, and become Arrow types by
the column: making a Python object of each would take several times as long.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any
from uuid import UUID

import pyarrow as pa

from workbench.ingestion.decoding import Decoded, Undecodable
from workbench.ingestion.decoding.casting import as_json_text
from workbench.ingestion.decoding.framed import (
    HEADER_BYTES,
    Column,
    SchemaUnusable,
    as_reason,
    check_kind,
    make_rows,
)
from workbench.ingestion.decoding.registry import SchemaRegistry
from workbench.loading import JSON

TIME = pa.timestamp("us", tz="UTC")
DECIMAL_DIGITS = 38  # of Arrow's and most warehouses' decimals

PRIMITIVES = {
    "null": pa.string(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float64(),
    "double": pa.float64(),
    "string": pa.string(),
    "bytes": pa.binary(),
}
# Read as what they are stored as; local times have no zone and are taken for UTC.
LOGICAL = {
    ("int", "date"): (pa.date32(), pa.date32()),
    ("string", "uuid"): (pa.string(), pa.string()),
    **{
        ("long", f"{local}timestamp-{name}"): (pa.timestamp(unit, tz="UTC"), TIME)
        for local in ("", "local-")
        for name, unit in (("millis", "ms"), ("micros", "us"), ("nanos", "ns"))
    },
}
# Read as Python's own.
AS_TEXT: dict[str, Callable[[Any], str]] = {
    "decimal": str,
    "uuid": lambda value: str(UUID(bytes=bytes(value))),  # of the type fixed
    "time-millis": lambda value: str(value.isoformat()),
    "time-micros": lambda value: str(value.isoformat()),
}


class AvroReader:
    """Reads the records of one writer's schema."""

    def __init__(self, schema: Any, columns: Sequence[Column]) -> None:
        self._schema = schema
        self._columns = columns

    def read(self, values: Sequence[bytes]) -> Iterable[Decoded]:
        """The rows that can be read."""
        records, positions, bad = self._records(values)
        columns = [list(map(itemgetter(column.name), records)) for column in self._columns]
        decoded = make_rows(self._columns, columns, positions)
        yield Decoded(decoded.rows, decoded.positions, (*bad, *decoded.undecodable))

    def _records(self, values: Sequence[bytes]) -> tuple[list[dict[str, Any]], list[int], list[Undecodable]]:
        """One stream for all, which is faster; each record has to end where its value does."""
        from fastavro import schemaless_reader

        stream = io.BytesIO(b"".join(values))
        records, positions, bad = [], [], []
        start = 0
        for position, value in enumerate(values):
            stream.seek(start + HEADER_BYTES)
            start += len(value)
            try:
                record: Any = schemaless_reader(stream, self._schema, None)
            except Exception as error:  # noqa: BLE001 fastavro raises what its parts raise, for bytes of any kind
                bad.append(Undecodable(position, as_reason(error, "no Avro record of its schema")))
                continue
            if stream.tell() == start:
                records.append(record)
                positions.append(position)
            else:
                bad.append(Undecodable(position, "the value does not end where the Avro record of its schema does"))
        return records, positions, bad


def make_reader(registry: SchemaRegistry, schema_id: int, schema: Any, _: pa.Schema | None) -> AvroReader:
    """The reader of one writer's schema.

    Raises:
        SchemaUnusable: when it is no Avro record.
        KafkaError: when the registry does not answer for a schema that it refers to.
    """
    check_kind(schema, "AVRO")
    named: dict[str, Any] = {}
    parsed = parse_avro(registry, schema, named, _stored)
    if not isinstance(parsed, dict) or parsed.get("type") != "record" or not parsed["fields"]:
        raise SchemaUnusable("is not a record with fields")
    return AvroReader(parsed, [_column(field["name"], field, named) for field in parsed["fields"]])


def parse_avro(
    registry: SchemaRegistry, schema: Any, named: dict[str, Any], change: Callable[[Any], Any] = lambda value: value
) -> Any:
    """The schema as fastavro parses it, with those that it refers to, which go to *named*.

    Raises:
        SchemaUnusable: when it is no Avro schema.
        KafkaError: when the registry does not answer for a schema that it refers to.
    """
    import fastavro
    from fastavro.schema import SchemaParseException, UnknownType

    for reference in schema.references or []:
        parse_avro(registry, registry.version(reference.subject, reference.version), named)
    try:
        return fastavro.parse_schema(change(json.loads(schema.schema_str)), named_schemas=named)
    except (SchemaParseException, UnknownType, AttributeError, LookupError, TypeError, ValueError) as error:
        raise SchemaUnusable(f"is no Avro schema: {type(error).__name__}: {error}") from None


def _stored(schema: Any) -> Any:
    """The schema with the fields of its record as they are stored, their logical type kept beside."""
    if not isinstance(schema, dict) or schema.get("type") != "record":
        return schema
    return {**schema, "fields": [_stored_field(field) for field in schema["fields"]]}


def _stored_field(field: Mapping[str, Any]) -> dict[str, Any]:
    kind = _without_null(field["type"])
    if not isinstance(kind, dict) or (kind.get("type"), kind.get("logicalType")) not in LOGICAL:
        return dict(field)
    options = field["type"] if isinstance(field["type"], list) else [field["type"]]
    stored = [kind["type"] if option is kind else option for option in options]
    return {**field, "type": stored if isinstance(field["type"], list) else stored[0], "logical": kind["logicalType"]}


def _without_null(kind: Any) -> Any:
    """The one type of a union with null; other unions as they are."""
    if isinstance(kind, list):
        others = [option for option in kind if option != "null"]
        return others[0] if len(others) == 1 else (others or "null")
    return kind


def _column(name: str, field: Mapping[str, Any], named: Mapping[str, Any]) -> Column:
    kind = _without_null(field["type"])
    if isinstance(kind, str) and kind in named:
        kind = named[kind]
    base = kind["type"] if isinstance(kind, dict) else kind
    if isinstance(kind, list) or base in ("record", "error", "array", "map"):
        return Column(name, pa.string(), JSON, as_json_text)
    logical = field.get("logical") or (kind.get("logicalType", "") if isinstance(kind, dict) else "")
    if (base, logical) in LOGICAL:
        return Column(name, *LOGICAL[base, logical])
    if logical == "decimal" and kind["precision"] <= DECIMAL_DIGITS:
        decimal = pa.decimal128(kind["precision"], kind.get("scale", 0))
        return Column(name, decimal, decimal)
    if logical in AS_TEXT:
        return Column(name, pa.string(), pa.string(), AS_TEXT[logical])
    # What is left has no logical type that we know; what is no primitive is an enum or fixed.
    made = pa.string() if base == "enum" else PRIMITIVES.get(base, pa.binary())
    return Column(name, made, made)
