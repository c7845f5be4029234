"""A way to a server on loopback that can be broken: requests are answered 502 then, as by a proxy whose server is down."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from socketserver import BaseRequestHandler, ThreadingTCPServer

from workbench.runtime.ports import LOOPBACK

BAD_GATEWAY = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
POLL_SECONDS = 0.01  # of the thread that serves, between two looks whether it shall end


@dataclass
class Way:
    """To a port; as long as it is not broken, all bytes pass."""

    port: int = 0  #: where it begins
    is_broken: bool = False
    ends: list[socket.socket] = field(default_factory=list)

    def breaks(self) -> None:
        """End all connections, and let no other through."""
        self.is_broken = True
        for each in self.ends:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def is_mended(self) -> None:
        """Let connections through again."""
        self.is_broken = False


@contextmanager
def way_to(port: int) -> Iterator[Way]:
    """A way to *port* while the block runs."""
    way = Way()

    class Connection(BaseRequestHandler):
        def handle(self) -> None:
            way.ends.append(self.request)
            # Browsers also make connections for later: what counts is when they ask.
            with suppress(OSError):
                self.request.recv(1, socket.MSG_PEEK)
            if way.is_broken:
                with suppress(OSError):
                    self.request.sendall(BAD_GATEWAY)
                    self.request.recv(65536)
                return
            with socket.create_connection((LOOPBACK, port)) as there:
                way.ends.append(there)
                back = threading.Thread(target=_pass, args=(there, self.request))
                back.start()
                _pass(self.request, there)
                back.join()

    with ThreadingTCPServer((LOOPBACK, 0), Connection) as server:
        way.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(POLL_SECONDS,))
        thread.start()
        try:
            yield way
        finally:
            server.shutdown()
            way.breaks()
            thread.join()


def _pass(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65536):
            target.sendall(part)
    with suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)
