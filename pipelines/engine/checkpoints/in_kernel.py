"""What kernels do at a checkpoint: they write variables, and read them back.

To files in a folder, or through a pipe to whoever encrypts what comes out of it. Kernels are sent
the text of this module, and need not have the workbench: nothing of ours is imported. Values are
JSON and tables of Arrow. Nothing is pickled: whoever could write to a pickle could run code as
whoever reads it.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

VALUES = "values.json"
SCALARS = (type(None), bool, int, float, str)
BLOCK = struct.Struct(">HQ")  # of a pipe: how long the name is, and the data
SPARK = "write it to the warehouse, and read it behind the checkpoint"


class CheckpointRefused(Exception):
    """A variable cannot be carried."""


def save(names: Sequence[str], place: str, namespace: MutableMapping[str, Any]) -> None:
    """Write the variables *names* of *namespace* to *place*.

    That is a folder, in which new files of mode 0600 are on the disk when this returns, or a pipe.

    Raises:
        CheckpointRefused: for one that is not there, holds a secret, or would not come back as it is.
        OSError: when there is no room.
    """
    values: dict[str, Any] = {}
    tables: dict[str, list[str]] = {}
    with _writer(place) as writer:
        for number, name in enumerate(names):
            if name not in namespace:
                raise CheckpointRefused(f"the checkpoint carries {name}, and there is no such variable")
            kind = _table_kind(namespace[name])
            if kind:
                tables[name] = [kind, f"{number}.arrow"]
                _write_table(name, namespace[name], kind, writer, f"{number}.arrow")
            else:
                values[name] = _checked(name, namespace[name])
        text = json.dumps({"values": values, "tables": tables})
        # The last one: a reader of a pipe knows by it that nothing is missing.
        with writer.part(VALUES) as file:
            file.write(text.encode())


def restore(place: str, namespace: MutableMapping[str, Any]) -> None:
    """Give *namespace* the variables that `save` has written to the folder *place*, or that come through the pipe there.

    Raises:
        CheckpointRefused: when not all comes.
    """
    parts = _parts_of(place) if _is_pipe(place) else None
    kept = json.loads(Path(place, VALUES).read_bytes() if parts is None else parts[VALUES])
    for name, (kind, part) in kept["tables"].items():
        import pyarrow as pa

        # Of a bytearray, so that what is made of the table can be written to.
        with pa.OSFile(str(Path(place, part)), "rb") if parts is None else pa.BufferReader(parts[part]) as source:
            table = pa.ipc.open_file(source).read_all()
        namespace[name] = table.to_pandas() if kind == "pandas" else table
    namespace.update(kept["values"])


def _is_pipe(place: str) -> bool:
    return Path(place).is_fifo()


@contextmanager
def _writer(place: str) -> Iterator[Any]:
    if not _is_pipe(place):
        yield _Files(Path(place))
        return
    with Path(place).open("wb") as pipe:
        yield _Pipe(pipe)


class _Files:
    """Parts as files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def part(self, name: str) -> Iterator[BinaryIO]:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        with os.fdopen(os.open(self._folder / name, flags, 0o600), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())


class _Pipe:
    """Parts as blocks, each with its name and its length: how long a part becomes is not known before."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe, self._name, self._written = pipe, b"", 0

    @contextmanager
    def part(self, name: str) -> Iterator[Any]:
        self._name, self._written = name.encode(), 0
        yield self

    def write(self, data: bytes) -> int:
        self._pipe.write(BLOCK.pack(len(self._name), len(data)) + self._name)
        self._pipe.write(data)
        self._written += len(data)
        return len(data)

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        pass


def _parts_of(place: str) -> dict[str, bytearray]:
    """All parts that come through a pipe."""
    parts: dict[str, bytearray] = {}
    with Path(place).open("rb") as pipe:
        while begin := pipe.read(BLOCK.size):
            name_bytes, length = BLOCK.unpack(begin.ljust(BLOCK.size, b"\0"))
            name, data = pipe.read(name_bytes), pipe.read(length)
            if len(data) < length or not name_bytes:
                raise CheckpointRefused("what the checkpoint carries is cut off")
            parts.setdefault(name.decode(), bytearray()).extend(data)
    if VALUES not in parts:
        raise CheckpointRefused("what the checkpoint carries is cut off")
    return parts


def _checked(name: str, value: Any) -> Any:
    """*value*, when JSON gives it back as it is."""
    try:
        if wrong := _stranger(value, name):
            raise CheckpointRefused(wrong)
        text = json.dumps(value)
        json.loads(text)
    except RecursionError:
        raise CheckpointRefused(f"the checkpoint carries {name}, which is nested too deeply or holds itself") from None
    except ValueError:
        raise CheckpointRefused(f"the checkpoint carries {name}, which holds a number of too many digits") from None
    guard = _Guard(name)
    # As they are, and as a reader of the file sees them.
    for written in (*_texts(value), text, json.dumps(value, ensure_ascii=False)):
        guard.check(written.encode("utf-8", "surrogatepass"))
    return value


def _texts(value: Any) -> Iterator[str]:
    if type(value) is str:
        yield value
    elif isinstance(value, dict):
        yield from (text for each in (*value, *value.values()) for text in _texts(each))
    elif isinstance(value, list):
        yield from (text for each in value for text in _texts(each))


def _stranger(value: Any, place: str) -> str:
    """What is wrong with the first part of *value* that is not of JSON; a subclass would come back as its base."""
    if type(value) in SCALARS:
        return ""
    if type(value) is list:
        return next((said for number, each in enumerate(value) if (said := _stranger(each, f"{place}[{number}]"))), "")
    if type(value) is dict:
        if any(type(key) is not str for key in value):
            return f"the checkpoint carries {place}, a dict with keys that are no text"
        # Not the key: a secret may be one.
        return next((said for each in value.values() if (said := _stranger(each, f"a value of {place}"))), "")
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    advice = SPARK if kind.startswith("pyspark.") else "carry None, bool, int, float, str, list, dict, or a table"
    return f"the checkpoint carries {place}, which is a {kind}; {advice}"


def _table_kind(value: Any) -> str:
    # What nobody has imported is not what the value is of.
    pandas, pyarrow = sys.modules.get("pandas"), sys.modules.get("pyarrow")
    if pandas is not None and type(value) is pandas.DataFrame:
        return "pandas"
    return "arrow" if pyarrow is not None and isinstance(value, pyarrow.Table) else ""


def _write_table(name: str, value: Any, kind: str, parts: Any, part: str) -> None:
    try:
        import pyarrow as pa
    except ImportError:
        raise CheckpointRefused(f"the checkpoint carries {name}, a DataFrame; that takes the package pyarrow") from None
    table = _as_table(name, value) if kind == "pandas" else value
    with parts.part(part) as file:
        guarded = _Guarded(file, _Guard(name))
        # Not compressed: secrets are looked for in what is written.
        with pa.ipc.new_file(guarded, table.schema) as writer:
            writer.write_table(table)


def _as_table(name: str, frame: Any) -> Any:
    import pyarrow as pa

    try:
        table = pa.Table.from_pandas(frame)
        back = table.to_pandas()
        names = [[*each.index.names, *each.columns.names, each.attrs] for each in (back, frame)]
        is_same = bool(back.equals(frame)) and names[0] == names[1]
    except Exception as error:  # noqa: BLE001 - whatever pandas and pyarrow raise of columns that Arrow has no type for
        raise CheckpointRefused(
            f"the checkpoint carries {name}, a DataFrame that Arrow cannot hold ({type(error).__name__})"
        ) from None
    if not is_same:
        raise CheckpointRefused(
            f"the checkpoint carries {name}, a DataFrame that would not come back as it is; give each column one type"
        )
    return table


class _Guard:
    """Knows the secrets of the run, in all forms that programs give them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._forms: Sequence[bytes] = getattr(sys.modules.get("workbench_run"), "forms", ())
        self.longest = max(map(len, self._forms), default=1)

    def check(self, octets: bytes) -> None:
        if any(form in octets for form in self._forms):
            raise CheckpointRefused(f"the checkpoint carries {self._name}, which holds a secret; leave it out")


class _Guarded:
    """A file that is looked through before anything is written to it."""

    def __init__(self, file: BinaryIO, guard: _Guard) -> None:
        self._file, self._guard, self._end = file, guard, b""
        self.closed = False

    def write(self, data: Any) -> int:
        octets = bytes(data)
        self._guard.check(self._end + octets)
        self._end = (self._end + octets)[-self._guard.longest :]
        return self._file.write(octets)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self.closed = True
