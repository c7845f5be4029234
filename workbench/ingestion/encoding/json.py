"""Rows to JSON (RFC 8259), times in RFC 3339."""

from __future__ import annotations

from decimal import Decimal

import orjson

from workbench.ingestion.encoding.rows import Row, find_unfit, plain

# Naive times are taken for UTC; `Z` is shorter than `+00:00` and means the same.
OPTIONS = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z | orjson.OPT_SERIALIZE_NUMPY


class JsonEncoder:
    """One JSON object for each row.

    NaN, infinity, NaT and NA become null, decimals become text, which keeps their digits.
    """

    format = "json"

    def encode(self, row: Row) -> bytes:
        """The object of one row."""
        try:
            return orjson.dumps(row, default=_known, option=OPTIONS)
        except TypeError:
            return self._encode_plain({name: plain(value) for name, value in row.items()})

    def _encode_plain(self, row: dict[str, object]) -> bytes:
        try:
            return orjson.dumps(row, default=_known, option=OPTIONS)
        except TypeError as error:
            raise find_unfit(row, lambda one: orjson.dumps(one, default=_known, option=OPTIONS), error) from None


def _known(value: object) -> object:
    if isinstance(value, Decimal):
        return str(value)
    converted = plain(value)
    if converted is value:
        raise TypeError
    return converted
