"""Rows to JSON records (RFC 8259), times in RFC 3339."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import orjson

from workbench.errors import KafkaError
from workbench.ingestion.producer import OutgoingRecord

# Naive times are taken for UTC; `Z` is shorter than `+00:00` and means the same.
OPTIONS = orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z


def encode_rows(rows: Iterable[Mapping[str, object]], key: str | None = None) -> Iterator[OutgoingRecord]:
    """One record for each row; the key is the JSON-free text of the field *key*.

    Raises:
        KafkaError: when a value has no JSON form, or the key field is missing.
    """
    for number, row in enumerate(rows):
        try:
            value = orjson.dumps(row, option=OPTIONS)
            yield OutgoingRecord(value, str(row[key]).encode() if key else None)
        except (TypeError, KeyError) as error:
            raise KafkaError(
                f"row {number} cannot be sent: {error!r}",
                remedy="Give values that JSON knows, and the key field in every row.",
            ) from None
