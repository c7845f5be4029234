"""What a crash of PostgreSQL has left in its data folder: taken away when nobody can be meant, and else never."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue
from threading import Event, Thread, get_native_id

import psutil
import pytest

from workbench.embedded import postgres, postmaster
from workbench.embedded.drop_privileges import Unprivileged
from workbench.embedded.postgres import PostgresServer, programs
from workbench.embedded.postmaster import NAME, forget_dead_postmaster
from workbench.errors import DataFolderError
from workbench.security.secrets import locked


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (folder := tmp_path / "data").mkdir()
    return folder


def note(data: Path, number: int | str) -> Path:
    """As a postmaster does: its number, its folder, when it was started, its port."""
    (file := data / NAME).write_text(f"{number}\n{data}\n1767604364\n5439\n\n127.0.0.1\n  5243001    0\nready\n")
    return file


@contextmanager
def process_in(folder: Path) -> Iterator[int]:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, cwd=folder) as process:
        yield process.pid


def test_a_number_that_is_another_programs_by_now_keeps_no_server_from_its_start(data, tmp_path):
    with process_in(tmp_path) as pid:
        for number in (pid, -pid):
            file = note(data, number)
            forget_dead_postmaster(data, tmp_path / "postgres.lock")
            assert not file.exists()


def test_the_file_of_a_server_that_runs_stays_also_when_the_number_is_no_more_its_own(data, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(data)
    with process_in(link) as pid:
        for number in (pid, os.getpid()):
            file = note(data, number)
            with pytest.raises(DataFolderError, match=f"the process {pid} works in"):
                forget_dead_postmaster(data, tmp_path / "postgres.lock")
            assert file.exists()


def test_the_file_stays_while_anything_of_our_server_lives(data, tmp_path):
    file = note(data, os.getpid())
    with locked(tmp_path / "postgres.lock"):
        forget_dead_postmaster(data, tmp_path / "postgres.lock")
    assert file.exists()


def test_what_the_number_means_is_postgresqls_to_judge_when_nobody_has_it_or_we_may_not_know(
    data, tmp_path, monkeypatch
):
    with process_in(tmp_path) as ended:
        pass
    file = note(data, ended)
    forget_dead_postmaster(data, tmp_path / "postgres.lock")
    assert file.exists()

    note(data, os.getpid())
    monkeypatch.setattr(postmaster, "_works_in", lambda *_: None)
    forget_dead_postmaster(data, tmp_path / "postgres.lock")
    assert file.exists()


@pytest.mark.parametrize("content", ["", "x", "\0\0\0\0", "0"])
def test_a_file_without_a_number_is_removed_unless_a_server_begins_there(data, tmp_path, content):
    file = note(data, content)
    with process_in(data), pytest.raises(DataFolderError):
        forget_dead_postmaster(data, tmp_path / "postgres.lock")
    forget_dead_postmaster(data, tmp_path / "postgres.lock")
    assert not file.exists()
    forget_dead_postmaster(data, tmp_path / "postgres.lock")


def test_a_number_that_no_process_can_have_is_left(data, tmp_path):
    file = note(data, 10**40)
    forget_dead_postmaster(data, tmp_path / "postgres.lock")
    assert file.exists()


@pytest.mark.skipif(not psutil.LINUX, reason="threads have numbers of processes on Linux alone")
def test_the_number_of_a_thread_is_no_servers(data, tmp_path):
    numbers: Queue[int] = Queue()
    end = Event()
    thread = Thread(target=lambda: (numbers.put(get_native_id()), end.wait(10)))
    thread.start()
    file = note(data, numbers.get())
    try:
        forget_dead_postmaster(data, tmp_path / "postgres.lock")
    finally:
        end.set()
        thread.join()
    assert not file.exists()


def test_each_start_looks_at_it(tmp_path, monkeypatch):
    server = PostgresServer(home=tmp_path, port=1, database="analytics", user="flows")
    monkeypatch.setattr(postgres, "as_ordinary_user", lambda *_: Unprivileged(server.folder, programs()))
    monkeypatch.setattr(PostgresServer, "_check_version", lambda _: None)
    (server.data / "global").mkdir(parents=True)
    for name in ("PG_VERSION", "global/pg_control"):
        (server.data / name).touch()
    file = note(server.data, os.getpid())

    server.prepare()

    assert not file.exists()


@pytest.mark.skipif(not psutil.LINUX, reason="mount namespaces are Linux's")
def test_a_folder_that_is_gone_is_nobodys(data, tmp_path):
    (gone := tmp_path / "gone").mkdir()
    with process_in(gone) as pid:
        gone.rmdir()
        assert postmaster._works_in(pid, data) is False
