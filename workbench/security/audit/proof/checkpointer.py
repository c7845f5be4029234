"""Makes checkpoints when they are due, in whichever process lives."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from workbench.background import Background
from workbench.errors import AuditError, WorkbenchError
from workbench.security.audit.actions import Action
from workbench.security.audit.lines import NOTHING, digest
from workbench.security.audit.log import ACTOR, CLOCK_TOLERANCE, RESOURCE, AuditLog, append_whole
from workbench.security.audit.proof.anchors import Anchor
from workbench.security.audit.proof.checkpoints import ORIGIN, Checkpoint, checkpoint_bytes
from workbench.security.audit.proof.signing import SigningKey, hand_over
from workbench.security.secrets import locked, private_folder

SECONDS = 60.0  #: between two checkpoints, at most
EVENTS = 1000  #: the same, in events
LOOK_SECONDS = 5.0
LAST_BYTES = 1 << 14

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpointer:
    """Makes the checkpoints of one log. Any number of processes may run one: a lock lets one at a time."""

    log: AuditLog
    key_path: Path
    anchors: Sequence[Anchor] = ()
    seconds: float = SECONDS

    @classmethod
    def of(cls, home: Path, anchors: Sequence[Anchor] = ()) -> Self:
        """Of the workbench whose WORKBENCH_HOME is *home*."""
        return cls(AuditLog.of(home), home / "keys" / "audit-signing", anchors)

    @property
    def path(self) -> Path:
        """The file of the checkpoints."""
        return self.log.path.with_name("checkpoints.log")

    def tick(self, *, is_forced: bool = False) -> bool:
        """Make a checkpoint if one is due; returns whether one was made. Nothing is done while another process does it.

        Raises:
            AuditError: when it cannot be written here; one that an anchor did not take is in our log only.
        """
        with self.alone(waits=is_forced) as is_alone:
            if not is_alone:
                return False
            last_line = self._last_line()
            last = Checkpoint.of_line(last_line)
            if not is_forced and last is not None and not self._is_due(last):
                return False
            self._make(last, last_line, SigningKey.ensure(self.key_path))
            return True

    def rotate_key(self, actor: str) -> str:
        """Have another key sign from now on; returns its public form.

        The log says so, signed by both keys, and the old key's last checkpoint covers that line.

        Raises:
            AuditError: when it cannot be written; the old key goes on.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        with self.alone():
            old, new = SigningKey.ensure(self.key_path), SigningKey(Ed25519PrivateKey.generate())
            self.log.record(Action.AUDIT_KEY_ROTATED, actor=actor, resource=RESOURCE, **hand_over(old, new))
            self._make(Checkpoint.of_line(self._last_line()), self._last_line(), old)
            new.replace(self.key_path)
            self._make(Checkpoint.of_line(self._last_line()), self._last_line(), new)
        return new.public

    def _is_due(self, last: Checkpoint) -> bool:
        if not 0 <= _now() - last.time < 1000 * self.seconds:
            return True
        with suppress(OSError):
            # So many events have at least so many bytes; else nobody has to be kept waiting.
            return self._grown(last) and self.log.tail().sequence - last.sequence >= EVENTS
        return False

    def _grown(self, last: Checkpoint) -> bool:
        return self.log.path.stat().st_mtime_ns // 1_000_000 > last.time

    def _make(self, last: Checkpoint | None, last_line: bytes, key: SigningKey) -> None:
        if last is not None and (back := last.time - _now()) > CLOCK_TOLERANCE:
            self.log.record(Action.AUDIT_CLOCK_WENT_BACK, actor=ACTOR, resource=RESOURCE, milliseconds=back)
        tail = self.log.tail()
        if last is not None and tail.sequence < last.sequence:
            log.error(
                "the audit log %s has %s events, and had %s: run `workbench audit verify`",
                self.log.path, tail.sequence, last.sequence,
            )  # fmt: skip
        made = Checkpoint(
            hash=tail.hash,
            key=key.public,
            number=last.number + 1 if last else 1,
            origin=ORIGIN,
            previous=digest(checkpoint_bytes(last_line)) if last else NOTHING,
            sequence=tail.sequence,
            time=_now(),
        )
        line = made.signed(key)
        self._append(line)
        for anchor in self.anchors:
            try:
                anchor.send(line)
            except WorkbenchError as error:
                log.error("checkpoint %s is not anchored: %s", made.number, error)  # noqa: TRY400 - it says all

    def _append(self, line: bytes) -> None:
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                end = os.lseek(descriptor, 0, os.SEEK_END)
                torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"
                content = (b"\n" if torn else b"") + line
                append_whole(descriptor, content)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise AuditError(
                f"a checkpoint cannot be written to {self.path}: {error.strerror}", remedy="Make room on its disk."
            ) from error

    def _last_line(self) -> bytes:
        """The last line that is a checkpoint; empty when there is none."""
        try:
            with self.path.open("rb") as file:
                file.seek(max(0, self.path.stat().st_size - LAST_BYTES))
                lines = file.read().split(b"\n")
        except FileNotFoundError:
            return b""
        return next((each + b"\n" for each in reversed(lines) if Checkpoint.of_line(each)), b"")

    def alone(self, *, waits: bool = True) -> AbstractContextManager[bool]:
        """Keep others from making checkpoints; False when another keeps us, and we do not wait."""
        return locked(private_folder(self.log.path.parent) / "checkpoints.lock", waits=waits)


def try_tick(checkpointer: Checkpointer, told: str = "", *, is_forced: bool = False) -> str:
    """Make a checkpoint if one is due; what went wrong is logged, unless it is what was *told* before. Returns it."""
    try:
        checkpointer.tick(is_forced=is_forced)
    except (WorkbenchError, OSError) as error:
        if str(error) != told:
            log.error("no checkpoint of the audit log was made, the next look tries again: %s", error)  # noqa: TRY400
        return str(error)
    return ""


@contextmanager
def making_checkpoints(checkpointer: Checkpointer, look_seconds: float = LOOK_SECONDS) -> Iterator[None]:
    """A thread that makes checkpoints when they are due, and a last one at the end."""

    def run(stopping: threading.Event) -> None:
        told = try_tick(checkpointer)
        while not stopping.wait(look_seconds):
            told = try_tick(checkpointer, told)

    try:
        with Background("audit-checkpoints", run, end_seconds=None):
            yield
    finally:
        try_tick(checkpointer, is_forced=True)


def _now() -> int:
    return time.time_ns() // 1_000_000
