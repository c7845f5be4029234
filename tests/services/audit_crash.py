"""Writers of an audit log that die at a chosen system call, and on a disk without room; run as programs of their own.

`python -m tests.services.audit_crash steps FOLDER` kills a writer at each of its writes, fsyncs and
renames in turn; `… full FOLDER` fills FOLDER, a small file system. Each prints one JSON object.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workbench.errors import AuditError
from workbench.security.audit import Action, AuditLog, Event, read_events
from workbench.security.audit.proof.checkpointer import Checkpointer
from workbench.security.audit.proof.signing import SigningKey
from workbench.security.audit.proof.verification import verify

SEGMENT = 1500
CALLS = ("write", "fsync", "rename", "replace", "ftruncate")


def log_of(home: Path) -> tuple[AuditLog, Checkpointer]:
    log = AuditLog(home / "audit" / "events.jsonl", SEGMENT)
    return log, Checkpointer(log, home / "keys" / "audit-signing")


def work(home: Path, tell: Callable[[str], object]) -> None:
    """What dies: single events, several at once, a checkpoint, another key."""
    log, checkpointer = log_of(home)
    for number in range(4):
        event = Event.of(Action.LOGOUT, actor="gh-ada", resource="hub")
        log.append(event)
        tell(event.id)
        batch = [Event.of(Action.LOGOUT, actor=f"gh-{number}", resource="hub") for _ in range(3)]
        log.append(*batch)
        for each in batch:
            tell(each.id)
        checkpointer.tick(is_forced=True)
    checkpointer.rotate_key("operator:ada")


class Killer:
    """Counts system calls, and dies at one: before it, in its midst, or after it."""

    def __init__(self, at: int, when: str) -> None:
        self._left, self._when = at, when

    def wrap(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left == 0 and self._when != "after":
                if call is WRITE and self._when == "midst":
                    WRITE(arguments[0], bytes(arguments[1])[: len(arguments[1]) * 2 // 3])
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*arguments, **named)
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return run


WRITE = os.write


def die(home: Path, at: int, when: str) -> tuple[set[str], bool]:
    """The events that were acknowledged, and whether it died at all."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        killer = Killer(at, when)
        for name in CALLS:
            setattr(os, name, killer.wrap(getattr(os, name)))
        work(home, lambda text: WRITE(writing, f"{text}\n".encode()))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = set(pipe.read().split())
    _, status = os.waitpid(child, 0)
    return told, os.WIFSIGNALED(status)


def steps(folder: Path) -> dict[str, Any]:
    """Kill at every call; what is wrong afterwards."""
    wrong, count, torn = [], 0, 0
    for when in ("before", "midst", "after"):
        at, died = 0, True
        while died:
            at += 1
            home = folder / f"{when}-{at}"
            told, died = die(home, at, when)
            log, checkpointer = log_of(home)
            log.append(Event.of(Action.LOGIN_SUCCEEDED, actor="next", resource="hub"))
            checkpointer.tick(is_forced=True)
            found = [each.id for each in read_events(log.path)]
            report = verify(log.path, [SigningKey.read(checkpointer.key_path).public])
            torn += sum("crash" in each for each in report.notes)
            if report.verdict or not told <= set(found) or len(found) != len(set(found)):
                wrong.append([when, at, [str(each) for each in report.problems], sorted(told - set(found))])
            count += died
    return {"kills": count, "torn": torn, "wrong": wrong}


def full(folder: Path) -> dict[str, Any]:
    """Fill the disk while it is written, then make room."""
    log, checkpointer = AuditLog.of(folder), Checkpointer.of(folder)
    told, error = [], ""
    filler = folder / "filler"
    checkpointer.tick(is_forced=True)
    filler.write_bytes(bytes(os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize - 20_000))
    while not error:
        event = Event.of(Action.LOGOUT, actor="gh-ada", resource="hub", filling="x" * 200)
        try:
            log.append(event)
            told.append(event.id)
        except AuditError as failure:
            error = failure.message
    size = log.path.stat().st_size
    filler.unlink()
    log.append(Event.of(Action.LOGOUT, actor="gh-ada", resource="hub"))
    checkpointer.tick(is_forced=True)
    report = verify(log.path, [SigningKey.read(checkpointer.key_path).public])
    found = {each.id for each in read_events(log.path)}
    return {
        "error": error,
        "acknowledged": len(told),
        "lost": len(set(told) - found),
        "ended": log.path.read_bytes()[size - 1 : size] == b"\n",
        "problems": [str(each) for each in report.problems],
        "notes": report.notes,
    }


if __name__ == "__main__":
    what, place = sys.argv[1:]
    json.dump({"steps": steps, "full": full}[what](Path(place)), sys.stdout)
