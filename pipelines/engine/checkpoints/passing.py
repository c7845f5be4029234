"""What a checkpoint carries on its way between the kernel and the disk: through a pipe, so that it is encrypted before it is written.

The kernel has no keys, and nothing of ours. It writes to a named pipe, and reads from one; a thread
here encrypts and decrypts what passes.
"""

from __future__ import annotations

import errno
import io
import os
import select
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workbench.security.encryption.files import decrypted_stream, encrypt_stream
from workbench.security.keyset.opening import Keys
from workbench.security.secrets import private_folder

PIPE, STATE = ".pipe", "state.enc"
LOOK_SECONDS = 0.01  # whether the kernel has opened its end


class Passing:
    """One passage. `place` is for the kernel; `finish` is called when it has answered, however."""

    def __init__(self, folder: Path, work: Callable[[Path, threading.Event], None]) -> None:
        self.place = private_folder(folder) / PIPE
        self.place.unlink(missing_ok=True)
        os.mkfifo(self.place, 0o600)
        self._is_over = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), name="checkpoint", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait until the last of it has passed.

        Raises:
            OSError: when there is no room.
            KeysetError, EncryptionError: when it could not be encrypted or decrypted.
        """
        self._is_over.set()
        self._thread.join()
        self.place.unlink(missing_ok=True)
        if self._error is not None:
            raise self._error

    def _run(self, work: Callable[[Path, threading.Event], None]) -> None:
        try:
            work(self.place, self._is_over)
        except BaseException as error:  # noqa: BLE001 - raised where it is waited for
            self._error = error


def saving(folder: Path, keys: Keys, context: str) -> Passing:
    """Let a kernel write to `Passing.place` what is kept encrypted in *folder*.

    Raises:
        OSError: when there is no room.
    """
    opened = threading.Event()

    def encrypt(pipe: Path, is_over: threading.Event) -> None:
        try:
            # Not blocking: a kernel that dies before it opens the pipe is waited for by nobody.
            descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        finally:
            opened.set()
        with os.fdopen(descriptor, "rb", buffering=0) as source:
            encrypt_stream(keys, _FromKernel(source, is_over), folder / STATE, context)

    passing = Passing(folder, encrypt)
    # The kernel finds somebody at the other end.
    opened.wait()
    return passing


def restoring(folder: Path, keys: Keys, state: Path, context: str) -> Passing:
    """Let a kernel read from `Passing.place` what is encrypted at *state*, which `check` has read to its end before.

    Raises:
        OSError: when there is no room.
    """

    def decrypt(pipe: Path, is_over: threading.Event) -> None:
        descriptor = _open_for_reader(pipe, is_over)
        if descriptor is None:
            return
        try:
            with os.fdopen(descriptor, "wb", buffering=0) as to:
                for piece in decrypted_stream(keys, state, context):
                    _write_whole(to, piece, is_over)
        except BrokenPipeError:
            pass  # the kernel has ended, and its answer says so

    return Passing(folder, decrypt)


def check(keys: Keys, state: Path, context: str) -> None:
    """Read all of *state*, so that nothing of it is used when any of it was changed.

    Raises:
        OSError, KeysetError, EncryptionError: as `decrypted_stream`.
    """
    for _ in decrypted_stream(keys, state, context):
        pass


class _FromKernel(io.BufferedIOBase):
    """The end of a pipe that waits for its writer, and for what it writes, until somebody says that it is over."""

    def __init__(self, pipe: io.FileIO, is_over: threading.Event) -> None:
        super().__init__()
        self._pipe, self._is_over, self._has_begun = pipe, is_over, False

    def readinto(self, buffer: Any) -> int:
        while True:
            over = self._is_over.is_set()  # before the look: what was written until then is seen by it
            try:
                length = self._pipe.readinto(buffer)
            except BlockingIOError:
                length = None
            if length:
                self._has_begun = True
                return length
            # Nothing is also what there is before the kernel has opened its end. One that hangs is not waited for.
            if over or (length == 0 and self._has_begun):
                return 0
            if self._has_begun:
                select.select([self._pipe], [], [], LOOK_SECONDS)
            else:
                self._is_over.wait(LOOK_SECONDS)


def _open_for_reader(pipe: Path, is_over: threading.Event) -> int | None:
    while True:
        try:
            descriptor = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            if is_over.wait(LOOK_SECONDS):
                return None
        else:
            return descriptor


def _write_whole(to: io.FileIO, piece: memoryview | bytes, is_over: threading.Event) -> None:
    rest = memoryview(piece)
    while rest and not is_over.is_set():
        select.select([], [to], [], LOOK_SECONDS)
        rest = rest[to.write(rest) or 0 :]
