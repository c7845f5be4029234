"""Expectations as code: `pipelines/quality/*.yaml` says what is expected of which table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import yaml

from workbench.errors import SettingsError, WorkbenchError
from workbench.transformation.quality.expectations import KINDS, Declaration, Expectation, Severity, repeated

FIELDS = ("table", "expectations", "key", "sensitive")
LISTS = ("columns", "references", "values")


def find_declaration(folder: Path, table: str) -> Declaration:
    """The declaration of *table*, or that in the file of this name, in a folder of YAML files.

    Raises:
        WorkbenchError: when there is none.
        SettingsError: naming everything that is wrong in its file.
    """
    named = folder / f"{table}.yaml"
    if "/" not in table and named.is_file():
        return read_declaration(named)
    files = sorted(folder.glob("*.yaml"))
    for path in files:
        raw = _read(path)
        if isinstance(raw, dict) and raw.get("table") == table:
            return make_declaration(raw, str(path))
    raise WorkbenchError(
        f"nothing is expected of {table!r}; {folder} has {', '.join(each.stem for each in files) or 'no file'}",
        remedy="Name one of them or its table, or write a file; docs/quality.md has the format.",
    )


def read_declaration(path: Path) -> Declaration:
    """The declaration in one file.

    Raises:
        SettingsError: naming everything that is wrong, with the path of the field.
    """
    return make_declaration(_read(path), str(path))


def make_declaration(raw: object, where: str = "quality") -> Declaration:
    """A declaration from what its file holds.

    Raises:
        SettingsError: naming everything that is wrong, with the path of the field.
    """
    if not isinstance(raw, dict):
        raise SettingsError([f"{where} is not a mapping of {', '.join(FIELDS)}."])
    problems = [f"{where}: {problem}" for problem in _problems(raw)]
    made: list[Expectation] = []
    listed = raw.get("expectations")
    for number, each in enumerate(listed if isinstance(listed, list) else ()):
        at = f"{where}: expectations[{number}]"
        found = list(_field_problems(each))
        if not found:
            made.append(_make(each))
            found = list(made[-1].problems())
        problems += [f"{at}{'' if problem.startswith(' ') else '.'}{problem}" for problem in found]
    problems += [
        f"{where}: expectations: {name!r} is the name of several; give each a name."
        for name in sorted(repeated([each.name for each in made]))
    ]
    if problems:
        raise SettingsError(problems)
    return Declaration(
        table=raw["table"],
        expectations=tuple(made),
        key=tuple(raw.get("key") or ()),
        sensitive=tuple(raw.get("sensitive") or ()),
    )


def _read(path: Path) -> object:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError([f"{path}: {error}"]) from None


def _problems(raw: Mapping[str, Any]) -> Iterator[str]:
    for name in raw:
        if name not in FIELDS:
            yield f"unknown field {name!r}. Known are {', '.join(FIELDS)}."
    table = raw.get("table")
    if not isinstance(table, str) or table.count(".") != 1 or not all(table.split(".")):
        yield f"table is {table!r}; write schema.table."
    expectations = raw.get("expectations")
    if not isinstance(expectations, list) or not expectations:
        yield "expectations is no list, or empty."
    for name in ("key", "sensitive"):
        value = raw.get(name)
        if value is not None and not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
            yield f"{name} is {value!r}, which is no list of names."


def _field_problems(raw: object) -> Iterator[str]:
    """What keeps a mapping from being an expectation; what begins with a space is about the whole."""
    if not isinstance(raw, dict):
        yield " is no mapping with the field kind."
        return
    kind = raw.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        yield f"kind is {kind!r}. Known are {', '.join(KINDS)}."
        return
    known = {field.name: field for field in fields(KINDS[kind])}
    for name in raw:
        if name != "kind" and name not in known:
            yield f"{name} is no field of {kind}. Known are {', '.join(known)}."
    for name, field in known.items():
        if name not in raw and field.default is MISSING:
            yield f"{name} is missing."
        elif name in LISTS and name in raw and not isinstance(raw[name], list):
            yield f"{name} is {raw[name]!r}, which is no list."
        elif name in raw and raw[name] is None:
            yield f"{name} is empty."


def _make(raw: Mapping[str, Any]) -> Expectation:
    given: dict[str, Any] = dict(raw)
    kind = given.pop("kind")
    given |= {name: tuple(given[name]) for name in LISTS if name in given}
    if given.get("severity") in tuple(Severity):
        given["severity"] = Severity(given["severity"])
    return KINDS[kind](**given)
