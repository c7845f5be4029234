"""The kernel extension: `%load_ext workbench.cells.extension`. Each part registers itself with the shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.cells import sql
from workbench.cells.preloading import Preloader
from workbench.cells.progress import CellProgress
from workbench.cells.spark_history import add_history
from workbench.cells.spark_name import SparkBinder
from workbench.sections import SparkSettings
from workbench.transformation.progress import RECORDER

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

ATTRIBUTE, PRELOADER = "workbench_progress", "workbench_preloader"


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Called by IPython when the kernel starts. Loads no driver itself: a kernel is there within a second."""
    settings = SparkSettings()
    shell.ast_transformers.append(SparkBinder(shell))
    sql.register(shell)
    progress = CellProgress(shell, RECORDER, settings.ui_path)
    progress.attach()
    add_history(shell, RECORDER)
    setattr(shell, ATTRIBUTE, progress)
    # Where JupyterLab has started a server, somebody is likely to use it.
    if settings.preload and settings.endpoint_file:
        preloader = Preloader()
        shell.events.register("pre_run_cell", preloader.end)
        setattr(shell, PRELOADER, preloader)
        preloader.start()


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Called by IPython on `%unload_ext`."""
    shell.ast_transformers[:] = [each for each in shell.ast_transformers if not isinstance(each, SparkBinder)]
    sql.unregister(shell)
    getattr(shell, ATTRIBUTE).detach()
    if (preloader := getattr(shell, PRELOADER, None)) is not None:
        preloader.end()
        shell.events.unregister("pre_run_cell", preloader.end)
        delattr(shell, PRELOADER)
