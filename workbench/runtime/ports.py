"""Free ports on loopback, of which two workbenches never choose the same.

Between the choice of a port and the moment when its server listens lie seconds. A port that was chosen is therefore
marked until the process that chose it ends: by a Unix socket in Linux's abstract namespace (unix(7)), which belongs
to the same network namespace as the port, needs no file, and goes with the process however that ends. Elsewhere
nothing is marked, and of two workbenches that start in the same second one may fail.
"""

from __future__ import annotations

import contextlib
import errno
import random
import socket
import sys

from workbench.errors import PortTaken

LOOPBACK = "127.0.0.1"
# Below what systems give to outgoing connections: from 32768 on Linux, from 49152 on macOS.
UNASKED = range(20_000, 30_000)
TRIES = 100
# Ports that this process has marked: its own, as its file descriptors are. The sockets stay open until it ends.
_marked: set[int] = set()


def is_free(port: int, host: str = LOOPBACK) -> bool:
    """Whether a server could listen on *port* now."""
    return _bind_error(port, host) is None


def any_free() -> int:
    """A port that is free now, and that no outgoing connection or other workbench takes before a server listens on it."""
    for port in random.sample(UNASKED, TRIES):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind((LOOPBACK, port))
            if _mark(port):
                return port
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def choose(preferred: int, *, variable: str = "", asked_for: bool = False, host: str = LOOPBACK) -> int:
    """*preferred* when it is free, else any free port.

    Raises:
        PortTaken: when it cannot be had and the user asked for it by setting *variable*.
    """
    error = _bind_error(preferred, host)
    if error is None:
        is_ours = _mark(preferred) or preferred in _marked
        return preferred if is_ours or asked_for else any_free()
    if not asked_for:
        return any_free()
    if error.errno == errno.EADDRINUSE:
        raise PortTaken(
            f"port {preferred} ({variable}) is in use by another program",
            remedy=f"End that program, or set {variable} to a free port.",
        )
    raise PortTaken(
        f"nothing can listen on {host}:{preferred} ({variable}): {error.strerror}",
        remedy=f"Set {variable} to a port from 1024 up, and listen on an address of this machine.",
    )


def _mark(port: int) -> bool:
    """Mark *port* as chosen until this process ends; False when it is marked already, by this or another process."""
    if port in _marked:
        return False
    if sys.platform != "linux":
        _marked.add(port)
        return True
    mark = socket.socket(socket.AF_UNIX)
    try:
        mark.bind(f"\0workbench-port-{port}")
    except OSError:
        mark.close()
        return False
    mark.detach()
    _marked.add(port)
    return True


def _bind_error(port: int, host: str) -> OSError | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None
