"""Who listens in the place of a server of ours and says what a test wants."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

ACCEPT_SECONDS = 0.2


@contextmanager
def answering(
    reply: bytes, *, context: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
) -> Iterator[int]:
    """The port of a server that answers the first bytes of each client with *reply*, over TLS with *context*."""
    ending = threading.Event()
    with socket.create_server((host, port)) as listener:
        listener.settimeout(ACCEPT_SECONDS)

        def serve() -> None:
            while not ending.is_set():
                with contextlib.suppress(OSError):
                    raw, _ = listener.accept()
                    raw.settimeout(2)
                    with context.wrap_socket(raw, server_side=True) if context else raw as connection:
                        if connection.recv(4096) and reply:
                            connection.sendall(reply)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ending.set()
            thread.join()
