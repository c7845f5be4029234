"""Options of the data source as values: what `spark.read.option(…)` and `df.write.option(…)` may say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from workbench.errors import WarehouseError
from workbench.warehouse.schema import split_name

MOST_PARTITIONS = 1000
READS = ("table", "query", "columns", "where", "parameters", "partitions")
WRITES = ("table", "key", "replace", "stream", "bookmark")
SPARKS_OWN = ("path", "checkpointlocation", "queryname")  # Spark passes these on


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What to read."""

    table: str = ""  #: schema.table; empty when a query is read
    query: str = ""
    columns: tuple[str, ...] = ()  #: none is all
    where: str = ""
    parameters: Mapping[str, object] = field(default_factory=dict)
    partitions: int = 1


@dataclass(frozen=True, kw_only=True)
class WriteOptions:
    """Where to write, and how."""

    table: str
    key: tuple[str, ...] = ()  #: rows with the same key are replaced
    replace: Mapping[str, object] = field(default_factory=dict)  #: value, or {"from": …, "to": …}, by column
    stream: str = ""
    bookmark: Mapping[str, str] = field(default_factory=dict)  #: of `workbench.batch`


def read_options(options: Mapping[str, str]) -> ReadOptions:
    """The options of a read.

    Raises:
        WarehouseError: with everything that is wrong.
    """
    given, problems = _known(options, READS)
    table, query = given.get("table", given.get("path", "")), given.get("query", "")
    if bool(table) == bool(query):
        problems.append("one of `table` and `query` is needed")
    if query and (given.get("columns") or given.get("where")):
        problems.append("`columns` and `where` go with `table`, a query says them itself")
    partitions = _whole_number(given.get("partitions", "1"), problems)
    if query and partitions > 1:
        problems.append("a query is read in one partition, and `partitions` goes with `table`")
    found = ReadOptions(
        table=table,
        query=query.strip().rstrip(";"),
        columns=_names(given.get("columns", "")),
        where=given.get("where", ""),
        parameters=_object(given, "parameters", problems),
        partitions=partitions,
    )
    _raise(problems, "read")
    if table:
        split_name(table)
    return found


def write_options(options: Mapping[str, str], *, overwrite: bool, is_stream: bool) -> WriteOptions:
    """The options of a write.

    Raises:
        WarehouseError: with everything that is wrong.
    """
    given, problems = _known(options, WRITES)
    table = given.get("table", given.get("path", ""))
    if not table:
        problems.append("`table` is needed")
    key, replace = _names(given.get("key", "")), _object(given, "replace", problems)
    if "replace" in given and not replace:
        problems.append("`replace` is empty: name columns and values, or leave it out to replace all rows")
    if replace and not overwrite:
        problems.append('`replace` goes with mode("overwrite")')
    if key and overwrite and not is_stream:
        problems.append('`key` goes with mode("append"): rows of the same key are replaced')
    if is_stream and replace:
        problems.append("a stream replaces all rows (complete) or those of a `key`, and has no `replace`")
    if is_stream != bool(given.get("stream")):
        problems.append(
            "a stream needs the option `stream`, a name that it keeps for ever: with it the warehouse knows which batches it has"
            if is_stream
            else "`stream` is for writeStream"
        )
    found = WriteOptions(
        table=table,
        key=key,
        replace=replace,
        stream=given.get("stream", ""),
        bookmark={name: str(value) for name, value in _object(given, "bookmark", problems).items()},
    )
    _raise(problems, "write")
    split_name(table)
    return found


def _known(options: Mapping[str, str], names: tuple[str, ...]) -> tuple[dict[str, str], list[str]]:
    given = {name.lower(): value for name, value in options.items()}
    unknown = sorted(name for name in given if name not in (*names, *SPARKS_OWN))
    # Only names are told: a value may be a secret that somebody put in the wrong place.
    return given, [f"there is no option {name}" for name in unknown]


def _raise(problems: list[str], what: str) -> None:
    if problems:
        names = READS if what == "read" else WRITES[:4]
        raise WarehouseError(
            f'options of the {what} with format("workbench"): {"; ".join(problems)}',
            remedy=f"Options are {', '.join(names)}; docs/spark-warehouse.md describes each.",
        )


def _names(text: str) -> tuple[str, ...]:
    """Names of a JSON list, or separated by commas."""
    if text.lstrip().startswith("["):
        return tuple(map(str, json.loads(text)))
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _object(given: Mapping[str, str], name: str, problems: list[str]) -> dict[str, object]:
    try:
        found = json.loads(given.get(name, "{}"))
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found
    problems.append(f'`{name}` is no JSON object such as {{"month": 1}}')
    return {}


def _whole_number(text: str, problems: list[str]) -> int:
    if text.isdecimal() and 1 <= int(text) <= MOST_PARTITIONS:
        return int(text)
    problems.append(f"`partitions` is {text!r}, not a whole number from 1 to {MOST_PARTITIONS}")
    return 1
