"""Lines of logs: nobody forges one, whose they are is in them, and they can be read again."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from workbench.cli.main import make_application
from workbench.logs.beginning import LogOptions, begin_logs, begin_step_logs
from workbench.logs.context import (
    LONGEST_VALUE,
    VARIABLE,
    WELL_FORMED,
    as_variable,
    bind_request,
    bound,
    log_context,
    read_variable,
    request_id,
)  # fmt: skip
from workbench.logs.files import Log, find_logs, last_lines
from workbench.logs.formatting import CONTINUED, LogFormat, make_formatter
from workbench.logs.lines import Line, Wanted
from workbench.logs.rotation import LogLimits, older_logs, rotate
from workbench.settings import log_settings

TIME = datetime(2026, 1, 31, 8, 0, 0, 123_000, tzinfo=UTC)
FORMS = tuple(LogFormat)


def written(message: str, *args: object, form: LogFormat = LogFormat.TEXT, name: str = "workbench.some", **more) -> str:
    record = logging.LogRecord(name, logging.WARNING, "", 0, message, args, more.get("exc_info"))
    record.created, record.process = TIME.timestamp(), 42
    return make_formatter("hub", form).format(record)


def read(text: str) -> list[Line]:
    found: list[Line] = []
    for each in text.split("\n") if text else ():
        line = Line.parse(each, "hub")
        found += [line] if line is not None else [found.pop().with_more(each)]
    return found


def test_a_line_says_when_who_and_whose():
    with bound(run=5, attempt=2, step="load", user="Ada Lovelace", flow=None):
        text, as_json = (written("all %s", "well", form=form) for form in FORMS)

    assert text == (
        '2026-01-31T08:00:00.123Z WARNING hub[42] workbench.some run=5 attempt=2 step=load user="Ada Lovelace": all well'
    )
    assert json.loads(as_json) == {
        "time": "2026-01-31T08:00:00.123Z", "level": "WARNING", "component": "hub", "pid": 42,
        "logger": "workbench.some", "message": "all well", "run": "5", "attempt": "2", "step": "load",
        "user": "Ada Lovelace",
    }  # fmt: skip
    assert log_context() == {}


@given(message=st.text(), user=st.text(), name=st.text())
def test_whatever_values_hold_it_is_one_line_that_reads_as_it_was_meant(message: str, user: str, name: str):
    for form in FORMS:
        with bound(run=5, user=user):
            text = written("%s", message, form=form, name=name)
        assert text.splitlines() == [text]
        assert text.isprintable()
        (line,) = read(text)
        assert (line.component, line.pid, line.level, line.time) == ("hub", 42, "WARNING", TIME)
        assert dict(line.fields) == {"run": "5"} | ({"user": user[:LONGEST_VALUE]} if user else {})
        assert line.as_text().splitlines() == [line.as_text()]
        if form is LogFormat.JSON:
            assert line.message == message


def test_a_message_forges_no_line_no_field_and_no_traceback():
    forged = "ok\n2026-01-31T08:00:00.123Z ERROR hub[42] workbench.some run=6: stolen\r\n  | more\x1b[2J\u2028\u202e"
    for form in FORMS:
        with bound(run=5):
            (line,) = read(written(forged, form=form))
        assert line.fields == {"run": "5"}
        assert line.more == ()
        assert line.as_text().isprintable()
        assert not Wanted(run="6").matches(line)
    # Nor does what stands where the fields are.
    (line,) = read(written("a request=stolen run=6: b"))
    assert (line.fields, line.message) == ({}, "a request=stolen run=6: b")


def test_a_traceback_belongs_to_its_line():
    try:
        int("one\n2026-01-31T08:00:00.123Z ERROR hub[1] root: two")
    except ValueError:
        told = sys.exc_info()

    for form in FORMS:
        text = written("no", form=form, exc_info=told)
        (line,) = read(text)
        assert line.more[0] == "Traceback (most recent call last):"
        assert any("ValueError: invalid literal" in each for each in line.more)
        assert len(text.splitlines()) == (1 if form is LogFormat.JSON else len(line.more) + 1)
        assert all(each.startswith(CONTINUED) for each in text.splitlines()[1:])


@pytest.mark.parametrize(
    "sent", ["7", "8f14e45f-ceea-467f-a0e6", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"]
)
def test_an_id_that_is_well_formed_is_kept(sent: str):
    assert request_id(sent) == sent


@pytest.mark.parametrize("sent", [None, "", "a b", "a\nb", "a" * 65, "-rf", "é", "a;b", '"', "%0a", "a\n"])
def test_an_id_that_is_not_is_replaced(sent: str | None):
    found = request_id(sent)
    assert found != sent
    assert WELL_FORMED.fullmatch(found)
    assert request_id(sent) != found


def test_a_variable_takes_a_context_into_another_process():
    variable = as_variable(run=5, step="load", user=None)
    assert read_variable(variable[VARIABLE]) == {"run": "5", "step": "load"}
    assert read_variable("") == {}
    for wrong in ("5", "[]", '{"run": 5}', '{"who": "5"}', "{"):
        with pytest.raises(ValueError):
            read_variable(wrong)


def test_contexts_of_tasks_do_not_mix():
    seen = {}

    def work(run: int) -> None:
        with bound(run=run):
            bind_request(f"of-{run}")
            barrier.wait(10)
            seen[run] = log_context()

    barrier = threading.Barrier(4)
    threads = [threading.Thread(target=work, args=(run,)) for run in range(1, 5)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(10)
    assert seen == {run: {"run": str(run), "request": f"of-{run}"} for run in range(1, 5)}


CHILD = """
import logging, os, sys
from workbench.logs.beginning import begin_logs, begin_step_logs
from workbench.masking import remember
if sys.argv[1] == "step":
    begin_step_logs(os.environ)
else:
    from workbench.settings import log_settings
    begin_logs("hub", log_settings().options)
    begin_logs("hub", log_settings().options)
remember("s3cret-canary")
for name in ("workbench.a", "somebody.elses"):
    logging.getLogger(name).debug("details")
    logging.getLogger(name).info("news of s3cret-canary")
    logging.getLogger(name).warning("trouble")
"""


def child(kind: str, tmp_path: Path, **variables: str) -> list[Line]:
    environment = {"PATH": "/usr/bin:/bin", "WORKBENCH_HOME": str(tmp_path), **variables}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, kind], capture_output=True, text=True, check=True, env=environment, cwd=tmp_path
    )
    assert "s3cret" not in done.stderr
    return read(done.stderr.rstrip("\n"))


def told(lines: list[Line]) -> list[tuple[str, str]]:
    return [(each.logger, each.message) for each in lines]


def test_a_process_tells_what_the_settings_say(tmp_path: Path):
    news, trouble = "news of [secret]", "trouble"
    both = [(name, text) for name in ("workbench.a", "somebody.elses") for text in (news, trouble)]
    assert told(child("process", tmp_path)) == both
    # Of libraries nothing below info: it may hold what they send.
    assert told(child("process", tmp_path, WORKBENCH_LOG_LEVEL="debug")) == [("workbench.a", "details"), *both]
    lines = child("process", tmp_path, WORKBENCH_LOG_FORMAT="json", WORKBENCH_LOG_LEVEL="error")
    assert lines == []
    # What is wrong is told by whoever reads all settings.
    assert told(child("process", tmp_path, WORKBENCH_LOG_FORMAT="xml", WORKBENCH_LOG_LEVEL="loud")) == both


@pytest.mark.parametrize("form", FORMS)
def test_a_step_tells_whose_it_is(tmp_path: Path, form: LogFormat):
    lines = child("step", tmp_path, WORKBENCH_LOG_FORMAT=form, **as_variable(run=5, step="load"))
    ours = [each for each in lines if each.is_ours]
    assert told(ours) == [("workbench.a", "trouble")]
    assert (ours[0].component, ours[0].fields) == ("kernel", {"run": "5", "step": "load"})


def test_where_somebody_has_set_up_logging_nothing_is_changed():
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    begin_logs("hub", LogOptions())
    begin_step_logs({})
    assert (root.handlers, root.level) == before
    ours = [each for each in logging.getLogger("workbench").handlers if type(each).__name__ == "_OfNotebooks"]
    try:
        # As in a notebook that has called basicConfig.
        assert not ours[0].filter(logging.makeLogRecord({}))
    finally:
        for each in ours:
            logging.getLogger("workbench").removeHandler(each)


FOREIGN = {
    "2026-01-31T08:00:00.123Z WARN NetworkClient: no": "WARNING",
    "2026-01-31 08:00:00.123 UTC [77] wb@wb ERROR:  no": "ERROR",
    "2026-01-31 08:00:00.123 UTC [77] wb@wb FATAL:  no": "CRITICAL",
    "2026-01-31 08:00:00.123 UTC [77] @ LOG:  ready": "INFO",
    "2026-01-31T09:00:00.123+01:00 ERROR Executor: no": "ERROR",
    "2026-01-31T08:00:00.123Z INF traefik": "",
}


@pytest.mark.parametrize("text", FOREIGN)
def test_time_and_level_of_other_programs_are_known(text: str):
    line = Line.parse(text, "kafka")
    assert line is not None
    assert (line.time, line.level, line.is_ours) == (TIME, FOREIGN[text], False)
    assert line.as_text() == f"kafka: {text}"


def test_what_has_no_time_belongs_to_what_stands_before(tmp_path: Path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "kafka.log").write_text(
        "greeting\n2026-01-31T08:00:00.123Z ERROR A: no\njava.lang.X: \x1b[2J\n\tat B\nhalf"
    )
    lines = last_lines([Log("kafka", tmp_path / "logs" / "kafka.log")], Wanted(level="ERROR"), 10)
    assert [each.more for each in lines] == [("java.lang.X: \x1b[2J", "\tat B")]
    assert "\x1b" not in lines[0].as_text()


def line(second: int, text: str, component: str = "hub", **fields: str) -> str:
    told = "".join(f" {name}={value}" for name, value in fields.items())
    when = (TIME + timedelta(seconds=second)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"{when} INFO {component}[1] workbench.a{told}: {text}\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    (tmp_path / "logs" / "flows").mkdir(parents=True)
    (tmp_path / "logs" / "hub.log").write_text(line(1, "one", request="r1") + line(3, "three", request="r2"))
    (tmp_path / "logs" / "monitor.log.1").write_text(line(0, "zero", "monitor") + line(2, "two", "monitor")[:40])
    (tmp_path / "logs" / "monitor.log").write_text(line(2, "two", "monitor")[40:])
    (tmp_path / "logs" / "flows" / "a.log").write_text(line(4, "four", "flow", flow="a", run="7"))
    return tmp_path


def run(*arguments: str) -> str:
    done = CliRunner().invoke(make_application(), ["logs", *arguments])
    assert done.exception is None, (done.output, done.exception)
    return done.stdout


def messages(*arguments: str) -> list[str]:
    return [json.loads(each)["message"] for each in run("--json", *arguments).splitlines()]


def test_the_command_joins_logs_by_time_and_finds_what_belongs_together(home: Path):
    assert messages() == ["zero", "one", "two", "three", "four"]
    assert messages("-n", "2") == ["three", "four"]
    assert messages("monitor") == ["zero", "two"]
    assert messages("flow:a") == messages("--run", "7") == ["four"]
    assert messages("--request", "r2") == ["three"]
    assert messages("--level", "warning") == []
    assert messages("--since", (TIME + timedelta(seconds=3)).isoformat()) == ["three", "four"]
    assert run("flow:a") == "2026-01-31T08:00:04.123Z INFO    flow:a flow=a run=7: four\n"
    assert sorted(find_logs(home)) == ["flow:a", "hub", "monitor"]


@pytest.mark.parametrize("arguments", [("hubb",), ("--level", "loud"), ("--since", "soon")])
def test_what_does_not_exist_is_said(home: Path, arguments: tuple[str, ...]):
    done = CliRunner().invoke(make_application(), ["logs", *arguments])
    assert done.exception is not None
    assert arguments[-1] in str(done.exception)


SMALL = LogLimits(size_bytes=20_000, keep=4)


def test_a_log_that_is_cut_while_it_is_written_loses_nothing(tmp_path: Path):
    log, stopping, written = tmp_path / "a.log", threading.Event(), []
    log.touch()

    def write() -> None:
        with log.open("ab", buffering=0) as file:
            while not stopping.is_set():
                file.write(line(len(written), f"line {len(written)}").encode())
                written.append(len(written))

    thread = threading.Thread(target=write)
    thread.start()
    limits = LogLimits(size_bytes=20_000, keep=1000)
    cuts = 0
    while cuts < 5:
        cuts += rotate(log, limits)
    stopping.set()
    thread.join()

    kept = older_logs(log)
    assert len(kept) == 5
    assert [each.name for each in tmp_path.glob("*.new")] == []
    joined = b"".join(each.read_bytes() for each in [*kept, log]).decode()
    assert joined == "".join(line(number, f"line {number}") for number in written)
    assert {each.stat().st_mode & 0o777 for each in kept} == {0o600}


@pytest.mark.parametrize("keep", [1, 2, 100])
def test_who_follows_a_log_that_is_cut_misses_nothing_and_reads_nothing_twice(tmp_path: Path, keep: int):
    log = tmp_path / "a.log"
    followed, seen, number = Log("a", log), [], 0
    for looked, count in enumerate((1, 150, 400, 3, 700, 500, 2, 450)):
        with log.open("ab") as file:
            file.writelines(line(number + each, f"line {number + each}").encode() for each in range(count))
        number += count
        if looked % 2:
            rotate(log, LogLimits(size_bytes=8_000, keep=keep))
        seen += followed.new_lines()

    assert [each.message for each in seen] == [f"line {each}" for each in range(number)]
    assert older_logs(log)


def test_no_more_is_kept_than_was_asked_for(tmp_path: Path):
    log = tmp_path / "a.log"
    for round_ in range(7):
        with log.open("ab") as file:
            file.write(b"%d" % round_ * 30_000)
        assert rotate(log, SMALL)
    assert not rotate(log, SMALL)
    assert not rotate(tmp_path / "none.log", SMALL)
    assert [each.name for each in older_logs(log)] == ["a.log.4", "a.log.3", "a.log.2", "a.log.1"]
    with log.open("ab") as file:
        file.write(b"x" * 30_000)
    assert rotate(log, LogLimits(size_bytes=20_000, keep=0))
    assert older_logs(log) == []
    assert log.stat().st_size < 10_000


def test_a_link_is_not_followed(tmp_path: Path):
    (tmp_path / "target").write_bytes(b"x" * 30_000)
    (tmp_path / "a.log").symlink_to(tmp_path / "target")
    with pytest.raises(OSError):
        rotate(tmp_path / "a.log", SMALL)
    assert (tmp_path / "target").stat().st_size == 30_000


def test_settings_of_logs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    monkeypatch.setenv("WORKBENCH_LOG_SIZE", "2k")
    monkeypatch.setenv("WORKBENCH_LOG_KEEP", "0")
    assert log_settings().limits == LogLimits(size_bytes=2048, keep=0)
    monkeypatch.setenv("WORKBENCH_LOG_KEEP", "-1")
    assert log_settings().limits == LogLimits(size_bytes=2048, keep=3)
