"""Progress on a terminal: one line that is written over, and gone when the operation has ended."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Callable

from workbench.transformation.progress.operations import Operation
from workbench.transformation.progress.recorder import Recorder
from workbench.transformation.progress.text import summary_line

QUIET_SECONDS = 0.3  # what is quicker shows nothing
INTERVAL_SECONDS = 0.25


class TerminalLine:
    """Shows what runs on the terminal of a script. A listener of a recorder."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._lock = threading.Lock()
        self._ticker: threading.Thread | None = None

    def __call__(self, operation: Operation, cancel: Callable[[], object]) -> None:
        """Called when an operation begins and when it has ended."""
        if not operation.is_running:
            return
        with self._lock:
            if self._ticker is None or not self._ticker.is_alive():
                self._ticker = threading.Thread(target=self._tick, name="spark-progress", daemon=True)
                self._ticker.start()

    def _tick(self) -> None:
        rests = threading.Event()
        written = False
        while running := [each for each in self._recorder.operations() if each.is_running]:
            if shown := [each for each in running if each.seconds >= QUIET_SECONDS]:
                width = shutil.get_terminal_size().columns - 1
                written = True
                sys.stderr.write(f"\r\x1b[K{summary_line(shown)[:width]}")
                sys.stderr.flush()
            rests.wait(INTERVAL_SECONDS)
        if written:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def show_on_terminal(recorder: Recorder) -> None:
    """Show the operations of *recorder* if this process has a terminal. Repeatable."""
    if sys.stderr is not None and sys.stderr.isatty():
        recorder.listen(_line(recorder))


def _line(recorder: Recorder) -> TerminalLine:
    if recorder not in _LINES:
        _LINES[recorder] = TerminalLine(recorder)
    return _LINES[recorder]


_LINES: dict[Recorder, TerminalLine] = {}
