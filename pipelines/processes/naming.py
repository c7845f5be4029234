"""What workers are called: by their machine and process, and each start by another name."""

from __future__ import annotations

import os
import secrets
import socket


def new_id() -> str:
    """A name for this process as a worker."""
    return f"{_of_this_machine()}{os.getpid()}-{secrets.token_hex(3)}"


def is_here(worker: str) -> bool:
    """Whether the worker of this name is, or was, on this machine."""
    return worker.startswith(_of_this_machine())


def _of_this_machine() -> str:
    return f"{socket.gethostname()}-"
