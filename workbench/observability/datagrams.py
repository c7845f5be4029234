"""Short messages of kernels, which nobody can ask, to a process that makes something of them.

Each is one datagram to a Unix socket in a private folder: what is sent costs a system call, nobody waits for it, and
what nobody receives is lost.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench.background import Background

END_SECONDS = 2.0  #: that the end waits for what is being taken


def send(address: Path, datagram: bytes, *, seconds: float = 0.0) -> None:
    """Tell whoever receives at *address*; when nobody does, or too much waits there for so long, it is lost."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.settimeout(seconds)
        sender.sendto(datagram, str(address))


@contextmanager
def receiving(address: Path, take: Callable[[bytes], object], *, name: str, most_bytes: int) -> Iterator[None]:
    """Take what is sent to *address* while the context is open, in a thread; then the socket is removed.

    Args:
        address: in a private folder: whoever may write there is believed. At most 100 characters.
        take: called with each message, those included that were sent before the end. It must not raise.
        name: of the thread.
        most_bytes: of a message; what is longer is cut.

    Raises:
        OSError: when there can be no socket.
    """
    address.unlink(missing_ok=True)
    ending = threading.Event()

    def work(_: threading.Event) -> None:
        while (datagram := receiver.recv(most_bytes)) or not ending.is_set():
            take(datagram)

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(address))
        try:
            with Background(name, work, end_seconds=END_SECONDS):
                try:
                    yield
                finally:
                    ending.set()
                    send(address, b"", seconds=END_SECONDS)
        finally:
            address.unlink(missing_ok=True)
