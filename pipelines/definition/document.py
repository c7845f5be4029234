"""A file of a pipeline, as `workbench.documents` reads it."""

from __future__ import annotations

from pathlib import Path

from workbench import documents
from workbench.documents import Document, DocumentProblem, Place, Problem
from workbench.errors import DefinitionError

__all__ = ["Document", "Place", "Problem", "read_document"]


def read_document(path: Path) -> Document:
    """Read a file that is one mapping.

    Raises:
        DefinitionError: with the line, when it cannot be read or is no such YAML.
    """
    try:
        return documents.read_document(path, "with `steps:`; docs/pipelines.md has the format")
    except DocumentProblem as error:
        raise DefinitionError([error.problem]) from None
