"""Follows the chain of lines from the first segment to the last, and says where it breaks."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from workbench.security.audit.actions import Action
from workbench.security.audit.event import Event
from workbench.security.audit.lines import Seal, find_seal
from workbench.security.audit.segments import READ_BYTES, closed_name

ABOUT_ITSELF = b'"event_code":"audit.'


@dataclass(frozen=True)
class Problem:
    """Something that only tampering explains, or a disk that lies."""

    kind: str  #: change, order, insertion, deletion, truncation, clock, checkpoint, key, fork or file
    message: str
    proof: str = ""  #: the checkpoint that proves it

    def __str__(self) -> str:
        return f"{self.kind}: {self.message}" + (f" Proved by {self.proof}." if self.proof else "")


@dataclass
class Chain:
    """What was read; also while it is being read."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    handed_over: list[Mapping[str, str]] = field(default_factory=list)
    removed: dict[int, str] = field(default_factory=dict)  #: last line of segments that were removed, and its hash
    removed_checkpoints: dict[int, str] = field(default_factory=dict)  #: the same of checkpoints, by number
    clock_set_back: list[int] = field(default_factory=list)  #: sequences of lines that tell of it
    hashes: dict[int, str] = field(default_factory=dict)  #: of the lines that were asked for
    first: int = 0
    sequence: int = 0
    hash: str = ""
    time: int = 0
    lines: int = 0
    unsealed: int = 0  #: lines from before the first seal


def follow_chain(path: Path, files: Iterable[Path], wanted: Iterable[int], active: BinaryIO | None = None) -> Chain:
    """Read the segments in their order.

    Args:
        path: of the log.
        files: its segments.
        wanted: sequences whose hashes are kept.
        active: the file at *path*, opened: it may have another name by now.
    """
    chain, kept = Chain(), frozenset(wanted)
    _Follower(chain, kept).read(path, list(files), active)
    return chain


class _Follower:
    def __init__(self, chain: Chain, kept: frozenset[int]) -> None:
        self._chain, self._kept = chain, kept
        self._gap = bytearray()  # bytes after the last sealed line
        self._where = ""
        self._begins: tuple[int, str] | None = None  # what the first line of all says was before it
        self._ends: dict[int, str] = {}  # last lines of closed files, and their hashes

    def read(self, path: Path, files: list[Path], active: BinaryIO | None) -> None:
        for file in files:
            self._where = file.name
            with nullcontext(active) if active and file == path else file.open("rb", buffering=READ_BYTES) as lines:
                self._read(lines)
            if file != path:
                self._closed(path, file)
        self._check_end()
        self._check_beginning()

    def _read(self, lines: BinaryIO) -> None:
        # Local names and no objects: this loop is what `verify` takes its time for.
        chain, kept, gap, sha256 = self._chain, self._kept, self._gap, hashlib.sha256
        hash_, sequence, time = chain.hash.encode(), chain.sequence, chain.time
        for line in lines:
            found = find_seal(line)
            if found is None:
                gap += line
                if not line.endswith(b"\n"):
                    break  # the rest is being written: the next line would begin within this one
                continue
            new, written = int(found[2]), int(found[3])
            if gap or not sequence or ABOUT_ITSELF in line:
                self._note(hash_, sequence, time)
                self._tell(line, Seal(found[1].decode(), new, written))
                hash_, sequence, time = chain.hash.encode(), chain.sequence, chain.time
            if new != sequence + 1 or found[1] != hash_ or written < time:
                self._note(hash_, sequence, time)
                self._break(Seal(found[1].decode(), new, written))
            hash_ = sha256(line).hexdigest().encode()
            sequence, time = new, written
            chain.lines += 1
            if new in kept:
                chain.hashes[new] = hash_.decode()
        self._note(hash_, sequence, time)

    def _note(self, hash_: bytes, sequence: int, time: int) -> None:
        self._chain.hash, self._chain.sequence, self._chain.time = hash_.decode(), sequence, time

    def _closed(self, path: Path, file: Path) -> None:
        self._ends[self._chain.sequence] = self._chain.hash
        if self._gap:
            self._problem("insertion", f"{len(self._gap)} bytes at its end nobody has sealed")
            self._gap.clear()
        if file != closed_name(path, self._chain.sequence):
            self._problem("file", f"its last line is {self._chain.sequence}, which is not what its name says")

    def _tell(self, line: bytes, seal: Seal) -> None:
        """Take note of a line that tells of the log itself, or that bytes without a seal stand before."""
        chain = self._chain
        event = self._event(line, seal) if ABOUT_ITSELF in line else None
        action, details = (event.action, event.details) if event else ("", {})
        text = bytes(self._gap)
        self._gap.clear()
        if not chain.sequence and not chain.lines:
            self._begin(seal, action, details, text)
        elif action == Action.AUDIT_LINE_TORN and _is_told(text, details) and not _has_whole_line(text):
            chain.notes.append(
                f"line {seal.sequence} of {self._where} tells of {len(text)} bytes before it that a crash has left"
            )
        elif text:
            self._problem("insertion", f"{len(text)} bytes before line {seal.sequence} nobody has sealed or told of")
        if action == Action.AUDIT_KEY_ROTATED:
            chain.handed_over.append(details)
        elif action == Action.AUDIT_REMOVED and details.get("last", "").isdecimal():
            chain.removed[int(details["last"])] = details.get("hash", "")
            if details.get("checkpoint", "0").isdecimal():
                chain.removed_checkpoints[int(details.get("checkpoint", "0"))] = details.get("checkpoint_hash", "")
            chain.notes.append(
                f"line {seal.sequence}: {event.actor if event else ''} removed lines to {details['last']}"
            )
        elif action == Action.AUDIT_CLOCK_WENT_BACK:
            chain.clock_set_back.append(seal.sequence)
            chain.notes.append(f"line {seal.sequence}: the clock was set back by {details.get('milliseconds')} ms")

    def _event(self, line: bytes, seal: Seal) -> Event | None:
        try:
            return Event.of_line(line)
        except ValueError:
            self._problem("change", f"line {seal.sequence} holds no event")
            return None

    def _begin(self, seal: Seal, action: str, details: Mapping[str, str], text: bytes) -> None:
        chain = self._chain
        chain.first = seal.sequence
        chain.hash, chain.sequence, chain.time = seal.previous, seal.sequence - 1, 0
        if seal.sequence > 1:
            self._begins = (seal.sequence, seal.previous)
            if text:
                self._problem("insertion", f"{len(text)} bytes before line {seal.sequence} nobody has sealed")
            return
        if action != Action.AUDIT_BEGUN:
            self._problem("change", "the first line is not one that begins a log")
        elif not _is_told(text, details) or seal.previous != details.get("sha256"):
            self._problem("change", "what was written before there were seals is not what the first sealed line says")
        chain.unsealed = text.count(b"\n")

    def _check_end(self) -> None:
        if not self._gap:
            return
        text = bytes(self._gap)
        if not self._chain.sequence:
            self._chain.unsealed = text.count(b"\n")
        elif _has_whole_line(text):
            self._problem("insertion", f"{len(text)} bytes after the last line nobody has sealed")
        else:
            self._chain.notes.append(
                f"the last {len(text)} bytes are no whole line: it is being written, or a crash has left it"
            )

    def _check_beginning(self) -> None:
        if self._begins is None:
            return
        first, previous = self._begins
        # Who removes files says so first, and may be killed before the last of them is gone.
        later = any(last >= first and self._ends.get(last) == hash_ for last, hash_ in self._chain.removed.items())
        if self._chain.removed.get(first - 1) != previous and not later:
            self._chain.problems.append(
                Problem("deletion", f"lines 1 to {first - 1} are gone, and no line says that somebody removed them")
            )

    def _break(self, seal: Seal) -> None:
        chain, number = self._chain, seal.sequence
        if number > chain.sequence + 1:
            self._problem(
                "deletion", f"after line {chain.sequence} comes line {number}: {number - chain.sequence - 1} are gone"
            )
        elif number <= chain.sequence:
            self._problem("order", f"after line {chain.sequence} comes line {number}")
        elif seal.previous != chain.hash:
            self._problem("change", f"line {number} does not continue line {chain.sequence}: one of both was changed")
        if seal.time < chain.time and number not in chain.clock_set_back:
            self._problem("clock", f"line {number} was written {chain.time - seal.time} ms before the line before it")

    def _problem(self, kind: str, message: str) -> None:
        self._chain.problems.append(Problem(kind, f"{self._where}: {message}."))


def _is_told(text: bytes, details: Mapping[str, str]) -> bool:
    """Whether *details* speak of *text*, or of all of it but the line feed that was added to end it."""
    for each in (text, text.removesuffix(b"\n")):
        if details.get("bytes") == str(len(each)) and details.get("sha256") == hashlib.sha256(each).hexdigest():
            return True
    return False


def _has_whole_line(text: bytes) -> bool:
    """Whether a line of *text* is a whole object: no crash leaves one that is not sealed."""
    for line in text.split(b"\n"):
        with contextlib.suppress(ValueError, RecursionError):
            if isinstance(json.loads(line), dict):
                return True
    return False
