"""Anchors of the audit log: a PostgreSQL whose role may only add, a syslog, a file."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from tests.services.postgres_server import DATABASE, OwnPostgres, running_postgres
from tests.services.workbench import ROOT, wait_until
from workbench.errors import AuditError
from workbench.runtime.ports import LOOPBACK, any_free
from workbench.sections import AuditSettings
from workbench.security.audit import Action, AuditLog
from workbench.security.audit.proof.anchors import DDL, FileAnchor, PostgresAnchor, SyslogAnchor, anchors_of
from workbench.security.audit.proof.checkpointer import Checkpointer, making_checkpoints, try_tick
from workbench.security.audit.proof.checkpoints import Checkpoint
from workbench.security.audit.proof.signing import SigningKey
from workbench.security.audit.proof.verification import Verdict, verify

TABLE = "workbench_audit.checkpoints"


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnPostgres]:
    with running_postgres(tmp_path_factory.mktemp("anchor") / "home") as running:
        running.ask(DDL)
        for role in ("writer", "reader"):
            running.ask(f"ALTER ROLE workbench_audit_{role} PASSWORD 'of-{role}'")
            running.ask(f"GRANT CONNECT ON DATABASE {DATABASE} TO workbench_audit_{role}")
        yield running


def anchor_of(postgres: OwnPostgres, role: str) -> PostgresAnchor:
    address = f"{LOOPBACK}:{postgres.server.port}/{DATABASE}?sslmode=disable"
    return PostgresAnchor(SecretStr(f"postgresql://workbench_audit_{role}:of-{role}@{address}"))


def checkpointer_of(home: Path, *anchors, seconds: float = 60.0) -> Checkpointer:
    log = AuditLog.of(home)
    log.record(Action.LOGOUT, actor="gh-ada", resource="hub")
    return Checkpointer(log, home / "keys" / "audit-signing", anchors, seconds)


def test_what_is_cut_off_here_is_proved_by_the_database(postgres: OwnPostgres, tmp_path: Path):
    checkpointer = checkpointer_of(tmp_path, anchor_of(postgres, "writer"))
    for _ in range(10):
        checkpointer.log.record(Action.LOGOUT, actor="gh-ada", resource="hub")
    checkpointer.tick()
    key, reader = SigningKey.read(checkpointer.key_path).public, anchor_of(postgres, "reader")
    assert verify(checkpointer.log.path, [key], [reader]).verdict is Verdict.WHOLE

    lines = checkpointer.log.path.read_bytes().splitlines(keepends=True)
    checkpointer.log.path.write_bytes(b"".join(lines[:-10]))
    checkpointer.path.unlink()

    report = verify(checkpointer.log.path, [key], [reader])
    (gone,) = [each for each in report.problems if each.kind == "truncation"]
    assert "10 are gone" in gone.message
    assert f"checkpoint 1 of postgresql://{LOOPBACK}" in gone.proof
    assert "of-reader" not in str(report)


@pytest.mark.parametrize(
    "statement",
    [
        f"SELECT * FROM {TABLE}",
        f"UPDATE {TABLE} SET checkpoint = ''",
        f"DELETE FROM {TABLE}",
        f"TRUNCATE {TABLE}",
        f"INSERT INTO {TABLE} (checkpoint, received_at) VALUES ('x', '2020-01-01')",
        f"INSERT INTO {TABLE} (checkpoint) VALUES ('x') RETURNING id",
        f"DROP TABLE {TABLE}",
        f"ALTER TABLE {TABLE} DISABLE TRIGGER ALL",
        "CREATE TABLE workbench_audit.other ()",
        "SET ROLE workbench_audit_owner",
    ],
)
def test_the_role_that_adds_checkpoints_can_do_nothing_else(postgres: OwnPostgres, statement: str):
    with (
        psycopg.connect(anchor_of(postgres, "writer").url.get_secret_value(), autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(statement)


@pytest.mark.parametrize(
    "statement", [f"UPDATE {TABLE} SET checkpoint = ''", f"DELETE FROM {TABLE}", f"TRUNCATE {TABLE}"]
)
def test_the_owner_is_kept_from_accidents(postgres: OwnPostgres, statement: str):
    with pytest.raises(psycopg.errors.RaiseException, match="only added"):
        postgres.ask(f"SET ROLE workbench_audit_owner; {statement}")


def test_a_database_that_is_away_costs_no_checkpoint_here(tmp_path: Path, caplog):
    away = PostgresAnchor(SecretStr(f"postgresql://role:very-secret@{LOOPBACK}:{any_free()}/audit"))
    checkpointer = checkpointer_of(tmp_path, away)

    assert checkpointer.tick()

    assert "checkpoint 1 is not anchored" in caplog.text
    assert "very-secret" not in caplog.text
    assert Checkpoint.of_line(checkpointer.path.read_bytes())


def test_syslog_is_sent_what_verify_reads_in_its_file(tmp_path: Path):
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as unix,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
    ):
        unix.bind(str(tmp_path / "log"))
        udp.bind((LOOPBACK, 0))
        addresses = (str(tmp_path / "log"), f"udp://{LOOPBACK}:{udp.getsockname()[1]}")
        checkpointer = checkpointer_of(tmp_path, *map(SyslogAnchor, addresses))
        checkpointer.tick()
        for each in (unix, udp):
            message = each.recv(4096)
            assert message.startswith(b"<86>workbench-audit: {")
            (tmp_path / "messages").write_bytes(b"Jan  5 09:12:44 host " + message + b"\n")
            report = verify(
                checkpointer.log.path,
                [SigningKey.read(checkpointer.key_path).public],
                [FileAnchor(tmp_path / "messages")],
            )
            assert (report.verdict, report.anchored) == (Verdict.WHOLE, 1)


def test_a_syslog_that_is_away_is_an_error(tmp_path: Path):
    with pytest.raises(AuditError, match="cannot be reached"):
        SyslogAnchor(str(tmp_path / "nothing")).send(b"line\n")


def test_the_settings_name_the_anchors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("WORKBENCH_AUDIT_ANCHOR_FILE", str(tmp_path / "file"))
    monkeypatch.setenv("WORKBENCH_AUDIT_ANCHOR_SYSLOG", "/dev/log")
    monkeypatch.setenv("WORKBENCH_AUDIT_ANCHOR_DATABASE_URL", "postgresql://role:word@127.0.0.1/audit")

    settings = AuditSettings()

    assert settings.problems() == []
    assert [type(each) for each in anchors_of(settings)] == [FileAnchor, SyslogAnchor, PostgresAnchor]
    assert "word" not in repr(anchors_of(settings))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKBENCH_AUDIT_ANCHOR_FILE", "/no/such/folder/file"),
        ("WORKBENCH_AUDIT_ANCHOR_SYSLOG", "loghost"),
        ("WORKBENCH_AUDIT_ANCHOR_DATABASE_URL", "mysql://role:hidden-word@127.0.0.1/audit"),
        ("WORKBENCH_AUDIT_ANCHOR_DATABASE_URL", "postgresql://role:hidden-word@db.example.com/audit"),
        ("WORKBENCH_AUDIT_ANCHOR_READER_URL", "postgresql://[hidden-word"),
    ],
)
def test_a_wrong_anchor_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch, name: str, value: str):
    monkeypatch.setenv(name, value)

    (problem,) = AuditSettings().problems()

    assert problem.startswith(name)
    assert "hidden-word" not in problem


def test_checkpoints_are_made_while_nothing_happens_and_by_one_process_at_a_time(tmp_path: Path):
    checkpointer = checkpointer_of(tmp_path, seconds=0.3)
    program = (
        "import sys; from pathlib import Path; from workbench.security.audit import AuditLog\n"
        "from workbench.security.audit.proof.checkpointer import Checkpointer, making_checkpoints\n"
        "home = Path(sys.argv[1])\n"
        "made = Checkpointer(AuditLog.of(home), home / 'keys' / 'audit-signing', seconds=0.3)\n"
        "with making_checkpoints(made, 0.05): sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, cwd=ROOT) as other:
        with making_checkpoints(checkpointer, 0.05):
            wait_until(lambda: len(checkpoints(checkpointer)) >= 6, 30, "six checkpoints")
        other.communicate()

    numbers = [each.number for each in checkpoints(checkpointer)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert {each.sequence for each in checkpoints(checkpointer)} == {2}
    gaps = [
        after.time - before.time
        for before, after in zip(checkpoints(checkpointer), checkpoints(checkpointer)[1:-2], strict=False)
    ]
    assert min(gaps) >= 250
    key = SigningKey.read(checkpointer.key_path).public
    assert verify(checkpointer.log.path, [key]).verdict is Verdict.WHOLE


def test_what_keeps_checkpoints_from_being_made_is_told_once(tmp_path: Path, caplog):
    (tmp_path / "audit").write_text("in the way")
    checkpointer = Checkpointer.of(tmp_path)

    told = try_tick(checkpointer, try_tick(checkpointer))

    assert told
    assert caplog.text.count("no checkpoint of the audit log was made") == 1


def checkpoints(checkpointer: Checkpointer) -> list[Checkpoint]:
    lines = checkpointer.path.read_bytes().splitlines() if checkpointer.path.is_file() else []
    return [found for line in lines if (found := Checkpoint.of_line(line))]
