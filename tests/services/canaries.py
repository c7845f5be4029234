"""Canaries: texts that nobody has by chance, planted where secrets would be, and looked for in every file of a folder."""

from __future__ import annotations

import base64
import json
import os
import secrets
import urllib.parse
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

BLOCK_BYTES = 1 << 22


def new_canary() -> str:
    """A text of 24 characters, with some that URLs and JSON write otherwise."""
    return f"canary/{secrets.token_hex(6)}+&é"


def forms_of(canary: str) -> set[bytes]:
    """How it may stand in a file: as it is, in base64 at each of three places, in URLs, in hex and in JSON."""
    plain = canary.encode()
    found = {plain, canary.encode("utf-16-le"), plain.hex().encode(), plain.hex().upper().encode()}
    for quote in (urllib.parse.quote, urllib.parse.quote_plus):
        found |= {quote(canary).encode(), quote(canary, safe="").encode()}
    found |= {canary.encode("unicode_escape"), json.dumps(canary)[1:-1].encode()}
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for shift in range(3):
            text = encode(b"\0" * shift + plain).rstrip(b"=")
            # The first and the last characters depend on what is beside it.
            found.add(text[4 if shift else 0 : -2])
    return found


def files_with(folder: Path, *canaries: str) -> list[str]:
    """Every file below *folder* in which, or in whose name, one of the canaries stands in any form."""
    forms = sorted({form for canary in canaries for form in forms_of(canary)})
    longest = max(map(len, forms))
    found = []
    for path in files_below(folder):
        with suppress(FileNotFoundError):  # its server has removed it meanwhile
            if any(form in str(path).encode() for form in forms) or _holds(path, forms, longest):
                found.append(str(path.relative_to(folder)))
    return found


def files_below(folder: Path) -> list[Path]:
    """Its files in order, without links; whoever looks at one of a live server may find it gone."""
    return sorted(path for path in _paths(folder) if not path.is_symlink() and path.is_file())


def size_of(path: Path) -> int:
    """In bytes; 0 when its server has removed it meanwhile."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _paths(folder: Path) -> Iterator[Path]:
    for at, _, names in os.walk(folder):
        yield from (Path(at, each) for each in names)


def _holds(path: Path, forms: list[bytes], longest: int) -> bool:
    with path.open("rb") as file:
        before = b""
        while block := file.read(BLOCK_BYTES):
            whole = before + block
            if any(form in whole for form in forms):
                return True
            before = whole[-longest:]
    return False
