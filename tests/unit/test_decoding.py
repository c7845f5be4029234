from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import KafkaUnavailable, SettingsError
from workbench.ingestion.decoding import Decoded, Undecodable, parse_schema
from workbench.ingestion.decoding.contract import Contract
from workbench.ingestion.decoding.enforced import EnforcedDecoder
from workbench.ingestion.decoding.guarded import decode_guarded
from workbench.ingestion.decoding.json import JsonDecoder

SCHEMA = parse_schema({"a": "int16", "f": "float64", "s": "string", "t": "timestamp", "b": "bool"})
DECODER = JsonDecoder(SCHEMA)


def test_rows_keep_their_order_and_absent_fields_are_null():
    decoded = DECODER.decode([b'{"a":1,"s":"x"}', b'{"s":null,"f":2}', b"{}"])

    assert decoded.rows.select(["a", "f", "s"]).to_pylist() == [
        {"a": 1, "f": None, "s": "x"},
        {"a": None, "f": 2.0, "s": None},
        {"a": None, "f": None, "s": None},
    ]
    assert decoded.undecodable == ()


def test_times_are_rfc_3339_in_utc():
    decoded = DECODER.decode([b'{"t":"2013-01-01T10:00:00Z"}', b'{"t":"2013-01-01T12:00:00+02:00"}'])

    first, second = decoded.rows["t"].to_pylist()
    assert first == second
    assert first.isoformat() == "2013-01-01T10:00:00+00:00"


@pytest.mark.parametrize(
    "value",
    [
        *(
            b"",
            b"null",
            b"[1]",
            b"3",
            b'"text"',
            b'{"a":1',
            b"{}{}",
            b'{"a":1}\n{"a":2}',
            b'{},"position":0}\n{"record":{}',
        ),
        *(b'{"a":70000}', b'{"a":1.5}', b'{"a":"x"}', b'{"a":1,"a":2}', b'{"s":5}', b'{"b":1}', b'{"t":"yesterday"}'),
        *(b'{"s":"\xff"}', b'{"s":"a\\u0000b"}', b"\x00", None),
    ],
    ids=repr,
)
def test_what_does_not_fit_is_told_apart_and_its_neighbours_go_on(value):
    decoded = DECODER.decode([b'{"a":1}', value, b'{"a":3}'])

    assert decoded.rows["a"].to_pylist() == [1, 3]
    assert decoded.positions == (0, 2)
    assert [each.position for each in decoded.undecodable] == [1]
    assert decoded.undecodable[0].reason


ROWS = st.fixed_dictionaries({
    "a": st.none() | st.integers(-(2**15), 2**15 - 1),
    "f": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    "s": st.none() | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    "b": st.none() | st.booleans(),
})  # fmt: skip
GARBAGE = st.binary(max_size=20).filter(lambda value: not _is_object(value))


@given(st.lists(st.one_of(ROWS.map(json.dumps).map(str.encode), GARBAGE), max_size=30))
def test_every_record_is_a_row_or_undecodable_and_rows_do_not_shift(values):
    decoded = DECODER.decode(values)

    assert sorted([*decoded.positions, *(each.position for each in decoded.undecodable)]) == list(range(len(values)))
    for row, position in zip(decoded.rows.to_pylist(), decoded.positions, strict=True):
        sent = json.loads(values[position])
        assert {name: row[name] for name in sent if name in row and name != "f"} == {
            k: v for k, v in sent.items() if k in row and k != "f"
        }
        assert row["f"] == pytest.approx(sent.get("f")) or row["f"] == sent.get("f")


def test_a_schema_names_every_unknown_type():
    with pytest.raises(SettingsError) as caught:
        parse_schema({"a": "int", "b": "text", "c": "string"}, "flows/x.yaml")

    assert "column a has the unknown type 'int'" in str(caught.value)
    assert "column b has the unknown type 'text'" in str(caught.value)


def test_an_empty_batch_is_empty():
    assert DECODER.decode([]).rows.schema == SCHEMA
    assert pa.types.is_timestamp(SCHEMA.field("t").type)


def _is_object(value: bytes) -> bool:
    try:
        return isinstance(json.loads(value), dict)
    except ValueError:
        return False


@given(
    st.lists(
        st.one_of(
            st.none(),
            st.binary(max_size=30),
            st.recursive(
                st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
                lambda inner: (
                    st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcde"), inner, max_size=4)
                ),
                max_leaves=8,
            ).map(lambda value: json.dumps(value).encode()),
        ),
        max_size=12,
    ),
    st.sampled_from(Contract),
)
def test_every_record_is_a_row_or_has_a_reason_whatever_it_is(values, contract):
    decoded = JsonDecoder(parse_schema({"a": "int16", "b": "string", "c": "json"}), contract).decode(values)

    positions = [*decoded.positions, *(each.position for each in decoded.undecodable)]
    assert sorted(positions) == list(range(len(values)))
    assert decoded.rows.num_rows == len(decoded.positions)
    assert all(each.reason for each in decoded.undecodable)


@pytest.mark.parametrize(
    "value", [b"{broken", b'{"a":"text"}', b"[]", b'{"a":1,"a":2}', b'{"t":"yesterday"}', b'{"s":"\\u0000"}', None]
)
@pytest.mark.parametrize("contract", Contract)
def test_a_batch_of_nothing_but_broken_records_is_told_record_by_record(value, contract):
    decoded = JsonDecoder(SCHEMA, contract).decode([value] * 1500)

    assert decoded.rows.num_rows == 0
    assert [each.position for each in decoded.undecodable] == list(range(1500))


def test_times_that_only_arrow_reads_are_rows_beside_broken_records():
    decoded = DECODER.decode([b'{"t":"2026-01-01"}'] * 500 + [b"{broken"] + [b'{"t":"2026-01-01"}'] * 500)

    assert (decoded.rows.num_rows, len(decoded.undecodable)) == (1000, 1)


def test_a_flow_may_have_nothing_but_json_columns():
    decoder = JsonDecoder(parse_schema({"payload": "json"}))

    decoded = decoder.decode([b'{"payload":{"a":[1,"x"]}}', b"{}", b"{broken", b'{"payload":5}'])

    assert decoded.rows["payload"].to_pylist() == ['{"a":[1,"x"]}', None, "5"]
    assert [each.position for each in decoded.undecodable] == [2]


EXACT = [
    "18446744073709551616",
    "-12345678901234567890123",
    "0.1234567890123456789",
    "1.10",
    "1e5",
    "1e-400",
    "-0",
    '[1,{"x":1e-400,"y":"\\u00e9 z"}]',
    '{"x":1,"x":2}',
]


@pytest.mark.parametrize("text", EXACT)
def test_a_json_column_has_what_is_there_digit_by_digit(text):
    columns = parse_schema({"a": "int64", "c": "json"})

    decoded = JsonDecoder(columns).decode([b'{"a": 1, "c" : %s }' % text.encode(), b'{"c": null}', b'{"a":2}'])
    kept = JsonDecoder(columns, Contract.QUARANTINE).decode([b'{"a":1,"n": %s, "m":null}' % text.encode()])

    assert decoded.rows["c"].to_pylist() == [text, None, None]
    assert kept.rows["_quarantine"].to_pylist() == [f'{{"n":{text},"m":null}}']


def test_fields_of_other_formats_without_a_column_are_kept_as_an_object():
    everything = parse_schema({"a": "int64", "n": "float64", "s": "string"})
    decoder = EnforcedDecoder(
        parse_schema({"a": "int64"}), Contract.QUARANTINE, lambda columns: JsonDecoder(columns or everything)
    )

    decoded = decoder.decode([b'{"a":1,"n":0.5,"s":"x"}', b'{"a":2}'])

    assert decoded.rows["_quarantine"].to_pylist() == ['{"n":0.5,"s":"x"}', None]


EVERYTHING = parse_schema({"a": "int64", "i": "int64", "s": "string", "t": "timestamp"})
UNREADABLE = [
    b'{"a":0,"s":"x"}',
    b'{"a":1}',
    b'{"a":2,"s":"x\\u0000y"}',
    b'{"a":3,"i":123456789012345678901,"s":"kept?"}',
    b'{"a":4,"t":"10000-01-01T00:00:00Z"}',
    b'{"a":"5","i":123456789012345678901}',
    b'{"a":6e0}',
]


@pytest.mark.parametrize("contract", [Contract.FREEZE, Contract.QUARANTINE, Contract.EVOLVE])
def test_no_field_without_a_column_is_lost_when_its_value_fits_no_column(contract):
    decoder = EnforcedDecoder(
        parse_schema({"a": "float64"}), contract, lambda columns: JsonDecoder(columns or EVERYTHING)
    )

    decoded = decoder.decode(UNREADABLE)

    frozen = contract is Contract.FREEZE
    assert list(decoded.positions) == ([1, 6] if frozen else [0, 1, 6])
    assert decoded.rows["a"].to_pylist() == ([1.0, 6.0] if frozen else [0.0, 1.0, 6.0])
    assert [each.position for each in decoded.undecodable] == ([0] if frozen else []) + [2, 3, 4, 5]
    assert "NUL" in decoded.undecodable[-4].reason
    if contract is Contract.QUARANTINE:
        assert decoded.rows["_quarantine"].to_pylist() == ['{"s":"x"}', None, None]


def test_under_evolve_no_field_that_cannot_be_a_column_is_lost_when_its_value_cannot_be_read():
    everything = parse_schema({"a": "int64", "_key": "int64"})
    decoder = EnforcedDecoder(
        parse_schema({"a": "int64"}), Contract.EVOLVE, lambda columns: JsonDecoder(columns or everything)
    )

    decoded = decoder.decode([b'{"a":1}', b'{"a":2,"_key":123456789012345678901}'])

    assert decoded.rows["a"].to_pylist() == [1]
    assert [each.position for each in decoded.undecodable] == [1]


def test_fields_that_become_json_columns_have_what_is_there_digit_by_digit():
    decoder = JsonDecoder(parse_schema({"a": "int64", "c": "json"}), Contract.EVOLVE)

    decoded = decoder.decode([b'{"a":1,"n":{"x":[0.1234567890123456789]},"m":9007199254740993}'])

    assert decoded.rows.select(["n", "m"]).to_pylist() == [
        {"n": '{"x":[0.1234567890123456789]}', "m": 9007199254740993}
    ]


def test_a_json_field_that_occurs_twice_does_not_fit_and_one_that_holds_its_own_name_does():
    decoder = JsonDecoder(parse_schema({"c": "json"}))
    good = [b'{"c":{"c":[{"c":1}]}}', b'{"d":{"c":1}}', b'{"d":{"c":1},"c":"\\"c\\""}']

    decoded = decoder.decode([good[0], b'{"c":1,"c":2}', good[1], b'{"c":{"c":1},"c":2}', good[2]])

    assert decoded.rows["c"].to_pylist() == ['{"c":[{"c":1}]}', None, '"\\"c\\""']
    assert [(each.position, each.reason) for each in decoded.undecodable] == [
        (1, "column c was specified twice"),
        (3, "column c was specified twice"),
    ]


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a\x7fb", "ä", "a/b", "a<b"])
def test_a_json_column_of_any_name_can_be_read_and_breaks_no_later_batch(name):
    decoder = JsonDecoder(parse_schema({"id": "int64"}), Contract.EVOLVE)
    odd = json.dumps({"id": 1, name: {"x": 1}}).encode()

    first = decode_guarded(decoder, [b'{"id":0}'] * 20 + [odd])
    later = decode_guarded(decoder, [b'{"id":2}', b'{"id":"x"}', odd])

    assert first.rows.num_rows == 21
    assert first.rows[name].to_pylist()[-2:] == [None, '{"x":1}']
    assert [each.position for each in later.undecodable] == [1]
    assert later.rows[name].to_pylist() == [None, '{"x":1}']
    frozen = JsonDecoder(decoder.schema, Contract.FREEZE).decode([odd, b'{"id":"x"}', b'{"id":1,"more":1}'])
    assert list(frozen.positions) == [0]


@pytest.mark.parametrize("schema", [{"c": "json"}, {"d": "int16"}])
def test_what_python_could_not_read_again_becomes_no_json_column(schema):
    decoder = JsonDecoder(parse_schema(schema), Contract.QUARANTINE)
    nested, digits, text = (b"[" * 254, b"]" * 254), b"9" * 4300, b'"%b\\"%b"' % (b"[" * 300, b"9" * 5000)
    good = [b'{"c":%b%b}' % nested, b'{"c":[%b]}' % digits, b'{"c":[%b]}' % text, b'{"c":[%b]}' % (b"[]," * 300 + b"0")]
    bad = [b'{"c":[%b%b]}' % nested, b'{"c":[{"x":-%b1}]}' % digits]

    decoded = decoder.decode([*good, *bad])

    column = decoded.rows["c" if "c" in schema else "_quarantine"]
    assert all(json.loads(each) for each in column.to_pylist())
    assert [each.position for each in decoded.undecodable] == [4, 5]
    assert "the value is nested more than 254 levels deep" in decoded.undecodable[0].reason
    assert "number" in decoded.undecodable[1].reason


def test_a_json_field_that_occurs_twice_is_found_whatever_is_beside_it():
    decoder = JsonDecoder(parse_schema({"id": "int64", "j": "json"}))
    twice = [b'{"id":1,"j":1,"j":2}', b'{"id":2,"j":1,"\\u006a":2}', b'{"id":3,"\\u006a":1,"\\u006a":2}']
    once = [
        b'{"id":4,"\\u006a":2}',
        b'{"id":5,"k":"j","j":3,"more":%b}' % (b"9" * 5000),
        b'{"id":6,"k":{"j":1,"j":2},"j":["j"]}',
        b'{"id":7,"k\\"j":1,"j":2}',
        b'{"id":8,"k":"\xff","j":"\\u00e4"}',
    ]

    decoded = decoder.decode([*twice, *once])

    assert [(each.position, each.reason) for each in decoded.undecodable] == [
        (number, "column j was specified twice") for number in range(3)
    ]
    assert decoded.rows["id"].to_pylist() == [4, 5, 6, 7, 8]


def test_text_of_a_json_column_that_is_not_utf_8_names_the_column():
    decoded = JsonDecoder(parse_schema({"j": "json"})).decode([b'{"j":1}', b'{"j":"\xff"}'])

    assert [each.reason for each in decoded.undecodable] == ["column j holds text that is not UTF-8"]


def test_digits_that_a_double_has_no_room_for_do_not_fit_and_infinity_by_name_does():
    decoder = JsonDecoder(parse_schema({"f": "float64"}), Contract.EVOLVE)
    good = [b'{"f":Infinity}', b'{"f":NaN}', b'{"f":1.5}', b"{}"]

    decoded = decoder.decode([b'{"f":%b}' % (b"9" * 310), *good, b'{"f":1,"g":1%b.0}' % (b"0" * 400)])

    assert [each.position for each in decoded.undecodable] == [0, 5]
    assert decoded.undecodable[1].reason == "column g holds a number that is too large for it"
    assert decoded.rows.num_rows == 4


def test_a_new_nested_field_with_a_name_twice_within_becomes_a_json_column():
    decoder = JsonDecoder(parse_schema({"id": "int64", "j": "json"}), Contract.EVOLVE)

    decoded = decoder.decode([b'{"id":1,"n":{"a":1,"a":2}}', b'{"id":2}'])

    assert decoded.rows["n"].to_pylist() == ['{"a":1,"a":2}', None]


def test_what_is_nested_too_deep_for_a_json_column_is_told_apart():
    decoded = JsonDecoder(parse_schema({"c": "json"})).decode([b'{"c":%b%b}' % (b"[" * 5000, b"]" * 5000), b'{"c":1}'])

    assert decoded.rows["c"].to_pylist() == ["1"]
    assert [each.position for each in decoded.undecodable] == [0]


def test_decimals_are_exact_or_do_not_fit():
    decoder = JsonDecoder(pa.schema([("d", pa.decimal128(4, 2)), ("n", pa.decimal128(38, 0))]))

    decoded = decoder.decode([
        b'{"d":12.5,"n":12345678901234567890123}', b'{"d":1234.5}', b'{"d":12345}', b'{"d":0.001}', b'{"d":-1e1}',
    ])  # fmt: skip

    assert decoded.rows.to_pylist() == [
        {"d": Decimal("12.50"), "n": 12345678901234567890123},
        {"d": Decimal("-10.00"), "n": None},
    ]
    assert [each.position for each in decoded.undecodable] == [1, 2, 3]


@pytest.mark.parametrize("name", ["", "_offset", "x" * 64, "a\\u0000b"])
def test_a_field_that_cannot_be_a_column_is_a_reason_not_the_end(name):
    decoder = JsonDecoder(parse_schema({"a": "int64"}), Contract.EVOLVE)

    decoded = decoder.decode([b'{"a":1}', b'{"a":2,"%s":1}' % name.encode(), b'{"a":3,"new":1}'])

    assert decoded.rows.column_names == ["a", "new"]
    assert sorted(decoded.rows["a"].to_pylist()) == [1, 3]
    assert "name" in decoded.undecodable[0].reason


@pytest.mark.parametrize("value", [b'{"a":1,"x":NaN}', b'{"a":1,"x":Infinity}', b'{"a":1,"x":"\xc3'], ids=repr)
def test_a_field_too_many_before_what_is_no_json_is_a_reason_not_the_end(value):
    decoded = JsonDecoder(pa.schema([("a", pa.int64())]), Contract.FREEZE).decode([value, b'{"a":2}'])

    assert decoded.rows["a"].to_pylist() == [2]
    assert [each.position for each in decoded.undecodable] == [0]
    assert "line 1" in decoded.undecodable[0].reason


class _Fragile:
    """Decodes numbers; breaks at what is none, and with two values of *together* in one batch."""

    def __init__(self, together: bytes = b"") -> None:
        self._together = together

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        if values.count(self._together) > 1:
            raise RuntimeError("too many")
        if b"registry" in values:
            raise KafkaUnavailable("no answer", remedy="Wait.")
        good = [position for position, value in enumerate(values) if value is not None]
        rows = pa.table({"n": pa.array([int(values[position] or b"") for position in good], pa.int64())})
        bad = [Undecodable(position, "none") for position, value in enumerate(values) if value is None]
        return Decoded(rows, tuple(good), tuple(bad))


def test_a_record_that_breaks_the_decoder_is_told_apart():
    decoded = decode_guarded(_Fragile(), [b"0", b"x", None, b"3", b"4", b"y\0", b"6"])

    assert decoded.rows["n"].to_pylist() == [0, 3, 4, 6] == list(decoded.positions)
    assert [each.position for each in decoded.undecodable] == [1, 2, 5]
    assert decoded.undecodable[0].reason.startswith("the decoder broke: ValueError: invalid literal")
    assert "\0" not in decoded.undecodable[2].reason


def test_what_is_no_fault_of_a_record_is_raised_as_before():
    with pytest.raises(KafkaUnavailable):
        decode_guarded(_Fragile(), [b"0", b"registry"])
    with pytest.raises(RuntimeError, match="too many"):
        decode_guarded(_Fragile(together=b"1"), [b"1", b"1"])


class _Lacking:
    """Breaks at every record."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def decode(self, values: Sequence[bytes | None]) -> Decoded:
        if values:
            raise self._error
        return Decoded(pa.table({}), (), ())


@pytest.mark.parametrize("error", [ModuleNotFoundError("No module named 'fastavro'"), OSError(24, "Too many open")])
@pytest.mark.parametrize("are_leftovers", [False, True])
def test_what_the_machine_lacks_makes_no_dead_letter(error, are_leftovers):
    with pytest.raises(type(error)):
        decode_guarded(_Lacking(error), [b"1"], are_leftovers=are_leftovers)


def test_what_breaks_at_every_record_is_no_fault_of_a_record():
    lacking = _Lacking(AttributeError("no such function"))

    with pytest.raises(AttributeError):
        decode_guarded(lacking, [b"1"] * 11)
    assert len(decode_guarded(lacking, [b"1"] * 10).undecodable) == 10
    assert len(decode_guarded(lacking, [b"1"] * 11, are_leftovers=True).undecodable) == 11  # chosen for being bad
    assert len(decode_guarded(_Fragile(), [b"x"] * 11 + [b"1"]).undecodable) == 11
