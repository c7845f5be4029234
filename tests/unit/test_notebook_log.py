"""The log of an execution and the notebook that is built from it, without a kernel."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import resource
import stat
import threading
from pathlib import Path
from urllib.parse import quote, quote_plus

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from pipelines.engine.job import JobLimits, NotebookJob
from pipelines.engine.record import log as record_log
from pipelines.engine.record.events import Event, Kind, parse_event, read_events
from pipelines.engine.record.keeping import new_sealer
from pipelines.engine.record.log import EventLog
from pipelines.engine.record.notebook import build_notebook, is_executed, read_notebook, tags
from pipelines.engine.record.publishing import notebook_bytes, publish_notebook
from pipelines.engine.record.recorder import Recorder
from pipelines.engine.record.redaction import Redactor
from pipelines.engine.running.cells import CellRunner
from pipelines.engine.source import read_source
from pipelines.runner.folders import log_of
from pipelines.states import State
from tests.services.keysets import make_keys
from tests.services.notebooks import printed, secrets, statuses, write_notebook
from workbench.errors import WorkbenchError
from workbench.security.keyset.opening import Keys

TEXTS = st.text(st.characters(exclude_categories=()), max_size=40)  # lone surrogates too
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
TWO_CELLS = {
    "cells": [
        {"cell_type": "code", "source": "1", "metadata": {}, "id": "a"},
        {"cell_type": "markdown", "source": "# x", "metadata": {}, "id": "b"},
        {"cell_type": "code", "source": "2", "metadata": {}, "id": "c"},
    ],
    "metadata": {},
    "nbformat": 4,
    "nbformat_minor": 5,
}


class KeptLog(EventLog):
    """Keeps the events, too."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.events: list[Event] = []

    def append(self, event: Event) -> None:
        super().append(event)
        self.events.append(event)


def event(kind: Kind, cell: int | None = None, at: float = 1.0, **content: object) -> Event:
    return Event(at=at, kind=kind, cell=cell, content=content)


def stream(cell: int, text: str, name: str = "stdout") -> Event:
    return event(Kind.OUTPUT, cell, output_type="stream", name=name, text=text)


STARTED = event(Kind.STARTED, notebook=TWO_CELLS)
ENDED_CELL = {"status": "ok", "execution_count": 1, "left_out_bytes": 0}


@pytest.fixture
def record(tmp_path):
    """Records messages as a kernel sends them, and gives the text that was logged of each cell."""

    def run(
        *messages: tuple[int, str, dict], limits: JobLimits = JobLimits(), **hidden: str
    ) -> tuple[KeptLog, Recorder]:
        with KeptLog(tmp_path / "log.jsonl") as log:
            recorder = Recorder(log, Redactor(secrets(**hidden)), limits, lambda _: None)
            recorder.start(TWO_CELLS)
            for cell, kind, content in messages:
                recorder.take(cell, kind, content)
            recorder.end_cell(0, status="ok", execution_count=1)
            recorder.end(None, {"state": "succeeded", "message": ""})
        return log, recorder

    return run


def out(text: str, cell: int = 0) -> tuple[int, str, dict]:
    return cell, "stream", {"name": "stdout", "text": text}


@given(VALUES)
def test_an_event_is_read_as_it_was_written(value):
    written = Event(at=1.5, kind=Kind.OUTPUT, cell=3, content={"value": value})

    assert parse_event(written.as_line()) == written
    assert written.as_line().count(b"\n") == 1


@given(st.binary(max_size=60))
def test_a_line_that_is_no_event_is_told_from_one(line):
    with pytest.raises(ValueError):
        parse_event(line)


def test_a_log_is_private_and_never_another_s(tmp_path):
    with EventLog(tmp_path / "new" / "log.jsonl") as log:
        log.append(STARTED)

    assert stat.S_IMODE((tmp_path / "new" / "log.jsonl").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    with pytest.raises(FileExistsError), EventLog(tmp_path / "new" / "log.jsonl"):
        pass


def test_half_a_second_is_between_the_begins_of_two_syncs_however_long_one_takes(tmp_path, monkeypatch):
    seconds, waits, takes = [10.0], [], [0.2, 0.7]
    log = EventLog(tmp_path / "log.jsonl")

    def sync(_: int) -> None:
        seconds[0] += takes.pop(0)

    def wait(timeout: float) -> None:
        waits.append(timeout)
        if not takes:
            log._is_closing.set()
        log._is_new.set()

    monkeypatch.setattr(record_log.time, "monotonic", lambda: seconds[0])
    monkeypatch.setattr(record_log.os, "fsync", sync)
    monkeypatch.setattr(log._is_closing, "wait", wait)
    log._is_new.set()
    log._sync()

    assert waits == [pytest.approx(0.3), 0.0]


def test_a_disk_that_is_busy_at_the_end_of_a_log_keeps_no_other_step_waiting(tmp_path, monkeypatch):
    others_go_on, waited = threading.Event(), []
    monkeypatch.setattr(record_log.os, "fsync", lambda _: waited.append(others_go_on.wait(5)))

    async def end() -> None:
        async with EventLog(tmp_path / "log.jsonl") as log:
            log.append(STARTED)
            asyncio.get_running_loop().call_soon(others_go_on.set)

    asyncio.run(end())

    assert set(waited) == {True}


@pytest.fixture(params=["in clear", "encrypted"])
def keys(request, tmp_path) -> Keys | None:
    return make_keys(tmp_path / "home") if request.param == "encrypted" else None


def test_an_event_that_finds_no_room_leaves_the_log_as_it_was(tmp_path, keys):
    path = log_of(tmp_path, encrypted=keys is not None)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with EventLog(path, new_sealer(path, keys)) as log:
        log.append(STARTED)
        size = path.stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, limits[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                log.append(stream(0, "x" * 1000))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.stat().st_size == size
        log.append(stream(0, "after"))

    assert [each.kind for each in read_events(path, keys)] == [Kind.STARTED, Kind.OUTPUT]


def test_an_encrypted_log_that_is_cut_anywhere_gives_what_was_whole(tmp_path):
    keys, path = make_keys(tmp_path / "home"), log_of(tmp_path, encrypted=True)
    events = [STARTED, event(Kind.CELL_STARTED, 0), stream(0, "ä\n"), event(Kind.CELL_ENDED, 0, **ENDED_CELL)]
    ends = []
    with EventLog(path, new_sealer(path, keys)) as log:
        for each in events:
            log.append(each)
            ends.append(path.stat().st_size)
    whole = path.read_bytes()

    for cut in range(0, len(whole) + 1, 7):
        path.write_bytes(whole[:cut])
        assert list(read_events(path, keys)) == events[: sum(end <= cut for end in ends)]


@pytest.mark.parametrize("torn", [b'{"at": 1, "kind": "out', b"\0\0\0\0\n", b'{"at": 1}\n', b"\xff\n"])
def test_what_is_behind_a_torn_line_is_not_read(tmp_path, torn):
    path = tmp_path / "log.jsonl"
    path.write_bytes(STARTED.as_line() + stream(0, "kept").as_line() + torn + stream(0, "not").as_line())

    assert [each.kind for each in read_events(path)] == [Kind.STARTED, Kind.OUTPUT]


@given(st.integers(min_value=0))
def test_a_log_that_is_cut_anywhere_gives_a_notebook_or_says_that_it_has_no_beginning(cut):
    events = [STARTED, event(Kind.CELL_STARTED, 0), stream(0, "ä\n"), event(Kind.CELL_ENDED, 0, **ENDED_CELL)]
    whole = b"".join(each.as_line() for each in events)
    cut %= len(whole)
    path = Path("cut.jsonl")
    path.write_bytes(whole[:cut])

    if cut < len(STARTED.as_line()):
        with pytest.raises(ValueError, match="no beginning"):
            read_notebook(path)
    else:
        assert read_notebook(path)["metadata"]["workbench"]["state"] == "lost"


def test_a_notebook_without_an_end_is_lost_in_the_cell_that_ran():
    notebook = build_notebook([STARTED, event(Kind.CELL_STARTED, 0), stream(0, "until here")])

    assert statuses(notebook) == ["failed", "pending", "pending"]
    assert printed(notebook, 0) == "until here"
    assert notebook["cells"][0]["outputs"][-1]["ename"] == "Lost"
    assert notebook["metadata"]["papermill"]["exception"] is True


def test_the_end_can_be_said_by_who_knows_it():
    end = event(Kind.ENDED, 0, state="cancelled", message="a person did")

    notebook = build_notebook([STARTED, event(Kind.CELL_STARTED, 0)], end=end)

    assert notebook["metadata"]["workbench"] == {"state": "cancelled", "message": "a person did"}


def test_streams_are_joined_and_displays_updated_wherever_they_are():
    shown = {"output_type": "display_data", "data": {"text/plain": "0"}, "metadata": {}, "display_id": "d"}
    notebook = build_notebook(
        [
            STARTED,
            *(stream(0, text) for text in ("a", "b\n")),
            stream(0, "c", "stderr"),
            event(Kind.OUTPUT, 0, **shown),
            event(Kind.UPDATED, 2, display_id="d", data={"text/plain": "1"}, metadata={}),
            event(Kind.OUTPUT, 2, **shown),
            event(Kind.CLEARED, 2, wait=True),
            event(Kind.ENDED, state="succeeded", message=""),
        ]
    )

    assert [each.get("text") for each in notebook["cells"][0]["outputs"]] == ["ab\n", "c", None]
    assert notebook["cells"][0]["outputs"][2]["data"] == {"text/plain": "1"}
    assert len(notebook["cells"][2]["outputs"]) == 1
    nbformat.validate(nbformat.from_dict(json.loads(notebook_bytes(notebook))))


def test_events_of_a_log_are_not_changed_by_building():
    events = [STARTED, stream(0, "a"), stream(0, "b")]

    assert build_notebook(events) == build_notebook(events)


def test_a_surrogate_is_seen_in_the_notebook(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(STARTED.as_line() + stream(0, "a\udcffb").as_line())

    publish_notebook(path, tmp_path / "out.ipynb")

    assert printed(nbformat.read(tmp_path / "out.ipynb", as_version=4), 0) == "a\\udcffb"


def test_a_notebook_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    log, output = tmp_path / "log.jsonl", tmp_path / "out.ipynb"
    log.write_bytes(STARTED.as_line())
    output.write_text("old")

    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        publish_notebook(log, output)

    assert output.read_text() == "old"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["log.jsonl", "out.ipynb"]


@given(st.text(min_size=4, max_size=30), st.text(max_size=5), st.text(max_size=5), st.sampled_from(range(3)))
def test_a_secret_is_found_in_every_form(secret, before, after, shift):
    redactor = Redactor({"s": SecretStr(secret)})
    octets = b"x" * shift + secret.encode()

    assert secret not in redactor.redacted(before + secret + after) or secret in "[secret s]"
    for written in (quote(secret, safe=""), quote_plus(secret), json.dumps(secret)):
        assert "[secret s]" in redactor.redacted(written)
    if len(secret.encode()) >= 8:
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            assert "[secret s]" in redactor.redacted(encode(octets + after.encode()).decode())
        assert "[secret s]" in redactor.redacted(octets.hex())


def test_a_secret_that_is_too_short_is_refused_without_its_value():
    with pytest.raises(WorkbenchError, match="pin has fewer than 4 characters") as caught:
        Redactor({"pin": SecretStr("123")})

    assert "123" not in str(caught.value)


@given(st.lists(st.integers(0, 30), max_size=6))
def test_a_secret_that_is_cut_into_messages_is_found(cuts):
    text = "begin canary-0123 canary-canary-0123 end"
    bounds = [0, *sorted({min(cut, len(text)) for cut in cuts}), len(text)]
    path = Path("log.jsonl")
    path.unlink(missing_ok=True)
    with KeptLog(path) as log:
        recorder = Recorder(log, Redactor(secrets(s="canary-0123")), JobLimits(), lambda _: None)
        for start, end in itertools.pairwise(bounds):
            recorder.take(0, "stream", {"name": "stdout", "text": text[start:end]})
        recorder.end_cell(0, status="ok", execution_count=1)

    logged = "".join(each.content["text"] for each in log.events if each.kind is Kind.OUTPUT)
    assert logged == "begin [secret s] canary-[secret s] end"
    assert b"canary-0123" not in path.read_bytes()


@pytest.mark.parametrize("cut", range(54))
def test_of_a_secret_that_a_cut_divides_no_end_is_left(cut):
    redactor = Redactor(secrets(s="canary-ä-0123", t="0123-canary-ä-01"))
    octets = "begin canary-ä-0123-canary-ä-01 canary-canary-ä-0123 end".encode()

    kept = redactor.redacted_tail(octets[cut:].decode("utf-8", "replace"))

    assert kept.endswith(" end")
    assert redactor.redacted(octets.decode()).endswith(kept)


def test_what_was_written_past_the_streams_is_cut_in_no_secret(record):
    _, recorder = record(s="canary-0123")

    recorder.note_lines("ary-0123 canary-0123\n", is_cut=True)

    assert recorder.last_lines == (" [secret s]",)


def test_output_beyond_the_limit_is_cut_and_counted(record):
    log, recorder = record(
        out("a" * 8), out("b" * 8 + "\nlast\n"), out("c" * 4), limits=JobLimits(cell_output_bytes=10)
    )

    notebook = build_notebook(log.events)
    assert printed(notebook, 0).startswith("a" * 8 + "bb")
    assert "[16 bytes of further output were left out]" in printed(notebook, 0)
    assert recorder.last_lines[-2:] == ("last", "cccc")


@pytest.mark.parametrize("kind", ["display_data", "execute_result", "update_display_data"])
@pytest.mark.parametrize("part", ["data", "metadata"])
def test_structured_outputs_count_as_what_they_take(record, kind, part):
    large = {"application/vnd.table+json": {"rows": [{"name": "ä" * 10}] * 40}}
    content = {"data": {}, "metadata": {}, "transient": {"display_id": "d"}, part: large}
    log, _ = record((0, kind, content), out("kept"), limits=JobLimits(cell_output_bytes=1000))

    (ended,) = (each for each in log.events if each.kind is Kind.CELL_ENDED)
    assert ended.content["left_out_bytes"] > 40 * 20
    assert [each.content.get("text") for each in log.events if each.kind in {Kind.OUTPUT, Kind.UPDATED}] == ["kept"]


def test_a_secret_at_the_limit_is_not_cut_in_two(record):
    log, _ = record(out("123456 canary-0123"), limits=JobLimits(cell_output_bytes=12), s="canary-0123")

    assert "cana" not in printed(build_notebook(log.events), 0)


def test_a_secret_in_pieces_is_not_put_together_by_what_stands_between(record):
    update = {"data": {"text/plain": "1"}, "metadata": {}, "transient": {"display_id": "d"}}
    log, _ = record(out("canary-"), (0, "update_display_data", update), out("0123 end"), s="canary-0123")

    assert printed(build_notebook(log.events), 0) == "[secret s] end"


def test_a_secret_in_pieces_is_not_in_the_last_lines_of_what_was_left_out(record):
    limits = JobLimits(cell_output_bytes=3)
    _, recorder = record(out("abcdef canary-"), out("0123 end"), limits=limits, s="canary-0123")

    assert recorder.last_lines == ("abcdef [secret s] end",)


def test_a_secret_that_the_cut_of_a_line_divides_is_not_in_the_last_lines(record):
    limits = JobLimits(cell_output_bytes=3)
    _, recorder = record(out("x" * 1990 + "canary-0123-long\n"), limits=limits, s="canary-0123-long")

    assert recorder.last_lines == ("x" * 1990 + "[secret s]",)


def test_an_error_is_kept_whatever_was_put_out_before(record):
    error = {"ename": "E", "evalue": "no", "traceback": ["E: no"]}
    log, _ = record(out("x" * 50), (0, "error", error), limits=JobLimits(cell_output_bytes=10))

    assert build_notebook(log.events)["cells"][0]["outputs"][1]["ename"] == "E"


def test_the_last_lines_are_fifty_without_colours(record):
    _, recorder = record(*(out(f"\x1b[31m{n}\x1b[0m\n") for n in range(70)), out("no end"))

    assert recorder.last_lines == (*(str(n) for n in range(21, 70)), "no end")


def job(folder: Path, **fields: object) -> NotebookJob:
    return NotebookJob(notebook=folder / "n.ipynb", output=folder / "o.ipynb", log=folder / "l.jsonl", **fields)


def test_what_is_injected_stands_behind_the_parameters_cell_and_takes_the_place_of_an_older_one(tmp_path):
    write_notebook(tmp_path / "n.ipynb", "print(a)", parameters="a = 1")
    first = read_source(job(tmp_path, parameters={"a": 2}))
    (tmp_path / "n.ipynb").write_bytes(notebook_bytes(first.notebook))

    again = read_source(job(tmp_path, injected="a = 3"))

    assert [cell["source"] for cell in first.notebook["cells"]] == ["a = 1", "# Parameters\na = 2", "print(a)"]
    assert [cell["source"] for cell in again.notebook["cells"]] == ["a = 1", "a = 3", "print(a)"]


@pytest.mark.parametrize("odd", [None, "parameters", 1, {"a": 1}, [None, ["a"], {}]])
def test_tags_that_are_none_count_as_none(tmp_path, odd):
    write_notebook(tmp_path / "n.ipynb", "1", parameters="a = 1")
    notebook = json.loads((tmp_path / "n.ipynb").read_text())
    notebook["cells"][1]["metadata"]["tags"] = odd
    (tmp_path / "n.ipynb").write_text(json.dumps(notebook))

    cells = read_source(job(tmp_path, parameters={"a": 2})).notebook["cells"]

    assert [tags(each) for each in cells] == [("parameters",), ("injected-parameters",), ()]
    assert all(map(is_executed, cells))


def test_a_secret_is_a_reference_in_the_notebook(tmp_path):
    write_notebook(tmp_path / "n.ipynb", "1", parameters="token = ''")

    source = read_source(job(tmp_path, secrets=secrets(token="canary-0123")))

    assert source.notebook["cells"][1]["source"] == 'token = __import__("workbench_run").secret("token")'
    assert "canary" not in json.dumps(source.notebook) + repr(job(tmp_path, secrets=secrets(token="canary-0123")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no notebook"),
        ("{", "is no notebook"),
        ("[]", "is no notebook"),
        ('{"cells": [1], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', "is no notebook"),
        ('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}', "does not say which kernel"),
    ],
)
def test_what_is_no_notebook_is_refused_before_anything_runs(tmp_path, content, message):
    if content:
        (tmp_path / "n.ipynb").write_text(content)

    with pytest.raises(WorkbenchError, match=message):
        read_source(job(tmp_path))


def test_a_notebook_without_a_parameters_cell_takes_none(tmp_path):
    write_notebook(tmp_path / "n.ipynb", "1")

    with pytest.raises(WorkbenchError, match="does not take a"):
        read_source(job(tmp_path, parameters={"a": 1}))
    with pytest.raises(WorkbenchError, match="has no parameters cell"):
        read_source(job(tmp_path, injected="a = 1"))


def test_a_path_with_braces_is_a_path(tmp_path):
    folder = tmp_path / "{a}"
    folder.mkdir()
    write_notebook(folder / "n.ipynb", "1", parameters="a = 1")

    assert read_source(job(folder, parameters={"a": 2})).kernel == "python3"


def test_nothing_of_an_execution_begins_when_the_input_is_wrong(tmp_path):
    from pipelines.engine.execution import execute
    from pipelines.engine.kernels.pool import KernelPool

    with pytest.raises(WorkbenchError, match="there is no notebook"):
        asyncio.run(execute(job(tmp_path), kernels=KernelPool(environment={}), cancel=asyncio.Event()))

    assert [*tmp_path.iterdir()] == []


def test_a_cell_injected_for_another_run_is_not_executed_unless_papermill_has_just_written_it(tmp_path):
    write_notebook(tmp_path / "n.ipynb", "print(a)", parameters="a = 1")
    (tmp_path / "n.ipynb").write_bytes(notebook_bytes(read_source(job(tmp_path, parameters={"a": 2})).notebook))

    sources = [
        [cell["source"] for cell in read_source(job(tmp_path, keeps_injected=keeps)).notebook["cells"]]
        for keeps in (False, True)
    ]

    assert sources == [["a = 1", "print(a)"], ["a = 1", "# Parameters\na = 2", "print(a)"]]


@pytest.mark.parametrize(
    ("kept", "state", "value"),
    [
        (None, State.SUCCEEDED, ""),
        (False, State.SUCCEEDED, ""),
        (True, State.SUCCEEDED, ""),
        (0, State.SUCCEEDED, ""),
        (1, State.FAILED, "1"),
        ("bad data", State.FAILED, "bad data"),
    ],
)
def test_exit_with_a_value_is_a_failure_as_with_sys_exit(kept, state, value):
    reply = {"status": "ok", "execution_count": 3, "payload": [{"source": "ask_exit", "keepkernel": kept}]}

    verdict = CellRunner._verdict(None, 0, TWO_CELLS["cells"][0], reply, None)

    assert (verdict.state, verdict.error_value) == (state, value)
    assert verdict.error_name == ("SystemExit" if value else "")
