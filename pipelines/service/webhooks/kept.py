"""Keys that were read a moment ago: who signs nothing rightly must not have a store of secrets asked at each request."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from pipelines.service.rights import TooManyRefused

KEPT_SECONDS = 1.0  #: between two reads of one key, whoever asks and how often
PATIENCE_SECONDS = 2.0  #: for a read that another request has begun; a store of secrets may take longer to fail


@dataclass
class _Kept:
    lock: threading.Lock = field(default_factory=threading.Lock)
    key: bytes | None = field(default=None, repr=False)
    read_at: float = float("-inf")

    def is_old(self, now: float) -> bool:
        return now - self.read_at >= KEPT_SECONDS


class KeptKeys:
    """Reads the key of a reference, and keeps it for a second; one that could not be read, too. Shared by threads.

    Args:
        read: reads it; None when it is not there.
        clock: seconds, never going back.
    """

    def __init__(self, read: Callable[[str], bytes | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._read, self._clock = read, clock
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}

    def key(self, reference: str) -> bytes | None:
        """The key; None when it cannot be read.

        Raises:
            TooManyRefused: when another request has been reading it for long.
        """
        found = self._entry(reference)
        if not found.lock.acquire(timeout=PATIENCE_SECONDS):
            raise TooManyRefused("a secret is slow to read", remedy="Wait a minute.")
        try:
            if found.is_old(self._clock()):
                found.key = self._read(reference)
                found.read_at = self._clock()
            return found.key
        finally:
            found.lock.release()

    def _entry(self, reference: str) -> _Kept:
        with self._lock:
            now = self._clock()
            # Keys that nobody asks for do not stay in memory.
            for name, each in list(self._kept.items()):
                if name != reference and each.is_old(now) and not each.lock.locked():
                    del self._kept[name]
            return self._kept.setdefault(reference, _Kept())
