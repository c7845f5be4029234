"""A contract kept by decoders that give every field of their records: those with a schema registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from workbench.ingestion.decoding import Decoded, Decoder, Undecodable
from workbench.ingestion.decoding.contract import QUARANTINE, Contract, column_fault, is_wider
from workbench.ingestion.decoding.json_reader import as_json


class EnforcedDecoder:
    """Decodes all fields, and does with those that the flow does not declare what the contract says.

    Args:
        schema: the columns that are declared; under `Contract.EVOLVE` it grows.
        contract: any but `Contract.IGNORE`, for which a decoder of the declared columns is enough.
        make: gives a decoder for declared columns, or for all fields with None.
    """

    def __init__(self, schema: pa.Schema, contract: Contract, make: Callable[[pa.Schema | None], Decoder]) -> None:
        self.schema = schema
        self._contract = contract
        self._make = make
        self._all = make(None)
        self._declared = make(schema)

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        """Decode every value that can be; see `workbench.ingestion.decoding.Decoder`."""
        found = self._all.decode(values)
        if self._contract is Contract.EVOLVE:
            return self._evolved(values, found)
        unknown = [name for name in found.rows.column_names if name not in self.schema.names]
        declared = self._declared.decode(values)
        if self._contract is Contract.QUARANTINE:
            return self._quarantined(declared, found, unknown)
        return _frozen(declared, found, unknown)

    def _evolved(self, values: Sequence[bytes | None], found: Decoded) -> Decoded:
        impossible = [name for name in found.rows.column_names if name not in self.schema.names and column_fault(name)]
        grown = _united(self.schema, found.rows.drop_columns(impossible).schema)
        if grown != self.schema:
            self.schema, self._declared = grown, self._make(grown)
        return _frozen(self._declared.decode(values), found, impossible)

    def _quarantined(self, declared: Decoded, found: Decoded, unknown: Sequence[str]) -> Decoded:
        texts: dict[int, bytes] = {}
        for position, row in zip(found.positions, found.rows.select(unknown).to_pylist(), strict=True):
            if fields := {name: _plain(value) for name, value in row.items() if value is not None}:
                texts[position] = orjson.dumps(fields)
        column = as_json([texts.get(position) for position in declared.positions])
        return Decoded(declared.rows.append_column(QUARANTINE, column), declared.positions, declared.undecodable)


def _frozen(declared: Decoded, found: Decoded, unknown: Sequence[str]) -> Decoded:
    """The rows without those that have a value in a field that is not declared."""
    excess: dict[int, list[str]] = {}
    for name in unknown:
        for index in np.flatnonzero(pc.is_valid(found.rows[name]).to_numpy(zero_copy_only=False)):
            excess.setdefault(found.positions[int(index)], []).append(name)
    if not excess:
        return declared
    keep = [position not in excess for position in declared.positions]
    refused = [
        Undecodable(position, f"the record has fields that have no column: {', '.join(sorted(names))}")
        for position, names in excess.items()
    ]
    known = {each.position for each in declared.undecodable}
    undecodable = [*declared.undecodable, *(each for each in refused if each.position not in known)]
    return Decoded(
        declared.rows.filter(pa.array(keep, pa.bool_())),
        tuple(position for position, kept in zip(declared.positions, keep, strict=True) if kept),
        tuple(sorted(undecodable, key=lambda each: each.position)),
    )


def _united(schema: pa.Schema, found: pa.Schema) -> pa.Schema:
    """The columns of both; a number gets the wider type."""
    for field in found:
        if field.name not in schema.names:
            schema = schema.append(field.with_nullable(True))
        elif is_wider(field.type, schema.field(field.name).type):
            schema = schema.set(schema.names.index(field.name), field.with_nullable(True))
    return schema


def _plain(value: object) -> object:
    return value if isinstance(value, bool | int | float | str) else str(value)
