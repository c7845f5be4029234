"""`workbench audit …`, and what is recorded of every other command."""

from __future__ import annotations

import csv
import io
import json
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import typer
from pydantic import SecretStr
from typer.testing import CliRunner, Result

from tests.services.audit_forger import Forgery
from workbench.cli import audit as commands
from workbench.errors import AuditError, WorkbenchError
from workbench.security.audit import Action, AuditLog, Event, Outcome, read_events
from workbench.security.audit.commands import audited, operator
from workbench.security.audit.proof import anchors
from workbench.security.audit.proof.anchors import FileAnchor
from workbench.security.audit.proof.checkpointer import Checkpointer
from workbench.security.audit.proof.verification import Verdict
from workbench.security.audit.retention import removable, remove_segments
from workbench.security.audit.segments import segments

COMMANDS = (
    "tail", "search", "export", "verify", "checkpoint", "rotate-key", "public-key", "anchor-sql", "remove"
)  # fmt: skip


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def log(home: Path) -> AuditLog:
    log = AuditLog.of(home)
    log.record(Action.LOGIN_SUCCEEDED, actor="gh-ada", resource="hub", login="ada")
    log.record(Action.LOGIN_REFUSED, actor="", resource="hub", reason="\x1b[2J=cmd()")
    log.append(Event("=SUM(A1)", Action.LOGOUT, "hub", Outcome.SUCCESS, time=datetime.now(UTC) - timedelta(days=9)))
    return log


def run(*arguments: str) -> Result:
    application = typer.Typer()
    application.callback()(lambda: None)
    commands.add_commands(application)
    return CliRunner().invoke(application, ["audit", *arguments])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example(command):
    shown = run(command, "--help")

    assert shown.exit_code == 0
    assert f"Example: workbench audit {command}" in shown.output


def test_tail_shows_the_newest_last_and_nothing_that_moves_a_cursor(log):
    lines = run("tail", "-n", "2").output.splitlines()

    assert [line.split()[3] for line in lines] == ["login.refused", "logout"]
    assert "\x1b" not in lines[0]
    assert "\\x1b[2J" in lines[0]


def test_search_finds_by_pattern_and_time_and_says_when_there_is_nothing(log):
    found = run("search", "--action", "log*", "--since", "7d", "--json")

    assert [json.loads(line)["status"] for line in found.output.splitlines()] == ["success", "refused"]
    assert run("search", "--outcome", "refused").output.count("\n") == 1
    nothing = run("search", "--actor", "nobody")
    assert (nothing.exit_code, nothing.output) == (1, "")
    for wrong in ("yesterday", "99999999999d", "12", "2026-13-01"):
        assert "is no time" in run("search", "--since", wrong).exception.message


def test_an_export_into_a_file_that_others_may_read_takes_that_from_them(log, tmp_path):
    file = tmp_path / "all.jsonl"
    file.write_text("x" * 100_000)
    file.chmod(0o644)
    with file.open() as of_another:
        assert run("export", str(file)).exit_code == 0
        assert of_another.read() == "x" * 100_000

    assert file.stat().st_mode & 0o777 == 0o600
    assert "xxx" not in file.read_text()
    assert run("export", "/dev/null").exit_code == 0
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_an_export_that_cannot_be_written_names_the_file_that_was_asked_for(log, tmp_path):
    (tmp_path / "loop").symlink_to("loop")

    found = run("export", str(tmp_path / "nowhere" / "all.jsonl")).exception

    assert isinstance(found, AuditError)
    assert found.message == f"{tmp_path / 'nowhere' / 'all.jsonl'} cannot be written: No such file or directory"
    assert run("export", str(tmp_path / "loop")).exit_code == 0  # it takes the place of what leads nowhere


def test_an_export_is_private_recorded_and_runs_no_formula(log, tmp_path):
    assert run("export", str(tmp_path / "all.csv"), "--format", "csv").exit_code == 0
    assert run("export", str(tmp_path / "all.jsonl"), "--action", "login.*").exit_code == 0

    rows = list(csv.DictReader(io.StringIO((tmp_path / "all.csv").read_text())))
    assert [each["actor"] for each in rows][1:4] == ["gh-ada", "", "'=SUM(A1)"]
    events = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert [Event.of_ocsf(each).action for each in events] == ["login.succeeded", "login.refused"]
    assert (tmp_path / "all.csv").stat().st_mode & 0o777 == 0o600
    assert [each.actor for each in read_events(log.path, action=Action.AUDIT_EXPORTED)] == [operator()] * 2


def test_verify_has_an_exit_code_for_each_verdict(log, home):
    unknown = run("verify")
    assert (unknown.exit_code, "cannot be told" in unknown.output) == (2, True)

    assert run("checkpoint").exit_code == 0
    whole = run("verify", "--json")
    assert (whole.exit_code, json.loads(whole.output)["verdict"]) == (0, "whole")

    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.write_bytes(b"".join(lines[:-2]))
    tampered = run("verify")
    assert tampered.exit_code == 1
    assert "2 are gone. Proved by checkpoint 1 of checkpoints.log" in tampered.output


def test_a_public_key_that_was_kept_finds_out_that_the_key_was_exchanged(log, home, tmp_path):
    run("checkpoint")
    kept = tmp_path / "kept.pem"
    kept.write_text(run("public-key").output)
    assert run("rotate-key").exit_code == 0
    assert run("verify", "--public-key", str(kept)).exit_code == 0

    (home / "keys" / "audit-signing").unlink()
    run("checkpoint")

    assert run("verify", "--public-key", str(kept)).exit_code == 1
    assert isinstance(run("verify", "--public-key", str(log.path)).exception, AuditError)


def test_an_anchor_may_be_given_as_a_file(log, home, tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_AUDIT_ANCHOR_FILE", str(tmp_path / "anchor"))
    run("checkpoint")
    monkeypatch.delenv("WORKBENCH_AUDIT_ANCHOR_FILE")
    (home / "audit" / "checkpoints.log").unlink()

    found = json.loads(run("verify", "--anchor", str(tmp_path / "anchor"), "--json").output)

    assert found["verdict"] == "tampered"
    assert {each["kind"] for each in found["problems"]} == {"fork"}


def test_old_segments_and_their_checkpoints_are_removed_with_a_line_that_says_so(home, tmp_path):
    log = AuditLog(home / "audit" / "events.jsonl", segment_bytes=1500)
    for _ in range(9):
        log.record(Action.LOGOUT, actor="gh-ada", resource="hub")
    checkpointer = Checkpointer(log, home / "keys" / "audit-signing", (FileAnchor(tmp_path / "anchor"),))
    checkpointer.tick()
    for _ in range(3):
        log.record(Action.LOGOUT, actor="gh-ada", resource="hub")
        checkpointer.tick(is_forced=True)
    assert "Nothing is old enough" in run("remove", "1d").output
    files = removable(log, datetime.now(UTC) + timedelta(days=1))
    assert files == segments(log.path)[:-1]

    last = remove_segments(checkpointer, files, "operator:ada")

    report = json.loads(run("verify", "--json", "--anchor", str(tmp_path / "anchor")).output)
    assert (report["verdict"], report["anchored"], report["checkpoints"] < 4) == ("whole", 4, True)
    assert any(f"removed lines to {last}" in each for each in report["notes"])
    for _ in range(6):
        log.record(Action.LOGOUT, actor="gh-ada", resource="hub")
    assert run("remove", "0d", "--yes").output.startswith("Removed lines 1 to ")
    assert run("verify").exit_code == 0
    assert len(segments(log.path)) == 1


def test_who_is_killed_while_removing_leaves_a_log_that_is_whole(tmp_path, monkeypatch):
    at = Forgery(tmp_path)
    at.write(40)
    at.checkpointer.tick(is_forced=True)
    files = at.closed
    unlink = Path.unlink

    def killed(path, *arguments, **named):
        if path == files[1]:
            raise KeyboardInterrupt
        unlink(path, *arguments, **named)

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        remove_segments(at.checkpointer, files[:4], "operator:ada")
    monkeypatch.undo()

    assert at.closed[0] == files[1]
    assert (at.verify().verdict, at.verify().problems) == (Verdict.WHOLE, [])
    # What is not removed with a word still is missed.
    files[4].unlink()
    assert at.verify().verdict is Verdict.TAMPERED
    remove_segments(at.checkpointer, files[1:4], "operator:ada")
    assert [each.kind for each in at.verify().problems] == ["deletion"]


@pytest.mark.parametrize("left", [1, 40, 87])
def test_a_checkpoint_that_a_crash_has_cut_off_within_its_signature_is_no_tampering(tmp_path, left):
    at = Forgery(tmp_path)
    content = at.checkpoints.read_bytes()
    *_, last = content.splitlines(keepends=True)
    signature = last.rindex(b" ") + 1
    at.checkpoints.write_bytes(content[: len(content) - len(last) + signature + left])
    at.anchor.path.write_bytes(b"".join(content.splitlines(keepends=True)[:-1]))
    at.write(1)
    at.checkpointer.tick(is_forced=True)

    report = at.verify()

    assert (report.verdict, report.problems) == (Verdict.WHOLE, [])
    assert any("bytes that a crash has left" in each for each in report.notes)


def test_a_checkpoint_that_somebody_has_shortened_is_missed(tmp_path):
    at = Forgery(tmp_path)
    first, second, third = at.checkpoints.read_bytes().splitlines(keepends=True)
    at.checkpoints.write_bytes(first + second[:-20] + b"\n" + third)

    problems = at.verify(anchored=False).problems

    assert [each.message for each in problems] == ["checkpoint 3 does not continue checkpoint 1."]


@contextmanager
def a_silent_server(told: bytes) -> Iterator[int]:
    """Lets in whoever connects, and never answers again; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as server, ExitStack() as stack:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)

        def serve() -> None:
            with suppress(OSError):
                connection = stack.enter_context(server.accept()[0])
                connection.sendall(told)

        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def test_a_database_that_lets_in_and_never_answers_stops_no_checkpoint(monkeypatch):
    monkeypatch.setattr(anchors, "SECONDS", 0.05)
    let_in = b"R" + (8).to_bytes(4) + bytes(4) + b"Z" + (5).to_bytes(4) + b"I"
    with a_silent_server(let_in) as port:
        anchor = anchors.PostgresAnchor(SecretStr(f"postgresql://role:secret@127.0.0.1:{port}/audit?sslmode=disable"))
        with pytest.raises(AuditError, match="cannot be reached"):
            anchor.send(b"a checkpoint\n")


def test_a_syslog_that_takes_nothing_stops_no_checkpoint(monkeypatch):
    monkeypatch.setattr(anchors, "SECONDS", 0.05)
    with a_silent_server(b"") as port, pytest.raises(AuditError, match="timed out"):
        anchors.SyslogAnchor(f"tcp://127.0.0.1:{port}").send(b"x" * (32 << 20) + b"\n")


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM])
def test_a_syslog_at_a_path_that_takes_nothing_stops_no_checkpoint(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(anchors, "SECONDS", 0.05)
    path = str(tmp_path / "log")
    with socket.socket(socket.AF_UNIX, kind) as frozen, ExitStack() as stack:
        frozen.bind(path)
        if kind == socket.SOCK_STREAM:
            frozen.listen(0)
        with suppress(BlockingIOError):
            while True:  # until its queue is full
                sender = stack.enter_context(socket.socket(socket.AF_UNIX, kind))
                sender.setblocking(False)
                sender.connect(path)
                sender.send(b"x")
        with pytest.raises(AuditError, match=r"timed out|temporarily unavailable"):
            anchors.SyslogAnchor(path).send(b"a checkpoint\n")


def test_a_syslog_that_nobody_listens_to_is_told_by_its_cause(tmp_path):
    path = tmp_path / "log"
    with pytest.raises(AuditError, match="No such file"):
        anchors.SyslogAnchor(str(path)).send(b"a checkpoint\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as gone:
        gone.bind(str(path))
    with pytest.raises(AuditError, match="refused"):
        anchors.SyslogAnchor(str(path)).send(b"a checkpoint\n")


# --- what is recorded of commands -------------------------------------------------------


def told(home: Path) -> list[tuple[str, str, str]]:
    return [
        (each.actor, each.resource, each.outcome)
        for each in read_events(AuditLog.of(home).path)
        if each.actor != "audit"
    ]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, "success"),
        (typer.Exit(0), "success"),
        (typer.Exit(1), "failed"),
        (WorkbenchError("no"), "failed"),
        (KeyboardInterrupt(), "failed"),
    ],
)
def test_a_command_is_recorded_when_it_begins_and_when_it_ends(home, error, outcome):
    @audited(Action.POOL_RESIZED, "pool:{name}")
    def command(name: str, size: int = 1) -> int:
        assert told(home) == [(operator(), "pool:p", "begun")]
        if error:
            raise error
        return size

    if error:
        with pytest.raises(type(error)):
            command("p")
    else:
        assert command("p", size=3) == 3
    assert told(home) == [(operator(), "pool:p", "begun"), (operator(), "pool:p", outcome)]


def test_after_its_end_is_recorded_a_command_may_sign_it(home):
    seen: list[int] = []

    @audited(Action.WORKBENCH_STOPPED, "it", after=lambda folder: seen.append(len(told(folder))))
    def command() -> None:
        pass

    command()

    assert seen == [2]


@pytest.mark.parametrize(("action", "is_run"), [(Action.POOL_RESIZED, False), (Action.WORKBENCH_STOPPED, True)])
def test_without_its_line_a_command_that_fails_closed_is_not_run(home, action, is_run):
    home.mkdir()
    (home / "audit").write_text("in the way")
    done = []

    @audited(action, "it")
    def command() -> None:
        done.append(1)

    if is_run:
        command()
    else:
        with pytest.raises(AuditError, match="cannot be written"):
            command()
    assert bool(done) is is_run
