from __future__ import annotations

import base64
import io
import json
import struct
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import fastavro
import pyarrow as pa
import pytest
from google.protobuf import descriptor_pb2
from pydantic import SecretStr

from tests.services.schema_registry import RunningRegistry, running_registry
from workbench.errors import KafkaError
from workbench.ingestion.decoding import Decoded
from workbench.ingestion.decoding.casting import as_json_text, cast_column
from workbench.ingestion.decoding.contract import Contract
from workbench.ingestion.decoding.enforced import EnforcedDecoder
from workbench.ingestion.decoding.json_schema import JsonSchemaDecoder
from workbench.ingestion.decoding.registry import SchemaRegistry, make_decoder
from workbench.sections import SchemaRegistrySettings

JSON = pa.json_(pa.string())
TIME = pa.timestamp("us", tz="UTC")
NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)

READING = {
    "type": "record",
    "name": "Reading",
    "fields": [{"name": "sensor", "type": "string"}, {"name": "value", "type": ["null", "int"]}],
}


@pytest.fixture
def server() -> Iterator[RunningRegistry]:
    with running_registry() as running:
        yield running


@pytest.fixture
def registry(server: RunningRegistry) -> SchemaRegistry:
    return SchemaRegistry(url=server.url)


def frame(schema_id: int, body: bytes) -> bytes:
    return struct.pack(">bI", 0, schema_id) + body


def avro(server: RunningRegistry, schema: dict[str, Any], *rows: dict[str, Any], **more: Any) -> list[bytes]:
    schema_id = server.register("t-value", json.dumps(schema), **more)
    values = []
    for row in rows:
        stream = io.BytesIO()
        fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), row)
        values.append(frame(schema_id, stream.getvalue()))
    return values


def record(**types: Any) -> dict[str, Any]:
    return {"type": "record", "name": "R", "fields": [{"name": name, "type": kind} for name, kind in types.items()]}


def reasons(decoded: Decoded) -> dict[int, str]:
    return {each.position: each.reason for each in decoded.undecodable}


def test_every_schema_is_fetched_once(server, registry):
    values = avro(server, READING, *[{"sensor": "a", "value": n} for n in range(100)])
    decoder = make_decoder("avro", registry)

    first, second = decoder.decode(values), decoder.decode(values)

    assert first.rows.column("value").to_pylist() == list(range(100))
    assert first.positions == second.positions == tuple(range(100))
    assert server.requests == ["GET /schemas/ids/1"]


def test_what_has_no_frame_or_no_known_schema_is_told_apart(server, registry):
    good = avro(server, READING, {"sensor": "a", "value": 1})[0]
    values = [None, b"", b"\0\0\0\0", b'{"a":1}', frame(77, b"x"), good[:-1], good + b"\0", b"\1" + good[1:], good]

    decoded = make_decoder("avro", registry).decode(values)

    assert decoded.positions == (8,)
    told = reasons(decoded)
    assert list(told) == list(range(8))
    assert "tombstone" in told[0]
    assert "has 0 bytes" in told[1]
    assert "has 4 bytes" in told[2]
    assert "begins with the byte 0x7b" in told[3]
    assert told[4] == "the schema registry does not know the schema id 77"
    assert "Avro record" in told[5]
    assert "does not end where" in told[6]
    assert "begins with the byte 0x01" in told[7]


def test_a_truncated_record_does_not_shift_the_next(server, registry):
    values = avro(server, READING, *[{"sensor": f"s{n}", "value": n} for n in range(50)])
    values[10] = values[10][:-1]
    values[20] = values[20][:6]

    decoded = make_decoder("avro", registry).decode(values)

    assert set(reasons(decoded)) == {10, 20}
    assert [row["value"] for row in decoded.rows.to_pylist()] == list(decoded.positions)


def test_avro_types_become_arrow_types(server, registry):
    schema = record(
        i="int",
        l="long",
        f="float",
        b="boolean",
        raw="bytes",
        ms={"type": "long", "logicalType": "timestamp-millis"},
        us=["null", {"type": "long", "logicalType": "timestamp-micros"}],
        day={"type": "int", "logicalType": "date"},
        price={"type": "bytes", "logicalType": "decimal", "precision": 10, "scale": 2},
        huge={"type": "bytes", "logicalType": "decimal", "precision": 50, "scale": 0},
        id={"type": "string", "logicalType": "uuid"},
        at={"type": "int", "logicalType": "time-millis"},
        color={"type": "enum", "name": "Color", "symbols": ["RED", "BLUE"]},
        fixed={"type": "fixed", "name": "Two", "size": 2},
        tags={"type": "array", "items": "string"},
        inner={
            "type": "record",
            "name": "Inner",
            "fields": [{"name": "t", "type": {"type": "long", "logicalType": "timestamp-millis"}}],
        },
        map={"type": "map", "values": "long"},
        either=["null", "int", "string"],
    )
    row = {
        "i": 1, "l": 2**40, "f": 1.5, "b": True, "raw": b"\0\1", "ms": NOON, "us": None, "day": date(2013, 1, 1),
        "price": Decimal("12.30"), "huge": Decimal(10**45), "id": str(UUID(int=7)), "at": NOON.time(), "color": "BLUE",
        "fixed": b"ab", "tags": ["x"], "inner": {"t": NOON}, "map": {"k": 1}, "either": "both",
    }  # fmt: skip

    decoded = make_decoder("avro", registry).decode(avro(server, schema, row))

    types = {field.name: field.type for field in decoded.rows.schema}
    assert types["i"] == pa.int32()
    assert types["f"] == pa.float64()
    assert types["ms"] == types["us"] == TIME
    assert types["day"] == pa.date32()
    assert types["price"] == pa.decimal128(10, 2)
    assert {types[name] for name in ("tags", "inner", "map", "either")} == {JSON}
    assert decoded.rows.to_pylist() == [
        row | {
            "huge": str(10**45), "at": "12:00:00", "tags": '["x"]', "inner": '{"t":"2013-01-01T12:00:00Z"}',
            "map": '{"k":1}', "either": '"both"',
        }
    ]  # fmt: skip


def test_schemas_of_one_batch_are_united_in_the_order_of_the_records(server, registry):
    old = avro(server, record(n="int", x="float"), {"n": 1, "x": 1.5}, {"n": 2, "x": 2.5})
    new = avro(server, record(n="long", x="double", z="string"), {"n": 2**40, "x": 0.5, "z": "new"})
    odd = avro(server, record(n="string"), {"n": "three"})

    united = make_decoder("avro", registry).decode([old[0], new[0], old[1]])
    texts = make_decoder("avro", registry).decode([old[0], odd[0]])

    assert united.rows.schema == pa.schema([("n", pa.int64()), ("x", pa.float64()), ("z", pa.string())])
    assert united.positions == (0, 1, 2)
    assert united.rows.column("n").to_pylist() == [1, 2**40, 2]
    assert united.rows.column("z").to_pylist() == [None, "new", None]
    assert texts.rows.column("n").to_pylist() == ["1", "three"]


def test_fields_without_a_column_are_kept_as_the_json_that_they_are(server, registry):
    schema = record(
        a="int", d="double", i="double", b="bytes", n={"type": "map", "values": "long"}, s="string",
        t={"type": "long", "logicalType": "timestamp-micros"}, day={"type": "int", "logicalType": "date"},
        m={"type": "bytes", "logicalType": "decimal", "precision": 4, "scale": 2}, u=["int", "string"],
    )  # fmt: skip
    row = {
        "a": 1, "d": float("nan"), "i": float("-inf"), "b": b"\0\xff", "n": {"p": 1}, "s": 'null "nan"',
        "t": NOON, "day": NOON.date(), "m": Decimal("1.10"), "u": "x",
    }  # fmt: skip
    decoder = EnforcedDecoder(
        pa.schema([("a", pa.int32())]), Contract.QUARANTINE, partial(make_decoder, "avro", registry)
    )

    decoded = decoder.decode(avro(server, schema, row))

    kept = (
        '{"d":"NaN","i":"-Infinity","b":"AP8=","n":{"p":1},"s":"null \\"nan\\"",'
        '"t":"2013-01-01T12:00:00Z","day":"2013-01-01","m":"1.10","u":"x"}'
    )
    assert decoded.rows["_quarantine"].to_pylist() == [kept]


def test_declared_columns_select_and_cast(server, registry):
    schema = record(n="long", x="double", t="string", left_out="int")
    values = avro(
        server,
        schema,
        {"n": 1, "x": 2.0, "t": "2013-01-01T13:00:00+01:00", "left_out": 1},
        {"n": 40_000, "x": 2.0, "t": "2013-01-01T12:00:00Z", "left_out": 1},
        {"n": 3, "x": 2.5, "t": "2013-01-01T12:00:00", "left_out": 1},
        {"n": 4, "x": 4.0, "t": "noon", "left_out": 1},
        {"n": 5, "x": 5.0, "t": "2013-01-01 12:00:00", "left_out": 1},
    )
    wanted = pa.schema([("t", TIME), ("n", pa.int16()), ("x", pa.int32()), ("absent", pa.string())])

    decoded = make_decoder("avro", registry, wanted).decode(values)

    assert decoded.rows.schema == wanted
    assert decoded.rows.to_pylist() == [
        {"t": NOON, "n": 1, "x": 2, "absent": None},
        {"t": NOON, "n": 5, "x": 5, "absent": None},
    ]
    assert reasons(decoded) == {
        1: "column n: 40000 (int64) does not fit into int16",
        2: "column x: 2.5 (double) does not fit into int32",
        3: "column t: 'noon' (string) does not fit into timestamp[us, tz=UTC]",
    }


def test_text_is_no_number_and_a_list_no_number_either(server, registry):
    values = avro(server, record(n="string", tags={"type": "array", "items": "int"}), {"n": "1", "tags": [1]})

    number = make_decoder("avro", registry, pa.schema([("n", pa.int64())])).decode(values)
    nested = make_decoder("avro", registry, pa.schema([("tags", pa.int64())])).decode(values)
    text = make_decoder("avro", registry, pa.schema([("tags", pa.string()), ("n", JSON)])).decode(values)

    assert "'1' (string) does not fit" in reasons(number)[0]
    assert "column tags" in reasons(nested)[0]
    assert text.rows.to_pylist() == [{"tags": "[1]", "n": '"1"'}]


def test_what_sql_cannot_hold_is_told_apart(server, registry):
    schema = record(text="string", at={"type": "long", "logicalType": "timestamp-millis"}, tags=["null", READING])
    far = {"text": "a", "at": 10**15, "tags": None}
    values = avro(
        server,
        schema,
        {"text": "a\0b", "at": NOON, "tags": None},
        far,
        {"text": "a", "at": NOON, "tags": {"sensor": "\0", "value": 1}},
        {"text": "\\u0000", "at": NOON, "tags": {"sensor": "\\u0000", "value": 1}},
    )

    decoded = make_decoder("avro", registry).decode(values)

    assert set(reasons(decoded)) == {0, 1, 2}
    assert "NUL" in reasons(decoded)[0]
    assert "years 1 to 9999" in reasons(decoded)[1]
    assert "column tags holds the character NUL" in reasons(decoded)[2]


@pytest.mark.parametrize("wanted", [TIME, pa.date32(), JSON, pa.int64()], ids=str)
@pytest.mark.parametrize(
    ("logical", "far"), [("timestamp-millis", 2**63 - 1), ("timestamp-millis", -(2**63)), ("date", 2**31 - 1)]
)
def test_a_time_that_python_has_no_date_of_is_told_apart(server, registry, logical, far, wanted):
    base = "int" if logical == "date" else "long"
    values = avro(server, record(at={"type": base, "logicalType": logical}), {"at": far}, {"at": 0})

    decoded = make_decoder("avro", registry, pa.schema([("at", wanted)])).decode(values)

    assert 0 in reasons(decoded)
    assert reasons(decoded)[0].startswith("column at")
    assert (wanted == pa.int64()) == (1 in reasons(decoded))


def test_integers_become_decimals_that_have_room_for_them(server, registry):
    values = avro(server, record(n=["null", "long"]), *({"n": n} for n in (5, 10**9, None, -(2**63))))

    decoded = make_decoder("avro", registry, pa.schema([("n", pa.decimal128(10, 2))])).decode(values)

    assert decoded.rows["n"].to_pylist() == [Decimal("5.00"), None]
    assert set(reasons(decoded)) == {1, 3}


DECIMAL = pa.decimal128(30, 2)


@pytest.mark.parametrize(
    ("given", "wanted", "fit", "unfit"),
    [
        (pa.float64(), DECIMAL, {0.1: Decimal("0.10"), -1e20: Decimal(-(10**20))}, [0.125, 1e-10, 1e29, float("nan")]),
        (DECIMAL, pa.float64(), {Decimal("0.1"): 0.1, Decimal(10**20): 1e20}, [Decimal(2**53 + 1), Decimal("12345678901234567.89")]),
        (TIME, pa.date32(), {datetime(1960, 1, 1, tzinfo=UTC): date(1960, 1, 1)}, [NOON, datetime(1960, 1, 1, 1, tzinfo=UTC)]),
    ],
)  # fmt: skip
def test_a_value_is_what_it_was_or_does_not_fit(given, wanted, fit, unfit):
    cast, faults = cast_column("c", pa.array([None, *fit, *unfit], given), wanted)

    assert cast.to_pylist() == [None, *fit.values(), *[None] * len(unfit)]
    assert sorted(faults) == list(range(1 + len(fit), len(cast)))


def test_what_is_no_number_is_text_in_json():
    array = pa.array([[1.5, None], [float("nan"), None], [float("-inf")]], pa.list_(pa.float64()))

    cast, faults = cast_column("c", array, JSON)

    assert (cast.to_pylist(), faults) == (["[1.5,null]", '["NaN",null]', '["-Infinity"]'], {})
    assert as_json_text({"inf": None, "x": {"y": float("inf")}}) == '{"inf":null,"x":{"y":"Infinity"}}'


def test_what_is_nested_too_deep_for_json_is_told_apart(server, registry):
    node = record(next=["null", "R"])
    deep: dict[str, Any] = {"next": None}
    for _ in range(300):
        deep = {"next": deep}
    values = avro(server, node, deep, {"next": {"next": None}})

    decoded = make_decoder("avro", registry).decode(values)

    assert decoded.rows["next"].to_pylist() == ['{"next":null}']
    assert "Recursion limit" in reasons(decoded)[0]


def test_a_schema_may_refer_to_others(server, registry):
    server.register("inner", json.dumps(READING))
    outer = record(inner="Reading")
    reference = {"name": "Reading", "subject": "inner", "version": 1}
    schema_id = server.register("t-value", json.dumps(outer), references=[reference])
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(record(inner=READING)), {"inner": {"sensor": "a"}})

    decoded = make_decoder("avro", registry).decode([frame(schema_id, stream.getvalue())])

    assert decoded.rows.to_pylist() == [{"inner": '{"sensor":"a","value":null}'}]


@pytest.mark.parametrize(
    ("schema", "kind", "part"),
    [
        ('"string"', "AVRO", "schema 1 is not a record"),
        (json.dumps(record()), "AVRO", "schema 1 is not a record with fields"),
        ('{"type":"record"}', "AVRO", "schema 1 is no Avro schema"),
        (json.dumps(record(a="Missing")), "AVRO", "schema 1 is no Avro schema: UnknownType"),
        ("{}", "JSON", "schema 1 is JSON, not AVRO"),
    ],
)
def test_a_schema_of_no_use_is_the_fault_of_its_records(server, registry, schema, kind, part):
    schema_id = server.register("t-value", schema, kind)

    decoded = make_decoder("avro", registry).decode([frame(schema_id, b"x")])

    assert part in reasons(decoded)[0]
    assert decoded.rows.num_rows == 0


def test_a_registry_that_fails_is_no_fault_of_a_record(server, registry):
    value = avro(server, READING, {"sensor": "a", "value": 1})[0]
    decoder = make_decoder("avro", registry)

    server.refuse(404, 404, "HTTP 404 Not Found")
    with pytest.raises(KafkaError, match="Check that WORKBENCH_REGISTRY_URL is the root"):
        decoder.decode([value])
    server.refusal = None

    assert decoder.decode([value]).rows.num_rows == 1


def test_a_registry_that_is_not_there_is_no_fault_of_a_record(server):
    value = avro(server, READING, {"sensor": "a", "value": 1})[0]

    with pytest.raises(KafkaError, match="did not answer"):
        make_decoder("avro", SchemaRegistry(url="http://127.0.0.1:9")).decode([value])


def test_the_password_is_sent_and_not_shown():
    with running_registry("reader", "secret:word") as server:
        value = avro(server, READING, {"sensor": "a", "value": 1})[0]
        settings = SchemaRegistrySettings(
            WORKBENCH_REGISTRY_URL=server.url,
            WORKBENCH_REGISTRY_USERNAME="reader",
            WORKBENCH_REGISTRY_PASSWORD=SecretStr("secret:word"),
        )
        wrong = SchemaRegistry(url=server.url, username="reader", password="another")

        assert make_decoder("avro", settings).decode([value]).rows.num_rows == 1
        assert "secret:word" not in repr(SchemaRegistry.from_settings(settings))
        with pytest.raises(KafkaError, match="refused the user 'reader'") as caught:
            make_decoder("avro", wrong).decode([value])
        assert "another" not in str(caught.value)


def test_without_a_registry_or_with_another_format_there_is_no_decoder(registry):
    with pytest.raises(KafkaError, match="Set WORKBENCH_REGISTRY_URL"):
        make_decoder("avro", SchemaRegistrySettings())
    with pytest.raises(KafkaError, match="there is no format 'xml'"):
        make_decoder("xml", registry)


def protobuf_file() -> descriptor_pb2.FileDescriptorProto:
    """Reading { sensor, value, taken_at, state, tags, inner, note, counts; Reading.Inner { n } }."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="reading.proto", package="lab", syntax="proto3")
    file.dependency.extend(["google/protobuf/timestamp.proto", "google/protobuf/wrappers.proto"])
    state = file.enum_type.add(name="State")
    state.value.add(name="UNKNOWN", number=0)
    state.value.add(name="GOOD", number=1)
    reading = file.message_type.add(name="Reading")
    inner = reading.nested_type.add(name="Inner")
    inner.field.add(name="n", number=1, type=field.TYPE_INT64, label=field.LABEL_OPTIONAL)
    entry = reading.nested_type.add(name="CountsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=field.TYPE_INT32, label=field.LABEL_OPTIONAL)
    single, many = field.LABEL_OPTIONAL, field.LABEL_REPEATED
    message, text = field.TYPE_MESSAGE, field.TYPE_STRING
    reading.field.add(name="sensor", number=1, type=text, label=single)
    reading.field.add(name="value", number=2, type=field.TYPE_DOUBLE, label=single)
    reading.field.add(name="taken_at", number=3, type=message, type_name=".google.protobuf.Timestamp", label=single)
    reading.field.add(name="state", number=4, type=field.TYPE_ENUM, type_name=".lab.State", label=single)
    reading.field.add(name="tags", number=5, type=text, label=many)
    reading.field.add(name="inner", number=6, type=message, type_name=".lab.Reading.Inner", label=single)
    reading.field.add(name="note", number=7, type=message, type_name=".google.protobuf.StringValue", label=single)
    reading.field.add(name="counts", number=8, type=message, type_name=".lab.Reading.CountsEntry", label=many)
    reading.field.add(name="big", number=9, type=field.TYPE_UINT64, label=single)
    return file


def register_protobuf(server: RunningRegistry) -> int:
    return server.register("t-value", base64.b64encode(protobuf_file().SerializeToString()).decode(), "PROTOBUF")


# sensor "a", value 1.5, taken_at 2013-01-01T12:00:00.000001999Z, state 1, tags x y, inner {n 7}, note "n", counts {k 2}
FULL = (
    b"\x0a\x01a\x11\x00\x00\x00\x00\x00\x00\xf8\x3f\x1a\x09\x08\xc0\x9f\x8b\x87\x05\x10\xcf\x0f"
    b"\x20\x01\x2a\x01x\x2a\x01y\x32\x02\x08\x07\x3a\x03\x0a\x01n\x42\x05\x0a\x01k\x10\x02"
)


def test_protobuf_fields_become_columns(server, registry):
    schema_id = register_protobuf(server)

    decoded = make_decoder("protobuf", registry).decode([frame(schema_id, b"\0" + FULL), frame(schema_id, b"\0")])

    assert reasons(decoded) == {}
    assert decoded.rows.to_pylist() == [
        {
            "sensor": "a", "value": 1.5, "taken_at": NOON.replace(microsecond=1), "state": "GOOD", "tags": '["x","y"]',
            "inner": '{"n":"7"}', "note": "n", "counts": '{"k":2}', "big": 0,
        },
        {
            "sensor": "", "value": 0.0, "taken_at": None, "state": "UNKNOWN", "tags": "[]", "inner": None,
            "note": None, "counts": "{}", "big": 0,
        },
    ]  # fmt: skip


def test_the_header_says_which_message_of_the_file_it_is(server, registry):
    schema_id = register_protobuf(server)
    values = [
        frame(schema_id, b"\4\0\0" + b"\x08\x07"),  # two indexes: 0, 0
        frame(schema_id, b"\2\0" + FULL),  # one index: 0
        frame(schema_id, b"\2\6"),  # one index: 3
        frame(schema_id, b"\4\0"),
        frame(schema_id, b"\1"),
        frame(schema_id, b""),
        frame(schema_id, b"\0\xff\xff"),
        frame(schema_id, b"\0\x0a\x01\xff"),
        frame(schema_id, b"\0\x48" + b"\xff" * 9 + b"\x01"),  # big is 2^64 - 1
    ]

    decoded = make_decoder("protobuf", registry).decode(values)

    assert decoded.positions == (0, 1)
    assert [row["n"] for row in decoded.rows.to_pylist()] == [7, None]
    told = reasons(decoded)
    assert told[2] == "the schema has no message [3]"
    assert told[3] == told[4] == told[5] == "the schema has no message []"
    assert "no message lab.Reading" in told[6]
    assert "no message lab.Reading" in told[7]
    assert "column big: 18446744073709551615 is not of the type int64" in told[8]


def test_a_protobuf_schema_as_text_is_no_fault_of_a_record(server, registry):
    server.schemas.append({"schema": 'syntax = "proto3";', "schemaType": "PROTOBUF", "references": []})

    with pytest.raises(KafkaError, match="format=serialized"):
        make_decoder("protobuf", registry).decode([frame(1, b"\0")])


def test_a_protobuf_file_may_import_registered_ones(server, registry):
    field = descriptor_pb2.FieldDescriptorProto
    server.register("reading", base64.b64encode(protobuf_file().SerializeToString()).decode(), "PROTOBUF")
    outer = descriptor_pb2.FileDescriptorProto(name="outer.proto", syntax="proto3", dependency=["lab/reading.proto"])
    message = outer.message_type.add(name="Outer")
    message.field.add(name="inner", number=1, type=field.TYPE_MESSAGE, type_name=".lab.Reading.Inner", label=1)
    schema_id = server.register(
        "t-value",
        base64.b64encode(outer.SerializeToString()).decode(),
        "PROTOBUF",
        [{"name": "lab/reading.proto", "subject": "reading", "version": 1}],
    )

    decoded = make_decoder("protobuf", registry).decode([frame(schema_id, b"\0\x0a\x02\x08\x07")])

    assert decoded.rows.to_pylist() == [{"inner": '{"n":"7"}'}]


DOCUMENT = {
    "type": "object",
    "properties": {
        "n": {"type": "integer", "minimum": 0},
        "x": {"oneOf": [{"type": "null"}, {"type": "number"}]},
        "s": {"type": ["null", "string"]},
        "at": {"type": "string", "format": "date-time"},
        "inner": {"$ref": "#/definitions/inner"},
        "ok": {"$ref": "#/definitions/flag"},
    },
    "required": ["n"],
    "definitions": {"inner": {"type": "object"}, "flag": {"type": "boolean"}},
}


def json_schema(registry, columns: pa.Schema | None = None, contract: Contract = Contract.EVOLVE) -> JsonSchemaDecoder:
    return JsonSchemaDecoder(registry, columns or pa.schema([]), contract)


def test_json_schema_validates_and_gives_the_columns(server, registry):
    schema_id = server.register("t-value", json.dumps(DOCUMENT), "JSON")
    bodies = [
        b'{"n":1,"x":1.5,"s":"a","at":"2013-01-01T12:00:00Z","inner":{"k":[1]},"ok":true,"more":1}',
        b'{"n":-1}',
        b'{"x":1}',
        b"{",
        b'{"n":2,"s":"\\u0000"}',
        b'{"n":3}',
    ]

    decoded = json_schema(registry).decode([frame(schema_id, body) for body in bodies])

    assert decoded.positions == (0, 5)
    assert decoded.rows.to_pylist()[0] == {
        "n": 1, "x": 1.5, "s": "a", "at": NOON, "inner": '{"k":[1]}', "ok": True, "more": 1,
    }  # fmt: skip
    told = reasons(decoded)
    assert told[1] == "the JSON Schema does not allow $.n: -1 is less than the minimum of 0"
    assert "'n' is a required property" in told[2]
    assert "is not JSON" in told[3]
    assert "NUL" in told[4]


def test_json_schema_fetches_nothing_but_what_is_registered(server, registry):
    with running_registry() as elsewhere:
        outside = {"type": "object", "properties": {"a": {"$ref": f"{elsewhere.url}/schemas/ids/1"}}}
        schema_id = server.register("t-value", json.dumps(outside), "JSON")

        decoded = json_schema(registry).decode([frame(schema_id, b'{"a":1}')])

        assert "cannot be applied" in reasons(decoded)[0]
        assert elsewhere.requests == []


N = pa.schema([("n", pa.int32())])
ALLOWED = '{"type":"object","properties":{"n":{"type":"integer"},"s":{"type":"string"}}}'


def test_what_a_json_schema_allows_beside_its_properties_is_not_left_out(server, registry):
    schema_id = server.register("t-value", ALLOWED, "JSON")
    bodies = [
        b'{"n":1}',
        b'{"n":2,"s":"a"}',
        b'{"n":3,"more":1.0000000000000000001}',
        b'{"n":4,"_offset":1,"more":null}',
    ]
    values = [frame(schema_id, body) for body in bodies]

    quarantined = json_schema(registry, N, Contract.QUARANTINE).decode(values)
    frozen = json_schema(registry, N, Contract.FREEZE).decode(values)
    evolved = json_schema(registry, N).decode(values)
    ignored = json_schema(registry, N, Contract.IGNORE).decode(values)

    assert quarantined.rows["_quarantine"].to_pylist() == [
        None, '{"s":"a"}', '{"more":1.0000000000000000001}', '{"_offset":1,"more":null}',
    ]  # fmt: skip
    assert frozen.positions == (0,)
    assert reasons(frozen)[3] == "the record has fields that the flow does not declare: _offset, more"
    assert evolved.rows.to_pylist() == [
        {"n": 1, "s": None, "more": None}, {"n": 2, "s": "a", "more": None}, {"n": 3, "s": None, "more": 1.0},
    ]  # fmt: skip
    assert evolved.rows.schema == pa.schema([("n", pa.int64()), ("s", pa.string()), ("more", pa.float64())])
    assert reasons(evolved) == {3: "the field _offset has the name of a column that tells of the record"}
    assert ignored.rows.to_pylist() == [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}]


def test_records_of_several_json_schemas_stay_in_their_order(server, registry):
    first = server.register("t-value", ALLOWED, "JSON")
    second = server.register(
        "u-value", '{"type":"object","required":["z"],"properties":{"z":{"type":"string"}}}', "JSON"
    )
    values = [
        frame(second, b'{"z":"b","n":1}'), b"x", frame(first, b'{"n":2}'), frame(second, b'{"n":3}'), None,
        frame(second, b'{"z":"c","n":4}'), frame(first, b'{"n":"5"}'), frame(first, b'{"n":6}'),
    ]  # fmt: skip

    decoded = json_schema(registry, N).decode(values)

    assert decoded.positions == (0, 2, 5, 7)
    assert decoded.rows.select(["n", "z"]).to_pylist() == [
        {"n": 1, "z": "b"}, {"n": 2, "z": None}, {"n": 4, "z": "c"}, {"n": 6, "z": None},
    ]  # fmt: skip
    assert [each.position for each in decoded.undecodable] == [1, 3, 4, 6]


def test_columns_come_with_a_record_that_is_allowed_and_from_values_when_properties_lead_in_a_circle(server, registry):
    circle = {
        "type": "object",
        "definitions": {"n": {"oneOf": [{"type": "null"}, {"$ref": "#/definitions/n"}]}},
        "properties": {"n": {"$ref": "#/definitions/n"}, "k": {"type": "number"}},
    }
    numbers = server.register(
        "t-value", '{"type":"object","properties":{"n":{"type":"number"}},"required":["n"]}', "JSON"
    )
    circular = server.register("u-value", json.dumps(circle), "JSON")
    decoder = json_schema(registry, N)

    refused = decoder.decode([frame(numbers, b"{}")])
    before = decoder.schema
    taken = decoder.decode([frame(circular, b'{"k":1}'), frame(numbers, b'{"n":1.5}')])

    assert (len(refused.undecodable), before) == (1, N)
    assert taken.rows.to_pylist() == [{"n": None, "k": 1}, {"n": 1.5, "k": None}]


def test_a_json_schema_without_properties_takes_the_columns_of_the_flow(server, registry):
    schema_id = server.register("t-value", '{"type":"object"}', "JSON")

    declared = json_schema(registry, N, Contract.IGNORE).decode([frame(schema_id, b'{"n":1,"s":"a"}')])

    assert declared.rows.to_pylist() == [{"n": 1}]


def test_settings_of_the_registry_that_contradict_each_other_are_refused():
    def problems(**values: str) -> str:
        return " ".join(
            SchemaRegistrySettings(**{f"WORKBENCH_REGISTRY_{name}": value for name, value in values.items()}).problems()
        )

    assert problems(URL="https://registry.example.com", USERNAME="u", PASSWORD="p") == ""
    assert problems(URL="http://127.0.0.1:8081", USERNAME="u", PASSWORD="p") == ""
    assert "WORKBENCH_REGISTRY_URL is not set but WORKBENCH_REGISTRY_USERNAME is" in problems(USERNAME="u")
    assert "only one is set" in problems(URL="https://r", USERNAME="u")
    assert "is not http(s)" in problems(URL="registry:8081")
    assert "in clear" in problems(URL="http://registry.example.com", USERNAME="u", PASSWORD="p")
    told = problems(URL="https://me:hidden@r")
    assert "holds a user" in told
    assert "hidden" not in told
    assert "there is no file" in problems(URL="https://r", CA_FILE="missing.pem")
