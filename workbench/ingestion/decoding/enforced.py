"""A contract kept by decoders that give every field of their records: those of Avro and Protobuf."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from workbench.ingestion.decoding import Decoded, Decoder, Undecodable
from workbench.ingestion.decoding.casting import as_json_text
from workbench.ingestion.decoding.contract import QUARANTINE, Contract, column_fault, united
from workbench.ingestion.decoding.json_texts import as_json, as_object
from workbench.loading import JSON


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
        others = self._others(values, declared, found, unknown)
        return _quarantined(declared, others) if self._contract is Contract.QUARANTINE else _frozen(declared, others)

    def _evolved(self, values: Sequence[bytes | None], found: Decoded) -> Decoded:
        impossible = [name for name in found.rows.column_names if name not in self.schema.names and column_fault(name)]
        grown = united(self.schema, found.rows.drop_columns(impossible).schema)
        if grown != self.schema:
            self.schema, self._declared = grown, self._make(grown)
        declared = self._declared.decode(values)
        return _frozen(declared, self._others(values, declared, found, impossible))

    def _others(
        self, values: Sequence[bytes | None], declared: Decoded, found: Decoded, unknown: Sequence[str]
    ) -> Decoded:
        """The columns of *unknown* of all records that are in *declared*, and those whose fields cannot be read."""
        others = Decoded(found.rows.select(unknown), found.positions, ())
        rest = sorted(set(declared.positions) - set(found.positions))
        if not rest or not unknown:
            return others
        # Also a declared field may be what does not fit, into the type that it has when nobody declares it.
        again = self._make(others.rows.schema).decode([values[position] for position in rest])
        return Decoded(
            pa.concat_tables([others.rows, again.rows]),
            (*others.positions, *(rest[row] for row in again.positions)),
            tuple(replace(each, position=rest[each.position]) for each in again.undecodable),
        )


def _quarantined(declared: Decoded, others: Decoded) -> Decoded:
    """The rows with the fields that are not declared in one column, without those whose fields cannot be read."""
    nested = {field.name for field in others.rows.schema if field.type == JSON}  # they hold JSON texts already
    texts: dict[int, bytes] = {}
    for position, row in zip(others.positions, others.rows.to_pylist(), strict=True):
        fields = {
            name: msgspec.Raw(value if name in nested else as_json_text(value))
            for name, value in row.items()
            if value is not None
        }
        if fields:
            texts[position] = as_object(fields)
    kept = _without(declared, {each.position: each.reason for each in others.undecodable})
    column = as_json([texts.get(position) for position in kept.positions])
    return Decoded(kept.rows.append_column(QUARANTINE, column), kept.positions, kept.undecodable)


def _frozen(declared: Decoded, others: Decoded) -> Decoded:
    """The rows without those that have a value in a field that is not declared."""
    excess: dict[int, list[str]] = {}
    for name in others.rows.column_names:
        for index in np.flatnonzero(pc.is_valid(others.rows[name]).to_numpy(zero_copy_only=False)):
            excess.setdefault(others.positions[int(index)], []).append(name)
    faults = {each.position: each.reason for each in others.undecodable}
    for position, names in excess.items():
        faults[position] = f"the record has fields that have no column: {', '.join(sorted(names))}"
    return _without(declared, faults)


def _without(declared: Decoded, faults: Mapping[int, str]) -> Decoded:
    """The same without the records that have a fault, by position; what is undecodable already keeps its reason."""
    if not faults:
        return declared
    keep = [position not in faults for position in declared.positions]
    known = {each.position for each in declared.undecodable}
    refused = [Undecodable(position, reason) for position, reason in faults.items() if position not in known]
    return Decoded(
        declared.rows.filter(pa.array(keep, pa.bool_())),
        tuple(position for position, kept in zip(declared.positions, keep, strict=True) if kept),
        tuple(sorted([*declared.undecodable, *refused], key=lambda each: each.position)),
    )
