"""The kernel extension: `%load_ext workbench.cells.extension`. Each part registers itself with the shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.cells import sql
from workbench.cells.progress import CellProgress
from workbench.cells.spark_history import add_history
from workbench.cells.spark_name import SparkBinder
from workbench.sections import SparkSettings
from workbench.transformation.progress import RECORDER

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

ATTRIBUTE = "workbench_progress"


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Called by IPython when the kernel starts. Loads no driver: a kernel that uses none stays small."""
    shell.ast_transformers.append(SparkBinder(shell))
    sql.register(shell)
    progress = CellProgress(shell, RECORDER, SparkSettings().ui_path)
    progress.attach()
    add_history(shell, RECORDER)
    setattr(shell, ATTRIBUTE, progress)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Called by IPython on `%unload_ext`."""
    shell.ast_transformers[:] = [each for each in shell.ast_transformers if not isinstance(each, SparkBinder)]
    sql.unregister(shell)
    getattr(shell, ATTRIBUTE).detach()
