"""The lock of a file: whom it keeps out, and that it ends with its process however that ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.unit.test_secrets import mode
from workbench.errors import ComponentError
from workbench.runtime.process import holding, is_lock_held
from workbench.security import secrets
from workbench.security.secrets import locked

HOLDER = """
import sys
from pathlib import Path
from workbench.security.secrets import locked
with locked(Path(sys.argv[1]), shared=sys.argv[2] == "shared"):
    print("held", flush=True)
    sys.stdin.read()
"""
Holder = subprocess.Popen[bytes]


@contextmanager
def held_elsewhere(path: Path, how: str = "alone") -> Iterator[Holder]:
    """By another process, until its standard input ends."""
    command = (sys.executable, "-c", HOLDER, str(path), how)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == b"held\n"
            yield holder
        finally:
            holder.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.lock"


def test_a_lock_keeps_out_another_process_and_threads_of_its_own(path: Path):
    with held_elsewhere(path):
        for shared in (False, True):
            with locked(path, shared=shared, waits=False) as is_ours:
                assert not is_ours
        assert is_lock_held(path)
    with locked(path) as is_ours, locked(path, waits=False) as is_ours_too:
        assert (is_ours, is_ours_too) == (True, False)


def test_those_who_share_do_not_keep_each_other_out(path: Path):
    with held_elsewhere(path, "shared"):
        with locked(path, shared=True) as is_ours:
            assert is_ours
        assert not is_lock_held(path)
        with locked(path, waits=False) as is_ours:
            assert not is_ours


@pytest.mark.parametrize("end", [lambda holder: holder.kill(), lambda holder: holder.stdin.close()])
def test_who_waits_has_the_lock_when_its_holder_has_left_or_was_killed(path: Path, end: Callable[[Holder], None]):
    with held_elsewhere(path) as holder:
        end(holder)
        with locked(path) as is_ours:
            assert is_ours


def test_who_has_waited_for_a_file_that_was_removed_meanwhile_holds_the_new_one(path: Path, monkeypatch):
    real = secrets.fcntl.flock

    def remove_meanwhile(*arguments: int) -> None:
        monkeypatch.setattr(secrets.fcntl, "flock", real)
        path.unlink()
        real(*arguments)

    monkeypatch.setattr(secrets.fcntl, "flock", remove_meanwhile)

    with locked(path) as is_ours:
        assert is_ours
        assert is_lock_held(path)
    assert not is_lock_held(path)


def test_a_lock_is_left_when_its_context_fails_and_its_file_stays(path: Path):
    with pytest.raises(BlockingIOError, match="of the body"), locked(path, waits=False):
        raise BlockingIOError("of the body")
    assert path.exists()
    assert not is_lock_held(path)


def test_a_link_is_refused_and_what_it_leads_to_is_not_made(path: Path):
    path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(OSError, match="symbolic links"), locked(path):
        pass
    assert not path.with_name("elsewhere").exists()


def test_a_lock_is_private_whatever_the_umask(path: Path):
    before = os.umask(0)
    try:
        with locked(path):
            assert mode(path) == 0o600
    finally:
        os.umask(before)


def test_who_only_asks_makes_no_file_and_what_is_held_is_refused_with_the_callers_words(path: Path):
    assert not is_lock_held(path)
    assert not path.exists()
    taken = ComponentError("it runs already")
    with holding(path, taken), pytest.raises(ComponentError, match="it runs already"), holding(path, taken, 0):
        pass
    with holding(path, taken):
        assert is_lock_held(path)
