from __future__ import annotations

import ast
import json
import math
import unicodedata
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.parameters import (
    REQUIRED,
    Parameter,
    SecretReference,
    as_json,
    cell_source,
    form_schema,
    from_json,
    parse_hint,
    parse_texts,
    read_cell,
    validate,
)
from pipelines.service.operations import TEXT
from workbench.errors import ParametersRefused
from workbench.storable import UNSTORABLE, is_storable

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
MOMENTS = st.datetimes(min_value=datetime(1850, 1, 1), max_value=datetime(2100, 1, 1), allow_imaginary=False, timezones=st.one_of(
    st.just(UTC),
    st.sampled_from(["Europe/Berlin", "Australia/Lord_Howe", "America/New_York", "UTC"]).map(ZoneInfo),
    st.integers(min_value=-86_399, max_value=86_399).map(lambda each: timezone(timedelta(seconds=each))),
))  # fmt: skip
SIMPLE: dict[str, st.SearchStrategy[Any]] = {
    "int": st.integers(),
    "float": st.floats(),
    "bool": st.booleans(),
    "str": TEXTS,
    "date": st.dates(),
    "datetime": MOMENTS,
    "Decimal": st.decimals(allow_nan=False, allow_infinity=False),
    "partition[month]": st.dates(min_value=date(1000, 1, 1)).map(lambda each: f"{each:%Y-%m}"),
    'Literal["null", 1, False]': st.sampled_from(["null", 1, False]),
}
SIMPLE |= {f"{hint} | None": st.none() | values for hint, values in list(SIMPLE.items())}
COMPOSED = {
    **{f"list[{hint}]": st.lists(values, max_size=4) for hint, values in SIMPLE.items()},
    **{f"dict[str, {hint}]": st.dictionaries(TEXTS, values, max_size=4) for hint, values in SIMPLE.items()},
    "dict[str, list[float]] | None": st.none() | st.dictionaries(TEXTS, st.lists(st.floats()), max_size=3),
}


def is_same(one: object, other: object) -> bool:
    """Equal with all that `==` does not see: types, signs of zero, nan, digits of decimals, zones."""
    if isinstance(one, float) and isinstance(other, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, datetime) and isinstance(other, datetime):
        return one.isoformat() == other.isoformat() and repr(one.tzinfo) == repr(other.tzinfo)
    if isinstance(one, Decimal) and isinstance(other, Decimal):
        return str(one) == str(other)
    return type(one) is type(other) and one == other


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(SIMPLE | COMPOSED)).flatmap(lambda hint: st.tuples(st.just(hint), (SIMPLE | COMPOSED)[hint]))
)
def test_a_value_is_the_same_after_text_json_and_the_cell(drawn):
    hint, value = drawn
    parameters = [Parameter("x", parse_hint(hint))]
    value = validate(parameters, {"x": value})["x"]  # a datetime gets its one form

    typed = parse_texts(parameters, {"x": parameters[0].kind.as_text(value)})
    assert is_same(typed["x"], value)
    kept = json.loads(json.dumps(as_json(parameters, typed), allow_nan=False))
    jsonschema.validate(kept, form_schema(parameters))
    stored = from_json(parameters, kept)
    assert is_same(stored["x"], value)
    scope: dict[str, Any] = {}
    exec(cell_source(parameters, stored), scope)
    assert is_same(scope["x"], value)


@given(TEXTS, st.sampled_from(["str", "int", "float", "date", "datetime", "Decimal", "list[str]", "secret", "bool"]))
def test_no_text_becomes_code(text, hint):
    parameters = [Parameter("x", parse_hint(hint))]
    try:
        values = parse_texts(parameters, {"x": text})
    except ParametersRefused:
        return
    body = ast.parse(cell_source(parameters, values)).body

    assert sum(isinstance(each, ast.Assign) for each in body) == (0 if hint == "secret" else 1)
    assert all(isinstance(each, (ast.Assign, ast.ImportFrom)) for each in body)


def test_the_cell_is_laid_out_and_imports_what_it_needs():
    parameters = [
        Parameter("day", parse_hint("date")),
        Parameter("rate", parse_hint("Decimal")),
        Parameter("since", parse_hint("datetime")),
        Parameter("names", parse_hint("list[str]")),
        Parameter("limits", parse_hint("dict[str, float]")),
        Parameter("untouched", parse_hint("int"), 1),
    ]
    given = {
        "day": "2013-01-31",
        "rate": "1.10",
        "since": "2026-10-25T02:30:00+01:00[Europe/Berlin]",
        "names": ["an airport with a rather long name"] * 3,
        "limits": {"b": math.nan, "a": 1},
    }
    values = validate(parameters, given)
    del values["untouched"]

    assert (
        cell_source(parameters, values)
        == """# Parameters of this run
from datetime import date as _date
from datetime import datetime as _datetime
from decimal import Decimal as _Decimal
from zoneinfo import ZoneInfo as _ZoneInfo

day = _date(2013, 1, 31)
rate = _Decimal("1.10")
since = _datetime(2026, 10, 25, 2, 30, tzinfo=_ZoneInfo("Europe/Berlin"), fold=1)
names = [
    "an airport with a rather long name",
    "an airport with a rather long name",
    "an airport with a rather long name",
]
limits = {"a": 1.0, "b": float("nan")}"""
    )


def test_a_secret_is_carried_as_a_reference_and_never_written():
    parameters = [Parameter("token", parse_hint("secret")), Parameter("month", parse_hint("int"), 1)]
    values = parse_texts(parameters, {"token": "env:API_TOKEN"})

    assert values["token"] == SecretReference("env", "API_TOKEN")
    assert as_json(parameters, values) == {"token": "env:API_TOKEN", "month": 1}
    assert cell_source(parameters, values) == "# Parameters of this run\nmonth = 1"
    assert "token = reveal(0)" in cell_source(parameters, values, reveal=lambda name, reference: "reveal(0)")


def test_what_may_be_a_secret_itself_is_in_no_message():
    with pytest.raises(ParametersRefused) as caught:
        validate([Parameter("token", parse_hint("secret"))], {"token": "hunter2"})

    assert "env:NAME" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    _, problems = read_cell('token: "secret" = "hunter2"')
    assert "hunter2" not in str(problems)


def test_all_that_is_wrong_with_given_values_is_told_at_once():
    parameters = [
        Parameter("month", parse_hint("int")),
        Parameter("day", parse_hint("date")),
        Parameter("rate", parse_hint("float")),
    ]

    with pytest.raises(ParametersRefused) as caught:
        parse_texts(parameters, {"mont": "1", "day": "2013-02-30", "rate": "fast"})

    text = str(caught.value)
    assert len(caught.value.problems) == 4
    assert "there is no parameter 'mont'; did you mean month?" in text
    assert "month is missing" in text
    assert "'2013-02-30' is no date" in text
    assert "'fast' is no number" in text


@pytest.mark.parametrize(
    "text", ["", "a\nb", "ü", "\ud7ff\ue000", "😀", "\0", "a\0b", "\ud800", "x\udfff", "\ude00\ud83d"]
)
def test_text_that_cannot_be_stored_is_refused_alike_as_a_value_and_by_the_schema_of_the_service(text):
    fits = is_storable(text)

    assert fits == jsonschema.Draft202012Validator(TEXT).is_valid(text)
    assert fits == all(each != "\0" and unicodedata.category(each) != "Cs" for each in text)
    if not fits:
        with pytest.raises(ValueError, match=UNSTORABLE):
            parse_hint("str").read(text)


@pytest.mark.parametrize(
    ("hint", "raw", "part"),
    [
        ("int", True, "no whole number"),
        ("int", 1.0, "no whole number"),
        ("float", "1e400", "no number"),
        ("bool", 1, "neither true nor false"),
        ("str", "a\0b", "cannot be stored"),
        ("Decimal", 1.1, "write it in quotes"),
        ("Decimal", "NaN", "no finite number"),
        ("date", datetime(2026, 1, 1), "is a time"),
        ("datetime", "2026-01-01T00:00:00", "has no zone"),
        ("datetime", "2026-03-29T02:30:00[Europe/Berlin]", "never is in Europe/Berlin"),
        ("datetime", "2026-01-01T00:00:00+05:00[Europe/Berlin]", "another offset"),
        ("datetime", "2026-01-01T00:00:00[Mars/Base]", "no time such as"),
        ("list[int]", [1, "x"], "at [1]: 'x' is no whole number"),
        ('Literal["a", "b"]', "c", "none of 'a', 'b'"),
        ("Literal[1]", True, "none of 1"),
        ("partition[day]", "2026-1-3", "no day such as"),
        ("partition[month]", "2026-13", "no month such as"),
    ],
)
def test_a_value_of_another_type_is_refused(hint, raw, part):
    with pytest.raises(ParametersRefused) as caught:
        validate([Parameter("x", parse_hint(hint))], {"x": raw})

    assert part in str(caught.value)


@pytest.mark.parametrize(
    "hint", ["int", "list[dict[str, Decimal]]", "date | None", 'Literal["a", 1, True]', "partition[hour]"]
)
def test_a_hint_is_written_as_it_is_read(hint):
    assert parse_hint(hint).hint == hint
    assert parse_hint(hint.replace("date | None", "Optional[datetime.date]")).hint == hint


@pytest.mark.parametrize(
    ("hint", "part"),
    [
        ("integer", "is no type"),
        ("strr", "did you mean str"),
        ("int | str", "several types"),
        ("dict[int, str]", "keys are str"),
        ("list[secret]", "parameter of its own"),
        ('Literal[1, "1"]', "typed the same"),
        ("Literal[1.5]", "more than texts"),
        ("list", "is no type"),
        ("(", "is no type"),
    ],
)
def test_a_hint_that_is_no_type_is_refused(hint, part):
    with pytest.raises(ValueError, match=part):
        parse_hint(hint)


def test_a_cell_says_types_defaults_and_descriptions():
    parameters, problems = read_cell(
        '''"""What the notebook is given."""
import datetime
from decimal import Decimal

month = 1  # 1 to 12, of 2013
day: datetime.date = datetime.date(2013, 1, 31)  # the day
rate = Decimal("1.10")
name: str
tail = None  # type: str | None the aircraft
token = None  # type: secret of the API
low: float = -1
none: float = float("nan")
since = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
kinds: "list[int]" = []
'''
    )

    assert problems == ()
    assert {each.name: each.kind.hint for each in parameters} == {
        "month": "int", "day": "date", "rate": "Decimal", "name": "str", "tail": "str | None",
        "token": "secret", "low": "float", "none": "float", "since": "datetime", "kinds": "list[int]",
    }  # fmt: skip
    by_name = {each.name: each for each in parameters}
    assert (by_name["month"].default, by_name["month"].description, by_name["month"].line) == (1, "1 to 12, of 2013", 5)
    assert by_name["tail"].description == "the aircraft"
    assert by_name["name"].default is by_name["token"].default is REQUIRED


@pytest.mark.parametrize(
    ("line", "part"),
    [
        ("day = date.today()", "reads the clock"),
        ("day = datetime.now().date()", "reads the clock"),
        ("path = os.environ['HOME']", "is no literal"),
        ("rows = load()", "is a call"),
        ("a, b = 1, 2", "no name of a parameter"),
        ("if True: x = 1", "is no parameter"),
        ("x = []", "not clear"),
        ("x = {**other}", "is no literal"),
        ("x = {[1]: 2}", "is no literal"),
        ("x = {1: 2}", "no text"),
        ("x = f'{day}'", "is no literal"),
        ("x = b'a'", "is no literal"),
        ("x = None", "not clear"),
        ("x = [1, 'a']", "several types"),
        ("x = (1, 2)", "is no literal"),
        ("x: int = 'a'", "'a' is no whole number"),
        ("day: date = '2013-01-31'", "write date(2013, 1, 31)"),
        ("day: date | None = '2013-01-31'", "write date(2013, 1, 31)"),
        ("x: list[float] = ['nan']", 'write [float("nan")]'),
        ("day = date(2013, 2, 30)", "date(2013, 2, 30)"),
        ("_x = 1", "underscore"),
        ("x = 1 + 1", "is no literal"),
        ("x = __import__('os').getcwd()", "is a call"),
        ("x: complex = 1", "is no type"),
    ],
)
def test_what_is_known_only_when_it_runs_is_no_default(line, part):
    parameters, problems = read_cell(f"import os\n\n{line}\n")

    assert parameters == ()
    assert [each.line for each in problems] == [3]
    assert part in problems[0].message


def test_a_cell_that_is_no_python_has_its_line():
    _, (problem,) = read_cell("x = 1\ny = = 2\n")

    assert problem.line == 2


def test_the_schema_of_a_form_has_defaults_and_what_is_required():
    parameters, _ = read_cell("day: date\nmonth = 1  # of 2013\n")

    assert form_schema(parameters) == {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "day": {"title": "day", "type": "string", "format": "date"},
            "month": {"title": "month", "type": "integer", "description": "of 2013", "default": 1},
        },
        "required": ["day"],
        "additionalProperties": False,
    }
