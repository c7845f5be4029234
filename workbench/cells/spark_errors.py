"""How an error of Spark looks under a cell: what it means, the lines of one's own code, then Spark's message.

The frames of PySpark and the stack of the JVM are left out of the picture; the exception has them all.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

from workbench.transformation.callers import PASSED_OVER
from workbench.transformation.failures import draw_with

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

STACK = "\n\nJVM stacktrace:"
BOLD, PLAIN = "\x1b[1;31m", "\x1b[0m"


def draw_errors(shell: InteractiveShell) -> None:
    """Have *shell* show PySpark's errors like that. Loads PySpark; repeatable."""

    def draw(error: BaseException) -> list[str]:
        own = own_frames(error.__traceback__)
        drawn = shell.InteractiveTB.structured_traceback(type(error), error, own)
        text = shell.InteractiveTB.stb2text(drawn)
        short, _, _ = text.partition(STACK)
        notes = [f"{BOLD}{note}{PLAIN}" for note in getattr(error, "__notes__", [])]
        return [*notes, short]

    draw_with(draw)


def own_frames(trace: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames of IPython, PySpark and the workbench; as it is when nothing is left."""
    kept: list[TracebackType] = []
    each = trace
    while each is not None:
        file = each.tb_frame.f_code.co_filename
        if not file.startswith(PASSED_OVER) and "/IPython/" not in file:
            kept.append(each)
        each = each.tb_next
    found: TracebackType | None = None
    for each in reversed(kept):
        found = TracebackType(found, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return found or trace
