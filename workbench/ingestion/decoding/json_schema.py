"""JSON records in a schema registry's frame to Arrow, validated by their JSON Schema (json-schema.org).

What a schema allows is read as any JSON is; its properties say which types new columns have.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
import pyarrow as pa

from workbench.ingestion.decoding import Decoded, Undecodable
from workbench.ingestion.decoding.contract import Contract, column_fault, united
from workbench.ingestion.decoding.framed import (
    HEADER_BYTES,
    REASON_CHARACTERS,
    SchemaUnusable,
    Writers,
    as_reason,
    check_kind,
)
from workbench.ingestion.decoding.json import JsonDecoder
from workbench.ingestion.decoding.registry import SchemaRegistry
from workbench.loading import JSON

REFERENCES_DEEPEST = 16

TYPES = {"integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_(), "string": pa.string()}
TIME = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Writer:
    """What one writer's schema allows, and the columns that its properties would have."""

    validator: Any
    columns: pa.Schema

    def objection(self, text: bytes) -> str:
        """Why the schema does not allow a text; empty when it does."""
        try:
            error = next(self.validator.iter_errors(orjson.loads(text)), None)
        except ValueError as broken:
            return as_reason(broken, "the value is not JSON")
        except Exception as unresolvable:  # noqa: BLE001 a reference that leads nowhere, a pattern that is none
            return as_reason(unresolvable, "the schema cannot be applied")
        if error is None:
            return ""
        return f"the JSON Schema does not allow {error.json_path}: {error.message}".replace("\0", "\\0")[
            :REASON_CHARACTERS
        ]


class JsonSchemaDecoder:
    """Decodes the records that their writers' schemas allow as `JsonDecoder` reads them; a `Decoder`.

    What a schema allows beside its properties is there for the contract, too. Under `Contract.EVOLVE`
    properties become columns of their types, and other fields of those that their values have.
    """

    def __init__(self, registry: SchemaRegistry, schema: pa.Schema, contract: Contract) -> None:
        self._writers = Writers[Writer](registry, partial(make_writer, registry))
        self._json = JsonDecoder(schema, contract)
        self._is_growing = contract is Contract.EVOLVE

    @property
    def schema(self) -> pa.Schema:
        """The columns; under `Contract.EVOLVE` they grow."""
        return self._json.schema

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode every value that can be; see `workbench.ingestion.decoding.Decoder`."""
        writers, bad = self._writers.of(values)
        allowed: dict[int, bytes] = {}
        for writer, positions in writers:
            texts = {position: (values[position] or b"")[HEADER_BYTES:] for position in positions}
            refused = {position: reason for position, text in texts.items() if (reason := writer.objection(text))}
            bad += [Undecodable(position, reason) for position, reason in refused.items()]
            if self._is_growing and len(refused) < len(texts):
                self._json.schema = united(self._json.schema, writer.columns)
            allowed |= {position: text for position, text in texts.items() if position not in refused}
        ordered = sorted(allowed)
        decoded = self._json.decode([allowed[position] for position in ordered])
        bad += [Undecodable(ordered[each.position], each.reason) for each in decoded.undecodable]
        bad.sort(key=lambda each: each.position)
        return Decoded(decoded.rows, tuple(ordered[row] for row in decoded.positions), tuple(bad))


def make_writer(registry: SchemaRegistry, schema_id: int, schema: Any) -> Writer:
    """What one writer's schema says.

    Args:
        registry: for the schemas that it refers to.
        schema_id: its id.
        schema: as the registry gives it.

    Raises:
        SchemaUnusable: when it is no JSON Schema.
        KafkaError: when the registry does not answer for a schema that it refers to.
    """
    from jsonschema import SchemaError  # type: ignore[import-untyped]
    from jsonschema.validators import Draft7Validator, validator_for  # type: ignore[import-untyped]

    check_kind(schema, "JSON")
    try:
        document = json.loads(schema.schema_str)
        kind = validator_for(document, default=Draft7Validator)
        kind.check_schema(document)
        documents = _documents(registry, schema)
    except (ValueError, SchemaError) as error:
        raise SchemaUnusable(f"is no JSON Schema: {error}"[:REASON_CHARACTERS]) from None
    return Writer(kind(document, registry=documents, format_checker=kind.FORMAT_CHECKER), _columns(document))


def _documents(registry: SchemaRegistry, schema: Any) -> Any:
    """The schemas that it refers to, by the name that it uses. Nothing else is fetched."""
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT7

    found = Registry()
    for reference in schema.references or []:
        referred = registry.version(reference.subject, reference.version)
        check_kind(referred, "JSON")
        resource = Resource.from_contents(json.loads(referred.schema_str), default_specification=DRAFT7)
        found = found.combine(_documents(registry, referred)).with_resource(reference.name, resource)
    return found


def _columns(document: Any) -> pa.Schema:
    """Those of the properties, but for names that no column can have; none when they lead round in a circle."""
    properties = _resolved(document, document).get("properties")
    named = properties.items() if isinstance(properties, Mapping) else ()
    try:
        return pa.schema([(name, _type(each, document)) for name, each in named if column_fault(name) is None])
    except (RecursionError, TypeError, UnicodeEncodeError):
        # Whether a record is allowed is for the validator to say; columns come from its values then.
        return pa.schema([])


def _type(schema: Any, document: Any) -> pa.DataType:
    """The type of a property; what has none of its own is JSON."""
    schema = _resolved(schema, document)
    for union in ("oneOf", "anyOf"):  # how nullable fields are written by Kafka Connect
        if isinstance(schema.get(union), list):
            options = [each for each in schema[union] if each != {"type": "null"}]
            return _type(options[0], document) if len(options) == 1 else JSON
    kinds = schema.get("type")
    names = [name for name in (kinds if isinstance(kinds, list) else [kinds]) if name != "null"]
    if len(names) != 1:
        return JSON
    if names[0] == "string" and schema.get("format") == "date-time":
        return TIME
    return TYPES.get(names[0], JSON)


def _resolved(schema: Any, document: Any) -> Mapping[str, Any]:
    """The schema behind references into its own document; {} when they lead elsewhere."""
    for _ in range(REFERENCES_DEEPEST):
        if not isinstance(schema, Mapping):
            return {}
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return schema
        schema = _pointed(reference, document)
    return {}


def _pointed(reference: str, document: Any) -> Any:
    """What a JSON pointer (RFC 6901) leads to."""
    place = document if reference.startswith("#") else None
    for part in reference.lstrip("#/").split("/") if reference not in ("#", "#/") else []:
        name = part.replace("~1", "/").replace("~0", "~")
        place = place.get(name) if isinstance(place, Mapping) else None
    return place
