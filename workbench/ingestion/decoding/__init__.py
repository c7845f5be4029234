"""Records to Arrow tables: what every format has in common.

A decoder turns a batch of values into rows, and tells apart what does not fit, record by record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from workbench.errors import SettingsError

TYPES = {
    "bool": pa.bool_(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "json": pa.json_(pa.string()),
}


@dataclass(frozen=True)
class Undecodable:
    """A record that does not fit, by its position in the batch."""

    position: int
    reason: str
    is_refused: bool = False  #: by the table: a tombstone that is deletes nothing


@dataclass(frozen=True)
class Decoded:
    """A batch after decoding: the rows that fit, where each came from, and the records that did not."""

    rows: pa.Table
    positions: tuple[int, ...] | range  #: of each row's record in the batch
    undecodable: tuple[Undecodable, ...]


def parse_schema(columns: dict[str, str], where: str = "schema") -> pa.Schema:
    """The Arrow schema of a mapping of column names to type names.

    Raises:
        SettingsError: naming every column whose type is unknown.
    """
    problems = [
        f"{where}: column {name} has the unknown type {kind!r}. Known are {', '.join(TYPES)}."
        for name, kind in columns.items()
        if not isinstance(kind, str) or kind not in TYPES
    ]
    if problems:
        raise SettingsError(problems)
    return pa.schema([pa.field(name, TYPES[kind]) for name, kind in columns.items()])


class Decoder(Protocol):
    """Decodes values of one format; `workbench.ingestion.decoding.*` implement it."""

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode every value that can be; the others are told apart.

        A record without a value (a tombstone) is not decodable. The columns of the rows are the
        union of those of the batch, with the type that all of its values fit into.

        Raises:
            KafkaError: when something beside the records is missing, such as an answer of the
                schema registry: that is no fault of a record.
        """
