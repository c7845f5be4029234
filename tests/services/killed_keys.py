"""Changes a keyset in children that kill themselves with SIGKILL at a point, one after the other: `python … HOME`.

The points are all calls by which something reaches the disk, before and after each. Prints one JSON object.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.services.keysets import make_keys, open_keys, turn
from workbench.security.encryption.files import read_encrypted, write_encrypted
from workbench.security.encryption.header import parse_slots
from workbench.security.encryption.logs import FrameReader, FrameSealer
from workbench.security.encryption.rewrapping import retire, rewrap
from workbench.security.keyset.opening import Keys

FILES = 3
CALLS = ("fsync", "pwrite", "write", "replace", "rename", "unlink", "open")


def change(keys: Keys) -> None:
    """All that a change of keys writes."""
    version = keys.file.read().primary.number
    turn(keys)
    write_encrypted(keys, b"written anew", keys.file.path.parents[1] / "new", "here")
    retire(keys, version, destroy=True)


def kill_at(point: int) -> None:
    """This process ends at the *point*-th moment from now on."""
    moments = itertools.count(1)

    def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
        def calling(*arguments: Any, **named: Any) -> Any:
            if next(moments) == point:
                os.kill(os.getpid(), signal.SIGKILL)
            result = call(*arguments, **named)
            if next(moments) == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return calling

    for name in CALLS:
        setattr(os, name, wrapped(getattr(os, name)))


def is_killed(home: Path, point: int) -> bool:
    """Whether the change, begun in a child, came as far as *point*."""
    child = os.fork()
    if child == 0:
        kill_at(point)
        change(open_keys(home))
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert status == 0 or os.WTERMSIG(status) == signal.SIGKILL, status
    return status != 0


def check(home: Path) -> None:
    """Everything can be read, and a later rewrap finishes what was cut off."""
    keys = open_keys(home)
    keyset = keys.file.read()
    assert keyset.primary.key
    read_all(keys, home)
    check_inventory(keys, home)
    if any(each.state == "pending" for each in keyset.versions):
        keys.file.change(lambda each: each.promoted())
    done = rewrap(keys)
    assert (done.failed, done.missing, done.being_written) == ({}, [], 0)
    for each in keys.file.read().versions:
        if each.state == "decrypt-only":
            retire(keys, each.number, destroy=True)
    read_all(open_keys(home), home)


def check_inventory(keys: Keys, home: Path) -> None:
    """It names every version that a header needs, so that `retire` refuses it."""
    noted = {(each.name, each.version) for each in keys.inventory.entries()}
    for path in (path for path in home.iterdir() if path.is_file() and not path.name.startswith(".")):
        needed = {slot.version for slot in parse_slots(path.read_bytes()) if slot}
        assert {(str(path), version) for version in needed} <= noted, (path, needed, noted)


def read_all(keys: Keys, home: Path) -> None:
    for number in range(FILES):
        assert read_encrypted(keys, home / f"file-{number}", "here") == bytes(number * 20_000)
    with (home / "log").open("rb") as file:
        assert [each for each, _ in FrameReader.of(keys, file, "here", subject="it").frames()] == [b"one", b"two"]
    if (home / "new").exists():
        assert read_encrypted(keys, home / "new", "here") == b"written anew"


def main(home: Path) -> None:
    keys = make_keys(home)
    for number in range(FILES):
        write_encrypted(keys, bytes(number * 20_000), home / f"file-{number}", "here")
    sealer = FrameSealer.of(keys, home / "log", "here")
    content = sealer.header
    for text in (b"one", b"two"):
        content += sealer.frame(text, len(content))
    (home / "log").write_bytes(content)
    sealer.finish()
    copy, killed = home.with_name("copy"), 0
    while True:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(home, copy)
        move_inventory(copy, home)
        if not is_killed(copy, killed + 1):
            break
        killed += 1
        check(copy)
    sys.stdout.write(json.dumps({"killed": killed, "primary": open_keys(copy).file.read().primary.number}))


def move_inventory(copy: Path, home: Path) -> None:
    """The files of the copy are those that its inventory names."""
    connection = sqlite3.connect(copy / "keys" / "inventory.db")
    with connection:
        connection.execute("UPDATE objects SET name = replace(name, ?, ?)", (f"{home}/", f"{copy}/"))
    connection.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
