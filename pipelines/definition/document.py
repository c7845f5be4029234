"""A file of a pipeline, as `workbench.documents` reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workbench import documents
from workbench.documents import RESOLVERS, Document, DocumentProblem, Place, Problem, matching
from workbench.errors import DefinitionError

__all__ = ["RESOLVERS", "Document", "Place", "Problem", "matching", "parse_document", "read_document"]

FORM = "with `steps:`; docs/pipelines.md has the format"


def read_document(path: Path) -> Document:
    """Read a file that is one mapping.

    Raises:
        DefinitionError: with the line, when it cannot be read or is no such YAML.
    """
    with _reported():
        return documents.read_document(path, FORM)


def parse_document(path: Path, text: str) -> Document:
    """Read *text* as if it stood at *path*, where there may be no file.

    Raises:
        DefinitionError: as `read_document`.
    """
    with _reported():
        return documents.parse_document(path, text, FORM)


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except DocumentProblem as error:
        raise DefinitionError([error.problem]) from None
