"""An operation, or several, as one line of text."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.transformation.progress.operations import Operation, Outcome

UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
LONGEST_ERROR = 120


def operation_line(operation: Operation) -> str:
    """What an operation has done so far, or had done at its end.

    Example:
        `Spark: done in 12.4 s · 3 stages · 208 of 208 tasks · 1.2 GiB read · 10 rows`
    """
    ended = not operation.is_running
    parts = [
        f"{operation.outcome} {'in' if operation.outcome is Outcome.DONE else 'after'} {length(operation.seconds)}"
    ]
    if not ended:
        parts = [length(operation.seconds)]
    parts += _counts([operation])
    if operation.error:
        parts.append(operation.error[:LONGEST_ERROR])
    return f"Spark: {' · '.join(parts)}"


def summary_line(operations: Sequence[Operation]) -> str:
    """The operations of one cell: one in full, several as their sums and what did not go well."""
    if len(operations) == 1:
        return operation_line(operations[0])
    seconds = sum(each.seconds for each in operations)
    parts = [f"{len(operations)} operations in {length(seconds)}", *_counts(operations)]
    outcomes = [each.outcome for each in operations]
    shown = (Outcome.RUNNING, Outcome.FAILED, Outcome.CANCELLED, Outcome.LOST)
    parts += [f"{outcomes.count(each)} {each}" for each in shown if each in outcomes]
    return f"Spark: {' · '.join(parts)}"


def length(seconds: float) -> str:
    """`0.4 s`, `12.4 s`, `3 min 05 s`, `2 h 07 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float) -> str:
    """Bytes in the largest unit that leaves a whole number before the point."""
    for unit in UNITS:
        if count < 1024 or unit == UNITS[-1]:
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def _counts(operations: Sequence[Operation]) -> list[str]:
    stages = sum(len(each.stages) for each in operations)
    tasks, done = sum(each.tasks for each in operations), sum(each.tasks_done for each in operations)
    running = sum(each.tasks_running for each in operations)
    rows, read = sum(each.rows for each in operations), sum(each.bytes_read for each in operations)
    parts = []
    if stages:
        parts.append(f"{stages} stage{'s' * (stages != 1)}")
        parts.append(f"{done} of {tasks} tasks" + (f", {running} running" if running else ""))
    if read:
        parts.append(f"{size(read)} read")
    if rows:
        parts.append(f"{rows:,} row{'s' * (rows != 1)}")
    return parts
