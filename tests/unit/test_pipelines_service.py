"""Rights, forms, tails and the OpenAPI document of the service of pipelines, without a server."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as some

from pipelines.engine.record.events import Event, Kind
from pipelines.parameters import REQUIRED, Parameter, form_schema, parse_hint, parse_texts
from pipelines.runner.folders import log_of
from pipelines.service.application import build_templates
from pipelines.service.openapi import openapi
from pipelines.service.operations import OPERATIONS, check
from pipelines.service.rights import Forbidden, Person, Right, demand, right_of_groups
from pipelines.service.site.tails import BEGIN_BYTES, Tail, items_of, plain
from pipelines.service.web.forms import form_fields, given_texts
from pipelines.service.web.live import Cursor
from workbench.errors import ParametersRefused

RIGHTS = {"viewers": "viewer", "analysts": "runner", "engineers": "editor", "admins": "owner"}
#: Which operations each right adds to those before it.
ADDED = {
    Right.NONE: set(),
    Right.VIEWER: {name for name, each in OPERATIONS.items() if each.method == "GET"},
    Right.RUNNER: {"start_run", "cancel_run", "repair_run"},
    Right.EDITOR: {"start_backfill", "pause_backfill", "resume_backfill", "cancel_backfill"},
    Right.OWNER: {"pause_pipeline", "resume_pipeline", "resize_pool"},
}


@pytest.mark.parametrize("right", Right, ids=lambda each: each.name)
def test_a_right_has_what_the_lesser_ones_have_and_what_it_adds(right: Right):
    expected = set().union(*(ADDED[each] for each in Right if each <= right))

    assert {name for name, each in OPERATIONS.items() if is_allowed(right, each.right)} == expected


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ([], Right.NONE),
        (["github:acme"], Right.NONE),
        (["viewers"], Right.VIEWER),
        (["viewers", "engineers"], Right.EDITOR),
        (["admins", "analysts"], Right.OWNER),
    ],
)
def test_the_mightiest_group_of_the_hub_counts(groups, expected):
    assert right_of_groups(groups, RIGHTS) is expected


@pytest.mark.parametrize(
    ("right", "owner", "expected"),
    [
        (Right.RUNNER, "ada", Right.OWNER),
        (Right.RUNNER, "data-team", Right.OWNER),
        (Right.RUNNER, "grace", Right.RUNNER),
        (Right.RUNNER, "", Right.RUNNER),
        (Right.VIEWER, "ada", Right.VIEWER),
        (Right.NONE, "ada", Right.NONE),
    ],
)
def test_the_owner_of_a_definition_owns_the_pipeline_unless_the_hub_lets_them_start_nothing(right, owner, expected):
    person = Person(name="ada", right=right, groups=frozenset({"data-team"}))

    assert person.right_for(owner) is expected


def test_a_change_takes_more_than_looking_and_is_audited():
    for each in OPERATIONS.values():
        assert (each.right > Right.VIEWER) is each.changes
        assert (each.action is not None) is each.changes


def test_values_that_an_operation_does_not_know_are_refused():
    operation = OPERATIONS["start_run"]

    check(operation, {"pipeline": "p", "parameters": {}})
    check(operation, {"pipeline": "p", "texts": {"n": "1"}}, of_form=True)
    for wrong in ({"pipeline": "p", "texts": {}}, {"pipeline": "../p"}, {}, {"pipeline": "p", "parameters": []}):
        with pytest.raises(ParametersRefused):
            check(operation, wrong)


def test_the_openapi_document_has_every_operation_once_and_the_webhook():
    document = openapi("/services/pipelines/")
    told = [each["operationId"] for methods in document["paths"].values() for each in methods.values()]

    assert sorted(told) == sorted([*OPERATIONS, "post_webhook"])
    assert json.loads(json.dumps(document))["servers"] == [{"url": "/services/pipelines/api/v1"}]


PARAMETERS = [
    Parameter("n", parse_hint("int")),
    Parameter("day", parse_hint("date"), datetime(2013, 1, 31, tzinfo=UTC).date()),
    Parameter("is_full", parse_hint("bool"), False),
    Parameter("size", parse_hint("Literal['small', 'large']"), "small"),
    Parameter("ratio", parse_hint("float"), float("nan")),
    Parameter("limit", parse_hint("int | None"), None),
    Parameter("names", parse_hint("list[str]"), ["a", "b"]),
]


def test_a_form_that_is_sent_as_it_is_shown_means_the_defaults():
    texts = {each.name: each.kind.as_text(each.default) for each in PARAMETERS if each.default is not REQUIRED}
    fields = form_fields(form_schema(PARAMETERS), texts)
    sent = {f"p.{each.name}": [each.value or ("7" if each.is_required else "")] for each in fields}

    values = parse_texts(PARAMETERS, given_texts({**sent, "_token": ["x"]}, texts))

    assert {each.name: each.kind for each in fields} == {
        "n": "number", "day": "date", "is_full": "select", "size": "select", "ratio": "text", "limit": "text",
        "names": "text",
    }  # fmt: skip
    assert [each.name for each in fields if each.is_required] == ["n"]
    assert str(values) == str({**{each.name: each.default for each in PARAMETERS}, "n": 7})


@given(some.integers(0, 2**62), some.dictionaries(some.integers(1, 2**62), some.integers(0, 2**62), max_size=5))
def test_a_cursor_is_read_as_it_was_written(event, places):
    assert Cursor.parse(str(Cursor(event, places))) == Cursor(event, places)


@given(some.text())
def test_any_other_cursor_is_a_cursor_too(text):
    assert isinstance(Cursor.parse(text), Cursor)


def test_a_tail_reads_whole_lines_once_and_joins_text_of_one_cell(tmp_path):
    log = log_of(tmp_path)
    whole = [text("a"), text("b"), Event(at=0, kind=Kind.CELL_STARTED, cell=1, content={}), text("c", cell=1)]
    lines = b"".join(each.as_line() for each in whole)
    log.write_bytes(lines[:-3])
    tail = Tail.of(tmp_path / "output.ipynb", None)

    first = tail.read()
    log.write_bytes(lines)

    assert [each.get("text") for each in first] == ["ab", None]
    assert [each["text"] for each in tail.read()] == ["c"]
    assert not tail.has_more
    assert Tail.of(tmp_path / "output.ipynb", tail.position).read() == []


def test_who_comes_late_to_a_long_log_is_told_how_much_was_left_out(tmp_path):
    line = text("x" * 1000).as_line()
    log_of(tmp_path).write_bytes(line * (3 * BEGIN_BYTES // len(line)))
    tail = Tail.of(tmp_path / "log.jsonl", None)

    first = tail.read()

    assert first[0]["kind"] == "omitted"
    assert first[0]["bytes"] % len(line) == 0
    assert BEGIN_BYTES <= first[0]["bytes"] <= 3 * BEGIN_BYTES


def test_what_steers_a_terminal_is_taken_out_of_text():
    assert plain("\x1b[31mred\x1b[0m \x1b]8;;http://evil\x07link\x1b]8;;\x07") == "red link"


def test_markup_of_a_cell_is_never_shown_as_markup():
    content = {"output_type": "display_data", "data": {"text/html": "<script>", "text/plain": "<b>"}, "metadata": {}}

    assert list(items_of(Event(at=0, kind=Kind.OUTPUT, cell=0, content=content))) == [
        {"kind": "text", "cell": 0, "name": "stdout", "text": "<b>\n"}
    ]


def test_names_and_errors_are_escaped_in_pages():
    person = Person(name="<script>", right=Right.VIEWER)
    shown = (
        build_templates()
        .get_template("problem.html")
        .render(prefix="/", person=person, token="", here="", message="<img src=x>", remedy="'\"", status=400)
    )

    assert "<script>" not in shown.replace("<script type", "")
    assert "<img" not in shown


def is_allowed(has: Right, needs: Right) -> bool:
    try:
        demand(has, needs, "this")
    except Forbidden:
        return False
    return True


def text(said: str, cell: int = 0) -> Event:
    content = {"output_type": "stream", "name": "stdout", "text": said}
    return Event(at=0, kind=Kind.OUTPUT, cell=cell, content=content)
