"""A warehouse with backups: its commands, its keeper, and the home that a restore has made."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.services.postgres_server import OwnPostgres
from tests.services.workbench import environment, wait_until
from workbench.warehouse.backup.repository import Repository

PASSPHRASE = "six random words for a test"
SECONDS = 60


class BackedUpWarehouse:
    """The commands of `workbench backup` for a running warehouse."""

    def __init__(self, postgres: OwnPostgres, folder: Path) -> None:
        self.postgres, self.folder = postgres, folder
        self.home = postgres.server.home
        self.passphrase_file = folder.parent / "passphrase"
        self.passphrase_file.write_text(PASSPHRASE)
        self.passphrase_file.chmod(0o600)

    def environment(self) -> dict[str, str]:
        return environment(self.home) | self.postgres.variables() | {"WORKBENCH_BACKUP_FOLDER": str(self.folder)}

    def start(self, *arguments: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "workbench.cli", "backup", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment() | variables,
            cwd=self.folder.parent,
        )

    def run(self, *arguments: Any, code: int = 0, **variables: str) -> str:
        process = self.start(*arguments, **variables)
        out, error = process.communicate(timeout=SECONDS)
        assert process.returncode == code, out + error
        return out + error

    def create(self) -> str:
        return json.loads(self.run("create", "--json"))["backup"]

    def list(self) -> list[str]:
        return [each["backup"] for each in json.loads(self.run("list", "--json"))]

    def escrow(self) -> Path:
        path = self.folder.parent / "root.escrow"
        self.run("escrow", path, "--passphrase-file", self.passphrase_file)
        return path

    def repository(self) -> Repository:
        return Repository.of(self.home, self.folder)

    def switch_wal(self) -> None:
        """Close the segment that is written, and wait until it is archived."""
        (name,) = self.postgres.ask("SELECT pg_walfile_name(pg_current_wal_lsn())")[0]
        self.postgres.ask("SELECT pg_switch_wal()")
        archive = self.repository().wal
        wait_until(lambda: str(name) in {each.name for each in archive.segments()}, SECONDS, f"{name} to be archived")

    @contextmanager
    def keeping(self) -> Iterator[subprocess.Popen[str]]:
        """What `workbench up` runs; entered when it has made its first backup."""
        process = self.start("keep")
        try:
            wait_until(lambda: process.poll() is not None or self.repository().names(), SECONDS, "a first backup")
            assert process.poll() is None, process.communicate()
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)


@contextmanager
def restored(home: Path) -> Iterator[OwnPostgres]:
    """Start the warehouse of a restored home."""
    postgres = OwnPostgres(home)
    try:
        postgres.start()
        yield postgres
    finally:
        postgres.end(signal.SIGINT)
