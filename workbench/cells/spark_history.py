"""`%spark_history`: what Spark has done for this kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from workbench.transformation.progress import Recorder

SHOWN = 20


def add_history(shell: InteractiveShell, recorder: Recorder) -> None:
    """Make the magic known to *shell*."""

    def spark_history(line: str) -> Any:
        """The last operations as a pandas DataFrame, the newest last: `%spark_history`, `%spark_history 100`."""
        count = line.strip() or str(SHOWN)
        if not count.isdigit():
            from IPython.core.error import UsageError

            raise UsageError(f"%spark_history takes how many to show, not {count!r}")
        return recorder.history().tail(int(count))

    shell.register_magic_function(spark_history, "line")  # type: ignore[arg-type]
