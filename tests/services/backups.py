"""A warehouse with backups: its commands, its keeper, and the home that a restore has made."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.services.postgres_server import DATABASE, MOUNT, OwnPostgres
from tests.services.workbench import environment, wait_until
from workbench.sections import KeysSettings
from workbench.security.keyset.opening import Keys
from workbench.warehouse.backup.repository import Repository

PASSPHRASE = "six random words for a test"
SECONDS = 120


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

    def start(self, *arguments: object, before: Sequence[str] = (), **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*before, sys.executable, "-m", "workbench.cli", "backup", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment() | variables,
            cwd=self.folder.parent,
        )

    def run(self, *arguments: object, code: int = 0, before: Sequence[str] = (), **variables: str) -> str:
        process = self.start(*arguments, before=before, **variables)
        out, error = process.communicate(timeout=SECONDS)
        assert process.returncode == code, out + error
        return out + error

    def create(self, *arguments: str) -> str:
        return json.loads(self.run("create", "--json", *arguments))["backup"]

    def list(self) -> list[str]:
        return [each["backup"] for each in json.loads(self.run("list", "--json"))]

    def escrow(self) -> Path:
        path = self.folder.parent / "root.escrow"
        self.run("escrow", path, "--passphrase-file", self.passphrase_file)
        return path

    def repository(self) -> Repository:
        return Repository.of(self.home, self.folder)

    def switch_wal(self, database: str = DATABASE) -> None:
        """Close the segment that is written, and wait until it is archived. Asked in *database*, which has to be there."""
        (name,) = self.postgres.ask("SELECT pg_walfile_name(pg_current_wal_lsn())", database)[0]
        self.postgres.ask("SELECT pg_switch_wal()", database)
        archive = self.repository().wal
        wait_until(lambda: str(name) in {each.name for each in archive.segments()}, SECONDS, f"{name} to be archived")

    def kept(self) -> str:
        """What the keeper has said."""
        return (self.folder.parent / "keep.log").read_text()

    @contextmanager
    def keeping(self, disk: str = "", **variables: str) -> Iterator[subprocess.Popen[bytes]]:
        """What `workbench up` runs; entered when it has made its first backup, if there was none.

        Args:
            disk: size of a file system of its own for the backups, such as 40m, as `OwnPostgres` has it.
            variables: more of the environment.
        """
        is_first = not self.repository().names()
        with (self.folder.parent / "keep.log").open("ab") as log:
            mount = (
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                MOUNT,
                "mount",
                disk,
                str(self.folder),
            )
            process = subprocess.Popen(
                [*(mount if disk else ()), sys.executable, "-m", "workbench.cli", "backup", "keep"],
                stdout=log,
                stderr=log,
                env=self.environment() | variables,
                cwd=self.folder.parent,
            )
        try:
            made = "made the full backup" if is_first else ""
            wait_until(lambda: process.poll() is not None or made in self.kept(), SECONDS, "a first backup")
            assert process.poll() is None, self.kept()
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


@contextmanager
def restored(home: Path) -> Iterator[OwnPostgres]:
    """Start the warehouse of a restored home."""
    postgres = OwnPostgres(home)
    try:
        postgres.start()
        yield postgres
    finally:
        postgres.end(signal.SIGINT)


@dataclass(frozen=True, kw_only=True)
class Drill:
    """A warehouse that was backed up, and what has to come back."""

    warehouse: BackedUpWarehouse
    rows: list[tuple[object, ...]]
    moment: datetime
    escrow: Path

    def restore(self, home: Path, *arguments: str, **variables: str) -> dict[str, Any]:
        command = ("restore", home, "--escrow", self.escrow, "--passphrase-file", self.warehouse.passphrase_file)
        return json.loads(self.warehouse.run(*command, "--json", *arguments, **variables))


def copy_backups(drill: Drill, place: Path) -> tuple[Keys, Repository]:
    """A copy of the backups below *place*, and the keys that read them."""
    origin = drill.warehouse.repository().folder
    shutil.copytree(origin, place / origin.name)
    return Keys.of(drill.warehouse.home, KeysSettings()), Repository(place / origin.name)
