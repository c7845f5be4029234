"""Loads as Parquet files in object storage, under names that a repeated load has again."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from workbench.loading import DEAD_LETTERS, JSON, Load, Target, with_json_as_text
from workbench.warehouse.dialects.redshift_engine import VARBYTE_BYTES, VARCHAR_BYTES

logger = logging.getLogger(__name__)

ROW_BYTES = 4 * 1024 * 1024  # of COPY (docs.aws.amazon.com, "COPY")


@dataclass(frozen=True)
class Area:
    """A folder of object storage: `root` is its path for *files* (pyarrow.fs), `url` the same for Redshift."""

    files: Any
    root: str
    url: str
    iam_role: str  #: with which Redshift reads it

    def write(self, name: str, parts: Mapping[str, pa.Table], keys: list[str]) -> str:
        """Write each part to its key, and a manifest of all, whose address this returns; *keys* gets every key."""
        entries = []
        for key, part in parts.items():
            keys.append(key)
            size = self._put(key, _as_parquet(part))
            # Redshift wants the length for Parquet, and fails when a file is missing.
            entries.append({"url": f"{self.url}/{key}", "mandatory": True, "meta": {"content_length": size}})
        manifest = f"{name}.manifest"
        keys.append(manifest)
        self._put(manifest, json.dumps({"entries": entries}).encode())
        return f"{self.url}/{manifest}"

    def remove(self, keys: Sequence[str]) -> None:
        """Remove what is no longer needed; what cannot be removed does no harm."""
        for key in keys:
            try:
                self.files.delete_file(f"{self.root}/{key}")
            except OSError as error:
                logger.warning("%s/%s could not be removed: %s", self.url, key, error)

    def _put(self, key: str, content: bytes | pa.Buffer) -> int:
        path = f"{self.root}/{key}"
        try:
            stream = self.files.open_output_stream(path)
        except FileNotFoundError:  # S3 has no folders; other file systems do
            self.files.create_dir(path.rpartition("/")[0], recursive=True)
            stream = self.files.open_output_stream(path)
        with stream:
            stream.write(content)
        return len(content)


def base_name(target: Target, load: Load) -> str:
    """Where the files of a load are: target, topic, and the offsets of its first partition.

    The epoch is in it, so that a worker that was taken over does not write into the files of the next.
    """
    first = load.spans[0]
    return f"{folder(target)}/{first.partition}/{first.start}-{first.end}.{first.epoch}"


def folder(target: Target) -> str:
    """Where the files of a flow are."""
    return f"{quote(target.table, safe='')}/{quote(target.topic, safe='')}"


def row_parts(target: Target, load: Load) -> dict[str, pa.Table]:
    """The rows of a load, a file for each partition."""
    partitions = load.rows["_partition"]
    parts = {
        f"{folder(target)}/{span.partition}/{span.start}-{span.end}.{span.epoch}.parquet": load.rows.filter(
            pc.equal(partitions, span.partition)
        )
        for span in load.spans
    }
    return {key: part for key, part in parts.items() if part.num_rows}


def as_letters(found: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Dead letters as they were read, with the types that they have."""
    arrays = []
    for field in DEAD_LETTERS:
        values = [row[field.name] for row in found]
        if field.type == JSON:
            texts = [each if each is None or isinstance(each, str) else json.dumps(each) for each in values]
            arrays.append(pa.ExtensionArray.from_storage(JSON, pa.array(texts, pa.string())))
        else:
            arrays.append(
                pa.array([bytes(each) if isinstance(each, memoryview) else each for each in values], field.type)
            )
    return pa.Table.from_arrays(arrays, schema=DEAD_LETTERS)


def without_long_headers(letters: pa.Table) -> pa.Table:
    """Dead letters, less the headers that are too long for a text: a letter may not be refused."""
    index = letters.schema.get_field_index("record_headers")
    texts = letters.column(index).cast(pa.string())
    short = pc.if_else(pc.less_equal(pc.binary_length(texts), VARCHAR_BYTES), texts, None)
    return letters.set_column(index, letters.schema.field(index), short.cast(JSON))


def find_refused(rows: pa.Table, nullable: Mapping[str, bool], lengths: Mapping[str, int]) -> dict[int, str]:
    """The reason for each row that Redshift would refuse; known beforehand, because COPY names no row.

    Args:
        rows: what is to be written.
        nullable: whether a column of the table may be null.
        lengths: of the columns of the table that are texts of a certain length, in bytes.
    """
    refused: dict[int, str] = {}
    whole = None
    for field, column in zip(rows.schema, with_json_as_text(rows).columns, strict=True):
        if not nullable.get(field.name, True):
            _refuse(refused, pc.is_null(column), f"column {field.name} may not be null")
        limit = _limit(field, lengths)
        if limit:
            size = pc.fill_null(pc.cast(pc.binary_length(column), pa.int64()), 0)
            _refuse(refused, pc.greater(size, limit), f"column {field.name} has room for {limit} bytes")
            whole = size if whole is None else pc.add(whole, size)
    if whole is not None:
        _refuse(refused, pc.greater(whole, ROW_BYTES), f"the row is larger than {ROW_BYTES} bytes")
    return dict(sorted(refused.items()))


def _refuse(refused: dict[int, str], mask: pa.ChunkedArray, reason: str) -> None:
    for number in pc.indices_nonzero(mask).to_pylist():
        refused.setdefault(number, reason)


def _limit(field: pa.Field, lengths: Mapping[str, int]) -> int:
    if pa.types.is_binary(field.type):
        return VARBYTE_BYTES
    if field.type == JSON:
        return VARCHAR_BYTES
    return lengths.get(field.name, VARCHAR_BYTES) if pa.types.is_string(field.type) else 0


def _as_parquet(rows: pa.Table) -> pa.Buffer:
    rows = with_json_as_text(rows)
    for index, field in enumerate(rows.schema):
        if pa.types.is_timestamp(field.type):
            kind = pa.timestamp("us")
            rows = rows.set_column(index, field.with_type(kind), rows.column(index).cast(kind))
    sink = pa.BufferOutputStream()
    pq.write_table(rows.replace_schema_metadata(None), sink)
    return sink.getvalue()
