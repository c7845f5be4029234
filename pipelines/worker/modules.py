"""The modules of a project as one hash: what the code of a step may import beside packages."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

MOST_FILES = 20_000
MOST_FOLDERS = 20_000
MOST_BYTES = 200_000_000
PIECE_BYTES = 1 << 20
# Packages count by their versions, see `planning.pins`; what is compiled follows its source.
LEFT_OUT = frozenset({"site-packages", "dist-packages", "__pycache__", "node_modules"})


class TooMuch(Exception):
    """There is more below the project's folders than is looked at. It never leaves this package."""


def modules_hash(roots: Sequence[Path]) -> str:
    """The sha256 of all files `*.py` below *roots*: of their paths from there on, and of what is in them.

    Left out are hidden folders, `__pycache__`, installed packages, virtual environments, and folders behind symbolic
    links. What cannot be read counts as if it were not there: no step can import it, either.

    Raises:
        TooMuch: when there are more than 20,000 modules or folders, or 200 MB of modules.
    """
    whole, files, left = hashlib.sha256(), 0, MOST_BYTES
    for number, root in enumerate(roots):
        for path in _modules(root):
            files += 1
            if files > MOST_FILES:
                raise TooMuch
            if (found := _file_hash(path, left)) is None:
                continue
            digest, size = found
            left -= size
            name = os.fsencode(path.relative_to(root))
            whole.update(b"%d %d " % (number, len(name)) + name + digest)
    return whole.hexdigest()


def _modules(root: Path) -> Iterator[Path]:
    """In one order, wherever the project is."""
    if root.name in LEFT_OUT:
        return
    for number, (folder, folders, files) in enumerate(os.walk(root), start=1):
        if number > MOST_FOLDERS:
            raise TooMuch
        if "pyvenv.cfg" in files:
            folders.clear()
            continue
        folders[:] = sorted(each for each in folders if not each.startswith(".") and each not in LEFT_OUT)
        yield from (Path(folder, each) for each in sorted(files) if each.endswith(".py"))


def _file_hash(path: Path, most_bytes: int) -> tuple[bytes, int] | None:
    """Of what is in a file, and how much that is; None when it cannot be read, or is none."""
    digest, size = hashlib.sha256(), 0
    try:
        # Not blocking: a pipe of that name would be waited for.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            while piece := file.read(PIECE_BYTES):
                size += len(piece)
                if size > most_bytes:
                    raise TooMuch
                digest.update(piece)
    except OSError:
        return None
    return digest.digest(), size
