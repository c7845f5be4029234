from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.services.schema_registry import RunningRegistry, running_registry
from workbench.errors import KafkaError
from workbench.ingestion.decoding import parse_schema
from workbench.ingestion.decoding.json import JsonDecoder
from workbench.ingestion.decoding.registry import SchemaRegistry, make_decoder
from workbench.ingestion.encoding import encode_rows, make_encoder
from workbench.ingestion.encoding.protobuf import write_indexes

NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
INT = st.integers(-(2**31), 2**31 - 1)
LONG = st.integers(-(2**63), 2**63 - 1)
DOUBLE = st.floats(allow_nan=False, allow_infinity=False)
TIME = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001
ROWS = st.lists(
    st.fixed_dictionaries(
        {"i": INT, "l": LONG, "x": st.none() | DOUBLE, "s": TEXT, "b": st.booleans(), "t": TIME | st.none()}
    ),
    min_size=1,
    max_size=20,
)
AVRO = {
    "type": "record",
    "name": "Row",
    "fields": [
        {"name": "i", "type": "int"},
        {"name": "l", "type": "long"},
        {"name": "x", "type": ["null", "double"]},
        {"name": "s", "type": "string"},
        {"name": "b", "type": "boolean"},
        {"name": "t", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]},
    ],
}


@pytest.fixture(scope="module")
def server() -> Iterator[RunningRegistry]:
    with running_registry() as running:
        yield running


@pytest.fixture(scope="module")
def registry(server: RunningRegistry) -> SchemaRegistry:
    return SchemaRegistry(url=server.url)


@pytest.fixture
def topic() -> str:
    return f"t-{uuid4().hex}"


def message_class() -> Any:
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="row.proto", package="lab", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    file.message_type.add(name="Other")
    row = file.message_type.add(name="Row")
    kinds = {"i": field.TYPE_SINT32, "l": field.TYPE_INT64, "x": field.TYPE_DOUBLE, "s": field.TYPE_STRING}
    for number, (name, kind) in enumerate({**kinds, "b": field.TYPE_BOOL}.items(), start=1):
        row.field.add(name=name, number=number, type=kind, label=field.LABEL_OPTIONAL)
    row.field[2].proto3_optional = True
    row.oneof_decl.add(name="_x")
    row.field[2].oneof_index = 0
    time = {"type": field.TYPE_MESSAGE, "type_name": ".google.protobuf.Timestamp", "label": field.LABEL_OPTIONAL}
    row.field.add(name="t", number=9, **time)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("lab.Row"))


def values(rows: Any, **more: Any) -> list[bytes]:
    return [record.value or b"" for record in encode_rows(rows, **more)]


def documents(rows: Any, **more: Any) -> list[dict[str, Any]]:
    return [json.loads(value) for value in values(rows, **more)]


@given(rows=ROWS)
@settings(deadline=None)  # the first loads pyarrow
def test_json_gives_back_what_was_sent(rows):
    kinds = {"i": "int32", "l": "int64", "x": "float64", "s": "string", "b": "bool", "t": "timestamp"}

    decoded = JsonDecoder(parse_schema(kinds)).decode(values(rows))

    assert decoded.undecodable == ()
    assert decoded.rows.to_pylist() == rows


@given(rows=ROWS)
@settings(max_examples=50, deadline=None)  # the first asks the registry
def test_avro_gives_back_what_was_sent(registry, rows):
    encoder = make_encoder("avro", "rows", registry, schema=AVRO, register=True)

    decoded = make_decoder("avro", registry).decode(values(rows, encoder=encoder))

    assert decoded.undecodable == ()
    assert decoded.rows.to_pylist() == rows


@given(rows=ROWS)
@settings(max_examples=50, deadline=None)  # the first asks the registry
def test_protobuf_gives_back_what_was_sent(registry, rows):
    encoder = make_encoder("protobuf", "messages", registry, schema=message_class(), register=True)

    decoded = make_decoder("protobuf", registry).decode(values(rows, encoder=encoder))

    assert decoded.undecodable == ()
    assert decoded.rows.to_pylist() == rows


@given(rows=ROWS)
@settings(max_examples=50, deadline=None)
def test_a_table_is_sent_as_its_rows_are(rows):
    schema = pa.schema(
        [("i", pa.int32()), ("l", pa.int64()), ("x", pa.float64()), ("s", pa.string()), ("b", pa.bool_())]
    ).append(pa.field("t", pa.timestamp("us", tz="UTC")))

    assert documents(pa.Table.from_pylist(rows, schema=schema)) == documents(rows)


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (math.nan, None),
        (math.inf, None),
        (pd.NaT, None),
        (pd.NA, None),
        (np.datetime64("NaT"), None),
        ([pd.NaT, np.float64(1.5)], [None, 1.5]),
        (Decimal("1.50"), "1.50"),
        (NOON, "2013-01-01T12:00:00Z"),
        (datetime(2013, 1, 1, 12, 0, 0, 5), "2013-01-01T12:00:00.000005Z"),  # noqa: DTZ001
        (pd.Timestamp("2013-01-01 13:00:00.000000999", tz="Europe/Berlin"), "2013-01-01T13:00:00+01:00"),
        (pd.Timestamp("2013-01-01 12:00"), "2013-01-01T12:00:00Z"),
        (np.datetime64("2013-01-01T12:00:00.123456789"), "2013-01-01T12:00:00.123456Z"),
        (date(2013, 1, 1), "2013-01-01"),
        (np.int64(7), 7),
        (np.array([1, 2]), [1, 2]),
    ],
)
def test_json_knows_the_values_of_notebooks(value, sent):
    assert documents([{"v": value}]) == [{"v": sent}]


@pytest.mark.parametrize(
    ("value", "kind"), [(b"x", "bytes"), (timedelta(1), "timedelta"), ({1}, "set"), (2**70, "int"), ("\ud800", "str")]
)
def test_json_names_the_value_that_it_does_not_know(value, kind):
    rows = [{"a": 1, "b": 2}, {"a": 1, "b": value}]

    with pytest.raises(KafkaError, match=f"row 1 cannot be sent as json: field b of type {kind}"):
        values(rows)


def test_a_data_frame_is_sent_with_its_types():
    frame = pd.DataFrame(
        {
            "i": pd.array([1, None], "Int64"),
            "x": [1.5, math.nan],
            "s": ["a", None],
            "t": pd.to_datetime(["2013-01-01 12:00:00.5", None]),
            "c": pd.Categorical(["u", "v"]),
            "d": [Decimal("1.5"), None],
            "l": [[1], None],
            "b": [True, False],
        },
        index=[5, 6],
    )

    records = list(encode_rows(frame, "i"))

    assert [json.loads(record.value or b"") for record in records] == [
        {"i": 1, "x": 1.5, "s": "a", "t": "2013-01-01T12:00:00.500000Z", "c": "u", "d": "1.5", "l": [1], "b": True},
        {"i": None, "x": None, "s": None, "t": None, "c": "v", "d": None, "l": None, "b": False},
    ]
    assert [record.key for record in records] == [b"1", None]


def test_a_frame_without_types_or_names_is_refused():
    with pytest.raises(KafkaError, match="Conversion failed for column a"):
        values(pd.DataFrame({"a": [1, "x"]}))
    with pytest.raises(KafkaError, match="no names of their own"):
        values(pa.table([pa.array([1]), pa.array([2])], names=["a", "a"]))


def test_nanoseconds_of_a_table_are_cut():
    table = pa.table({"t": pa.array([1_357_041_600_000_000_999], pa.timestamp("ns"))})

    assert documents(table) == [{"t": "2013-01-01T12:00:00Z"}]


def test_a_row_without_the_key_is_an_error():
    with pytest.raises(KafkaError, match="row 1 has no field 'k'"):
        values([{"k": 1}, {"v": 1}], key="k")


def test_named_fields_are_encrypted_and_the_others_are_not():
    rows = [{"name": "Ada", "n": 1}]

    assert documents(rows, encrypt={"name": lambda value: f"<{value}>"}) == [{"name": "<Ada>", "n": 1}]
    with pytest.raises(KafkaError, match="row 0 has no field 'mail'"):
        documents(rows, encrypt={"mail": str})


def test_only_register_registers_a_schema(server, registry, topic):
    with pytest.raises(KafkaError, match="no such schema"):
        make_encoder("avro", topic, registry, schema=AVRO)
    with pytest.raises(KafkaError, match="no such schema"):
        make_encoder("avro", topic, registry)
    assert f"{topic}-value" not in server.subjects

    made = make_encoder("avro", topic, registry, schema=AVRO, register=True)
    found = make_encoder("avro", topic, SchemaRegistry(url=server.url), schema=json.dumps(AVRO))
    latest = make_encoder("avro", topic, registry)

    row = {"i": 1, "l": 1, "x": None, "s": "", "b": True, "t": datetime(2013, 1, 1, 12)}  # noqa: DTZ001
    assert made.encode(row) == found.encode(row) == latest.encode(row)


def test_the_newest_schema_may_be_protobuf(server, registry, topic):
    row = message_class().DESCRIPTOR.file
    server.register(f"{topic}-value", base64.b64encode(row.serialized_pb).decode(), "PROTOBUF")

    encoder = make_encoder("protobuf", topic, registry)

    assert encoder.encode({})[5:] == b"\0"  # the first message of the file
    with pytest.raises(KafkaError, match="is PROTOBUF, not AVRO"):
        make_encoder("avro", topic, registry)


def test_a_schema_that_is_refused_is_told(topic):
    with running_registry() as server:
        registry = SchemaRegistry(url=server.url)
        server.refuse(409, 409, "Schema being registered is incompatible with an earlier schema")

        with pytest.raises(KafkaError, match=r"refused the schema for .* incompatible"):
            make_encoder("avro", topic, registry, schema=AVRO, register=True)


@pytest.mark.parametrize(
    ("schema", "part"),
    [('"string"', "is not an Avro record"), ("{", "no Avro schema"), ({"type": "record"}, "no Avro schema")],
)
def test_what_is_no_avro_record_is_not_registered(server, registry, topic, schema, part):
    with pytest.raises(KafkaError, match=part):
        make_encoder("avro", topic, registry, schema=schema, register=True)
    assert f"{topic}-value" not in server.subjects


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"i": 1.5}, "field i of type float: the schema says int"),
        ({"i": 2**40}, "field i of type int: the schema says int"),
        ({"i": True}, "field i of type bool"),
        ({"i": None}, "field i of type NoneType"),
        ({"t": "2013-01-01T12:00:00Z"}, "field t of type str"),
        ({"s": "\ud800"}, "surrogates not allowed"),
        ({"more": 1}, "more fields than the schema specifies: more"),
    ],
)
def test_avro_writes_nothing_that_the_schema_does_not_say(registry, topic, change, part):
    encoder = make_encoder("avro", topic, registry, schema=AVRO, register=True)
    row = {"i": 1, "l": 1, "x": None, "s": "", "b": True, "t": None}

    with pytest.raises(KafkaError, match=part):
        values([row, {**row, **change}], encoder=encoder)
    with pytest.raises(KafkaError, match="row 0 cannot be sent as avro: field i is missing: the schema says int"):
        values([{name: row[name] for name in "lxsbt"}], encoder=encoder)


@pytest.mark.parametrize("change", [{"i": 1.5}, {"i": 2**40}, {"s": 5}, {"more": 1}, {"t": "noon"}])
def test_protobuf_names_the_field_at_fault(registry, topic, change):
    encoder = make_encoder("protobuf", topic, registry, schema=message_class(), register=True)
    name = next(iter(change))

    with pytest.raises(KafkaError, match=f"row 0 cannot be sent as protobuf: field {name} of type"):
        values([{"b": True, **change}], encoder=encoder)


def test_protobuf_takes_classes_only(registry, topic):
    with pytest.raises(KafkaError, match="class of messages, not str"):
        make_encoder("protobuf", topic, registry, schema='syntax = "proto3";', register=True)


def test_formats_that_are_not_there_are_refused(registry, topic):
    with pytest.raises(KafkaError, match="no format 'xml'"):
        make_encoder("xml", topic, registry)
    with pytest.raises(KafkaError, match="needs a schema to register"):
        make_encoder("avro", topic, registry, register=True)


def test_the_place_of_a_message_is_written_as_zigzag_varints():
    assert write_indexes((0,)) == b"\0"
    assert write_indexes((1,)) == b"\2\2"
    assert write_indexes((0, 100)) == b"\4\0\xc8\1"
