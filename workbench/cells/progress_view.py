"""What stands under a cell while Spark works for it, as HTML; a function of the operations alone."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from workbench.transformation.progress import Operation, Stage, operation_line
from workbench.transformation.progress.text import length, size

MOST_STAGES = 6  # with a bar of its own
MOST_OPERATIONS = 5
TRACK = "flex:1;height:10px;border-radius:5px;overflow:hidden;display:flex;background:var(--jp-border-color2,#e0e0e0)"
DONE = "background:var(--jp-success-color1,#2e7d32)"
RUNNING = "background:var(--jp-brand-color2,#64b5f6)"
ROW = "display:flex;align-items:center;gap:8px;line-height:18px"
NAME = "width:84px;text-align:right;color:var(--jp-ui-font-color2,#616161)"
COUNT = "min-width:190px;font-variant-numeric:tabular-nums"


def progress_html(operations: Sequence[Operation], executors: int | None = None) -> str:
    """The operations that run, each with a bar for all and one for each stage that is at work.

    Args:
        operations: of one cell; those that have ended are one line together.
        executors: how many Spark has, if that is known.
    """
    running = [each for each in operations if each.is_running]
    parts = [_operation(each, executors) for each in running[:MOST_OPERATIONS]]
    if more := len(running) - MOST_OPERATIONS:
        parts += [_line(f"and {more} more")] if more > 0 else []
    if not running and operations:
        parts.append(_line(operation_line(operations[-1])))
    elif ended := len(operations) - len(running):
        parts.append(_line(f"{ended} ended before"))
    return (
        '<div class="workbench-progress" style="font-size:var(--jp-ui-font-size1,13px);max-width:860px">'
        f"{''.join(parts)}</div>"
    )


def _operation(operation: Operation, executors: int | None) -> str:
    facts = [length(operation.seconds)]
    if operation.bytes_read:
        facts.append(f"{size(operation.bytes_read)} read")
    if operation.rows:
        facts.append(f"{operation.rows:,} rows")
    if executors is not None:
        facts.append(f"{executors} executor{'s' * (executors != 1)}")
    active = [stage for stage in operation.stages if not stage.is_done]
    bars = [_bar("all", operation.tasks, operation.tasks_done, operation.tasks_running)]
    # Tasks that run are not told apart by stage; they belong to the first that is not done.
    bars += [
        _bar(f"stage {stage.id}", stage.tasks, stage.tasks_done, _running_of(stage, active, operation))
        for stage in active[:MOST_STAGES]
    ]
    if len(active) > MOST_STAGES:
        bars.append(_line(f"and {len(active) - MOST_STAGES} more stages"))
    what = f"<code>{escape(operation.what)}</code>" if operation.what else "Spark"
    waits = "" if operation.stages else " · planning"
    return f'<div style="margin:2px 0 6px">{what} · {escape(" · ".join(facts))}{waits}{"".join(bars)}</div>'


def _running_of(stage: Stage, active: Sequence[Stage], operation: Operation) -> int:
    return min(stage.tasks - stage.tasks_done, operation.tasks_running) if stage is active[0] else 0


def _bar(name: str, tasks: int, done: int, running: int) -> str:
    whole = max(tasks, 1)
    label = f"{done} of {tasks} tasks" + (f", {running} running" if running else "")
    return (
        f'<div style="{ROW}"><span style="{NAME}">{name}</span>'
        f'<span role="progressbar" aria-label="{name}" aria-valuemin="0" aria-valuemax="{whole}" aria-valuenow="{done}" style="{TRACK}">'
        f'<span style="{DONE};width:{100 * done / whole:.1f}%"></span>'
        f'<span style="{RUNNING};width:{100 * min(running, whole - done) / whole:.1f}%"></span></span>'
        f'<span style="{COUNT}">{label}</span></div>'
    )


def _line(text: str) -> str:
    return f"<div>{escape(text)}</div>"
