"""Flows as code: pipelines/flows/*.yaml says which topic goes into which table, with which columns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import yaml

from workbench.errors import SettingsError, WorkbenchError
from workbench.ingestion.decoding import parse_schema

FIELDS = {"topic", "into", "columns"}


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Which topic goes into which table."""

    name: str
    topic: str
    into: str  #: schema.table
    columns: pa.Schema


def read_flow(folder: Path, name: str) -> Flow:
    """The flow of *name* in a folder of YAML files.

    Raises:
        WorkbenchError: when there is no such file.
        SettingsError: naming the file and every field that is wrong.
    """
    path = folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(each.stem for each in folder.glob("*.yaml")))
        raise WorkbenchError(
            f"there is no flow {name!r}; {folder} has {known}",
            remedy="Name one of them, or write its file; docs/ingestion.md has the format.",
        )
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise SettingsError([f"{path}: {error}"]) from None
    problems = _problems(path, raw)
    if problems:
        raise SettingsError(problems)
    return Flow(name=name, topic=raw["topic"], into=raw["into"], columns=parse_schema(raw["columns"], str(path)))


def _problems(path: Path, raw: object) -> list[str]:
    if not isinstance(raw, dict):
        return [f"{path} is not a mapping of {', '.join(sorted(FIELDS))}."]
    found = [f"{path}: {field} is missing." for field in sorted(FIELDS - raw.keys())]
    found += [
        f"{path}: unknown field {field!r}. Known are {', '.join(sorted(FIELDS))}."
        for field in raw
        if field not in FIELDS
    ]
    if "columns" in raw and not (isinstance(raw["columns"], dict) and raw["columns"]):
        found.append(f"{path}: columns is no mapping of names to types.")
    if "into" in raw and str(raw["into"]).count(".") != 1:
        found.append(f"{path}: into is {raw['into']!r}; write schema.table.")
    return found
