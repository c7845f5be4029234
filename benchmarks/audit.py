"""How fast the audit log is: events a second that are on the disk, how long one waits, and events a second that are verified.

    python -m benchmarks.audit

Writers are processes of several threads on one log, in a folder that is removed. For comparison,
one process writes as many bytes with an fsync each.
"""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import machine, measure_part
from workbench.security.audit import Action, AuditLog, Event
from workbench.security.audit.proof.checkpointer import Checkpointer
from workbench.security.audit.proof.signing import SigningKey
from workbench.security.audit.proof.verification import verify

OUTPUT = Path(__file__).parent / "results" / "audit.json"
SECONDS = 4.0
PROCESSES, THREADS = 4, 8
PACE = 2000
VERIFIED = 100_000
LINE_BYTES = 600
SHARED: dict[str, Any] = {"actor": "gh-octo", "resource": "hub", "provider": "github", "address": "127.0.0.1"}


def main() -> None:
    """Measure, print and keep it."""
    result: dict[str, Any] = {"machine": machine()}
    for name, part in {
        "bare_fsync": bare,
        "one_writer": one,
        "many_writers": many,
        "paced_writers": paced,
        "verify": verified,
    }.items():
        measure_part(result, name, part, command="python -m benchmarks.audit", output=OUTPUT)
        print(name, result[name]["measured"], "load", result[name]["load_before"][0])


def bare(folder: Path) -> dict[str, Any]:
    """Lines of the same length, each with an fsync."""
    descriptor = os.open(folder / "file", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def write() -> None:
        os.write(descriptor, b"x" * LINE_BYTES)
        os.fsync(descriptor)

    return figures(_repeat(write, SECONDS / 2), SECONDS / 2)


def one(folder: Path) -> dict[str, Any]:
    """One thread of one process."""
    log = AuditLog.of(folder)
    return figures(_repeat(lambda: log.record(Action.LOGIN_SUCCEEDED, **SHARED), SECONDS / 2), SECONDS / 2)


def many(folder: Path) -> dict[str, Any]:
    """Processes of several threads on one log, each as fast as it goes."""
    return _many(folder, 0)


def paced(folder: Path) -> dict[str, Any]:
    """The same at a given pace; an event's time counts from when it was due."""
    return {"offered_per_second": PACE, **_many(folder, PACE)}


def _many(folder: Path, pace: float) -> dict[str, Any]:
    AuditLog.of(folder).tail()
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.audit", str(folder), str(pace)],
            stdout=subprocess.PIPE,
            stdin=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    for each in processes:  # all have imported what they need
        assert each.stdout
        each.stdout.readline()
    outputs = []
    for each in processes:
        assert each.stdin
        each.stdin.close()
    for each in processes:
        assert each.stdout
        outputs += [float(line) for line in each.stdout]
        each.wait()
    return {"processes": PROCESSES, "threads": THREADS, **figures(outputs, SECONDS)}


def write_many(folder: Path, pace: float) -> None:
    """What each process does once its input is closed."""
    log, took = AuditLog.of(folder), []
    print("ready", flush=True)
    sys.stdin.read()

    def write() -> None:
        interval = PROCESSES * THREADS / pace if pace else 0.0
        took.extend(_repeat(lambda: log.record(Action.LOGIN_SUCCEEDED, **SHARED), SECONDS, interval))

    threads = [threading.Thread(target=write) for _ in range(THREADS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    print(*took, sep="\n")


def verified(folder: Path) -> dict[str, Any]:
    """A log with one checkpoint, three times."""
    log, checkpointer = AuditLog.of(folder), Checkpointer.of(folder)
    for _ in range(VERIFIED // 1000):
        log.append(*(Event.of(Action.LOGIN_SUCCEEDED, **SHARED) for _ in range(1000)))
    checkpointer.tick()
    key, rates = SigningKey.read(checkpointer.key_path).public, []
    for _ in range(3):
        started = time.perf_counter()
        assert not verify(log.path, [key]).verdict
        rates.append(VERIFIED / (time.perf_counter() - started))
    return {"events": VERIFIED, "bytes": log.path.stat().st_size, "events_per_second": [round(each) for each in rates]}


def figures(took: list[float], seconds: float) -> dict[str, Any]:
    """Of the seconds that each event took."""
    percentiles = statistics.quantiles(took, n=100)
    return {
        "events_per_second": round(len(took) / seconds),
        "p50_milliseconds": round(1000 * percentiles[49], 2),
        "p99_milliseconds": round(1000 * percentiles[98], 2),
    }


def _repeat(call: Any, seconds: float, interval: float = 0.0) -> list[float]:
    took, due = [], time.perf_counter() + random.random() * interval
    end = due + seconds
    while due < end:
        time.sleep(max(0.0, due - time.perf_counter()))
        call()
        took.append(time.perf_counter() - due)
        due = due + interval if interval else time.perf_counter()
    return took


if __name__ == "__main__":
    write_many(Path(sys.argv[1]), float(sys.argv[2])) if len(sys.argv) > 1 else main()
