"""What workers are called: by their machine and process, and each start by another name."""

from __future__ import annotations

import os
import re
import secrets
import socket


def new_id() -> str:
    """A name for this process as a worker."""
    return f"{_of_this_machine()}{os.getpid()}-{secrets.token_hex(3)}"


def is_here(worker: str) -> bool:
    """Whether the worker of this name is, or was, on this machine."""
    # Another machine's name may begin with ours, and go on with a hyphen.
    return re.fullmatch(rf"{re.escape(_of_this_machine())}[0-9]+-[0-9a-f]+", worker) is not None


def _of_this_machine() -> str:
    return f"{socket.gethostname()}-"
