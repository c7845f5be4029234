"""A notebook as it would be executed: its kernel, the sources of its cells, its parameters; nothing is run."""

from __future__ import annotations

import ast
import hashlib
import json
import warnings
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.parameters import Parameter, read_cell
from pipelines.parameters.carried import read_carried

PARAMETERS = "parameters"
DECIDING = {"injected-parameters", "skip-execution", "raises-exception"}  # tags by which a cell runs otherwise


@dataclass(frozen=True)
class Cell:
    """A cell of code."""

    number: int  #: among all cells of the notebook, from 1
    source: str
    tags: frozenset[str] = frozenset()
    id: str = ""


@dataclass(frozen=True)
class Notebook:
    """What of a notebook matters to a run."""

    path: Path
    kernel: str
    cells: tuple[Cell, ...]

    @property
    def sha256(self) -> str:
        """Of what executes: the kernel, the sources of the cells of code, and those of their tags that decide how.

        Outputs, texts, ids and other metadata do not count.
        """
        cells = [[each.source, PARAMETERS in each.tags, *sorted(each.tags & DECIDING)] for each in self.cells]
        content = {"kernel": self.kernel, "cells": cells}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @property
    def marks(self) -> frozenset[str]:
        """All tags and ids of its cells: what checkpoints may name."""
        return frozenset().union(*(each.tags | {each.id} for each in self.cells)) - {""}


def read_notebook(path: Path) -> Notebook:
    """Read a notebook of Jupyter's format 4.

    Raises:
        ValueError: when it is none, or says no kernel.
    """
    try:
        raw = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} is no notebook: {error}") from None
    if not _is_notebook(raw):
        raise ValueError(f"{path.name} is no notebook of format 4; open and save it in JupyterLab")
    kernel = raw["metadata"].get("kernelspec")
    if not isinstance(kernel, dict) or not kernel.get("name"):
        raise ValueError(f"{path.name} says no kernel; open it in JupyterLab, choose one, and save it")
    cells = enumerate(raw["cells"], start=1)
    return Notebook(
        path, str(kernel["name"]), tuple(_cell(n, each) for n, each in cells if each.get("cell_type") == "code")
    )


def notebook_problems(notebook: Notebook, kernels: Mapping[str, str], *, needs_parameters: bool) -> Iterator[str]:
    """What would keep a run from its end, found before: no such kernel, cells that are no Python, no parameters cell."""
    name = notebook.path.name
    if notebook.kernel not in kernels:
        yield f"{name} wants the kernel {notebook.kernel!r}, and there is none of that name. Choose one of {', '.join(sorted(kernels))} in JupyterLab, or install it."
        return
    tagged = [each for each in notebook.cells if PARAMETERS in each.tags]
    if len(tagged) > 1:
        yield f"{name}: the cells {' and '.join(str(each.number) for each in tagged)} are tagged `parameters`; leave it to one."
    if kernels[notebook.kernel] != "python":
        if needs_parameters:
            yield f"{name} is in {kernels[notebook.kernel]}; parameters are for notebooks in Python."
        return
    if needs_parameters and not tagged:
        yield f"{name} has no cell tagged `parameters`, and parameters are given; tag the cell that has their defaults."
    for cell in notebook.cells:
        if problem := _syntax_problem(cell):
            yield f"{name}, cell {cell.number}, {problem}; correct the cell in JupyterLab."


def checkpoint_problems(notebook: Notebook, marks: Collection[str]) -> Iterator[str]:
    """What is wrong with the cells of the tags or ids *marks*, which are checkpoints."""
    for cell in notebook.cells:
        if not {*cell.tags, cell.id}.isdisjoint(marks):
            try:
                read_carried(cell.source)
            except ValueError as error:
                yield f"{notebook.path.name}, cell {cell.number}: {error}."


def notebook_parameters(notebook: Notebook) -> tuple[tuple[Parameter, ...], tuple[str, ...]]:
    """The parameters of the cell tagged so, and what is wrong with it."""
    for cell in notebook.cells:
        if PARAMETERS in cell.tags:
            parameters, problems = read_cell(cell.source)
            where = f"{notebook.path.name}, cell {cell.number}"
            return parameters, tuple(f"{where}, line {each.line}: {each.message}" for each in problems)
    return (), ()


def _is_notebook(raw: object) -> bool:
    """Whether it has the parts of one; what is in them is looked at where it is used."""
    return (
        isinstance(raw, dict)
        and raw.get("nbformat") == 4
        and isinstance(raw.setdefault("metadata", {}), dict)
        and isinstance(raw.get("cells"), list)
        and all(isinstance(each, dict) for each in raw["cells"])
    )


def _cell(number: int, raw: Mapping[str, object]) -> Cell:
    source, metadata = raw.get("source") or "", raw.get("metadata")
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    return Cell(
        number,
        source if isinstance(source, str) else "".join(map(str, source)) if isinstance(source, list) else "",
        frozenset(each for each in tags if isinstance(each, str)) if isinstance(tags, list) else frozenset(),
        str(raw.get("id") or ""),
    )


def _syntax_problem(cell: Cell) -> str:
    """Why IPython could not run the cell: magics and `await` outside of functions are its own Python."""
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        # What a literal or an escape sequence would be warned of is no reason to refuse it.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            python = TransformerManager().transform_cell(cell.source)  # type: ignore[no-untyped-call]
            compile(python, "cell", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except SyntaxError as error:
        return f"line {error.lineno}: {error.msg}: {(error.text or '').strip()}"
    except (ValueError, RecursionError, MemoryError) as error:
        return f"line 1: {error}"
    return ""
