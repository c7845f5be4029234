"""The second place of checkpoints, which whoever can change the log should not be able to change."""

from __future__ import annotations

import contextlib
import logging.handlers
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from pydantic import SecretStr

from workbench.errors import AuditError

if TYPE_CHECKING:
    from workbench.sections import AuditSettings

SECONDS = 5  # until an anchor has to have taken a checkpoint, once it is connected to; the same to connect
READ_SECONDS = 60  # the same to give all of them back
FACILITY = logging.handlers.SysLogHandler.LOG_AUTHPRIV
DEFAULT_PORT = 514
INSERT = "INSERT INTO workbench_audit.checkpoints (checkpoint) VALUES (%s)"
SELECT = "SELECT received_at, checkpoint FROM workbench_audit.checkpoints ORDER BY id"
#: What an administrator of the database runs once; `workbench audit anchor-sql` prints it.
DDL = """\
CREATE ROLE workbench_audit_owner NOLOGIN;
CREATE ROLE workbench_audit_writer LOGIN;  -- then: \\password workbench_audit_writer
CREATE ROLE workbench_audit_reader LOGIN;  -- then: \\password workbench_audit_reader
CREATE SCHEMA workbench_audit AUTHORIZATION workbench_audit_owner;
CREATE TABLE workbench_audit.checkpoints (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  checkpoint text NOT NULL CHECK (length(checkpoint) < 1000)
);
ALTER TABLE workbench_audit.checkpoints OWNER TO workbench_audit_owner;
CREATE FUNCTION workbench_audit.refuse() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN RAISE EXCEPTION 'checkpoints are only added'; END $$;
CREATE TRIGGER only_added BEFORE UPDATE OR DELETE OR TRUNCATE ON workbench_audit.checkpoints
  FOR EACH STATEMENT EXECUTE FUNCTION workbench_audit.refuse();
GRANT USAGE ON SCHEMA workbench_audit TO workbench_audit_writer, workbench_audit_reader;
GRANT INSERT (checkpoint) ON workbench_audit.checkpoints TO workbench_audit_writer;
GRANT SELECT ON workbench_audit.checkpoints TO workbench_audit_reader;
"""


@dataclass(frozen=True)
class Anchored:
    """A line of an anchor."""

    line: bytes
    received_at: datetime | None = None  #: by the clock of the anchor, when it has one


class Anchor(Protocol):
    """Takes checkpoints."""

    def send(self, line: bytes) -> None:
        """Add a checkpoint.

        Raises:
            AuditError: when it did not arrive.
        """


class ReadableAnchor(Protocol):
    """Gives checkpoints back."""

    @property
    def name(self) -> str:
        """For people."""

    def read(self) -> Sequence[Anchored]:
        """All of them, as they came.

        Raises:
            AuditError: when they cannot be read.
        """


@dataclass(frozen=True)
class FileAnchor:
    """A file elsewhere: of another machine, or one that the file system lets nobody but append to. Syslog's files too."""

    path: Path

    @property
    def name(self) -> str:
        """For people."""
        return str(self.path)

    def send(self, line: bytes) -> None:
        """Append the line, and wait until it is on the disk."""
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(self.path, flags, 0o600)
            try:
                if os.write(descriptor, line) != len(line):
                    raise OSError(None, "no room for a whole line")
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _unreachable(self.name, error.strerror or str(error)) from error

    def read(self) -> Sequence[Anchored]:
        """The lines of the file; those that are no checkpoints too."""
        try:
            return [Anchored(line) for line in self.path.read_bytes().splitlines(keepends=True)]
        except OSError as error:
            raise _unreachable(self.name, error.strerror or str(error)) from error


@dataclass(frozen=True)
class SyslogAnchor:
    """A syslog (RFC 5424 reads the messages of RFC 3164 that this sends), with the facility authpriv. It does not answer."""

    address: str  #: a socket such as `/dev/log`, or `udp://host:514` or `tcp://host:601`

    @property
    def name(self) -> str:
        """For people."""
        return self.address

    def send(self, line: bytes) -> None:
        """Send the line as one message."""
        where, kind = self._where()
        text = line.decode().rstrip("\n") + ("\n" if kind == socket.SOCK_STREAM else "")
        record = logging.LogRecord("audit", logging.INFO, "", 0, text, None, None)
        try:
            with contextlib.closing(_Syslog(where, FACILITY, kind)) as handler:
                handler.ident = "workbench-audit: "
                handler.emit(record)
        except OSError as error:
            raise _unreachable(self.name, error.strerror or str(error)) from error

    def _where(self) -> tuple[str | tuple[str, int], socket.SocketKind | None]:
        if self.address.startswith("/"):
            return self.address, None
        url = urlsplit(self.address)
        kind = socket.SOCK_STREAM if url.scheme == "tcp" else socket.SOCK_DGRAM
        return (url.hostname or "", url.port or DEFAULT_PORT), kind


class _Syslog(logging.handlers.SysLogHandler):
    def createSocket(self) -> None:  # noqa: N802 - logging's name
        """A socket that waits for nobody longer than that."""
        if self.socktype == socket.SOCK_STREAM and isinstance(self.address, tuple):
            self.unixsocket = False
            self.socket = socket.create_connection(self.address, timeout=SECONDS)
            return
        super().createSocket()
        if not self.unixsocket:
            self.socket.settimeout(SECONDS)

    def _connect_unixsocket(self, address: str) -> None:
        # Called again when a message was not taken: that socket waits no longer than the first.
        kinds = (socket.SOCK_DGRAM, socket.SOCK_STREAM) if self.socktype is None else (self.socktype,)
        for kind in kinds:
            self.socket = socket.socket(socket.AF_UNIX, kind)
            self.socket.settimeout(SECONDS)
            try:
                self.socket.connect(address)
            except OSError:
                self.socket.close()
                if kind == kinds[-1]:
                    raise
            else:
                self.socktype = kind
                return

    append_nul = False  # lines end in a line feed over TCP, and with the message elsewhere (RFC 6587 §3.4.2)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Let the error out."""
        raise  # noqa: PLE0704 - logging calls it while it handles the error


@dataclass(frozen=True)
class PostgresAnchor:
    """A table that our role may only add to, see `DDL`; read with another role."""

    url: SecretStr  #: libpq's, `postgresql://role:password@host/database`

    @property
    def name(self) -> str:
        """For people, without the password."""
        address = urlsplit(self.url.get_secret_value())
        return f"postgresql://{address.hostname}:{address.port or 5432}{address.path}"

    def send(self, line: bytes) -> None:
        """Insert the line as a row."""
        with self._connection(SECONDS) as connection:
            connection.execute(INSERT, (line.decode().rstrip("\n"),))

    def read(self) -> Sequence[Anchored]:
        """The rows, with when they came."""
        with self._connection(READ_SECONDS) as connection:
            rows = connection.execute(SELECT).fetchall()
        return [Anchored(checkpoint.encode() + b"\n", received_at) for received_at, checkpoint in rows]

    @contextlib.contextmanager
    def _connection(self, seconds: float) -> Iterator[Any]:
        try:
            import psycopg
        except ImportError:
            raise AuditError("psycopg is not installed", remedy="Run `make setup`.") from None
        try:
            with (
                psycopg.connect(
                    self.url.get_secret_value(), connect_timeout=SECONDS, tcp_user_timeout=int(1000 * SECONDS)
                ) as connection,
                _cut_off(connection.fileno(), 2 * seconds),
            ):
                limit = int(1000 * seconds)
                connection.execute(f"SET LOCAL statement_timeout = {limit}; SET LOCAL lock_timeout = {limit}")
                yield connection
                connection.commit()
        except psycopg.Error as error:
            raise _unreachable(self.name, str(error).partition("\n")[0]) from None


@contextlib.contextmanager
def _cut_off(descriptor: int, seconds: float) -> Iterator[None]:
    """End a connection that lasts longer: a server that is frozen keeps no limit that it was told."""
    with socket.socket(fileno=os.dup(descriptor)) as connected:

        def end() -> None:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def anchors_of(settings: AuditSettings) -> tuple[Anchor, ...]:
    """Where the settings say that checkpoints are written, too."""
    url = settings.anchor_database_url
    return (
        *((FileAnchor(settings.anchor_file),) if settings.anchor_file else ()),
        *((SyslogAnchor(settings.anchor_syslog),) if settings.anchor_syslog else ()),
        *((PostgresAnchor(url),) if url.get_secret_value() else ()),
    )


def readable_anchors_of(settings: AuditSettings) -> tuple[ReadableAnchor, ...]:
    """Those that the settings let us read."""
    url = settings.anchor_reader_url
    return (
        *((FileAnchor(settings.anchor_file),) if settings.anchor_file else ()),
        *((PostgresAnchor(url),) if url.get_secret_value() else ()),
    )


def _unreachable(name: str, reason: str) -> AuditError:
    return AuditError(
        f"the anchor {name} cannot be reached: {reason}",
        remedy="See WORKBENCH_AUDIT_ANCHOR_… in docs/settings.md.",
    )
