"""What somebody can do to an audit log who may write every file beside it, and in the worst case has its key."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from workbench.security.audit import Action, AuditLog, Event
from workbench.security.audit.lines import NOTHING, Seal, digest, sealed
from workbench.security.audit.proof.anchors import FileAnchor
from workbench.security.audit.proof.checkpointer import Checkpointer
from workbench.security.audit.proof.checkpoints import Checkpoint
from workbench.security.audit.proof.signing import SigningKey, read_public
from workbench.security.audit.proof.verification import Report, verify
from workbench.security.audit.segments import closed_name, segments

OLD_LINE = (
    b'{"id":"1","time":"2026-01-05T09:12:44.218Z","actor":"gh-old","action":"logout","resource":"hub",'
    b'"outcome":"success","details":{}}\n'
)
SEGMENT = 6000


class Forgery:
    """A log of three segments with checkpoints and an anchor, and the tools to forge it.

    Args:
        folder: where its home and its anchor are.
        old: what stands in the log from before there were seals.
    """

    def __init__(self, folder: Path, old: bytes = b"") -> None:
        self.home, self.anchor = folder / "home", FileAnchor(folder / "elsewhere.log")
        self.log = AuditLog(self.home / "audit" / "events.jsonl", SEGMENT)
        self.checkpointer = Checkpointer(self.log, self.home / "keys" / "audit-signing", (self.anchor,))
        if old:
            self.log.path.parent.mkdir(parents=True)
            self.log.path.write_bytes(old)
        for _ in range(3):
            self.write(10)
            self.checkpointer.tick(is_forced=True)

    def write(self, count: int) -> None:
        """As an honest process does."""
        for number in range(count):
            self.log.record(Action.LOGIN_SUCCEEDED, actor=f"gh-{number}", resource="hub", provider="github")

    @property
    def checkpoints(self) -> Path:
        """Our file of them."""
        return self.checkpointer.path

    @property
    def closed(self) -> list[Path]:
        """The segments that are written no more."""
        return segments(self.log.path)[:-1]

    @property
    def key(self) -> SigningKey:
        """The one that is in force."""
        return SigningKey.read(self.checkpointer.key_path)

    def verify(self, *, anchored: bool = True, keys: Sequence[str] | None = None) -> Report:
        """As the command does."""
        trusted = [self.key.public] if keys is None else keys
        return verify(self.log.path, trusted, (self.anchor,) if anchored else ())

    def lines(self) -> list[bytes]:
        """Of all segments."""
        return [line for each in segments(self.log.path) for line in each.read_bytes().splitlines(keepends=True)]

    def put(self, lines: Sequence[bytes]) -> None:
        """Have the log be these lines, in one file."""
        for each in self.closed:
            each.unlink()
        self.log.path.write_bytes(b"".join(lines))

    def rechain(self, lines: Sequence[bytes]) -> None:
        """The same, with every seal made anew so that the chain is whole."""
        previous, made = NOTHING, []
        for number, line in enumerate(lines, 1):
            event, seal = Event.of_line(line), Seal.of_line(line)
            made.append(sealed(event, Seal(previous, number, seal.time if seal else 0)))
            previous = digest(made[-1])
        self.put(made)

    def resign(self, key: SigningKey, change: Callable[[Checkpoint], Checkpoint] = lambda each: each) -> None:
        """Make every checkpoint of ours anew, for the log as it is now."""
        lines, previous, made = self.lines(), NOTHING, []
        for line in self.checkpoints.read_bytes().splitlines():
            old = Checkpoint.of_line(line)
            assert old is not None
            sequence = min(old.sequence, len(lines))
            fresh = replace(old, sequence=sequence, hash=digest(lines[sequence - 1]), key=key.public, previous=previous)
            made.append(change(fresh).signed(key))
            previous = digest(made[-1])
        self.checkpoints.write_bytes(b"".join(made))


def renamed(line: bytes, actor: str = "gh-evil") -> bytes:
    """The line with another actor, its seal left as it is."""
    fields = json.loads(line)
    fields["event"]["actor"]["user"]["name"] = actor
    return json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def new_key() -> SigningKey:
    """Of somebody else."""
    return SigningKey(Ed25519PrivateKey.generate())


__all__ = ["OLD_LINE", "Forgery", "closed_name", "new_key", "read_public", "renamed"]
