"""The log of an execution while it grows: written at once, on the disk within a second."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from pipelines.engine.record.events import Event

SYNC_SECONDS = 0.5


class EventLog:
    """Appends events to a new file of mode 0600.

    An event is handed to the operating system before `append` returns, so a kill -9 of this process
    loses none. A thread syncs the file to its disk twice a second while something is new, so an
    end of the machine loses no more than that.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1
        self._is_new = threading.Event()
        self._is_closing = threading.Event()
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._sync, name=f"sync-{path.name}", daemon=True)

    def __enter__(self) -> Self:
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
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

    def append(self, event: Event) -> None:
        """Write *event*.

        Raises:
            OSError: when the disk is full or broken; also for what an earlier sync has found.
        """
        if self._failure:
            raise self._failure
        rest = memoryview(event.as_line())
        while rest:
            rest = rest[os.write(self._file, rest) :]
        self._is_new.set()

    def _sync(self) -> None:
        while not self._is_closing.is_set():
            self._is_new.wait()
            self._is_new.clear()
            try:
                os.fsync(self._file)
            except OSError as error:
                self._failure = error
                return
            self._is_closing.wait(SYNC_SECONDS)
