"""Records in Confluent's frame: the byte 0, the id of the writer's schema in four bytes, the record.

Records are read one writer's schema at a time. What the schemas give is then united into one table,
or cast to the columns that were asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from workbench.ingestion.decoding import Decoded, Undecodable
from workbench.ingestion.decoding.casting import cast_column, find_unstorable
from workbench.ingestion.decoding.registry import SchemaRegistry
from workbench.loading import JSON

HEADER_BYTES = 5
MAGIC = 0
REASON_CHARACTERS = 300


class SchemaUnusable(Exception):
    """A writer's schema that no row can be made of; the text says why. Its records are dead letters."""


class Reader(Protocol):
    """Reads the records of one writer's schema."""

    def read(self, values: Sequence[bytes]) -> Iterable[Decoded]:
        """The rows of *values*, header included; positions are those within *values*."""


MakeReader = Callable[[SchemaRegistry, int, Any, pa.Schema | None], Reader]
Made = TypeVar("Made")


@dataclass(frozen=True)
class Column:
    """How a column of Python values becomes Arrow: made with one type, then cast to another."""

    name: str
    made: pa.DataType
    type: pa.DataType
    convert: Callable[[Any], Any] | None = None  #: of each value that is not null


class Writers(Generic[Made]):
    """What is made of each writer's schema, once.

    Args:
        registry: where the schemas are.
        make: of an id and the schema; raises SchemaUnusable for one that is of no use.
        serialized: whether to ask for schemas as descriptors, as Protobuf needs them.
    """

    def __init__(self, registry: SchemaRegistry, make: Callable[[int, Any], Made], *, serialized: bool = False) -> None:
        self._registry = registry
        self._make = make
        self._serialized = serialized
        self._made: dict[int, Made | SchemaUnusable] = {}

    def of(self, values: Sequence[bytes | None]) -> tuple[list[tuple[Made, list[int]]], list[Undecodable]]:
        """What each schema has given with the positions of its records, and the records that have none.

        Raises:
            KafkaError: when the registry does not answer.
        """
        groups, bad = _grouped(values)
        found = []
        for schema_id, positions in groups.items():
            made = self._of(schema_id)
            if isinstance(made, SchemaUnusable):
                bad += [Undecodable(position, str(made)[:REASON_CHARACTERS]) for position in positions]
            else:
                found.append((made, positions))
        return found, bad

    def _of(self, schema_id: int) -> Made | SchemaUnusable:
        if schema_id not in self._made:
            schema = self._registry.find_schema(schema_id, serialized=self._serialized)
            if schema is None:  # not kept: a registry that lags behind may know it later
                return SchemaUnusable(f"the schema registry does not know the schema id {schema_id}")
            try:
                self._made[schema_id] = self._make(schema_id, schema)
            except SchemaUnusable as error:
                self._made[schema_id] = SchemaUnusable(f"schema {schema_id} {error}")
        return self._made[schema_id]


class FramedDecoder:
    """Decodes framed records of one format; a `Decoder`."""

    def __init__(
        self, registry: SchemaRegistry, make_reader: MakeReader, schema: pa.Schema | None, *, serialized: bool = False
    ) -> None:
        self.schema = schema
        self._readers = Writers[Reader](
            registry,
            lambda schema_id, found: make_reader(registry, schema_id, found, schema),
            serialized=serialized,
        )

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode every value; raises KafkaError when the registry does not answer."""
        readers, bad = self._readers.of(values)
        parts: list[Decoded] = []
        for reader, positions in readers:
            for part in reader.read([values[position] or b"" for position in positions]):
                fitted = _fitted(part, self.schema)
                parts.append(
                    Decoded(fitted.rows, tuple(positions[row] for row in fitted.positions), fitted.undecodable)
                )
                bad += [Undecodable(positions[each.position], each.reason) for each in fitted.undecodable]
        bad.sort(key=lambda each: each.position)
        return _united(parts, tuple(bad), self.schema)


def check_kind(schema: Any, kind: str) -> None:
    """Raise SchemaUnusable for a schema of another format."""
    if (schema.schema_type or "AVRO") != kind:
        raise SchemaUnusable(f"is {schema.schema_type}, not {kind}")


def make_rows(columns: Sequence[Column], values: Sequence[list[Any]], positions: Sequence[int]) -> Decoded:
    """The rows of columns of Python values; a value that Arrow does not take costs its row."""
    arrays, faults = [], dict[int, str]()
    for column, items in zip(columns, values, strict=True):
        converted, unlike = _converted(column, items)
        array, found = _make_array(column, converted)
        arrays.append(array)
        faults |= found | unlike
    rows = pa.Table.from_arrays(arrays, names=[column.name for column in columns])
    return without(Decoded(rows, tuple(positions), ()), faults)


def without(decoded: Decoded, faults: dict[int, str]) -> Decoded:
    """The same without the rows that have a fault, by number of the row."""
    if not faults:
        return decoded
    good = [row for row in range(decoded.rows.num_rows) if row not in faults]
    undecodable = [Undecodable(decoded.positions[row], reason) for row, reason in faults.items()]
    return Decoded(
        decoded.rows.take(pa.array(good, pa.int64())),
        tuple(decoded.positions[row] for row in good),
        (*decoded.undecodable, *undecodable),
    )


def as_reason(error: Exception, what: str) -> str:
    """Why a record does not fit. SQL text cannot hold the character NUL, which an error may quote."""
    return f"{what}: {type(error).__name__}: {error}".replace("\0", "\\0")[:REASON_CHARACTERS]


def _grouped(values: Sequence[bytes | None]) -> tuple[dict[int, list[int]], list[Undecodable]]:
    """Positions by schema id, and what has no frame."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    bad = []
    for position, value in enumerate(values):
        if value is None:
            bad.append(Undecodable(position, "the record has no value (a tombstone)"))
        elif len(value) < HEADER_BYTES:
            bad.append(Undecodable(position, f"the value has {len(value)} bytes; a schema registry's frame has 5"))
        elif value[0] != MAGIC:
            bad.append(Undecodable(position, f"the value begins with the byte {value[0]:#04x}, not 0 and a schema id"))
        else:
            groups[value[1:HEADER_BYTES]].append(position)
    return {int.from_bytes(prefix, "big"): positions for prefix, positions in groups.items()}, bad


def _converted(column: Column, items: list[Any]) -> tuple[list[Any], dict[int, str]]:
    """The values as the column is made of; by number of the row why there is none."""
    convert = column.convert
    if convert is None:
        return items, {}
    try:
        return [None if item is None else convert(item) for item in items], {}
    except Exception:  # noqa: BLE001 what is nested too deep for JSON, for one: it is looked for
        converted, faults = list[Any](), dict[int, str]()
    for row, item in enumerate(items):
        try:
            converted.append(None if item is None else convert(item))
        except Exception as error:  # noqa: BLE001 as above
            converted.append(None)
            faults[row] = as_reason(error, f"column {column.name}")
    return converted, faults


def _make_array(column: Column, items: list[Any]) -> tuple[pa.Array, dict[int, str]]:
    faults: dict[int, str] = {}
    try:
        array = pa.array(items, column.made)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        for row, item in enumerate(items):
            try:
                pa.array([item], column.made)
            except (pa.ArrowException, ValueError, TypeError, OverflowError):
                faults[row] = f"column {column.name}: {item!r:.100} is not of the type {column.made}"
        array = pa.array([None if row in faults else item for row, item in enumerate(items)], column.made)
    if column.type == JSON:  # the column's values are JSON texts already
        return pa.ExtensionArray.from_storage(JSON, array), faults
    cast, found = cast_column(column.name, array, column.type)
    return cast, faults | found


def _fitted(decoded: Decoded, schema: pa.Schema | None) -> Decoded:
    """The columns that were asked for, of rows that a SQL table can hold."""
    rows, faults = decoded.rows, dict[int, str]()
    if schema is not None:
        arrays = []
        for wanted in schema:
            if wanted.name in rows.column_names:
                array, found = cast_column(wanted.name, rows[wanted.name].combine_chunks(), wanted.type)
                faults |= found
            else:
                array = pa.nulls(rows.num_rows, wanted.type)
            arrays.append(array)
        rows = pa.Table.from_arrays(arrays, schema=schema)
    for name in rows.column_names:
        faults |= find_unstorable(name, rows[name].combine_chunks())
    return without(Decoded(rows, decoded.positions, decoded.undecodable), faults)


def _united(parts: Sequence[Decoded], bad: tuple[Undecodable, ...], schema: pa.Schema | None) -> Decoded:
    """All parts as one table, in the order of the records."""
    if not parts:
        return Decoded(schema.empty_table() if schema is not None else pa.table({}), (), bad)
    positions = [position for part in parts for position in part.positions]
    if len(parts) == 1:
        return Decoded(parts[0].rows, parts[0].positions, bad)
    rows = pa.concat_tables(_widened([part.rows for part in parts]), promote_options="default")
    order = pc.sort_indices(pa.array(positions, pa.int64()))
    return Decoded(rows.take(order), tuple(sorted(positions)), bad)


def _widened(tables: list[pa.Table]) -> list[pa.Table]:
    """The tables with one type for each column name."""
    types: dict[str, set[pa.DataType]] = defaultdict(set)
    for table in tables:
        for each in table.schema:
            types[each.name].add(each.type)
    common = {name: _common_type(list(found)) for name, found in types.items() if len(found) > 1}
    if not common:
        return tables
    return [
        table.cast(pa.schema([(each.name, common.get(each.name, each.type)) for each in table.schema]), safe=False)
        for table in tables
    ]


def _common_type(types: list[pa.DataType]) -> pa.DataType:
    """The narrowest type that holds all; text for those that have none in common."""
    try:
        schemas = [pa.schema([("column", kind)]) for kind in types]
        return pa.unify_schemas(schemas, promote_options="permissive").field("column").type
    except pa.ArrowException:
        return pa.string()
