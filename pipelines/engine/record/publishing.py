"""A notebook appears at its place whole, or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.engine.record.events import Event
from pipelines.engine.record.keeping import write_file
from pipelines.engine.record.notebook import read_notebook
from workbench.security.keyset.opening import Keys


def publish_notebook(log: Path, output: Path, *, end: Event | None = None, keys: Keys | None = None) -> dict[str, Any]:
    """Build the notebook of *log*, write it to *output* at mode 0600, encrypted if its name says so, and return it.

    It is on the disk, name included, when this returns. `read_notebook` says what *end* is for.

    Raises:
        OSError: when the log cannot be read or there is no room; *output* is then as it was.
        ValueError: when the log has no beginning.
        KeysetError, EncryptionError: when one of them is encrypted, and *keys* cannot be used.
    """
    notebook = read_notebook(log, end=end, keys=keys)
    write_file(output, notebook_bytes(notebook), keys)
    return notebook


def notebook_bytes(notebook: Mapping[str, Any]) -> bytes:
    """The file of a notebook. Texts stay whole strings, which nbformat allows: splitting megabytes into lines is slow."""
    # Lone surrogates are no UTF-8. The reader of the notebook sees them as escapes.
    return json.dumps(_printable(notebook), ensure_ascii=False, indent=1, sort_keys=True).encode("utf-8") + b"\n"


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, Mapping):
        return {_printable(key): _printable(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_printable(each) for each in value]
    return value
