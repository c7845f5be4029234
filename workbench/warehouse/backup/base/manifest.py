"""Finds the manifest in a base backup that goes by: later incremental ones begin with it.

It is the last file of the tar: to read it later, all of the backup would have to be read.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

NAME = "backup_manifest"
BLOCK_BYTES = 1024 * 1024


class Manifest:
    """What was found; empty until the backup has gone by."""

    def __init__(self) -> None:
        self.content = b""

    def packed(self) -> bytes:
        """It, compressed."""
        return gzip.compress(self.content, 6, mtime=0)


@contextmanager
def finding(manifest: Manifest) -> Iterator[BinaryIO]:
    """Where the compressed tar is written, too; a thread reads it, and has found the manifest at the end."""
    reading, writing = os.pipe()
    finder = threading.Thread(target=_find, args=(reading, manifest), daemon=True)
    finder.start()
    try:
        with os.fdopen(writing, "wb") as stream:
            yield stream
    finally:
        finder.join()


def _find(descriptor: int, manifest: Manifest) -> None:
    with os.fdopen(descriptor, "rb") as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r|gz", bufsize=BLOCK_BYTES) as tar:
                for member in tar:
                    file = tar.extractfile(member) if member.name == NAME else None
                    manifest.content = file.read() if file else manifest.content
        except (tarfile.TarError, EOFError, zlib.error, OSError):
            # One that was cut off has none; why, is told by who takes it.
            manifest.content = b""
        finally:
            while stream.read(BLOCK_BYTES):
                pass
