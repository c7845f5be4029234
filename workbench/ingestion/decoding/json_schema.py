"""JSON records in a schema registry's frame to Arrow, validated by their JSON Schema (json-schema.org).

The schema's own properties say which columns there are, unless the flow does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa

from workbench.ingestion.decoding import Decoded, Undecodable
from workbench.ingestion.decoding.framed import (
    HEADER_BYTES,
    REASON_CHARACTERS,
    SchemaUnusable,
    as_reason,
    check_kind,
)
from workbench.ingestion.decoding.json import JsonDecoder
from workbench.ingestion.decoding.registry import SchemaRegistry
from workbench.loading import JSON

REFERENCES_DEEPEST = 16

TYPES = {"integer": pa.int64(), "number": pa.float64(), "boolean": pa.bool_(), "string": pa.string()}
TIME = pa.timestamp("us", tz="UTC")


class JsonSchemaReader:
    """Reads the records of one writer's schema."""

    def __init__(self, validator: Any, columns: pa.Schema) -> None:
        self._validator = validator
        self._decoder = JsonDecoder(columns)

    def read(self, values: Sequence[bytes]) -> Iterable[Decoded]:
        """The rows of the values that the schema allows."""
        texts, positions, bad = [], [], []
        for position, value in enumerate(values):
            text = value[HEADER_BYTES:]
            reason = self._objection(text)
            if reason:
                bad.append(Undecodable(position, reason))
            else:
                texts.append(text)
                positions.append(position)
        decoded = self._decoder.decode(texts)
        bad += [Undecodable(positions[each.position], each.reason) for each in decoded.undecodable]
        yield Decoded(decoded.rows, tuple(positions[row] for row in decoded.positions), tuple(bad))

    def _objection(self, text: bytes) -> str:
        """Why the schema does not allow a text; empty when it does."""
        try:
            error = next(self._validator.iter_errors(orjson.loads(text)), None)
        except ValueError as broken:
            return as_reason(broken, "the value is not JSON")
        except Exception as unresolvable:  # noqa: BLE001 a reference that leads nowhere, a pattern that is none
            return as_reason(unresolvable, "the schema cannot be applied")
        if error is None:
            return ""
        return f"the JSON Schema does not allow {error.json_path}: {error.message}".replace("\0", "\\0")[
            :REASON_CHARACTERS
        ]


def make_reader(registry: SchemaRegistry, schema_id: int, schema: Any, columns: pa.Schema | None) -> JsonSchemaReader:
    """The reader of one writer's schema.

    Args:
        registry: for the schemas that it refers to.
        schema_id: its id.
        schema: as the registry gives it.
        columns: what the flow asks for; None derives columns from the schema's properties.

    Raises:
        SchemaUnusable: when it is no JSON Schema, or no columns can be derived from it.
        KafkaError: when the registry does not answer for a schema that it refers to.
    """
    from jsonschema import SchemaError  # type: ignore[import-untyped]
    from jsonschema.validators import Draft7Validator, validator_for  # type: ignore[import-untyped]

    check_kind(schema, "JSON")
    try:
        document = json.loads(schema.schema_str)
        kind = validator_for(document, default=Draft7Validator)
        kind.check_schema(document)
    except (ValueError, SchemaError) as error:
        raise SchemaUnusable(f"is no JSON Schema: {error}"[:REASON_CHARACTERS]) from None
    validator = kind(document, registry=_documents(registry, schema), format_checker=kind.FORMAT_CHECKER)
    return JsonSchemaReader(validator, columns if columns is not None else _columns(document))


def _documents(registry: SchemaRegistry, schema: Any) -> Any:
    """The schemas that it refers to, by the name that it uses. Nothing else is fetched."""
    from referencing import Registry, Resource
    from referencing.jsonschema import DRAFT7

    found = Registry()
    for reference in schema.references or []:
        referred = registry.version(reference.subject, reference.version)
        resource = Resource.from_contents(json.loads(referred.schema_str), default_specification=DRAFT7)
        found = found.combine(_documents(registry, referred)).with_resource(reference.name, resource)
    return found


def _columns(document: Any) -> pa.Schema:
    properties = _resolved(document, document).get("properties")
    if not isinstance(properties, Mapping) or not properties:
        raise SchemaUnusable("names no properties; say in the flow which columns to take")
    return pa.schema([(name, _type(each, document)) for name, each in properties.items()])


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
