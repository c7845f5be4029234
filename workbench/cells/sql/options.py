"""What may stand beside `%%sql`: options first, then SQL."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

from workbench.errors import QueryRefused

DEFAULT_LIMIT = 10_000
OPTION = re.compile(r"\s*--(?P<name>[a-z][\w-]*)(?=[\s=]|\Z)[ \t=]?")
WORD = re.compile(r"""[ \t]*(?P<word>(?:"[^"\n]*"|'[^'\n]*'|[^\s"'])+)""")
AXIS = re.compile(r"""[ \t]+(?P<name>x|y)=(?P<value>"[^"\n]*"|'[^'\n]*'|\S+)""")
PLOTS = ("bar", "barh", "line", "area", "scatter", "pie", "hist", "box")
OPTIONS = ("into", "limit", "pandas", "param", "plot", "spark")
EXAMPLE = "For example: %%sql --into flights --limit 500 --param month=1"


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A plot of a result."""

    kind: str
    x: str = ""
    y: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the line asks for, and the SQL behind it."""

    text: str
    first_line: int = 1  #: the line of the cell that the SQL begins in
    spark: bool = False
    into: str = ""
    pandas: bool = False
    limit: int | None = None  #: None: DEFAULT_LIMIT for what is shown, all rows for `--into`
    parameters: Mapping[str, str] = field(default_factory=dict)  #: Python expressions by name
    plot: Plot | None = None


def parse_options(line: str, cell: str | None = None) -> Options:
    """The options of *line*; what follows them is SQL, and goes on in *cell*.

    Raises:
        QueryRefused: naming the option that is wrong.
    """
    found, parameters, position = _read(line)
    beside = line[position:].strip()
    text = "\n".join(filter(None, (beside, cell)))
    first_line = 1 if beside or cell is None else 2
    return Options(text=text, first_line=first_line, parameters=parameters, **found)  # type: ignore[arg-type]


def begin_of_sql(line: str) -> int:
    """Where the options of a line end; its end, while they are not finished."""
    try:
        return _read(line)[2]
    except QueryRefused:
        return len(line)


def _read(line: str) -> tuple[dict[str, object], dict[str, str], int]:
    """Options, parameters, and where what follows them begins."""
    found: dict[str, object] = {}
    parameters: dict[str, str] = {}
    position = 0
    while match := OPTION.match(line, position):
        name, position = match["name"], match.end()
        if name in ("spark", "pandas"):
            found[name] = True
            continue
        if name not in OPTIONS:
            near = get_close_matches(name, OPTIONS, n=1)
            hint = f"Did you mean --{near[0]}?" if near else f"There are {', '.join(f'--{each}' for each in OPTIONS)}."
            raise QueryRefused(f"there is no option --{name}", remedy=hint)
        value, position = _word(line, position, name)
        if name == "plot":
            found["plot"], position = _plot(value, line, position)
        elif name == "param":
            parameters.update([_parameter(value)])
        else:
            found[name] = _limit(value) if name == "limit" else _name(value)
    return found, parameters, position


def _word(line: str, position: int, name: str) -> tuple[str, int]:
    match = WORD.match(line, position)
    if match is None:
        raise QueryRefused(f"--{name} says nothing", remedy=EXAMPLE)
    return _unquoted(match["word"]), match.end()


def _unquoted(word: str) -> str:
    inner = word[1:-1]
    return inner if len(word) > 1 and word[0] == word[-1] in "\"'" and word[0] not in inner else word


def _parameter(value: str) -> tuple[str, str]:
    name, equals, expression = value.partition("=")
    if not (name.isidentifier() and equals and expression):
        raise QueryRefused(f"--param {value} is not NAME=EXPRESSION", remedy=EXAMPLE)
    return name, expression


def _limit(value: str) -> int:
    if not value.replace("_", "").isdigit() or int(value) < 1:
        raise QueryRefused(f"--limit {value} is no number of rows", remedy=EXAMPLE)
    return int(value)


def _name(value: str) -> str:
    if not value.isidentifier():
        raise QueryRefused(f"--into {value} is no name of a variable", remedy=EXAMPLE)
    return value


def _plot(kind: str, line: str, position: int) -> tuple[Plot, int]:
    if kind not in PLOTS:
        raise QueryRefused(f"--plot {kind} is no kind of plot", remedy=f"There are {', '.join(PLOTS)}.")
    axes: dict[str, str] = {}
    for match in _axes(line, position):
        axes[match["name"]] = _unquoted(match["value"])
        position = match.end()
    y = tuple(filter(None, axes.get("y", "").split(",")))
    return Plot(kind=kind, x=axes.get("x", ""), y=y), position


def _axes(line: str, position: int) -> Iterator[re.Match[str]]:
    while match := AXIS.match(line, position):
        yield match
        position = match.end()
