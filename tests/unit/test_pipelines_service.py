"""Rights, forms, tails and the OpenAPI document of the service of pipelines, without a server."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from unittest.mock import AsyncMock

import pytest
from hypothesis import given
from hypothesis import strategies as some
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine
from tornado.web import Application, HTTPError

from pipelines.engine.record.events import Event, Kind
from pipelines.engine.record.keeping import new_sealer, write_file
from pipelines.engine.record.log import EventLog
from pipelines.engine.record.publishing import publish_notebook
from pipelines.parameters import REQUIRED, Parameter, form_schema, parse_hint, parse_texts
from pipelines.runner.folders import log_of, output_of
from pipelines.service.application import build_templates
from pipelines.service.entrance.hub import HubAddress, HubEntrance
from pipelines.service.entrance.path_only import PathOnly
from pipelines.service.openapi import openapi
from pipelines.service.operations import OPERATIONS, check
from pipelines.service.rights import Forbidden, Person, Right, demand, right_of_groups
from pipelines.service.site.outputs import _with_few_colours, read_output, render
from pipelines.service.site.tails import BEGIN_BYTES, Tail, items_of, plain
from pipelines.service.web.base import Handler
from pipelines.service.web.forms import form_fields, given_texts
from pipelines.service.web.live import Cursor
from tests.services.keysets import make_keys
from workbench.errors import KeysetError, OtherContext, ParametersRefused, UnsupportedFormat
from workbench.observability.metrics import AUTHORIZATIONS

NOTEBOOK = {
    "cells": [
        {"cell_type": "code", "source": "'canary'", "metadata": {}, "id": "a", "outputs": [], "execution_count": None}
    ],
    "metadata": {},
    "nbformat": 4,
    "nbformat_minor": 5,
}
RIGHTS = {"viewers": "viewer", "analysts": "runner", "engineers": "editor", "admins": "owner"}
#: Which operations each right adds to those before it.
ADDED = {
    Right.NONE: set(),
    Right.VIEWER: {name for name, each in OPERATIONS.items() if each.method == "GET"},
    Right.RUNNER: {"start_run", "cancel_run", "repair_run"},
    Right.EDITOR: {"start_backfill", "pause_backfill", "resume_backfill", "cancel_backfill"}
    | {"start_flow", "stop_flow", "restart_flow"},
    Right.OWNER: {"pause_pipeline", "resume_pipeline", "resize_pool", "silence_alert", "unsilence_alert"},
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


def test_ends_of_lines_are_those_that_were_typed():
    assert given_texts({"p.query": ["SELECT 1\r\nFROM t"]}, {}) == {"query": "SELECT 1\nFROM t"}


@pytest.mark.parametrize("error", [HTTPError(403, "no"), RuntimeError("boom")])
def test_no_log_of_a_request_has_what_stands_behind_its_path(error, caplog):
    connection = SimpleNamespace(set_close_callback=id, context=None)
    line = RequestStartLine("GET", "/oauth_callback?code=c4n4ry", "HTTP/1.1")
    handler = PathOnly(
        Application(),
        HTTPServerRequest(start_line=line, headers=HTTPHeaders({"Host": "localhost"}), connection=connection),
    )

    handler.log_exception(type(error), error, None)

    assert "GET /oauth_callback" in caplog.text
    assert "c4n4ry" not in caplog.text


def test_a_long_address_is_not_kept_for_who_is_not_signed_in():
    hub = {"hub_prefix": "/hub/", "host": "", "hub_host": "", "api_url": "http://localhost/", "token": "t"}
    entrance, kept = HubEntrance(HubAddress(port=1, prefix="/services/p/", rights={}, **hub)), []
    entrance._auth = SimpleNamespace(
        generate_pkce_code_challenge=lambda: ("v", "c", "S256"),
        set_state_cookie=lambda _, next_url, code_verifier: kept.append(next_url) or "s",
        login_url="/hub/login",
    )

    for uri in ("/services/p/runs/1", "/services/p/?" + "x" * 3000):
        entrance.sign_in(SimpleNamespace(request=SimpleNamespace(uri=uri)))

    assert kept == ["/services/p/runs/1", "/services/p/"]


@given(some.integers(0, 2**62), some.dictionaries(some.integers(1, 2**62), some.integers(0, 2**62), max_size=5))
def test_a_cursor_is_read_as_it_was_written(event, places):
    assert Cursor.parse(str(Cursor(event, places))) == Cursor(event, places)


@given(some.text())
def test_any_other_cursor_is_a_cursor_too(text):
    assert isinstance(Cursor.parse(text), Cursor)


@pytest.fixture(params=["in clear", "encrypted"])
def kept_log(request, tmp_path):
    """Gives the bytes of a log with some events, how one of its pieces is called, and the keys."""
    keys = make_keys(tmp_path / "home") if request.param == "encrypted" else None
    log = log_of(tmp_path, encrypted=keys is not None)

    def content(*events: Event) -> bytes:
        with EventLog(log, new_sealer(log, keys)) as file:
            for each in events:
                file.append(each)
        found = log.read_bytes()
        log.unlink()
        return found

    return SimpleNamespace(path=log, keys=keys, content=content, output=output_of(tmp_path, encrypted=keys is not None))


def test_a_tail_reads_whole_lines_once_and_joins_text_of_one_cell(kept_log):
    log = kept_log.path
    lines = kept_log.content(
        text("a"), text("b"), Event(at=0, kind=Kind.CELL_STARTED, cell=1, content={}), text("c", cell=1)
    )
    log.write_bytes(lines[:-3])
    tail = Tail.of(kept_log.output, None, kept_log.keys)

    first = tail.read()
    log.write_bytes(lines)

    assert [each.get("text") for each in first] == ["ab", None]
    assert [each["text"] for each in tail.read()] == ["c"]
    assert not tail.has_more
    assert Tail.of(kept_log.output, tail.position, kept_log.keys).read() == []


def test_who_comes_late_to_a_long_log_is_told_how_much_was_left_out(kept_log):
    line = text("x" * 1000)
    count = 3 * BEGIN_BYTES // len(line.as_line())
    kept_log.path.write_bytes(kept_log.content(*[line] * count))
    tail = Tail.of(kept_log.path, None, kept_log.keys)

    first = tail.read()
    while more := tail.read():
        first += more

    assert first[0]["kind"] == "omitted"
    assert BEGIN_BYTES <= first[0]["bytes"] <= 3 * BEGIN_BYTES
    assert 0 < sum(len(each["text"]) for each in first[1:]) < 1.2 * BEGIN_BYTES


def test_a_log_that_was_changed_is_told_once_and_never_shown(tmp_path):
    keys = make_keys(tmp_path / "home")
    log = log_of(tmp_path, encrypted=True)
    with EventLog(log, new_sealer(log, keys)) as file:
        file.append(text("first"))
        size = log.stat().st_size
        file.append(text("second"))
    content = bytearray(log.read_bytes())
    content[size + 100] ^= 1
    log.write_bytes(content)
    tail = Tail.of(log, None, keys)

    found = tail.read()

    assert [each["text"] for each in found] == ["first", f"{log} was changed at byte {size}\n"]
    assert not tail.has_more
    assert tail.read() == []


def test_an_output_is_decrypted_for_the_page_and_for_nobody_without_keys(tmp_path):
    keys = make_keys(tmp_path / "home")
    output, log = output_of(tmp_path, encrypted=True), log_of(tmp_path, encrypted=True)
    with EventLog(log, new_sealer(log, keys)) as file:
        file.append(Event(at=0, kind=Kind.STARTED, cell=None, content={"notebook": NOTEBOOK}))
    publish_notebook(log, output, keys=keys)

    assert "canary" in render(output, keys)
    assert b"canary" in read_output(log, keys)
    assert not [each for each in tmp_path.iterdir() if each.is_file() and b"canary" in each.read_bytes()]
    with pytest.raises(KeysetError, match="is encrypted, and there is no keyset"):
        read_output(output, None)


def test_a_long_output_with_colours_is_shown_soon_and_in_one_colour():
    def notebook(text):
        output = {"output_type": "stream", "name": "stdout", "text": text}
        cell = {"cell_type": "code", "source": "", "metadata": {}, "id": "a", "outputs": [output], "execution_count": 1}
        return {**NOTEBOOK, "cells": [cell]}

    red = "\x1b[31mred\x1b[0m "
    for other in ("\x1b[38:5:1mred\x1b[>0m ", "\x1b[<1=2mred\x1b[?25l ", "\x1b[31 qred\x1b "):
        assert _with_few_colours(notebook(other * 100_000)) == notebook("red " * 100_000)
    assert _with_few_colours(notebook(["red \x1b", "[31m"] * 50_000)) == notebook(["red ", "[31m"] * 50_000)
    assert _with_few_colours(notebook(red * 10)) == notebook(red * 10)
    assert _with_few_colours(notebook(red * 100_000)) == notebook("red " * 100_000)
    assert _with_few_colours(notebook([red] * 100_000)) == notebook(["red "] * 100_000)


def test_the_output_of_another_attempt_is_refused_in_its_place(tmp_path):
    keys = make_keys(tmp_path / "home")
    for name in ("a.1-1", "a.2-2"):
        write_file(output_of(tmp_path / name, encrypted=True), name.encode(), keys)
    output_of(tmp_path / "a.1-1", encrypted=True).replace(output_of(tmp_path / "a.2-2", encrypted=True))

    with pytest.raises(OtherContext, match=r"a\.2-2/output\.ipynb"):
        read_output(output_of(tmp_path / "a.2-2", encrypted=True), keys)


def test_a_notebook_in_clear_is_not_taken_for_an_encrypted_one(tmp_path):
    keys = make_keys(tmp_path / "home")
    output_of(tmp_path, encrypted=True).write_text("{}")

    with pytest.raises(UnsupportedFormat, match="is not encrypted"):
        read_output(output_of(tmp_path, encrypted=True), keys)


@pytest.mark.parametrize(
    ("path", "is_shown"),
    [("r/output.ipynb", True), ("r/output.ipynb.enc", True), ("r/log.jsonl.enc", False), ("", False), (None, False)],
)
def test_the_page_offers_notebooks_in_clear_and_encrypted(path, is_shown):
    template = build_templates().from_string("{{ path is notebook }}")

    assert template.render(path=path) == str(is_shown)


def test_what_steers_a_terminal_is_taken_out_of_text():
    assert plain("\x1b[31mred\x1b[0m \x1b]8;;http://evil\x07link\x1b]8;;\x07") == "red link"
    assert plain("\x1b[38:5:1mred\x1b[>0m") == "red"


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


@pytest.mark.parametrize(("has", "outcome"), [(Right.RUNNER, "allowed"), (Right.VIEWER, "refused")])
def test_each_look_at_a_right_is_counted_as_it_ended(has, outcome):
    counts = {each: AUTHORIZATIONS.labels("pipelines", each)._value for each in ("allowed", "refused")}
    before = {each: count.get() for each, count in counts.items()}

    is_allowed(has, Right.RUNNER)

    assert {each: count.get() - before[each] for each, count in counts.items()} == {
        "allowed": 0, "refused": 0, outcome: 1,
    }  # fmt: skip


def test_who_has_no_role_at_all_is_counted_as_refused():
    count = AUTHORIZATIONS.labels("pipelines", "refused")._value
    before = count.get()
    nobody = AsyncMock(return_value=Person(name="mallory", right=Right.NONE))
    handler = Handler.__new__(Handler)
    handler.service = SimpleNamespace(entrance=SimpleNamespace(person=nobody))

    with pytest.raises(Forbidden):
        asyncio.run(handler.prepare())

    assert count.get() - before == 1


def is_allowed(has: Right, needs: Right) -> bool:
    try:
        demand(has, needs, "this")
    except Forbidden:
        return False
    return True


def text(said: str, cell: int = 0) -> Event:
    content = {"output_type": "stream", "name": "stdout", "text": said}
    return Event(at=0, kind=Kind.OUTPUT, cell=cell, content=content)
