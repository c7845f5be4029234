"""Commands of the machine when they are interrupted, and when the system refuses what they need."""

from __future__ import annotations

import errno
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from workbench.cli import doctor, machine, main
from workbench.embedded import archive, memory
from workbench.errors import ComponentError
from workbench.settings import Settings


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


def test_the_doctor_passes_over_a_file_that_has_gone_meanwhile(tmp_path):
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    (run / "temporary").symlink_to(run / "gone")

    assert doctor._private_files(tmp_path) == "2 files of keys/ and run/ are private"


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


def test_little_memory_is_told_and_refuses_nothing(monkeypatch: pytest.MonkeyPatch, caplog):
    monkeypatch.setattr(memory, "memory_limit", lambda: 2_000_000_000)

    finding = doctor._finding("memory", lambda: memory.check_memory(Settings.load()))
    memory.tell_of_little_memory(Settings.load())

    assert finding.ok
    assert finding.as_text().startswith(
        "WARN memory: 2.0 GB, and the servers with one person's notebook take about 2.3 GB"
    )
    assert "WORKBENCH_SPARK_REMOTE" in finding.remedy
    assert [each.getMessage().count("2.3 GB") for each in caplog.records] == [1]


def test_what_is_elsewhere_takes_no_memory_here(monkeypatch: pytest.MonkeyPatch):
    for name, value in {"WORKBENCH_SPARK_REMOTE": "sc://a:1", "KAFKA_BROKERS": "a:1"}.items():
        monkeypatch.setenv(name, value)

    assert memory.check_memory(Settings.load(), 2_000_000_000).endswith("take about 1.2 GB")
    with pytest.raises(memory.LittleMemory) as caught:
        memory.check_memory(Settings.load(), 1_000_000_000)
    assert "REMOTE" not in caught.value.remedy
    assert "WORKBENCH_SPARK_PRELOAD=false" in caught.value.remedy


@pytest.mark.parametrize(
    ("ours", "file", "limit"),
    [
        ("0::/system.slice/workbench.service\n", "system.slice/memory.max", 1_000_000),
        ("0::/of/the/host\n", "memory.max", 1_000_000),
        ("5:cpu:/\n4:memory:/a/b\n0::/\n", "memory/a/b/memory.limit_in_bytes", 1_000_000),
        ("0::/\n", "of/others/memory.max", None),
    ],
)
def test_the_limit_of_a_group_above_us_counts(tmp_path: Path, ours: str, file: str, limit: int | None):
    (tmp_path / "cgroup").write_text(ours)
    (tmp_path / "fs").mkdir()
    (tmp_path / "fs" / "memory.max").write_text("max\n")
    limited = tmp_path / "fs" / file
    limited.parent.mkdir(parents=True, exist_ok=True)
    limited.write_text("1000000\n")

    assert memory.memory_limit(tmp_path / "fs", tmp_path / "cgroup") == (limit or psutil.virtual_memory().total)
