"""Commands of the machine when they are interrupted, and when the system refuses what they need."""

from __future__ import annotations

import errno
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from workbench.cli import doctor, machine, main
from workbench.embedded import archive
from workbench.errors import ComponentError


def interrupted(_: Path) -> None:
    raise KeyboardInterrupt


def test_ctrl_c_at_a_detached_start_ends_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen

    def start(*_: object, **__: object) -> subprocess.Popen[bytes]:
        started.append(real(["sleep", "60"]))
        return started[0]

    monkeypatch.setattr(machine.subprocess, "Popen", start)
    monkeypatch.setattr(machine, "read_status", interrupted)

    with pytest.raises(KeyboardInterrupt):
        machine._detach(tmp_path / "home")

    assert started[0].returncode == -15


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EACCES, "Error: /disk/x may not be read or written by this user"),
        (errno.ENOSPC, "Error: there is no room for /disk/x: "),
        (errno.EROFS, "Error: /disk/x is on a disk that is read only"),
        (errno.EIO, "Error: [Errno 5] broken: '/disk/x'"),
    ],
)
def test_what_the_system_refuses_is_one_message(monkeypatch: pytest.MonkeyPatch, capsys, number: int, message: str):
    def refuse() -> None:
        raise OSError(number, "broken", "/disk/x")

    monkeypatch.setattr(main, "log_settings", refuse)

    with pytest.raises(SystemExit) as caught:
        main.main()

    assert caught.value.code == 2
    assert message in (told := capsys.readouterr().err)
    assert "Remedy: " in told


def test_the_doctor_goes_on_after_what_cannot_be_looked_at():
    def look() -> str:
        raise OSError(errno.EIO, "broken", "/disk/x")

    finding = doctor._finding("files", look)

    assert (finding.ok, finding.detail) == (False, "it cannot be looked at: [Errno 5] broken: '/disk/x'")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), ComponentError("no Java")])
def test_spark_starts_without_an_archive_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error):
    def fail(*_: object, **__: object) -> None:
        raise error

    (tmp_path / "jars").mkdir()
    settings = SimpleNamespace(home=tmp_path)
    monkeypatch.setattr(archive, "make_spark", fail)
    archive.ensure_archive(settings)  # type: ignore[arg-type]
    shutil.rmtree(tmp_path / "jars")
    archive.ensure_archive(settings)  # type: ignore[arg-type]
