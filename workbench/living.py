"""Whether a process that has noted itself down still lives: its number may be another's by now.

On Linux its birth is counted in ticks since the machine was booted. Seconds since 1970 are reckoned from the clock of
now, and change for all that runs when the clock is set, by NTP or after a sleep.
"""

from __future__ import annotations

from pathlib import Path

import psutil

BOOT = Path("/proc/sys/kernel/random/boot_id")
START, STATE = 19, 0  # of the fields behind the name of the program (proc_pid_stat(5): 22 and 3)
CLOCK_SECONDS = 5.0  # by which a birth in seconds since 1970 may differ


def birth_of(pid: int) -> str:
    """When a process was started, as no other of its number ever was on this machine; without blanks.

    Raises:
        psutil.Error: when there is none.
    """
    boot = boot_id()
    return f"{boot}/{_fields(pid)[START]}" if boot else f"{psutil.Process(pid).create_time():.2f}"


def lives(pid: int, birth: str) -> bool:
    """Whether a process of that number is there, was born then, and has not ended.

    Args:
        pid: its number.
        birth: of `birth_of`; or seconds since 1970, as earlier versions noted them.
    """
    try:
        if "/" in birth:
            fields, boot = _fields(pid), boot_id()
            # Where the boot is not told, only the ticks can be compared: who may live is not taken for dead.
            is_it = birth.endswith(f"/{fields[START]}") if not boot else birth == f"{boot}/{fields[START]}"
            return is_it and fields[STATE] != "Z"
        process = psutil.Process(pid)
        return abs(process.create_time() - float(birth)) < CLOCK_SECONDS and process.status() != psutil.STATUS_ZOMBIE
    except (psutil.Error, ValueError):
        return False


def boot_id() -> str:
    """What the system calls the time since it was booted; empty where it does not tell: not Linux, or some sandboxes."""
    try:
        return BOOT.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _fields(pid: int) -> list[str]:
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        raise psutil.NoSuchProcess(pid) from None
    except PermissionError:
        raise psutil.AccessDenied(pid) from None
    # The name may hold blanks and brackets.
    return text.rpartition(b")")[2].decode("ascii").split()
