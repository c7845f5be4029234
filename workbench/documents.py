"""A YAML file whose every field knows its line, and problems that say where they are.

Numbers, true, false and null are read as YAML 1.2 and JSON have them; all else is text, dates too:
what they are depends on the field. In YAML 1.1, `on` is true and `1:30` is 90.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import yaml

from workbench.storable import UNSTORABLE, is_storable

Place = tuple[str | int, ...]

MOST_FIELDS = 100_000
RESOLVERS = (
    ("tag:yaml.org,2002:null", r"(?:~|null|)", ["~", "n", ""]),
    ("tag:yaml.org,2002:bool", r"(?:true|false)", list("tf")),
    ("tag:yaml.org,2002:int", r"[-+]?[0-9]+", list("-+0123456789")),
    ("tag:yaml.org,2002:float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan", list("-+.0123456789")),
)  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a file."""

    file: Path
    line: int
    field: str  #: such as steps.delays.retries.on; empty for the whole file
    message: str  #: what is wrong, with the value, and what to do

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {f'{self.field}: ' if self.field else ''}{self.message}"

    def as_dict(self) -> dict[str, object]:
        """For programs."""
        return {"file": str(self.file), "line": self.line, "field": self.field, "message": self.message}


class DocumentProblem(Exception):
    """A file is no such YAML; whoever reads it raises an error of its own kind of file."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(str(problem))


@dataclass(frozen=True)
class Document:
    """What a file holds, and on which line each field begins."""

    path: Path
    value: Mapping[str, Any]
    lines: Mapping[Place, int] = field(default_factory=dict)
    sha256: str = ""  #: of the bytes that were read, in hexadecimal; empty of a text that came from no file

    def names(self, field: str) -> tuple[str, ...]:
        """The keys of a field that is a mapping; none of any other."""
        value = self.value.get(field)
        return tuple(value) if isinstance(value, dict) else ()

    def problem(self, place: Place, message: str) -> Problem:
        """A problem at a field, or at the nearest one around it that is in the file."""
        around = place
        while around and around not in self.lines:
            around = around[:-1]
        return Problem(self.path, self.lines.get(around, 1), _dotted(place), message)


def read_document(path: Path, form: str) -> Document:
    """Read a file that is one mapping.

    Args:
        path: of the file.
        form: which mapping it should be and where that is described, to be told when it is none.

    Raises:
        DocumentProblem: with the line, when it cannot be read or is no such YAML.
    """
    try:
        content = path.read_bytes()
        text = content.decode().replace("\r\n", "\n").replace("\r", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(path, 1, f"the file cannot be read: {error}") from None
    return replace(parse_document(path, text, form), sha256=hashlib.sha256(content).hexdigest())


def parse_document(path: Path, text: str, form: str) -> Document:
    """Read *text* as if it stood at *path*, where there may be no file.

    Raises:
        DocumentProblem: as `read_document`.
    """
    try:
        node = yaml.compose(text, _Loader)
        lines: dict[Place, int] = {}
        value = _value(node, (), lines) if node is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        quote = "; write what begins with * in quotes" if "alias" in f"{error.context} {error.problem}" else ""
        raise _refused(path, mark.line + 1 if mark else 1, f"{error.problem}{quote}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise _refused(path, 1, f"the file cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise _refused(path, 1, f"the file is no mapping {form}")
    return Document(path, value, lines)


def matching(pattern: str) -> re.Pattern[str]:
    """What a resolver matches a scalar with: all of it."""
    return re.compile(f"^(?:{pattern})$")


class _Loader(yaml.SafeLoader):
    """YAML with the scalars of JSON."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]


for _tag, _pattern, _first in RESOLVERS:
    _Loader.add_implicit_resolver(_tag, matching(_pattern), _first)


def _value(node: yaml.Node, place: Place, lines: dict[Place, int]) -> Any:
    lines.setdefault(place, node.start_mark.line + 1)
    if len(lines) > MOST_FIELDS:  # aliases of aliases
        raise ValueError(f"it has more than {MOST_FIELDS} fields")
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, place, lines)
    if isinstance(node, yaml.SequenceNode):
        return [_value(each, (*place, number), lines) for number, each in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode):
        _demand_storable(node)
    constructor = yaml.constructor.SafeConstructor()
    return constructor.construct_object(node)


def _mapping(node: yaml.MappingNode, place: Place, lines: dict[Place, int]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key is text, and no list", key.start_mark)
        _demand_storable(key)
        if key.value in made:
            raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
        lines[*place, key.value] = key.start_mark.line + 1
        made[key.value] = _value(value, (*place, key.value), lines)
    return made


def _demand_storable(node: yaml.ScalarNode) -> None:
    # Escapes of double quotes may stand for what neither UTF-8 nor PostgreSQL has.
    if not is_storable(node.value):
        problem = f"a text has {UNSTORABLE}; take it out"
        raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def _refused(path: Path, line: int, message: str) -> DocumentProblem:
    return DocumentProblem(Problem(path, line, "", message))


def _dotted(place: Place) -> str:
    text = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in place)
    return text.removeprefix(".")
