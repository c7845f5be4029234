"""`workbench hub …` without a hub, and with something on its port that answers as one does."""

from __future__ import annotations

import base64
import json
import os
import socket
import sqlite3
import stat
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import typer
from cryptography.fernet import Fernet
from typer.testing import CliRunner, Result

from hub.addresses import HubPorts
from hub.cli import ARCHIVE_SECONDS, add_commands
from hub.keys import note_in_use, read_keys, rotate_keys
from workbench.errors import WorkbenchError
from workbench.runtime.ports import any_free
from workbench.security.audit import Action, AuditLog, read_events


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    (home / "run").mkdir(parents=True)
    monkeypatch.setenv("WORKBENCH_HOME", str(home))
    write_ports(home, any_free())
    return home


def write_ports(home: Path, port: int) -> None:
    ports = HubPorts(proxy=1, hub_api=port, proxy_api=2, identity=3)
    (home / "run" / "hub.json").write_text(ports.as_json())


def run(*arguments: str) -> Result:
    application = typer.Typer()
    application.callback()(lambda: None)
    add_commands(application)
    return CliRunner().invoke(application, ["hub", *arguments])


@contextmanager
def answering(home: Path, status: int, body: bytes, *, length: int | None = None) -> Iterator[list[tuple[str, bytes]]]:
    """What a hub sends, on the port where commands look for it; yields the requests that came."""
    requests: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            requests.append((self.path, self.rfile.read(int(self.headers.get("Content-Length") or 0))))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) if length is None else length))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        write_ports(home, server.server_port)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield requests
        finally:
            server.shutdown()
            thread.join()


def lines(*found: dict[str, object]) -> bytes:
    return b"".join(json.dumps(each).encode() + b"\n" for each in found)


def test_every_command_has_an_example():
    for command in ("users", "offboard", "readmit", "unlink", "rotate-keys"):
        shown = run(command, "--help")
        assert shown.exit_code == 0
        assert f"Example: workbench hub {command}" in shown.output


@pytest.mark.parametrize("arguments", [["users"], ["offboard", "gh-octo", "--yes"], ["readmit", "gh-octo"]])
def test_without_a_hub_the_error_says_how_to_start_it(home, arguments):
    error = run(*arguments).exception

    assert isinstance(error, WorkbenchError)
    assert error.exit_code == 2
    assert "does not answer" in error.message
    assert "workbench up" in error.remedy


def test_a_name_that_nobody_has_is_an_error_with_a_remedy(home):
    with answering(home, 404, lines({"status": 404, "message": "nobody here is called gh-x"})):
        error = run("offboard", "gh-x", "--yes").exception

    assert isinstance(error, WorkbenchError)
    assert "nobody here is called gh-x" in error.message
    assert "workbench hub users" in error.remedy


def test_steps_are_shown_and_the_last_line_is_json(home):
    with answering(home, 200, lines({"step": "sign-in blocked"}, {"done": True})) as requests:
        done = run("offboard", "gh-octo", "--yes", "--keep-home", "--json")

    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"name": "gh-octo", "steps": ["sign-in blocked"], "problems": []}
    assert "sign-in blocked" in done.stderr
    path, body = requests[0]
    assert path == "/hub/api/workbench/users/gh-octo/offboard"
    assert json.loads(body)["keep_home"] is True


def test_what_could_not_be_done_is_told_with_its_remedy_and_exit_code_1(home):
    answer = lines({"step": "sign-in blocked"}, {"problem": "disk full", "remedy": "Make room."}, {"done": True})
    with answering(home, 200, answer):
        done = run("offboard", "gh-octo", "--yes")

    assert done.exit_code == 1
    assert "Error: disk full" in done.stderr
    assert "Remedy: Make room." in done.stderr


@pytest.mark.parametrize("length", [None, 999], ids=["between lines", "within one"])
def test_an_answer_that_ends_before_it_is_done_is_no_success(home, length):
    with answering(home, 200, lines({"step": "sign-in blocked"}), length=length):
        error = run("offboard", "gh-octo", "--yes").exception

    assert isinstance(error, WorkbenchError)
    assert "broke off" in error.message


def test_a_hub_that_is_silent_for_long_is_not_taken_for_one_that_does_not_run(home, monkeypatch):
    monkeypatch.setattr("hub.cli.ARCHIVE_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        write_ports(home, silent.getsockname()[1])

        error = run("offboard", "gh-octo", "--yes").exception

    assert isinstance(error, WorkbenchError)
    assert "what it has begun goes on" in error.message
    assert str(home / "archive") in error.remedy


def test_an_archive_may_take_hours(home):
    assert ARCHIVE_SECONDS >= 3600


def test_an_account_to_unlink_is_named_by_provider_and_login(home):
    with answering(home, 200, lines({"step": "google account a@example.com unlinked"}, {"done": True})) as requests:
        done = run("unlink", "gh-octo", "google", "--login", "a@example.com")

    assert done.exit_code == 0
    path, body = requests[0]
    assert path == "/hub/api/workbench/users/gh-octo/unlink"
    assert (json.loads(body)["provider"], json.loads(body)["login"]) == ("google", "a@example.com")


def test_nobody_is_shown_out_without_a_question_or_yes(home):
    with answering(home, 200, lines({"done": True})) as requests:
        error = run("offboard", "gh-octo").exception

    assert isinstance(error, WorkbenchError)
    assert "--yes" in error.remedy
    assert requests == []


def test_a_name_cannot_lead_to_another_path(home):
    with answering(home, 404, lines({"message": "no"})) as requests:
        run("readmit", "../../shutdown?x")

    assert requests[0][0] == "/hub/api/workbench/users/..%2F..%2Fshutdown%3Fx/readmit"


def test_people_are_listed_and_who_is_out_is_marked(home):
    person = {"name": "gh-octo", "role": "analyst", "is_blocked": True, "servers": 0, "last_activity": ""}
    with answering(home, 200, json.dumps([person]).encode()):
        assert "off-boarded" in run("users").stdout
        assert json.loads(run("users", "--json").stdout) == [person]


def test_a_new_key_comes_first_and_three_are_kept(home):
    path = home / "keys" / "hub-auth-state"
    first = read_keys(path)
    for _ in range(2):
        rotate_keys(path)

    done = run("rotate-keys")

    keys = read_keys(path)
    assert "started again" in done.stdout
    assert len(keys) == 3
    assert first[0] not in keys
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_the_last_key_encrypted_is_decrypted_after_a_rotation(home):
    path = home / "keys" / "hub-auth-state"
    before = read_keys(path)

    run("rotate-keys")

    assert read_keys(path)[1:] == before


def test_the_key_that_the_hub_was_started_with_is_not_dropped(home):
    path = home / "keys" / "hub-auth-state"
    note_in_use(path, read_keys(path))
    for _ in range(2):
        assert run("rotate-keys").exit_code == 0
    before = path.read_bytes()

    error = run("rotate-keys").exception

    assert isinstance(error, WorkbenchError)
    assert "Start the hub again" in error.remedy
    assert path.read_bytes() == before
    note_in_use(path, read_keys(path))
    assert run("rotate-keys").exit_code == 0


@pytest.mark.parametrize("journal", ["DELETE", "WAL"])
def test_a_key_that_logins_in_the_database_need_is_not_dropped(home, journal):
    path = home / "keys" / "hub-auth-state"
    key = read_keys(path)[0]
    database = hub_database(home, journal, [encrypted(key), None, encrypted(os.urandom(32))])
    for _ in range(2):
        assert run("rotate-keys").exit_code == 0

    error = run("rotate-keys").exception

    assert isinstance(error, WorkbenchError)
    assert "needed for 1 login in" in error.message
    assert key in read_keys(path)
    assert [each.name for each in database.parent.iterdir()] == [database.name]
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE users SET encrypted_auth_state = ? WHERE name = 0", [encrypted(read_keys(path)[0])])
    assert run("rotate-keys").exit_code == 0
    assert key not in read_keys(path)


def test_a_database_that_cannot_be_read_keeps_all_keys(home):
    path = home / "keys" / "hub-auth-state"
    (home / "hub").mkdir()
    (home / "hub" / "jupyterhub.sqlite").write_text("no database, but longer than its header is: " + 100 * "x")
    for _ in range(2):
        run("rotate-keys")

    assert isinstance(run("rotate-keys").exception, WorkbenchError)
    assert len(read_keys(path)) == 3


def encrypted(key: bytes) -> bytes:
    """An auth_state as JupyterHub encrypts it."""
    return Fernet(base64.urlsafe_b64encode(key)).encrypt(b"{}")


def hub_database(home: Path, journal: str, states: list[bytes | None]) -> Path:
    """The part of JupyterHub's database that holds what was encrypted; the names of users are numbers."""
    file = home / "hub" / "jupyterhub.sqlite"
    file.parent.mkdir()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute(f"PRAGMA journal_mode={journal}")
        connection.execute("CREATE TABLE users (name, encrypted_auth_state)")
        connection.executemany("INSERT INTO users VALUES (?, ?)", enumerate(states))
    return file


def test_a_rotation_is_audited_without_the_key(home):
    done = run("rotate-keys", "--json")

    log = AuditLog.of(home).path
    event = next(read_events(log, action=Action.KEYS_ROTATED))
    assert json.loads(done.stdout)["keys"] == 2
    assert event.actor.startswith("operator:")
    assert not any(key.hex() in log.read_text() for key in read_keys(home / "keys" / "hub-auth-state"))


@pytest.mark.parametrize("content", ["zz", "abcd", "00" * 32 + "\nabc"])
def test_a_file_of_keys_that_is_damaged_is_refused_and_left(home, content):
    path = home / "keys" / "hub-auth-state"
    path.parent.mkdir()
    path.write_text(content)

    with pytest.raises(WorkbenchError, match="no key"):
        rotate_keys(path)

    assert path.read_text() == content
