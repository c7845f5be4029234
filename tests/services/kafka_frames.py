"""Rows as Spark's Kafka source gives them to executors."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

# The columns of the source with `includeHeaders` (structured-streaming-kafka-integration.md), without `topic`.
SCHEMA = pa.schema([
    ("key", pa.binary()),
    ("value", pa.binary()),
    ("partition", pa.int32()),
    ("offset", pa.int64()),
    ("timestamp", pa.timestamp("us", tz="UTC")),
    ("timestampType", pa.int32()),
    ("headers", pa.list_(pa.struct([("key", pa.string()), ("value", pa.binary())]))),
])  # fmt: skip
FIRST_MILLISECONDS = 1_700_000_000_000


def kafka_batch(partition: int, offsets: Sequence[int], value: bytes | None = b"{}") -> pa.RecordBatch:
    """A record for each offset, with a key, two headers and a time of the producer; value `{n}` is the offset."""
    rows = [
        {
            "key": b"k%d" % offset,
            "value": None if value is None else value.replace(b"{n}", b"%d" % offset),
            "partition": partition,
            "offset": offset,
            "timestamp": (FIRST_MILLISECONDS + offset) * 1000,
            "timestampType": 0,
            "headers": [{"key": "h", "value": b"v"}, {"key": "none", "value": None}],
        }
        for offset in offsets
    ]
    return pa.RecordBatch.from_pylist(rows, schema=SCHEMA)
