"""What kernels do at a checkpoint: they write variables to files, and read them back.

Kernels are sent the text of this module, and need not have the workbench: nothing of ours is
imported. Values are JSON and tables of Arrow. Nothing is pickled: whoever could write to a pickle
could run code as whoever reads it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

VALUES = "values.json"
SCALARS = (type(None), bool, int, float, str)
SPARK = "write it to the warehouse, and read it behind the checkpoint"


class CheckpointRefused(Exception):
    """A variable cannot be carried."""


def save(names: Sequence[str], folder: str, namespace: MutableMapping[str, Any]) -> None:
    """Write the variables *names* of *namespace* to new files of mode 0600 in *folder*, on the disk when this returns.

    Raises:
        CheckpointRefused: for one that is not there, holds a secret, or would not come back as it is.
        OSError: when there is no room.
    """
    values: dict[str, Any] = {}
    tables: dict[str, list[str]] = {}
    for number, name in enumerate(names):
        if name not in namespace:
            raise CheckpointRefused(f"the checkpoint carries {name}, and there is no such variable")
        kind = _table_kind(namespace[name])
        if kind:
            tables[name] = [kind, f"{number}.arrow"]
            _write_table(name, namespace[name], kind, Path(folder, f"{number}.arrow"))
        else:
            values[name] = _checked(name, namespace[name])
    text = json.dumps({"values": values, "tables": tables})
    with _new_file(Path(folder, VALUES)) as file:
        file.write(text.encode())
        _sync(file)


def restore(folder: str, namespace: MutableMapping[str, Any]) -> None:
    """Give *namespace* the variables that `save` has written to *folder*."""
    kept = json.loads(Path(folder, VALUES).read_bytes())
    for name, (kind, file_name) in kept["tables"].items():
        import pyarrow as pa

        with pa.OSFile(str(Path(folder, file_name)), "rb") as source:
            table = pa.ipc.open_file(source).read_all()
        namespace[name] = table.to_pandas() if kind == "pandas" else table
    namespace.update(kept["values"])


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


def _write_table(name: str, value: Any, kind: str, path: Path) -> None:
    try:
        import pyarrow as pa
    except ImportError:
        raise CheckpointRefused(f"the checkpoint carries {name}, a DataFrame; that takes the package pyarrow") from None
    table = _as_table(name, value) if kind == "pandas" else value
    with _new_file(path) as file:
        guarded = _Guarded(file, _Guard(name))
        # Not compressed: secrets are looked for in what is written.
        with pa.ipc.new_file(guarded, table.schema) as writer:
            writer.write_table(table)
        _sync(file)


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


def _new_file(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
