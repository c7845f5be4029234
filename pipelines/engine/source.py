"""The notebook as it is executed: read, checked, and with its parameters in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.engine.job import NotebookJob
from pipelines.engine.kernels.handover import secret_reference
from pipelines.engine.record.notebook import tags
from workbench.errors import WorkbenchError

INJECTED = "injected-parameters"
DECLARED = "parameters"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A notebook in the form of nbformat 4, without outputs, and the kernel that it wants."""

    notebook: dict[str, Any]
    kernel: str
    language: str


def read_source(job: NotebookJob) -> Source:
    """Read the notebook of *job* and inject what it is given.

    Raises:
        WorkbenchError: when there is no such notebook, it is none, names no kernel, or does not take a parameter.
    """
    if job.parameters and job.injected:
        raise WorkbenchError("a job has either parameters or the source of a cell with them, not both")
    notebook = _read(job.notebook)
    about = notebook["metadata"].get("kernelspec", {})
    kernel = job.kernel or about.get("name", "")
    if not kernel:
        raise WorkbenchError(
            f"{job.notebook.name} does not say which kernel it needs",
            remedy="Open and save the notebook in JupyterLab.",
        )
    language = about.get("language") or notebook["metadata"].get("language_info", {}).get("name") or "python"
    source = Source(notebook=notebook, kernel=kernel, language=language)
    injected = job.injected or _codified(job, source)
    if injected:
        _inject(source, job.notebook.name, injected)
    elif not job.keeps_injected and (index := _find(source, INJECTED)) is not None:
        del notebook["cells"][index]  # the values of another run
    about_run = notebook["metadata"].setdefault("papermill", {})
    about_run.update(input_path=str(job.notebook), output_path=str(job.output), parameters=json_ready(job.parameters))
    return source


def json_ready(parameters: Mapping[str, object]) -> dict[str, Any]:
    """*parameters* as they stand in the metadata: what JSON has no form for is there as text."""
    return dict(json.loads(json.dumps(dict(parameters), default=str)))


def _read(path: Path) -> dict[str, Any]:
    import nbformat

    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise WorkbenchError(f"there is no notebook {path}", remedy="Give the path of an .ipynb file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise WorkbenchError(f"the notebook {path} cannot be read: {error}") from None
    try:
        content = nbformat.from_dict(json.loads(text))
        notebook = nbformat.v4.upgrade(nbformat.convert(content, 4))
        cells = notebook["cells"]
        notebook["metadata"], [(cell["cell_type"], cell["source"], cell["metadata"]) for cell in cells]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WorkbenchError(f"{path} is no notebook: {error!r}", remedy="Open and save it in JupyterLab.") from None
    for cell in cells:
        if cell["cell_type"] == "code":
            cell.update(outputs=[], execution_count=None)
        if not isinstance(cell["source"], str):
            cell["source"] = "".join(cell["source"])
    return dict(notebook)


def _codified(job: NotebookJob, source: Source) -> str:
    """The source of the injected cell, as papermill writes it, and a reference for each secret."""
    lines = []
    if job.parameters:
        from papermill.translators import translate_parameters

        _check_names(job, source)
        lines.append(translate_parameters(source.kernel, source.language, dict(job.parameters)))
    lines += [f"{name} = {secret_reference(name)}\n" for name in job.secrets]
    return "".join(lines).rstrip("\n")


def _check_names(job: NotebookJob, source: Source) -> None:
    from papermill.translators import papermill_translators

    known: set[str] = set()
    if (index := _find(source, DECLARED)) is not None:
        translator = papermill_translators.find_translator(source.kernel, source.language)
        try:
            known = {each.name for each in translator.inspect(source.notebook["cells"][index])}
        except NotImplementedError:
            return  # papermill cannot read the parameters of that language
    if unknown := sorted(set(job.parameters) - known):
        raise WorkbenchError(
            f"{job.notebook.name} does not take {', '.join(unknown)}",
            remedy=f"Its parameters cell has {', '.join(sorted(known)) or 'none'}.",
        )


def _inject(source: Source, name: str, injected: str) -> None:
    """Put a cell behind the one with the tag parameters, or in the place of one that was injected before."""
    from nbformat.v4 import new_code_cell

    cells = source.notebook["cells"]
    cell = new_code_cell(source=injected, metadata={"tags": [INJECTED]})
    if (index := _find(source, INJECTED)) is not None:
        cells[index] = cell
    elif (index := _find(source, DECLARED)) is not None:
        cells.insert(index + 1, cell)
    else:
        raise WorkbenchError(
            f"{name} has no parameters cell, so it takes neither parameters nor secrets",
            remedy="Give the cell with its defaults the tag `parameters` in JupyterLab.",
        )


def _find(source: Source, tag: str) -> int | None:
    return next((index for index, cell in enumerate(source.notebook["cells"]) if tag in tags(cell)), None)
