"""Whether a process that has noted itself down still lives."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from workbench import living
from workbench.living import birth_of, lives

pytestmark = pytest.mark.skipif(not psutil.LINUX, reason="births are counted from the boot on Linux alone")


def test_a_process_lives_until_it_has_ended_even_before_anybody_waits_for_it():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    birth = birth_of(child.pid)

    assert lives(child.pid, birth)
    assert not lives(os.getpid(), birth)

    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not lives(child.pid, birth)
    child.communicate()
    assert not lives(child.pid, birth)
    with pytest.raises(psutil.NoSuchProcess):
        birth_of(child.pid)


def test_a_clock_that_is_set_ends_no_process(monkeypatch):
    birth, seconds, booted = birth_of(os.getpid()), psutil.Process().create_time(), psutil.boot_time()

    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: booted + 3600)

    assert psutil.Process().create_time() > seconds + 1000
    assert lives(os.getpid(), birth)
    assert birth_of(os.getpid()) == birth


def test_a_machine_that_was_booted_again_has_none_of_the_processes_of_before():
    boot, _, ticks = birth_of(os.getpid()).partition("/")

    assert not lives(os.getpid(), f"{boot[::-1]}/{ticks}")
    assert not lives(os.getpid(), f"{boot}/{int(ticks) + 1}")


@pytest.mark.parametrize(("earlier", "expected"), [(0, True), (60, False)])
def test_what_earlier_versions_noted_is_read(earlier, expected):
    assert lives(os.getpid(), str(psutil.Process().create_time() - earlier)) is expected


@pytest.mark.parametrize("birth", ["", "x", "/", "None"])
def test_what_is_no_birth_is_nobodys(birth):
    assert not lives(os.getpid(), birth)


def test_where_the_system_does_not_tell_its_boot_the_time_of_birth_counts(monkeypatch, tmp_path):
    monkeypatch.setattr(living, "BOOT", tmp_path / "nowhere")

    birth = living.birth_of(os.getpid())

    assert float(birth)
    assert living.lives(os.getpid(), birth)
    assert not living.lives(os.getpid(), "another-boot/12")


def test_who_cannot_tell_the_boot_takes_no_living_process_for_dead(monkeypatch, tmp_path):
    birth = birth_of(os.getpid())
    monkeypatch.setattr(living, "BOOT", tmp_path / "nowhere")

    assert lives(os.getpid(), birth)
