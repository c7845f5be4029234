"""What is read less often than a panel is refreshed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from workbench.errors import WorkbenchError
from workbench.panels.parts import in_words

AGAIN_SECONDS = 10.0  #: after which what did not answer is asked again


class Sometimes:
    """What is read less often than the panel: the last answer stands meanwhile, and so does the last refusal."""

    def __init__(self, read: Callable[[], Any], seconds: float, otherwise: Any) -> None:
        self._read, self._seconds, self._otherwise = read, seconds, otherwise
        self._known, self._problem, self._next = otherwise, "", 0.0
        self.read_at = 0.0  #: of the last answer, by the monotonic clock

    def forget(self) -> None:
        """Read it the next time."""
        self._next = 0.0

    def get(self, problems: list[str]) -> Any:
        """The answer; a refusal is put among *problems*."""
        if time.monotonic() >= self._next:
            # Before it is read: whoever wants it forgotten meanwhile has changed something.
            self._next = planned = time.monotonic() + self._seconds
            try:
                self._known, self._problem = self._read(), ""
                self.read_at = time.monotonic()
            except WorkbenchError as error:
                self._known, self._problem = self._otherwise, in_words(error)
                if self._next == planned:
                    self._next = time.monotonic() + AGAIN_SECONDS
        if self._problem and self._problem not in problems:
            problems.append(self._problem)
        return self._known
