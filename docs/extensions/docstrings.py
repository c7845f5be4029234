"""Docstrings as this project writes them: code in single backticks, and colons in the remarks behind fields."""

import re
from typing import Any

from sphinx.application import Sphinx

CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
FIELDS = ("attribute", "data", "property")
COLON = "\x00"  # no docstring has one


def _before_napoleon(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    # reStructuredText means a role by one backtick and code by two.
    lines[:] = [CODE.sub(r"``\1``", line) for line in lines]
    if what in FIELDS:
        # Napoleon takes what stands before a colon for a type.
        lines[:] = [line.replace(":", COLON) for line in lines]


def _after_napoleon(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = [line.replace(COLON, ":") for line in lines]


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _before_napoleon, priority=400)
    app.connect("autodoc-process-docstring", _after_napoleon, priority=600)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
