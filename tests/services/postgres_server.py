"""The embedded PostgreSQL without its supervisor, so that a test decides when it dies and how large its disk is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg

from tests.services.process_tree import process_tree
from tests.services.workbench import environment, wait_until
from workbench.embedded.postgres import SUPERUSER, PostgresServer
from workbench.runtime.ports import LOOPBACK, any_free
from workbench.security.secrets import ensure_token

UP_SECONDS = 60
DATABASE, USER = "analytics", "flows"
MOUNT = 'mount -t tmpfs -o size="$1",mode=0755 none "$2" && shift 2 && exec "$@"'


class OwnPostgres:
    """A server that a test kills and starts.

    Args:
        home: its files; made by the caller.
        disk: size of a file system of its own, such as 100m, in a mount namespace of the server's
            own, gone with it; for root only. Empty is the disk of *home*.
        is_backed_up: as with WORKBENCH_BACKUP_FOLDER.
    """

    def __init__(self, home: Path, disk: str = "", *, is_backed_up: bool = False) -> None:
        self.server = PostgresServer(
            home=home, port=any_free(), database=DATABASE, user=USER, is_backed_up=is_backed_up
        )
        self._disk = disk
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers. From the main thread: the server dies with the thread that began it."""
        home = self.server.home
        command = [sys.executable, "-m", __name__, str(home), str(self.server.port)]
        command += ["backed-up"] if self.server.is_backed_up else []
        if self._disk:
            self.server.folder.mkdir(mode=0o700, exist_ok=True)
            mount = ("sh", "-c", MOUNT, "mount", self._disk, str(self.server.folder))
            command = ["unshare", "--mount", "--propagation", "private", *mount, *command]
        with (home / "postgres.log").open("ab") as log:
            self._process = process = subprocess.Popen(command, stdout=log, stderr=log, env=environment(home))
        wait_until(lambda: process.poll() is not None or self.server.is_healthy(), UP_SECONDS, "PostgreSQL to answer")
        assert process.poll() is None, (home / "postgres.log").read_text()[-3000:]
        self.server.complete()

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Signal the postmaster and wait for its end, and for that of its backends.

        They end with it, but one that recovers from a crash looks up now and then only, and until then no other
        server can start here; the guard of a workbench kills it.
        """
        process, self._process = self._process, None
        if process is not None:
            others = [each for each in process_tree(process.pid) if each.pid != process.pid]
            process.send_signal(number)
            process.wait(30)
            psutil.wait_procs(others, 30)

    @property
    def pid(self) -> int:
        """Of the postmaster, whose children the backends are."""
        assert self._process is not None
        return self._process.pid

    @property
    def folder(self) -> Path:
        """Its data as the server's mount namespace has them, seen from ours."""
        assert self._process is not None
        return Path(f"/proc/{self._process.pid}/root{self.server.folder}")

    def variables(self) -> dict[str, str]:
        """The workbench's variables that lead to this warehouse."""
        return {
            "DW_HOST": LOOPBACK,
            "DW_PORT": str(self.server.port),
            "DW_DATABASE": DATABASE,
            "DW_USER": USER,
            "DW_PASSWORD": self.server.password,
        }

    def connect(self, database: str = DATABASE) -> psycopg.Connection[tuple[object, ...]]:
        """A session of the superuser, without transactions."""
        return psycopg.connect(
            host=LOOPBACK, port=self.server.port, dbname=database, user=SUPERUSER, autocommit=True,
            password=ensure_token(self.server.home / "keys" / "warehouse-superuser-password"), sslmode="disable",
        )  # fmt: skip

    def ask(self, query: str, database: str = DATABASE) -> list[tuple[object, ...]]:
        """The answer to a query of the superuser, each in a transaction of its own."""
        with self.connect(database) as connection:
            found = connection.execute(query)
            return list(found.fetchall()) if found.description else []


@contextmanager
def running_postgres(home: Path, disk: str = "", *, is_backed_up: bool = False) -> Iterator[OwnPostgres]:
    """Start a server in a new folder *home*, and stop it at the end."""
    home.mkdir(parents=True)
    postgres = OwnPostgres(home, disk, is_backed_up=is_backed_up)
    try:
        postgres.start()
        yield postgres
    finally:
        postgres.end(signal.SIGINT)


def main() -> None:
    """Become the server: prepare it where we are, in a mount namespace for one."""
    home, port = Path(sys.argv[1]), int(sys.argv[2])
    is_backed_up = sys.argv[3:] == ["backed-up"]
    launch = PostgresServer(home=home, port=port, database=DATABASE, user=USER, is_backed_up=is_backed_up).prepare()
    os.chdir(launch.folder)
    os.execvp(launch.argv[0], launch.argv)


if __name__ == "__main__":
    main()
