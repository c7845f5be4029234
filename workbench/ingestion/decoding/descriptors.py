"""Protobuf files out of a schema registry: their descriptors, and which message of a file a record is."""

from __future__ import annotations

import base64
import binascii
import re
from importlib import import_module
from typing import Any

from workbench.errors import KafkaError
from workbench.ingestion.decoding.framed import HEADER_BYTES, SchemaUnusable
from workbench.ingestion.decoding.registry import SchemaRegistry

# What a file may import without having registered it: it comes with the libraries, as generated modules.
SHIPPED = re.compile(r"(?:(google)/(?:protobuf|type)|(confluent)(?:/type)?)/[a-z_]+\.proto")
CONFLUENT = "confluent_kafka.schema_registry."
INDEXES_MOST = 16  # messages nested in each other
VARINT_BYTES = 5


def read_file(registry: SchemaRegistry, schema: Any, name: str) -> tuple[Any, Any]:
    """The descriptor of a registered file, in a pool of its own with all that it imports.

    Raises:
        SchemaUnusable: when it cannot be built.
        KafkaError: when the registry does not serve descriptors, or does not answer.
    """
    from google.protobuf.descriptor_pool import DescriptorPool  # type: ignore[import-untyped]

    pool = DescriptorPool()
    try:
        _add_file(registry, schema, name, pool, set())
        return pool, pool.FindFileByName(name)
    except (TypeError, KeyError, ValueError) as error:
        raise SchemaUnusable(f"cannot be built: {error}") from None


def message_at(file: Any, indexes: tuple[int, ...]) -> Any:
    """The message of a file by its place: the number among the file's, then among those nested in it."""
    found: Any = None
    for index in indexes:
        options = list(found.nested_types) if found is not None else list(file.message_types_by_name.values())
        if not 0 <= index < len(options):
            found = None
            break
        found = options[index]
    if found is None:
        raise SchemaUnusable(f"the schema has no message {list(indexes)}")
    return found


def is_wrapper(field: Any) -> bool:
    """Whether a field is one of google/protobuf/wrappers.proto: a scalar that may be absent."""
    kind = field.message_type
    return bool(kind is not None and kind.file.name == "google/protobuf/wrappers.proto")


def read_indexes(value: bytes) -> tuple[tuple[int, ...], int]:
    """Which message of its file a value is, and where it starts; () when the header does not say.

    The header continues with the number of indexes and the indexes, as zigzag varints; a single 0
    stands for the first message.
    """
    if value[HEADER_BYTES : HEADER_BYTES + 1] == b"\0":
        return (0,), HEADER_BYTES + 1
    try:
        count, start = _read_varint(value, HEADER_BYTES)
        if not 0 < count <= INDEXES_MOST:
            return (), HEADER_BYTES
        indexes = []
        for _ in range(count):
            index, start = _read_varint(value, start)
            indexes.append(index)
    except IndexError:
        return (), HEADER_BYTES
    return tuple(indexes), start


def _read_varint(value: bytes, start: int) -> tuple[int, int]:
    number = 0
    for shift in range(VARINT_BYTES):
        byte = value[start + shift]
        number |= (byte & 0x7F) << (7 * shift)
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), start + shift + 1
    raise IndexError


def _add_file(registry: SchemaRegistry, schema: Any, name: str, pool: Any, added: set[str]) -> None:
    """Add a registered file, after those that it refers to and those that it imports."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto  # type: ignore[import-untyped]
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    for reference in schema.references or []:
        if reference.name not in added and not SHIPPED.fullmatch(reference.name):
            added.add(reference.name)
            referred = registry.version(reference.subject, reference.version, serialized=True)
            _add_file(registry, referred, reference.name, pool, added)
    try:
        file = FileDescriptorProto.FromString(base64.b64decode(schema.schema_str, validate=True))
    except (binascii.Error, ValueError, DecodeError):
        raise KafkaError(
            f"the schema registry at {registry.url} gives Protobuf schemas as text, not as descriptors",
            remedy="Use a registry that answers format=serialized: Confluent's from 5.5 on does.",
        ) from None
    file.name = name
    for imported in file.dependency:
        _add_shipped(imported, pool, added)
    pool.AddSerializedFile(file.SerializeToString())


def _add_shipped(name: str, pool: Any, added: set[str]) -> None:
    """Add a file that comes with the libraries, after what it imports."""
    found = SHIPPED.fullmatch(name)
    if found is None or name in added:
        return
    added.add(name)
    module = name.removesuffix(".proto").replace("/", ".") + "_pb2"
    try:
        file = import_module(CONFLUENT + module if found[2] else module).DESCRIPTOR
    except ImportError:
        raise SchemaUnusable(f"imports {name}, which is not here") from None
    for imported in file.dependencies:
        _add_shipped(imported.name, pool, added)
    pool.AddSerializedFile(file.serialized_pb)
