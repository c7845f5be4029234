"""What is around the processes of pipelines, and is taken from them: the database, and room on the disk."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

from tests.services.pipelines_project import Site
from tests.services.process_tree import process_tree

ROOM_BYTES = 1 << 30
PAGE_BYTES = 4096


class Database:
    """The server of a site, which only the main thread can start: it dies with the thread that began it."""

    def __init__(self, site: Site) -> None:
        self._server = site.server
        self._asked: queue.Queue[threading.Event] = queue.Queue()

    def kill(self) -> None:
        """Have it killed and started again; waits for that."""
        is_back = threading.Event()
        self._asked.put(is_back)
        if not is_back.wait(120):
            raise TimeoutError("nobody has started the database again")

    def attend(self, is_done: Callable[[], bool]) -> None:
        """Kill and start it when others ask for it, until it is done. In the main thread."""
        while not is_done():
            with suppress(queue.Empty):
                is_back = self._asked.get(timeout=0.2)
                self._server.end(signal.SIGKILL)
                self._server.start()
                is_back.set()

    def stop(self, seconds: float) -> None:
        """Stop all of its processes, those of its connections too, for so long."""
        stopped = process_tree(self._server.pid)
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for each in stopped:
                with suppress(psutil.NoSuchProcess):
                    each.send_signal(number)
            if number == signal.SIGSTOP:
                time.sleep(seconds)


class Disk:
    """A file system of the outputs of runs alone; for root only, others have none."""

    def __init__(self, site: Site) -> None:
        self._folder = site.home / "pipelines" / "runs"
        self.is_there = os.geteuid() == 0 and shutil.which("mount") is not None and self._mount()

    def fill(self, seconds: float) -> None:
        """Leave no room for so long. It takes no memory: the file system is made as small as what is in it."""
        for _ in range(10):  # it cannot become smaller than what was written meanwhile
            found = os.statvfs(self._folder)
            used = (found.f_blocks - found.f_bfree) * found.f_frsize
            if self._resize(used + PAGE_BYTES):
                time.sleep(seconds)
                break
        if not self._resize(ROOM_BYTES):
            raise OSError("the disk stays full")

    def unmount(self) -> None:
        """Take it away, with all that is in it."""
        if self.is_there:
            subprocess.run(["umount", "--lazy", str(self._folder)], check=True)

    def _mount(self) -> bool:
        self._folder.mkdir(parents=True, mode=0o700, exist_ok=True)
        options = f"size={ROOM_BYTES},mode=0700"
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(self._folder)], check=False)
        return mounted.returncode == 0

    def _resize(self, size: int) -> bool:
        options = f"remount,size={size}"
        done = subprocess.run(
            ["mount", "-o", options, str(self._folder)], check=False, stderr=subprocess.DEVNULL
        )  # fmt: skip
        return done.returncode == 0
