"""The `steps` of a flow as they are declared: which functions, with which arguments. Nothing is imported here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

# Those of workbench.transformation.steps (a test compares), by whether they look at each row by itself.
ROW_WISE = ("conform", "enrich", "mask")
STATEFUL_STREAMS = ("aggregate_sessions", "aggregate_windows", "dedupe_stream")
TABLES_ONLY = ("dedupe", "join_as_of", "sessionize", "update_history")
FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, kw_only=True)
class StepCall:
    """One step: a name with its arguments, or a function that was given from Python."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    function: Callable[..., Any] | None = None


def parse_steps(found: Any, where: str) -> tuple[tuple[StepCall, ...], list[str]]:
    """The steps of a list of names, of mappings from a name to its arguments, and of functions; and what is wrong."""
    if isinstance(found, str | Mapping) or not isinstance(found, Sequence):
        return (), [f"{where}: steps is {found!r}, which is no list."]
    calls: list[StepCall] = []
    problems: list[str] = []
    for each in found:
        if callable(each):
            calls.append(StepCall(name=getattr(each, "__name__", repr(each)), function=each))
            continue
        name: Any = each
        arguments: Any = {}
        if isinstance(each, Mapping) and len(each) == 1:
            ((name, arguments),) = each.items()
        if not isinstance(name, str) or not isinstance(arguments or {}, Mapping):
            problems.append(f"{where}: steps has {each!r}. Write a name, or `name: {{argument: value}}`.")
        elif name not in (*ROW_WISE, *STATEFUL_STREAMS, *TABLES_ONLY) and not FUNCTION.fullmatch(name):
            known = ", ".join((*ROW_WISE, *STATEFUL_STREAMS))
            problems.append(f"{where}: steps has {name!r}. Known are {known}, and package.module:function.")
        else:
            calls.append(StepCall(name=name, arguments=dict(arguments or {})))
    return tuple(calls), problems


def step_problems(fields: Mapping[str, Any], calls: Sequence[StepCall], where: str) -> list[str]:
    """What does not go together with the steps of a flow."""
    engine = fields.get("engine", "arrow")
    named = {call.name for call in calls if call.function is None}
    problems = []
    if engine == "stream" and fields.get("mode") == "merge":
        problems.append(f"{where}: engine stream appends; mode merge is for engines arrow and spark.")
    if engine == "stream" and fields.get("start") == "fail":
        problems.append(
            f"{where}: engine stream begins at earliest, latest or a time; its checkpoint says where it is."
        )
    if engine == "stream" and fields.get("contract") == "evolve":
        problems.append(f"{where}: engine stream and contract evolve do not go together.")
    if (calls or engine == "stream") and not fields.get("columns"):
        problems.append(f"{where}: {'steps' if calls else 'engine stream'} needs columns, those of the records.")
    if not calls:
        return problems
    if engine == "arrow":
        problems.append(f"{where}: steps need engine spark, or stream for those that look at several rows.")
    if engine != "stream" and fields.get("contract") == "evolve":
        problems.append(f"{where}: steps and contract evolve do not go together: steps know the columns beforehand.")
    if engine == "spark" and (found := sorted(named.intersection(STATEFUL_STREAMS))):
        problems.append(
            f"{where}: steps has {', '.join(found)}, which looks at several rows: use engine: stream (docs/streams.md)."
        )
    if found := sorted(named.intersection(TABLES_ONLY)):
        problems.append(f"{where}: steps has {', '.join(found)}, which needs all rows: use it on the table.")
    return problems
