"""Rows to Protobuf in a schema registry's frame."""

from __future__ import annotations

import base64
from typing import Any

from workbench.errors import KafkaError
from workbench.ingestion.decoding.descriptors import SHIPPED, is_wrapper, message_at, read_file
from workbench.ingestion.decoding.framed import MAGIC, SchemaUnusable, check_kind
from workbench.ingestion.decoding.registry import SchemaRegistry
from workbench.ingestion.encoding.rows import Row, find_unfit, plain


class ProtobufEncoder:
    """One framed message for each row; a field that is None is not set."""

    format = "protobuf"

    def __init__(self, schema_id: int, indexes: tuple[int, ...], message: Any) -> None:
        self._header = bytes([MAGIC]) + schema_id.to_bytes(4, "big") + write_indexes(indexes)
        self._message = message
        fields = message.DESCRIPTOR.fields
        self._wrapped = {each.name for each in fields if not each.is_repeated and is_wrapper(each)}

    def encode(self, row: Row) -> bytes:
        """The message of one row."""
        values = {name: plain(value) for name, value in row.items()}
        for name in self._wrapped & values.keys():
            if values[name] is not None:
                values[name] = {"value": values[name]}
        try:
            return self._header + self._serialized(values)
        except (LookupError, TypeError, ValueError) as error:
            raise find_unfit(values, self._serialized, error) from None

    def _serialized(self, values: dict[str, object]) -> bytes:
        return bytes(self._message(**values).SerializeToString())


def make_encoder(registry: SchemaRegistry, subject: str, schema: Any, *, register: bool) -> ProtobufEncoder:
    """The encoder for the first message of a subject's newest file, or for a class of messages.

    Raises:
        KafkaError: when it is no Protobuf, is not registered and may not be, or the registry
            refuses or does not answer.
    """
    from google.protobuf.message_factory import GetMessageClass  # type: ignore[import-untyped]

    if schema is None:
        schema_id, registered = registry.latest(subject, serialized=True)
        try:
            check_kind(registered, "PROTOBUF")
            _, file = read_file(registry, registered, f"schema-{schema_id}.proto")
            return ProtobufEncoder(schema_id, (0,), GetMessageClass(message_at(file, (0,))))
        except SchemaUnusable as error:
            raise KafkaError(
                f"the schema for {subject} {error}", remedy="Give the format that the topic has."
            ) from None
    if not hasattr(schema, "DESCRIPTOR"):
        raise KafkaError(
            f"a Protobuf schema is a class of messages, not {type(schema).__name__}",
            remedy="Give the class that protoc generated, or register the schema and leave schema out.",
        )
    _check_imports(schema.DESCRIPTOR.file)
    text = base64.b64encode(schema.DESCRIPTOR.file.serialized_pb).decode()
    schema_id = registry.ensure_schema(subject, "PROTOBUF", text, register=register)
    return ProtobufEncoder(schema_id, place_of(schema.DESCRIPTOR), schema)


def place_of(descriptor: Any) -> tuple[int, ...]:
    """Where a message is in its file: its number there, after that of the message around it."""
    if descriptor.containing_type is not None:
        return (*place_of(descriptor.containing_type), list(descriptor.containing_type.nested_types).index(descriptor))
    return (list(descriptor.file.message_types_by_name).index(descriptor.name),)


def write_indexes(indexes: tuple[int, ...]) -> bytes:
    """The part of the header that says which message of the file a value is."""
    if indexes == (0,):
        return b"\0"
    return b"".join(_varint(2 * number) for number in (len(indexes), *indexes))


def _varint(number: int) -> bytes:
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def _check_imports(file: Any) -> None:
    own = [each.name for each in file.dependencies if not SHIPPED.fullmatch(each.name)]
    if own:
        raise KafkaError(
            f"the schema imports {', '.join(own)}, which would have to be registered first",
            remedy="Register the files by your build, then leave schema out.",
        )
