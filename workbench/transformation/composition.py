"""Steps by their names, as flows' files have them: those of `workbench.transformation.steps`, and functions of one's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from workbench.errors import SettingsError
from workbench.transformation import steps

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

LoadTable = Callable[["SparkSession", str], "DataFrame"]

Load = Callable[[str], "DataFrame"]


def bind_step(
    name: str, arguments: Mapping[str, Any], *, origin: Mapping[str, str], load_table: LoadTable
) -> Callable[[DataFrame], DataFrame]:
    """The step of a name, with its arguments given.

    Args:
        name: of a step of the library, or `package.module:function`.
        arguments: as in a file: texts, numbers, lists, mappings.
        origin: columns that `conform` keeps although its schema does not name them, with their types.
        load_table: gives the frame of a warehouse table in a session, for `enrich`.

    Raises:
        SettingsError: when there is no such function, or an argument cannot be read.
    """
    if ":" in name:
        return partial(_function(name), **arguments)
    step = getattr(steps, name)
    prepare = _PREPARED.get(name)
    if prepare is None:
        return partial(step, **arguments)
    # What needs a session is made when the step is applied.
    return lambda frame: step(frame, **prepare(arguments, origin, partial(load_table, frame.sparkSession)))


def _function(name: str) -> Callable[..., Any]:
    module, _, function = name.partition(":")
    try:
        found = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise SettingsError([
            f"steps has {name}: {error}. Name package.module:function of a package that is installed here."
        ]) from None  # fmt: skip
    if not callable(found):
        raise SettingsError([f"steps has {name}, which is no function."])
    return found  # type: ignore[no-any-return]


def _conform(arguments: Mapping[str, Any], origin: Mapping[str, str], _: Load) -> dict[str, Any]:
    return {**arguments, "schema": {**arguments.get("schema", {}), **origin}}


def _enrich(arguments: Mapping[str, Any], _: object, load_table: Load) -> dict[str, Any]:
    return {**arguments, "table": load_table(str(arguments.get("table", "")))}


def _aggregates(arguments: Mapping[str, Any], _: object, __: Load) -> dict[str, Any]:
    """Aggregates as SQL: `{n: count(*)}`."""
    from pyspark.sql import functions as sf

    return {**arguments, "aggregates": {name: sf.expr(text) for name, text in arguments["aggregates"].items()}}


def _mask(arguments: Mapping[str, Any], _: object, __: Load) -> dict[str, Any]:
    """Rules as a file has them: `removed`, `{truncated: year}`, `{last_characters: 4}`, `{hashed: {key_file: …}}`."""
    return {"rules": {column: _rule(column, rule) for column, rule in arguments.get("rules", {}).items()}}


def _rule(column: str, rule: Any) -> Any:
    if rule == "removed":
        return steps.Removed()
    if isinstance(rule, dict) and len(rule) == 1:
        (kind, value), *_ = rule.items()
        if kind == "truncated":
            return steps.Truncated(value)
        if kind == "last_characters":
            return steps.LastCharacters(int(value))
        if kind == "hashed" and isinstance(value, dict) and "key_file" in value:
            return steps.Hashed(_secret(column, Path(value["key_file"])), value.get("purpose", ""))
    raise SettingsError([
        f"mask: the rule of {column} is {rule!r}. Known are removed, {{truncated: UNIT}}, {{last_characters: N}}, {{hashed: {{key_file: PATH, purpose: TEXT}}}}."
    ])  # fmt: skip


def _secret(column: str, path: Path) -> SecretStr:
    try:
        return SecretStr(path.expanduser().read_text(encoding="utf-8").strip())
    except OSError as error:
        raise SettingsError([f"mask: the key of {column} cannot be read from {path}: {error.strerror}."]) from None


_PREPARED: Mapping[str, Callable[[Mapping[str, Any], Mapping[str, str], Load], dict[str, Any]]] = {
    "conform": _conform,
    "enrich": _enrich,
    "mask": _mask,
    "aggregate_windows": _aggregates,
    "aggregate_sessions": _aggregates,
}
