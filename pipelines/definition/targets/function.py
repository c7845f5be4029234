"""A function of Python as its source says: nothing of it is imported, so that whoever reads pipelines runs no code of others."""

from __future__ import annotations

import ast
import hashlib
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path

from pipelines.parameters import REQUIRED, Kind, Parameter
from pipelines.parameters.cell import literal
from pipelines.parameters.hints import infer, read_hint

IMPORT_SECONDS = 60
TRY_IMPORT = """
import importlib, sys
module, name, *roots = sys.argv[1:]
sys.path[:0] = roots
getattr(importlib.import_module(module), name)
"""


@dataclass(frozen=True)
class Function:
    """What of a function matters to a step."""

    path: Path  #: of its module
    sha256: str  #: of the source of its module
    parameters: tuple[Parameter, ...]
    untyped: Mapping[str, bool]  #: parameters without a type: whether they must be given


def read_function(target: str, folders: Sequence[str]) -> Function:
    """The function that `module:name` names, from the first of *folders* that has the module.

    Raises:
        ValueError: when there is none, or it cannot be given its parameters by name.
    """
    module, name = target.split(":")
    path = _module_file(module, folders)
    try:
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
    except (OSError, ValueError, SyntaxError, RecursionError) as error:
        raise ValueError(f"{path} is no Python: {error}") from None
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            parameters, untyped = _parameters(target, node.args)
            return Function(path, hashlib.sha256(source.encode()).hexdigest(), parameters, untyped)
    raise ValueError(f"the module {module} has no `def {name}`; name the module that defines it")


def import_problem(target: str, folders: Sequence[str]) -> str:
    """Why the function cannot be imported, tried in a process of its own; empty when it can."""
    module, name = target.split(":")
    command = [sys.executable, "-c", TRY_IMPORT, module, name, *folders]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=IMPORT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return f"importing {module} takes more than {IMPORT_SECONDS} s"
    if done.returncode == 0:
        return ""
    told = done.stderr.strip().splitlines() or [f"it ends Python with {done.returncode}"]
    return f"{module} cannot be imported: {told[-1]}"


def _module_file(module: str, folders: Sequence[str]) -> Path:
    """Where a module is; packages above it are not imported, as `importlib.util.find_spec` would."""
    parts = module.split(".")
    where: Sequence[str] = folders
    for number in range(1, len(parts) + 1):
        spec = PathFinder.find_spec(".".join(parts[:number]), where)
        if spec is None:
            break
        if number == len(parts) and spec.origin is not None and spec.origin.endswith(".py"):
            return Path(spec.origin)
        where = list(spec.submodule_search_locations or ())
    raise ValueError(f"there is no module {module} with a source")


def _parameters(target: str, arguments: ast.arguments) -> tuple[tuple[Parameter, ...], dict[str, bool]]:
    if arguments.posonlyargs or arguments.vararg or arguments.kwarg:
        raise ValueError(
            f"{target} takes ({ast.unparse(arguments)}); a step gives its parameters by name, without / and *"
        )
    typed: list[Parameter] = []
    untyped: dict[str, bool] = {}
    for argument, default in _with_defaults(arguments):
        parameter = _typed(argument, default)
        if parameter is None:
            untyped[argument.arg] = default is None
        else:
            typed.append(parameter)
    return tuple(typed), untyped


def _with_defaults(arguments: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    without = len(arguments.args) - len(arguments.defaults)
    yield from zip(arguments.args, [*[None] * without, *arguments.defaults], strict=True)
    yield from zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)


def _typed(argument: ast.arg, default: ast.expr | None) -> Parameter | None:
    """The parameter with its type; None when that is none of ours, or the default is computed."""
    try:
        value = REQUIRED if default is None else literal(default)
        if argument.annotation is None and value is REQUIRED:
            return None
        kind: Kind = infer(value) if argument.annotation is None else read_hint(argument.annotation)
        return Parameter(argument.arg, kind, value if value is REQUIRED else kind.read(value))
    except ValueError:
        return None
