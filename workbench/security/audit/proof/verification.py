"""What can be proved of a log: that every line is as it was written, where it was written, and none is missing.

The chain of hashes alone proves little, since it can be computed anew. Checkpoints prove it to who
trusts their key, and those of an anchor also when the key was stolen, or log and checkpoints were
cut off together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import pairwise
from pathlib import Path

from workbench.errors import AuditError
from workbench.security.audit.lines import NOTHING, digest
from workbench.security.audit.log import CLOCK_TOLERANCE
from workbench.security.audit.proof.anchors import ReadableAnchor
from workbench.security.audit.proof.chain import Chain, Problem, follow_chain
from workbench.security.audit.proof.checkpoints import Checkpoint, checkpoint_bytes, read_checkpoints
from workbench.security.audit.proof.signing import linked_keys
from workbench.security.audit.segments import CLOSED, opened

#: What no crash leaves: a signature of full length behind the blank. One that somebody has shortened is missed by its number.
WHOLE = re.compile(rb'\{"hash":.*\} [^ \0\r\n]{88,}\s*', re.DOTALL)
LATE_SECONDS = 300.0  #: between a checkpoint's time and when its anchor received it


class Verdict(IntEnum):
    """The exit code of `workbench audit verify`."""

    WHOLE = 0
    TAMPERED = 1
    UNKNOWN = 2


@dataclass
class Report:
    """What was found."""

    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)  #: why it cannot be told
    events: int = 0
    checkpoints: int = 0
    anchored: int = 0
    last_checkpoint: str = ""

    @property
    def verdict(self) -> Verdict:
        """Tampering outweighs doubt."""
        if self.problems:
            return Verdict.TAMPERED
        return Verdict.UNKNOWN if self.doubts else Verdict.WHOLE


@dataclass(frozen=True)
class _Signed:
    """A checkpoint and where it was found."""

    checkpoint: Checkpoint
    line: bytes
    place: str

    @property
    def name(self) -> str:
        return f"checkpoint {self.checkpoint.number} of {self.place}"


def verify(path: Path, keys: Iterable[str], anchors: Sequence[ReadableAnchor] = ()) -> Report:
    """Check the whole log at *path*; also while it is being written.

    Args:
        path: of the log.
        keys: public keys that are trusted, in hexadecimal.
        anchors: where checkpoints are, too.
    """
    report = Report()
    # Before the log: what is written meanwhile is in the log only.
    ours = _read_ours(path, report)
    anchored = [each for anchor in anchors for each in _read_anchor(anchor, report)]
    report.checkpoints, report.anchored = len(ours), len(anchored)
    try:
        chain = _follow(path, [each.checkpoint.sequence for each in (*ours, *anchored)])
    except OSError as error:
        report.doubts.append(f"{path} cannot be read: {error.strerror}")
        return report
    report.problems += chain.problems
    report.notes += chain.notes
    report.events = chain.lines + chain.unsealed
    _check_files(path, report)
    _check_keys((*ours, *anchored), keys, chain, report)
    _check_hashes((*ours, *anchored), chain, report)
    _check_order(ours, chain, report)
    _check_anchored(ours, anchored, chain, report)
    _doubt(path, ours, anchored, chain, report)
    return report


def _follow(path: Path, wanted: Sequence[int]) -> Chain:
    """The chain of the log, which may be written, closed and removed from meanwhile.

    Raises:
        OSError: when it cannot be read.
    """
    while True:
        with opened(path) as (closed, active):
            try:
                chain = follow_chain(path, [*closed, *([path] if active else [])], wanted, active)
            except FileNotFoundError:
                if _are_there(closed):
                    raise
                continue
            # What was removed while its neighbours were read would look like a hole.
            if _are_there(closed):
                return chain


def _are_there(closed: Sequence[Path]) -> bool:
    return all(each.is_symlink() or each.exists() for each in closed)


def _read_ours(path: Path, report: Report) -> list[_Signed]:
    place = "checkpoints.log"
    found, refused = [], []
    for line in read_checkpoints(path.with_name(place)):
        if checkpoint := Checkpoint.of_line(line):
            found.append(_Signed(checkpoint, checkpoint_bytes(line), place))
        elif WHOLE.fullmatch(line):
            refused.append(line)
        elif line.strip():
            report.notes.append(f"{place} holds {len(line)} bytes that a crash has left")
    if refused:
        report.problems.append(Problem("checkpoint", f"{place}: the signature of {len(refused)} checkpoints is wrong."))
    return found


def _read_anchor(anchor: ReadableAnchor, report: Report) -> list[_Signed]:
    try:
        lines = anchor.read()
    except AuditError as error:
        report.doubts.append(error.message)
        return []
    found = []
    for each in lines:
        checkpoint = Checkpoint.of_line(each.line)
        if checkpoint is None:
            continue
        found.append(_Signed(checkpoint, checkpoint_bytes(each.line), anchor.name))
        if each.received_at is not None:
            late = each.received_at.timestamp() - checkpoint.time / 1000
            if abs(late) > LATE_SECONDS:
                said = "slow" if late > 0 else "fast"
                report.notes.append(
                    f"{found[-1].name}: the clock of the log was {abs(late):.0f} s {said} against that of the anchor, "
                    "or it came late"
                )
    if not found:
        report.doubts.append(f"the anchor {anchor.name} holds no checkpoint")
    return found


def _check_files(path: Path, report: Report) -> None:
    for each in sorted(path.parent.glob(CLOSED)):
        if each.is_symlink() or not each.is_file():
            report.problems.append(Problem("file", f"{each.name} is no file of the log."))
    if path.is_symlink():
        report.problems.append(Problem("file", f"{path.name} is a link."))


def _check_keys(signed: Iterable[_Signed], keys: Iterable[str], chain: Chain, report: Report) -> None:
    trusted = linked_keys(keys, chain.handed_over)
    if not trusted:
        report.doubts.append("no key is known to trust: give one with --public-key")
        return
    told: set[tuple[str, str]] = set()
    for each in signed:
        key = each.checkpoint.key
        if key not in trusted and (key, each.place) not in told:
            told.add((key, each.place))
            message = (
                f"it is signed by the key {key[:16]}…, which no hand-over ties to the key of the log: sealed anew."
            )
            report.problems.append(Problem("key", message, each.name))


def _check_hashes(signed: Sequence[_Signed], chain: Chain, report: Report) -> None:
    changed = [
        each
        for each in signed
        if max(1, chain.first) <= each.checkpoint.sequence <= chain.sequence
        and chain.hashes.get(each.checkpoint.sequence) != each.checkpoint.hash
    ]
    gone = [each for each in signed if each.checkpoint.sequence > chain.sequence]
    # One proof of a kind is enough.
    if changed:
        first = min(changed, key=lambda each: each.checkpoint.sequence)
        message = f"line {first.checkpoint.sequence}, or one before it, is not what it was."
        report.problems.append(Problem("change", message, first.name))
    if gone:
        last = max(gone, key=lambda each: each.checkpoint.sequence)
        had = last.checkpoint.sequence
        message = f"the log ends with line {chain.sequence} and had {had}: {had - chain.sequence} are gone."
        report.problems.append(Problem("truncation", message, last.name))


def _check_order(ours: Sequence[_Signed], chain: Chain, report: Report) -> None:
    first = ours[0] if ours else None
    if first is not None and not _is_first(first.checkpoint, chain):
        message = f"checkpoints.log begins with number {first.checkpoint.number}: those before it are gone."
        report.problems.append(Problem("checkpoint", message, first.name))
    for before, after in pairwise(ours):
        old, new = before.checkpoint, after.checkpoint
        if new.number != old.number + 1 or new.previous != digest(before.line):
            message = f"checkpoint {new.number} does not continue checkpoint {old.number}."
            report.problems.append(Problem("checkpoint", message, after.name))
        if new.sequence < old.sequence:
            message = f"the log had {old.sequence} lines, and then {new.sequence}."
            report.problems.append(Problem("truncation", message, before.name))
        told = any(old.sequence < each <= new.sequence for each in chain.clock_set_back)
        # Whether a line that was removed has told of it is not known.
        if new.time < old.time - CLOCK_TOLERANCE and not told and old.sequence >= chain.first - 1:
            message = f"checkpoint {new.number} was made {old.time - new.time} ms before checkpoint {old.number}."
            report.problems.append(Problem("clock", message, after.name))


def _is_first(checkpoint: Checkpoint, chain: Chain) -> bool:
    """Whether nothing is missing before it but what was removed with a word."""
    if checkpoint.number == 1:
        return checkpoint.previous == NOTHING
    return chain.removed_checkpoints.get(checkpoint.number - 1) == checkpoint.previous


def _check_anchored(ours: Sequence[_Signed], anchored: Sequence[_Signed], chain: Chain, report: Report) -> None:
    known = {each.line for each in ours}
    numbers = {each.checkpoint.number for each in ours}
    removed = max(chain.removed_checkpoints, default=0) if numbers and min(numbers) > 1 else 0
    for each in anchored:
        if each.line not in known and each.checkpoint.number > removed:
            is_other = each.checkpoint.number in numbers
            message = "checkpoints.log has another of that number." if is_other else "checkpoints.log does not have it."
            report.problems.append(Problem("fork", message, each.name))


def _doubt(path: Path, ours: Sequence[_Signed], anchored: Sequence[_Signed], chain: Chain, report: Report) -> None:
    if not chain.lines and not ours and not anchored:
        report.doubts.append(f"{path} holds no sealed line yet" if chain.unsealed else f"there is no log at {path}")
    elif not ours and not anchored:
        report.doubts.append("there is no checkpoint: whoever can write the file can have computed the chain")
    if not ours and not anchored:
        return
    last = max((*ours, *anchored), key=lambda each: each.checkpoint.sequence)
    report.last_checkpoint = last.name
    if (rest := chain.sequence - last.checkpoint.sequence) > 0:
        report.notes.append(f"{rest} events after {last.name} are not signed yet")
    if not anchored:
        report.notes.append(
            "no anchor was read: who has the signing key, or cuts off log and checkpoints together, is not found out"
        )
