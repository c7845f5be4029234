"""Folders for what is made once: none is left for good, and none is taken from a process that lives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.test_locks import held_elsewhere
from workbench.embedded.scratch import OWNER, scratch_folder


def left_behind(parent: Path, name: str) -> Path:
    """As kill -9 leaves it."""
    (folder := parent / name / "cache").mkdir(parents=True)
    (folder / "large.jar").touch()
    return folder.parent


def test_what_killed_processes_have_left_is_removed_at_the_next_start(tmp_path):
    left = [left_behind(tmp_path, name) for name in (".fetch-a", ".archive-b")]  # the second by an earlier version
    (left[0] / OWNER).touch()
    os.utime(left[1], (0, 0))
    kept = [left_behind(tmp_path, name) for name in ("kafka", ".other-c", ".fetch-of-an-earlier-version")]
    (link := tmp_path / ".fetch-link").symlink_to(kept[0])

    with scratch_folder(tmp_path, ".archive-") as folder:
        assert folder.parent == tmp_path
        assert not any(each.exists() for each in left)
    assert not folder.exists()
    assert all((each / "cache" / "large.jar").exists() for each in [*kept, link])


def test_what_a_living_process_makes_is_left_to_it(tmp_path):
    others = left_behind(tmp_path, ".fetch-others")
    with (
        held_elsewhere(others / OWNER),
        scratch_folder(tmp_path, ".fetch-") as first,
        scratch_folder(tmp_path, ".archive-") as second,
    ):
        assert all(each.is_dir() for each in (others, first, second))
    with scratch_folder(tmp_path, ".fetch-"):
        assert not any(each.exists() for each in (others, first, second))


def test_a_folder_is_removed_when_its_work_fails(tmp_path):
    with pytest.raises(ValueError, match="broken"), scratch_folder(tmp_path, ".fetch-") as folder:
        raise ValueError("broken")
    assert not folder.exists()
