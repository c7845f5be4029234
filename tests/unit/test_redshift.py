"""What flows say to Redshift, word for word. None of it has been run against Redshift."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from pyarrow import fs
from sqlalchemy import exc

from workbench.errors import WarehouseError, WarehouseUnavailable
from workbench.loading import DEAD_LETTERS, JSON, ORIGIN, Load, Span, Target
from workbench.sections import WarehouseSettings
from workbench.warehouse.dialects import redshift_sql as sql
from workbench.warehouse.dialects.redshift import RedshiftWarehouse
from workbench.warehouse.dialects.redshift_engine import reported_redshift
from workbench.warehouse.dialects.redshift_stage import (
    ROW_BYTES,
    Area,
    base_name,
    find_refused,
    row_parts,
    without_long_headers,
)
from workbench.warehouse.ledger import LEDGER

COLUMNS = pa.schema(
    [
        pa.field("id", pa.int32()),
        pa.field("50% x", pa.string()),
        pa.field("at", pa.timestamp("us", tz="UTC")),
        pa.field("doc", JSON),
        pa.field("raw", pa.binary()),
        *ORIGIN,
    ]
)
TARGET = Target(table="raw.rows", topic="orders/eu")
ROLE = "arn:aws:iam::123456789012:role/reader"


def test_the_type_of_every_column():
    kinds = [pa.bool_(), pa.int16(), pa.int32(), pa.int64(), pa.float64(), pa.string(), pa.binary(), pa.date32()]
    kinds += [pa.timestamp("us", tz="UTC"), JSON, pa.decimal128(20, 4)]

    assert [sql.column_type(pa.field("x", kind)) for kind in kinds] == [
        "BOOLEAN",
        "SMALLINT",
        "INTEGER",
        "BIGINT",
        "DOUBLE PRECISION",
        "VARCHAR(65535)",
        "VARBYTE(16777216)",
        "DATE",
        "TIMESTAMP WITH TIME ZONE",
        "SUPER",
        "NUMERIC(20, 4)",
    ]


def test_a_stage_has_the_columns_of_the_file_in_its_order():
    assert sql.stage_statement("stage", COLUMNS) == (
        'CREATE TEMP TABLE "stage" ("id" INTEGER, "50% x" VARCHAR(65535), "at" TIMESTAMP, "doc" VARCHAR(65535), '
        '"raw" VARBYTE(16777216), "_partition" INTEGER, "_offset" BIGINT)'
    )


@pytest.mark.parametrize(("role", "written"), [(ROLE, f"'{ROLE}'"), ("default", "default")])
def test_one_copy_reads_a_manifest(role, written):
    assert sql.copy_statement("stage", "s3://bucket/it's/x.manifest", role) == (
        f"COPY \"stage\" FROM 's3://bucket/it''s/x.manifest' IAM_ROLE {written} FORMAT AS PARQUET MANIFEST"
    )


def test_rows_are_appended_with_their_types():
    assert sql.append_statement("raw.rows", "stage", COLUMNS) == (
        'INSERT INTO "raw"."rows" ("id", "50% x", "at", "doc", "raw", "_partition", "_offset") '
        'SELECT "stage"."id", "stage"."50% x", "stage"."at" AT TIME ZONE \'UTC\', JSON_PARSE("stage"."doc"), '
        '"stage"."raw", "stage"."_partition", "stage"."_offset" FROM "stage"'
    )


def test_a_merge_updates_and_then_inserts_what_is_new():
    columns = pa.schema([pa.field("id", pa.int32()), pa.field("v", pa.string()), *ORIGIN])

    update, insert = sql.merge_statements("raw.rows", "stage", columns, ["id"])

    assert update == (
        'UPDATE "raw"."rows" SET "v" = "stage"."v", "_partition" = "stage"."_partition", "_offset" = "stage"."_offset" '
        'FROM "stage" WHERE "rows"."id" = "stage"."id" '
        'AND ("rows"."_partition" IS NULL OR "rows"."_partition" <> "stage"."_partition" '
        'OR "rows"."_offset" < "stage"."_offset")'
    )
    assert insert == (
        'INSERT INTO "raw"."rows" ("id", "v", "_partition", "_offset") '
        'SELECT "stage"."id", "stage"."v", "stage"."_partition", "stage"."_offset" FROM "stage" '
        'LEFT JOIN "raw"."rows" ON "rows"."id" = "stage"."id" WHERE "rows"."_offset" IS NULL'
    )


def test_tombstones_delete_by_the_whole_key():
    key = pa.schema([pa.field("id", pa.int32()), pa.field("at", pa.timestamp("us", tz="UTC"))])

    assert sql.delete_statement("raw.rows", "gone", key) == (
        'DELETE FROM "raw"."rows" USING "gone" '
        'WHERE "rows"."id" = "gone"."id" AND "rows"."at" = "gone"."at" AT TIME ZONE \'UTC\''
    )


def test_a_column_is_added_or_copied_into_a_wider_one():
    assert sql.alter_statements("raw.rows", pa.field("doc", JSON), {}) == (
        'ALTER TABLE "raw"."rows" ADD COLUMN "doc" SUPER',
    )
    assert sql.alter_statements("raw.rows", pa.field("n", pa.float64()), {"n": pa.int64()}) == (
        'ALTER TABLE "raw"."rows" ADD COLUMN "n (wider)" DOUBLE PRECISION',
        'UPDATE "raw"."rows" SET "n (wider)" = "n"',
        'ALTER TABLE "raw"."rows" DROP COLUMN "n"',
        'ALTER TABLE "raw"."rows" RENAME COLUMN "n (wider)" TO "n"',
    )


def test_the_ledger_is_moved_by_the_number_of_rows_changed():
    moved = sa.update(LEDGER).where((LEDGER.c.partition == 1) & (LEDGER.c.epoch == 2)).values(updated_at=sa.func.now())

    assert str(moved.compile(dialect=sql.DIALECT)) == (
        'UPDATE "workbench"."offsets" SET "updated_at"=GETDATE() '
        'WHERE "workbench"."offsets"."partition" = %s AND "workbench"."offsets"."epoch" = %s'
    )
    assert not sql.DIALECT.update_returning
    assert sql.LOCK == 'LOCK TABLE "workbench"."offsets"'


def load(rows: pa.Table, **more) -> Load:
    spans = (Span(3, 10, 20, 7), Span(4, 0, 5, 1))
    return Load(**{"spans": spans, "rows": rows, "dead_letters": DEAD_LETTERS.empty_table()} | more)


def rows_of(*partitions: int) -> pa.Table:
    count = len(partitions)
    texts = pa.array(['{"a": 1}'] * count)
    return pa.Table.from_arrays(
        [
            pa.array(range(count), pa.int32()),
            pa.array(["x"] * count),
            pa.array([0] * count, pa.timestamp("us", tz="UTC")),
            pa.ExtensionArray.from_storage(JSON, texts),
            pa.array([b"b"] * count),
            pa.array(partitions, pa.int32()),
            pa.array(range(count), pa.int64()),
        ],
        schema=COLUMNS,
    )


def make_area(folder: Path) -> Area:
    return Area(fs.SubTreeFileSystem(str(folder), fs.LocalFileSystem()), "bucket/p", "s3://bucket/p", ROLE)


def test_files_have_names_that_a_repeated_load_has_again_and_a_later_owner_has_not(tmp_path):
    rows = rows_of(3, 4, 3)
    parts = row_parts(TARGET, load(rows))
    assert base_name(TARGET, load(rows)) == "raw.rows/orders%2Feu/3/10-20.7"
    assert {key: part.num_rows for key, part in parts.items()} == {
        "raw.rows/orders%2Feu/3/10-20.7.parquet": 2,
        "raw.rows/orders%2Feu/4/0-5.1.parquet": 1,
    }
    area, keys = make_area(tmp_path), []

    for _ in range(2):
        manifest = area.write("raw.rows/orders%2Feu/3/10-20.7.rows", parts, keys)

    assert manifest == "s3://bucket/p/raw.rows/orders%2Feu/3/10-20.7.rows.manifest"
    entries = json.loads((tmp_path / manifest.removeprefix("s3://")).read_text())["entries"]
    assert [entry["url"] for entry in entries] == [f"s3://bucket/p/{key}" for key in parts]
    for entry in entries:
        path = tmp_path / entry["url"].removeprefix("s3://")
        assert entry["mandatory"]
        assert entry["meta"] == {"content_length": path.stat().st_size}
        kinds = pq.read_schema(path)
        assert (kinds.field("at").type, kinds.field("doc").type) == (pa.timestamp("us"), pa.string())
    area.remove(keys)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_redshift_would_refuse_is_known_before():
    columns = pa.schema([pa.field("a", pa.string()), pa.field("b", pa.string()), pa.field("raw", pa.binary())])
    rows = pa.Table.from_pylist(
        [
            {"a": "x", "b": "ok", "raw": b""},
            {"a": None, "b": "ok", "raw": None},
            {"a": "x", "b": "ü" * 6, "raw": b""},
            {"a": "x" * 65_536, "b": None, "raw": b""},
            {"a": "x" * 65_535, "b": "ok", "raw": b""},
            {"a": "x", "b": "ok", "raw": b"x" * ROW_BYTES},
        ],
        schema=columns,
    )

    assert find_refused(rows, {"a": False, "b": True}, {"b": 11}) == {
        1: "column a may not be null",
        2: "column b has room for 11 bytes",
        3: "column a has room for 65535 bytes",
        5: "the row is larger than 4194304 bytes",
    }


def test_headers_that_are_too_long_do_not_keep_a_dead_letter_out():
    letter = dict.fromkeys(DEAD_LETTERS.names) | {
        "topic": "t",
        "record_partition": 0,
        "record_offset": 0,
        "reason": "broken",
    }
    texts = pa.array(["[]", '"' + "x" * 65_536 + '"', None])
    letters = pa.Table.from_pylist([letter] * 3, schema=DEAD_LETTERS).set_column(
        DEAD_LETTERS.get_field_index("record_headers"),
        DEAD_LETTERS.field("record_headers"),
        pa.ExtensionArray.from_storage(JSON, texts),
    )

    assert without_long_headers(letters)["record_headers"].cast(pa.string()).to_pylist() == ["[]", None, None]


def settings(**more: str) -> WarehouseSettings:
    return WarehouseSettings.model_validate(
        {
            "DW_HOST": "cluster.example.com",
            "DW_USER": "u",
            "DW_PASSWORD": "a-password",
            "WORKBENCH_WAREHOUSE_DIALECT": "redshift",
            "WORKBENCH_WAREHOUSE_STAGING_URL": "s3://bucket/p",
            "WORKBENCH_WAREHOUSE_IAM_ROLE": ROLE,
        }
        | more
    )


@pytest.mark.parametrize(
    ("message", "kind"),
    [
        ("{'S': 'ERROR', 'C': 'XX000', 'M': '1023', 'D': 'Serializable isolation violation on table'}", WarehouseUnavailable),
        ("ERROR: could not serialize access due to concurrent update", WarehouseUnavailable),
        ('relation "raw.rows" does not exist', WarehouseError),
    ],
)  # fmt: skip
def test_a_conflict_may_be_tried_again(message, kind):
    with pytest.raises(kind) as caught, reported_redshift(settings()):
        raise exc.ProgrammingError("COPY", None, RuntimeError(message))

    assert type(caught.value) is kind
    assert "a-password" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "kind"),
    [(OSError("AWS Error ACCESS_DENIED during PutObject"), WarehouseError), (OSError("timeout"), WarehouseUnavailable)],
)
def test_errors_of_the_bucket_say_where(error, kind):
    with pytest.raises(kind, match="s3://bucket/p") as caught, reported_redshift(settings()):
        raise error

    assert type(caught.value) is kind


def test_without_its_driver_it_says_which_one_is_missing():
    with pytest.raises(WarehouseError, match="driver for Redshift is not installed"):
        RedshiftWarehouse(settings(), TARGET).__enter__()
