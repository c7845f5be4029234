from __future__ import annotations

import stat
from pathlib import Path

from workbench.security.secrets import ensure_code, ensure_token, private_folder, write_private


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_token_is_made_once_and_private(tmp_path: Path):
    path = tmp_path / "keys" / "token"

    first = ensure_token(path)

    assert ensure_token(path) == first
    assert len(first) == 64
    assert (mode(path), mode(path.parent)) == (0o600, 0o700)


def test_an_empty_token_file_is_not_a_token(tmp_path: Path):
    path = tmp_path / "token"
    path.write_text("\n")

    assert len(ensure_token(path)) == 64


def test_a_code_can_be_typed(tmp_path: Path):
    code = ensure_code(tmp_path / "code")

    assert [len(group) for group in code.split("-")] == [4, 4, 4]
    assert not set(code) & set("01OIL")


def test_writing_leaves_no_other_file_and_makes_loose_modes_private(tmp_path: Path):
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o644)

    write_private(path, "new")

    assert (path.read_text(), mode(path), list(tmp_path.iterdir())) == ("new", 0o600, [path])
    assert mode(private_folder(tmp_path)) == 0o700
