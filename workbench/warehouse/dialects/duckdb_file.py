"""The encrypted DuckDB file: how it is opened, by SQLAlchemy too, and what its errors mean."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb
import duckdb_engine
import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy import exc

from workbench.errors import RowsRefused, SettingsError, WarehouseError, WarehouseUnavailable
from workbench.masking import remember
from workbench.references import SecretReference
from workbench.sections import WarehouseSettings
from workbench.security.kept_secrets import KeptSecrets
from workbench.security.keyset.opening import Keys
from workbench.security.references import references_at
from workbench.security.secrets import ensure_token, private_folder
from workbench.warehouse.dialects.reflection import ColumnReflection, QuotesEverything
from workbench.warehouse.schema import text_literal

CATALOG = "warehouse"
HAND_OVER_SECONDS = 5.0  # until another thread of this process has closed the file, or opened it
OF_A_ROW = (duckdb.ConstraintException, duckdb.ConversionException, duckdb.OutOfRangeException)
NOT_BY_WAITING = ("not a valid DuckDB database file", "Permission denied", "Cannot open file", "No such file")


def open_file(settings: WarehouseSettings) -> duckdb.DuckDBPyConnection:
    """A new connection to the warehouse's file, which is made, with its key, when there is none.

    All connections of a process share one instance of DuckDB, which the name of an in-memory
    database stands for (duckdb.org, "Python API", "Connecting"): the file belongs to one instance.
    It is released when the last of them is closed.

    Raises:
        WarehouseError: when another process has the file open, or the key is another or gone.
        SecretUnavailable, KeysetError, EncryptionError: when the key is in the keyset or in Vault, and cannot be had.
    """
    file = settings.file
    assert file is not None, "the settings name the file"
    key = read_key(settings)
    if not file.parent.exists():
        private_folder(file.parent)
    deadline = time.monotonic() + HAND_OVER_SECONDS
    while True:
        with reported_file(settings):
            connection = _connect(file)
            try:
                _attach(connection, file, key)
            except (duckdb.BinderException, duckdb.CatalogException, duckdb.TransactionException):
                connection.close()
                if time.monotonic() > deadline:
                    raise
            except BaseException:
                connection.close()
                raise
            else:
                return connection
        time.sleep(0.02)


def read_key(settings: WarehouseSettings) -> SecretStr:
    """The key of the warehouse's file; it is made when there is neither.

    Raises:
        WarehouseError: when the file is there, and its key is gone.
        SecretUnavailable, KeysetError, EncryptionError: when the key is in the keyset or in Vault, and cannot be had.
    """
    file, key_file = settings.file, settings.key_file
    assert file is not None, "the settings name the file"
    assert key_file is not None, "the settings name the key"
    if settings.key:
        return _referred_key(settings, is_new=not file.exists())
    if file.exists() and not key_file.exists():
        raise WarehouseError(
            f"the warehouse file {file} is encrypted, and its key {key_file} is gone",
            remedy="Restore the key, or remove the file to begin with an empty warehouse.",
        )
    return SecretStr(ensure_token(key_file))


def _referred_key(settings: WarehouseSettings, *, is_new: bool) -> SecretStr:
    try:
        reference = SecretReference.parse(settings.key)
    except ValueError as error:
        raise SettingsError([f"WORKBENCH_WAREHOUSE_KEY: {error}."]) from None
    home, keys = settings.key_place
    if reference.scheme == "keyset" and is_new:
        found = KeptSecrets.of(home, Keys.of(home, keys)).ensure(reference.name)
        remember(found.get_secret_value())
        return found
    return references_at(home, keys, {}).read(reference)


def _key_name(settings: WarehouseSettings) -> str:
    return settings.key or str(settings.key_file)


def make_file_engine(settings: WarehouseSettings) -> sa.Engine:
    """A SQLAlchemy engine for the file; opens no connection yet."""
    sa.dialects.registry.register("duckdb.workbench", __name__, "FileDialect")
    return sa.create_engine("duckdb+workbench://", creator=lambda: _Connection(open_file(settings)), pool_size=2)


@contextmanager
def reported_file(settings: WarehouseSettings) -> Iterator[None]:
    """Turn the errors of DuckDB, and those that SQLAlchemy wraps, into ours.

    Raises:
        RowsRefused: when a value or a constraint was the cause; `reasons` is empty.
        WarehouseUnavailable: when trying again may help.
        WarehouseError: otherwise.
    """
    try:
        yield
    except exc.DBAPIError as error:
        raise _ours(settings, error.orig or error) from None
    except (exc.StatementError, duckdb.Error) as error:
        raise _ours(settings, error) from None


class _Names(QuotesEverything, duckdb_engine.DuckDBIdentifierPreparer):
    """Words that DuckDB reserves only as names of columns are not in its list."""


class FileDialect(ColumnReflection, duckdb_engine.Dialect):  # type: ignore[misc]
    """duckdb-engine with a reflection that SQLAlchemy 2.1 can use, and with counts of changed rows."""

    driver = "workbench"
    preparer = _Names
    supports_statement_cache = False
    supports_sane_rowcount = True
    columns_query = (
        "SELECT column_name, data_type, is_nullable, numeric_precision, numeric_scale, NULL FROM information_schema.columns "
        "WHERE table_catalog = current_database() AND table_schema = :schema AND table_name = :table "
        "ORDER BY ordinal_position"
    )


class _Connection(duckdb_engine.ConnectionWrapper):
    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        super().__init__(connection)
        self._connection = connection

    def cursor(self) -> _Cursor:
        return _Cursor(self._connection, self)


class _Cursor(duckdb_engine.CursorWrapper):
    """Knows how many rows a statement has changed, which DuckDB tells as a result with one number."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, wrapper: _Connection) -> None:
        super().__init__(connection, wrapper)
        self._connection = connection
        self.rowcount = -1
        self.description: Any = None

    def execute(self, statement: str, parameters: Any = None, context: Any = None) -> None:
        super().execute(statement, parameters, context)
        self.rowcount, self.description = -1, self._connection.description
        changes = statement.lstrip()[:6].upper() in ("INSERT", "UPDATE", "DELETE")
        if changes and self.description and [each[0] for each in self.description] == ["Count"]:
            counted = self._connection.fetchone()
            self.rowcount, self.description = (counted[0] if counted else 0), None


def _connect(file: Path) -> duckdb.DuckDBPyConnection:
    name = hashlib.sha256(str(file).encode()).hexdigest()[:16]
    options: dict[str, str | bool | int | float | list[str]] = {
        # What DuckDB needs is in the lock: nothing is fetched.
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "temp_directory": f"{file}.tmp",
        "temp_file_encryption": "true",
    }
    return duckdb.connect(f":memory:workbench_{name}", config=options)


def _attach(connection: duckdb.DuckDBPyConnection, file: Path, key: SecretStr) -> None:
    # What is slow would draw a bar into the output of a command.
    connection.execute("SET enable_progress_bar = false")
    # OpenSSL comes with this extension; without, DuckDB does not write encrypted files.
    extension = next(Path(str(files("duckdb_extension_httpfs"))).rglob("httpfs.duckdb_extension"))
    connection.execute(f"LOAD {text_literal(str(extension))}")
    # The key is a parameter: it is in no text of a statement, hence in no error and no log.
    connection.execute(
        f"ATTACH IF NOT EXISTS {text_literal(str(file))} AS {CATALOG} (ENCRYPTION_KEY ?)", [key.get_secret_value()]
    )
    file.chmod(0o600)
    connection.execute(f"USE {CATALOG}")
    connection.execute("SET TimeZone = 'UTC'")


def _ours(settings: WarehouseSettings, error: BaseException) -> WarehouseError:
    message, file = str(error).strip(), settings.file
    if "Could not set lock on file" in message:
        owner = re.search(r"\(PID (\d+)\)", message)
        return WarehouseError(
            f"the warehouse file {file} is open in another process{f', PID {owner[1]}' if owner else ''}",
            remedy="One process at a time may open a DuckDB file: wait until that one has ended, or end it.",
        )
    if "encryption key" in message or "without a key" in message or "is not encrypted" in message:
        return WarehouseError(
            f"the key {_key_name(settings)} does not open the warehouse file {file}",
            remedy="Restore the key that the file was made with, or set WORKBENCH_WAREHOUSE_KEY or WORKBENCH_WAREHOUSE_KEY_FILE.",
        )
    if isinstance(error, OF_A_ROW):
        return RowsRefused(
            f"the warehouse refused a row: {message}", reasons={}, remedy="Change the table or the flow."
        )
    waiting = isinstance(error, duckdb.TransactionException | duckdb.OutOfMemoryException | duckdb.IOException)
    if waiting and not any(text in message for text in NOT_BY_WAITING):
        return WarehouseUnavailable(
            f"the warehouse file {file} asks to try again: {message.splitlines()[0]}",
            remedy="Another transaction has changed the same rows, or memory or disk is full.",
        )
    return WarehouseError(
        f"the warehouse file {file} refused: {message}", remedy="The message above says what it refused."
    )
