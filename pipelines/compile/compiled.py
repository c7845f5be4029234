"""What a pipeline was compiled to, and whether a file still is that."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

from pipelines.definition import Pipeline
from workbench import __version__

COMMIT = "# Commit: "


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a compilation is told beside the files of the pipelines."""

    target: Literal["airflow", "kubernetes"]
    since: datetime | None = None  #: Airflow: from when on `catch_up: all` catches up
    image: str = ""  #: Kubernetes
    namespace: str = ""  #: Kubernetes


@dataclass(frozen=True)
class Compiled:
    """The file of one pipeline."""

    pipeline: str
    file: str  #: its name
    text: str

    def is_stale(self, folder: Path) -> bool:
        """Whether the file in *folder* is another one. A commit that changed nothing here makes no difference."""
        try:
            there = (folder / self.file).read_text(encoding="utf-8")
        except OSError:
            return True
        return _without_commit(there) != _without_commit(self.text)


def write_compiled(compiled: Compiled, folder: Path) -> Path:
    """Write the file, whole or not at all: schedulers read it at any moment. Returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / compiled.file
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(compiled.text, encoding="utf-8")
    fresh.replace(path)
    return path


def header(pipeline: Pipeline, commit: str | None) -> str:
    """Comments at the top of a file: what it was made of, and by what."""
    return (
        f"# Made by `workbench pipelines compile`; change pipelines/jobs/{pipeline.name}.yaml instead.\n"
        f"# Pipeline: {pipeline.name}, sha256 {pipeline.definition.sha256}\n"
        f"{COMMIT}{commit or 'none'}\n"
        f"# Compiler: workbench {__version__}\n"
    )


def _without_commit(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith(COMMIT)]
