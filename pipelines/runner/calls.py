"""How the call of a function, a file of SQL or a flow looks as a notebook of one cell."""

from __future__ import annotations

from typing import Any

from pipelines.parameters import cell_source
from pipelines.runner.assignment import Assignment


def call_notebook(assignment: Assignment) -> dict[str, Any]:
    """A notebook, as nbformat has it, that says what is called with which values; it names secrets, and shows none."""
    # nbformat would make the same, and cost the worker 30 MB.
    cell: dict[str, Any] = {
        "cell_type": "code",
        "id": "call",
        "metadata": {"tags": [assignment.kind]},
        "source": _source(assignment),
        "outputs": [],
        "execution_count": None,
    }
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": kernel}, "cells": [cell]}


def _source(assignment: Assignment) -> str:
    bindings = assignment.bindings
    given = cell_source(bindings.parameters, bindings.values) + "\n" if bindings.values else ""
    if assignment.kind == "function":
        module, name = assignment.target.split(":")
        arguments = ", ".join(f"{each.name}={each.name}" for each in bindings.parameters)
        return f"{given}from {module} import {name}\n\n{name}({arguments})"
    if assignment.kind == "sql":
        assert assignment.file is not None, "SQL is a file"
        return f"%%sql\n{assignment.file.read_text(encoding='utf-8')}"
    return f'workbench.ingest("{assignment.target}")'
