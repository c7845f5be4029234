"""Reads the parameters of a notebook from its `parameters` cell, without running it.

A default is a literal, or made of literals by the types that parameters have: `date(2026, 1, 31)`,
`Decimal("1.10")`. What a call would give when the notebook runs is not known before.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from pipelines.parameters.declared import REQUIRED, Parameter, is_name
from pipelines.parameters.hints import infer, parse_hint, read_hint
from pipelines.parameters.kinds import Kind

CONSTRUCTORS = {each.__name__: each for each in (date, datetime, Decimal, float, timedelta, timezone, ZoneInfo)}
NAMES = {"UTC": UTC, "utc": UTC, "nan": float("nan"), "inf": float("inf")}
CLOCKS = frozenset({"now", "today", "utcnow", "time", "time_ns", "localtime", "gmtime", "monotonic", "perf_counter"})
DOTTED = re.compile(r"(?:\w+\.)*(\w+)")
TYPE_COMMENT = re.compile(r"type:\s*(?P<hint>[A-Za-z_][\w.]*(\[.*\])?(\s*\|\s*None)?)\s*(?P<rest>.*)")


@dataclass(frozen=True)
class CellProblem:
    """What is wrong in a line of the cell; lines count from 1."""

    line: int
    message: str


def read_cell(source: str) -> tuple[tuple[Parameter, ...], tuple[CellProblem, ...]]:
    """The parameters of the cell in their order, and everything that is wrong with it.

    A hint says the type (`day: date = date(2013, 1, 1)`), or a comment (`day = "…"  # type: str the day`);
    without one the default does. The rest of the comment describes it. Without a default it has to be given.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return (), (CellProblem(getattr(error, "lineno", None) or 1, f"the cell is no Python: {error}"),)
    comments = _comments(source)
    found: dict[str, Parameter] = {}
    problems: list[CellProblem] = []
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)) or _is_text(node):
            continue
        try:
            parameter = _parameter(node, comments.get(node.end_lineno or node.lineno, ""))
        except ValueError as error:
            problems.append(CellProblem(node.lineno, str(error)))
            continue
        if parameter.name in found:
            problems.append(CellProblem(node.lineno, f"{parameter.name} is set twice"))
        found[parameter.name] = parameter
    return tuple(found.values()), tuple(problems)


def _parameter(node: ast.stmt, comment: str) -> Parameter:
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target, hint = node.targets[0], None
    elif isinstance(node, ast.AnnAssign):
        target, hint = node.target, node.annotation
    else:
        raise ValueError(
            f"`{ast.unparse(node).splitlines()[0]}` is no parameter; the cell has imports and `name = literal`"
        )
    if not isinstance(target, ast.Name):
        raise ValueError(f"`{ast.unparse(target)}` is no name of a parameter")
    if not is_name(target.id):
        raise ValueError(f"{target.id} begins with an underscore; those names are for the injected cell")
    described = TYPE_COMMENT.fullmatch(comment) if hint is None else None
    kind = read_hint(hint) if hint is not None else parse_hint(described["hint"]) if described else None
    description = described["rest"] if described else comment
    if node.value is None:
        assert kind is not None, "an assignment without a value has a hint"
        return Parameter(target.id, kind, REQUIRED, description, node.lineno)
    return _with_default(target.id, kind, node.value, description, node.lineno)


def _with_default(name: str, kind: Kind | None, node: ast.expr, description: str, line: int) -> Parameter:
    try:
        value = literal(node)
        kind = kind or infer(value)
        # A secret that is None in JupyterLab has to be given to a run.
        default = REQUIRED if kind.hint == "secret" and value is None else kind.read(value)
    except ValueError as error:
        raise ValueError(f"the default of {name}: {error}") from None
    is_same = default is value or default == value  # nan is not equal to itself
    if not is_same and kind.hint != "secret":
        written = re.sub(r"\b_", "", kind.as_source(default).text)
        raise ValueError(f"the default of {name} is {value!r}, and its type is {kind.hint}; write {written}")
    return Parameter(name, kind, default, description, line)


def literal(node: ast.expr) -> Any:
    """The value of an expression that only has literals and the types of parameters.

    Raises:
        ValueError: when it has more, such as a call that reads the clock.
    """
    match node:
        case ast.Constant(value=None | bool() | int() | float() | str()):
            return node.value
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            number = literal(operand)
            if isinstance(number, bool) or not isinstance(number, (int, float, Decimal, timedelta)):
                raise ValueError(f"`{ast.unparse(node)}` is no literal")
            return -number if isinstance(node.op, ast.USub) else number
        case ast.List(elts=items):
            return [literal(each) for each in items]
        case ast.Dict(keys=keys, values=values) if all(isinstance(key, ast.Constant) for key in keys):
            return {literal(key): literal(value) for key, value in zip(keys, values, strict=True) if key is not None}
        case ast.Name() | ast.Attribute() if (name := DOTTED.fullmatch(ast.unparse(node))) and name[1] in NAMES:
            return NAMES[name[1]]
        case ast.Call():
            return _made(node)
    raise ValueError(f"`{ast.unparse(node)}` is no literal; lists are written in [ ], and nothing is computed")


def _made(node: ast.Call) -> Any:
    called = ast.unparse(node.func)
    name = called.rpartition(".")[2]
    if any(each in CLOCKS for each in re.findall(r"(\w+)\s*\(", ast.unparse(node))):
        raise ValueError(
            f"`{ast.unparse(node)}` reads the clock, and a run that is repeated has to have the same values; "
            "write a literal, and give the day by the pipeline, as ${run.day}"
        )
    plain = isinstance(node.func, ast.Name) or (
        isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)
    )
    if not plain or name not in CONSTRUCTORS or any(each.arg is None for each in node.keywords):
        raise ValueError(
            f"`{ast.unparse(node)}` is a call; a default is a literal, and its value is known before the run"
        )
    positional = [literal(each) for each in node.args]
    named = {str(each.arg): literal(each.value) for each in node.keywords}
    try:
        return CONSTRUCTORS[name](*positional, **named)
    except (TypeError, ValueError, ArithmeticError, LookupError, OSError) as error:
        raise ValueError(f"`{ast.unparse(node)}`: {error}") from None


def _comments(source: str) -> dict[int, str]:
    """The comment at the end of each line that has one."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {each.start[0]: each.string.lstrip("#").strip() for each in tokens if each.type == tokenize.COMMENT}


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
