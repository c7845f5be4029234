"""Protobuf records in a schema registry's frame to Arrow, by classes made of the registry's descriptors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any

import pyarrow as pa

from workbench.ingestion.decoding import Decoded, Undecodable
from workbench.ingestion.decoding.casting import as_json_text
from workbench.ingestion.decoding.descriptors import is_wrapper, message_at, read_file, read_indexes
from workbench.ingestion.decoding.framed import (
    Column,
    SchemaUnusable,
    as_reason,
    check_kind,
    make_rows,
)
from workbench.ingestion.decoding.registry import SchemaRegistry
from workbench.loading import JSON

TIME = pa.timestamp("us", tz="UTC")

Cell = Callable[[Any], Any]  # a message to the value of one of its fields


class ProtobufReader:
    """Reads the records of one writer's schema, which may define several messages."""

    def __init__(self, pool: Any, file: Any) -> None:
        self._pool = pool
        self._file = file
        self._messages: dict[tuple[int, ...], _Message | str] = {}

    def read(self, values: Sequence[bytes]) -> Iterable[Decoded]:
        """The rows that can be read, message type by message type."""
        groups: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        for position, value in enumerate(values):
            indexes, start = read_indexes(value)
            groups.setdefault(indexes, []).append((position, start))
        for indexes, members in groups.items():
            message = self._message(indexes)
            if isinstance(message, str):
                bad = tuple(Undecodable(position, message) for position, _ in members)
                yield Decoded(pa.table({}), (), bad)
            else:
                yield message.read(values, members)

    def _message(self, indexes: tuple[int, ...]) -> _Message | str:
        if indexes not in self._messages:
            try:
                descriptor = message_at(self._file, indexes)
                self._messages[indexes] = _Message(self._pool, descriptor)
            except SchemaUnusable as error:
                self._messages[indexes] = str(error)
        return self._messages[indexes]


class _Message:
    """Reads the records of one message type."""

    def __init__(self, pool: Any, descriptor: Any) -> None:
        from google.protobuf.message_factory import GetMessageClass  # type: ignore[import-untyped]

        if not descriptor.fields:
            raise SchemaUnusable(f"the message {descriptor.full_name} has no fields")
        self._parse = GetMessageClass(descriptor).FromString
        self._name = descriptor.full_name
        found = [_column(field, pool) for field in descriptor.fields]
        self._columns = [column for column, _ in found]
        self._cells = [cell for _, cell in found]

    def read(self, values: Sequence[bytes], members: Sequence[tuple[int, int]]) -> Decoded:
        """The rows of the values at the positions of *members*, each with where its message starts."""
        messages, positions, bad = [], [], []
        for position, start in members:
            try:
                messages.append(self._parse(values[position][start:]))
                positions.append(position)
            except Exception as error:  # noqa: BLE001 DecodeError is not the only one, for bytes of any kind
                bad.append(Undecodable(position, as_reason(error, f"no message {self._name}")))
        try:
            cells = [list(map(cell, messages)) for cell in self._cells]
        except Exception:  # noqa: BLE001 a text of proto2 that is no UTF-8, or an Any of a type that nobody has
            messages, positions = self._sieve(messages, positions, bad)
            cells = [list(map(cell, messages)) for cell in self._cells]
        decoded = make_rows(self._columns, cells, positions)
        return Decoded(decoded.rows, decoded.positions, (*bad, *decoded.undecodable))

    def _sieve(
        self, messages: Sequence[Any], positions: Sequence[int], bad: list[Undecodable]
    ) -> tuple[list[Any], list[int]]:
        good = []
        for message, position in zip(messages, positions, strict=True):
            try:
                for cell in self._cells:
                    cell(message)
            except Exception as error:  # noqa: BLE001 as above
                bad.append(Undecodable(position, as_reason(error, f"no message {self._name}")))
            else:
                good.append((message, position))
        return [message for message, _ in good], [position for _, position in good]


def make_reader(registry: SchemaRegistry, schema_id: int, schema: Any, _: pa.Schema | None) -> ProtobufReader:
    """The reader of one writer's schema.

    Raises:
        SchemaUnusable: when it is no Protobuf file.
        KafkaError: when the registry does not serve descriptors, or does not answer.
    """
    check_kind(schema, "PROTOBUF")
    pool, file = read_file(registry, schema, f"schema-{schema_id}.proto")
    return ProtobufReader(pool, file)


def _column(field: Any, pool: Any) -> tuple[Column, Cell]:
    """The column of a field and how its value is got out of a message."""
    get = attrgetter(field.name)
    if field.is_repeated:
        return _nested(field, pool)
    if field.type in (field.TYPE_MESSAGE, field.TYPE_GROUP):
        name = field.message_type.full_name
        if name == "google.protobuf.Timestamp":
            return Column(field.name, pa.timestamp("us"), TIME), _when_set(field, lambda message: _micros(get(message)))
        if is_wrapper(field):
            inner = field.message_type.fields_by_name["value"]
            made = _types(field)[inner.type]
            return Column(field.name, made, made), _when_set(field, lambda message: get(message).value)
        return _nested(field, pool)
    if field.type == field.TYPE_ENUM:
        names = {number: value.name for number, value in field.enum_type.values_by_number.items()}
        return Column(field.name, pa.string(), pa.string(), lambda number: names.get(number, str(number))), _when_set(
            field, get
        )
    made = _types(field)[field.type]
    return Column(field.name, made, made), _when_set(field, get)


def _when_set(field: Any, get: Cell) -> Cell:
    if not field.has_presence:
        return get
    name = field.name
    return lambda message: get(message) if message.HasField(name) else None


def _nested(field: Any, pool: Any) -> tuple[Column, Cell]:
    """A message, list or map as JSON, in Protobuf's own mapping."""
    from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]

    name = field.name

    def cell(message: Any) -> str | None:
        if not field.is_repeated and not message.HasField(name):
            return None
        found = MessageToDict(message, preserving_proto_field_name=True, descriptor_pool=pool)
        empty: object = {} if field.message_type and field.message_type.GetOptions().map_entry else []
        return as_json_text(found.get(name, empty))

    return Column(name, pa.string(), JSON), cell


def _micros(time: Any) -> int:
    # SQL counts microseconds: what is finer is cut off.
    return int(time.seconds * 1_000_000 + time.nanos // 1000)


def _types(field: Any) -> dict[int, pa.DataType]:
    narrow = (field.TYPE_INT32, field.TYPE_SINT32, field.TYPE_SFIXED32)
    wide = (field.TYPE_INT64, field.TYPE_SINT64, field.TYPE_SFIXED64, field.TYPE_UINT32, field.TYPE_FIXED32)
    return {
        **dict.fromkeys(narrow, pa.int32()),
        **dict.fromkeys((*wide, field.TYPE_UINT64, field.TYPE_FIXED64), pa.int64()),
        **dict.fromkeys((field.TYPE_FLOAT, field.TYPE_DOUBLE), pa.float64()),
        field.TYPE_BOOL: pa.bool_(),
        field.TYPE_STRING: pa.string(),
        field.TYPE_BYTES: pa.binary(),
    }
