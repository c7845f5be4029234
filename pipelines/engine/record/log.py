"""The log of an execution while it grows: written at once, on the disk within a second."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from pipelines.engine.record.events import Event
from workbench.errors import KeysetError
from workbench.security.encryption.logs import FrameSealer

SYNC_SECONDS = 0.5  # between the begins of two syncs


class EventLog:
    """Appends events to a new file of mode 0600; with a *sealer*, each is encrypted in a frame of its own.

    An event is handed to the operating system before `append` returns, so a kill -9 of this process
    loses none. A thread syncs the file to its disk twice a second while something is new, so an
    end of the machine loses no more than that, and what the disk takes for it. Its end waits for
    the disk: with `async with`, in a thread.
    """

    def __init__(self, path: Path, sealer: FrameSealer | None = None) -> None:
        self._path, self._sealer = path, sealer
        self._file = -1
        self._position = 0
        self._is_new = threading.Event()
        self._is_closing = threading.Event()
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._sync, name=f"sync-{path.name}", daemon=True)

    def __enter__(self) -> Self:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        if self._sealer is not None:
            try:
                self._write(self._sealer.header)
            except OSError:
                os.close(self._file)
                raise
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_closing.set()
        self._is_new.set()
        self._thread.join()
        # What the last events were about has been reported by `append`, or is the caller's error already.
        with contextlib.suppress(OSError):
            os.fsync(self._file)
        os.close(self._file)
        if self._sealer is not None:
            # The log is whole without it; until then, a rewrap takes it for one that grows.
            with contextlib.suppress(KeysetError):
                self._sealer.finish()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A disk that is busy would keep the output of all other steps of this process waiting.
        await asyncio.to_thread(self.__exit__, kind, error, trace)

    def append(self, event: Event) -> None:
        """Write *event*.

        Raises:
            OSError: when the disk is full or broken; also for what an earlier sync has found.
        """
        if self._failure:
            raise self._failure
        line = event.as_line()
        self._write(line if self._sealer is None else self._sealer.frame(line, self._position))
        self._is_new.set()

    def _write(self, content: bytes) -> None:
        rest = memoryview(content)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError:
            # A part would hide whatever could still be written behind it, such as the end.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._position)
            raise
        self._position += len(content)

    def _sync(self) -> None:
        while not self._is_closing.is_set():
            self._is_new.wait()
            self._is_new.clear()
            began = time.monotonic()
            try:
                os.fsync(self._file)
            except OSError as error:
                self._failure = error
                return
            self._is_closing.wait(max(0.0, began + SYNC_SECONDS - time.monotonic()))
