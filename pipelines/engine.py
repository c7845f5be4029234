"""Runs one notebook with parameters through papermill; the output appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from workbench.errors import NotebookFailed, WorkbenchError
from workbench.runtime.activity import mark_busy
from workbench.runtime.kernels import jupyter_folders, new_runtime_folder
from workbench.security.secrets import private_folder

KERNEL = "python3"
START_SECONDS = 60


def run_notebook(notebook: Path, output: Path, parameters: Mapping[str, object], *, progress_bar: bool = False) -> Path:
    """Run *notebook* with *parameters* and write the executed copy to *output*.

    The input is never changed. The output is written beside its place and moved there when the
    run has ended, failed runs included: their notebook holds the traceback.

    Raises:
        WorkbenchError: when there is no such notebook, or it does not take a parameter.
        NotebookFailed: when a cell raised; `output` shows which.
    """
    from papermill.exceptions import PapermillExecutionError

    if not notebook.is_file():
        raise WorkbenchError(f"there is no notebook {notebook}", remedy="Give the path of an .ipynb file.")
    _check_parameters(notebook, parameters)
    private_folder(output.parent)
    running = output.with_name(f".{output.stem}.running.ipynb")
    try:
        # The server that this runs in is not stopped for being idle meanwhile.
        with mark_busy(notebook.stem), kernel_folders():
            _execute(notebook, running, parameters, progress_bar=progress_bar)
    except PapermillExecutionError as error:
        raise NotebookFailed(
            f"cell {error.exec_count} of {notebook.name} raised {error.ename}: {error.evalue}",
            remedy=f"The output notebook has the traceback: {output}",
        ) from None
    finally:
        if running.exists():
            running.chmod(0o600)
            running.replace(output)
    return output


def _execute(notebook: Path, output: Path, parameters: Mapping[str, object], *, progress_bar: bool) -> None:
    import papermill
    from traitlets.config import Config

    papermill.execute_notebook(
        str(notebook),
        str(output),
        parameters=dict(parameters),
        kernel_name=KERNEL,
        progress_bar=progress_bar,
        start_timeout=START_SECONDS,
        cwd=str(output.parent),
        config=Config({"KernelManager": {"transport": "ipc"}}),
    )


@contextmanager
def kernel_folders() -> Iterator[None]:
    """Have kernels find our specification, and keep their sockets in a private folder that lives as long as this."""
    sockets = new_runtime_folder()
    own = {**jupyter_folders(), "JUPYTER_RUNTIME_DIR": str(sockets)}
    before = {name: os.environ.get(name) for name in own}
    # Jupyter reads them from the environment, each time that it starts a kernel.
    os.environ.update(own)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        shutil.rmtree(sockets, ignore_errors=True)


def _check_parameters(notebook: Path, parameters: Mapping[str, object]) -> None:
    import papermill

    try:
        known = papermill.inspect_notebook(str(notebook))
    except ValueError as error:  # of papermill, for a notebook without a kernel
        raise WorkbenchError(f"{notebook.name}: {error}", remedy="Open and save the notebook in JupyterLab.") from None
    if unknown := sorted(set(parameters) - set(known)):
        raise WorkbenchError(
            f"{notebook.name} does not take {', '.join(unknown)}",
            remedy=f"Its parameters cell has {', '.join(sorted(known)) or 'none'}.",
        )
