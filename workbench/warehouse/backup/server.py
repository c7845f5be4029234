"""How the PostgreSQL that is backed up is reached, and how its client programs are run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from workbench.errors import BackupError

CONNECT_SECONDS = 10
SLOT = "workbench_backup"  #: of replication: the server keeps what was not received from it


@dataclass(frozen=True, kw_only=True)
class Server:
    """A server on this machine, and the role that may replicate it."""

    programs: Path  #: the installation: bin/, lib/, share/
    host: str
    port: int
    user: str
    password: str = field(repr=False)

    @contextmanager
    def connect(self) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
        """A connection that commits each statement.

        Raises:
            BackupError: when the server does not answer, or refuses a statement.
        """
        try:
            with psycopg.connect(
                host=self.host, port=self.port, user=self.user, password=self.password, dbname="postgres",
                connect_timeout=CONNECT_SECONDS, autocommit=True, sslmode="disable", gssencmode="disable",
                require_auth="scram-sha-256",
            ) as connection:  # fmt: skip
                yield connection
        except psycopg.Error as error:
            raise BackupError(
                f"the warehouse at {self.host}:{self.port} refused, or does not answer: {str(error).strip()}",
                remedy="`workbench status` says whether it runs; its log says why it refused.",
            ) from None

    def start(self, program: str, *arguments: str, piped: bool = False) -> subprocess.Popen[bytes]:
        """Run one of PostgreSQL's clients against this server, with pipes for what it says or into our own log."""
        return subprocess.Popen(
            [str(self.programs / "bin" / program), *arguments, "--no-password"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if piped else None,
            stderr=subprocess.PIPE if piped else None,
            env=self._environment(),
            cwd="/",
        )

    def _environment(self) -> dict[str, str]:
        # libpq's own variables: the password is in no argument, which others can list.
        return {
            "PATH": os.defpath,
            "LC_ALL": "C",
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": self.password,
            "PGSSLMODE": "disable",
            "PGGSSENCMODE": "disable",
            "PGREQUIREAUTH": "scram-sha-256",
            "PGCONNECT_TIMEOUT": str(CONNECT_SECONDS),
        }
