"""The tables and topics of a step, as OpenLineage names them (openlineage.io, "Dataset Naming")."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from workbench.settings import Settings

logger = logging.getLogger(__name__)

SCHEMES = {"postgresql": "postgres", "redshift": "redshift"}
SQL_DIALECTS = {"postgresql": "postgres", "redshift": "redshift", "duckdb": "postgres"}  # of openlineage-sql
DEFAULT_SCHEMA = "public"


@dataclass(frozen=True, order=True)
class Dataset:
    """One table or topic."""

    namespace: str  #: where it is, such as postgres://warehouse.example.com:5432
    name: str  #: such as workbench.marts.delays


@dataclass(frozen=True)
class Datasets:
    """What a step reads and writes, as far as its file says."""

    inputs: tuple[Dataset, ...] = ()
    outputs: tuple[Dataset, ...] = ()
    sql: str = ""  #: the text of a step that is SQL; values are bound, so none is in it

    def and_those(self, more: Datasets) -> Datasets:
        """Both together."""
        return Datasets(
            tuple(sorted({*self.inputs, *more.inputs})), tuple(sorted({*self.outputs, *more.outputs})), self.sql
        )


def datasets_of(kind: str, file: Path | None, settings: Settings) -> Datasets:
    """Those of a step before it runs: of SQL and of flows. What notebooks and functions touch they tell while they run.

    What cannot be read is nothing: the step itself tells what is wrong with its file.
    """
    readers: dict[str, Callable[[Path, Settings], Datasets]] = {"sql": _of_sql, "flow": _of_flow}
    if file is None or kind not in readers:
        return Datasets()
    try:
        return readers[kind](file, settings)
    except Exception as error:  # noqa: BLE001 - the step runs, whatever is told of it
        logger.info("nothing is known of the tables of %s: %s", file, error)
        return Datasets()


def told_datasets(file: Path, settings: Settings) -> Datasets:
    """What the functions of `workbench` have told while a step ran; their file is taken away.

    The text of a statement may hold what was pasted into it, so it is looked at, and not passed on.
    """
    found = Datasets()
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        file.unlink()
    except (OSError, UnicodeDecodeError):
        return Datasets()
    for line in lines:
        try:
            found = found.and_those(_told(line, settings))
        except (ValueError, KeyError, TypeError):
            continue  # a process was killed while it wrote, or something else wrote
    return replace(found, inputs=tuple(each for each in found.inputs if each not in found.outputs))


def _told(line: str, settings: Settings) -> Datasets:
    told: dict[str, Any] = json.loads(line)
    reads, writes = tables_of_sql(told["sql"], settings.warehouse.dialect) if told["sql"] else ((), ())
    topics = (_topic(each, "", settings) for each in told["topics"])
    return Datasets(
        (*_tables([*told["reads"], *reads], settings), *topics), _tables([*told["writes"], *writes], settings)
    )


def tables_of_sql(text: str, dialect: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The tables that statements read and write, as `schema.table`; what is made by an earlier one is no input.

    None when the parser fails, as it does with a text of no statement at all.

    Args:
        text: of PostgreSQL, with `:name` for values.
        dialect: of the warehouse.
    """
    from openlineage_sql import parse

    try:
        found = parse([text], dialect=SQL_DIALECTS[dialect])
    except Exception as error:  # noqa: BLE001 - the parser raises RuntimeError, and who knows what else
        logger.info("the statements of a step were not understood: %s", error)
        return (), ()
    for each in found.errors:
        logger.info("statement %s of a step was not understood: %s", each.index + 1, each.message)
    outputs = _names(found.out_tables)
    return tuple(each for each in _names(found.in_tables) if each not in outputs), outputs


def _names(tables: Iterable[Any]) -> tuple[str, ...]:
    # The parser itself would take what a WITH names for a table of the default schema.
    names = {str(each.qualified_name) for each in tables}
    return tuple(sorted(each if "." in each else f"{DEFAULT_SCHEMA}.{each}" for each in names))


def _of_sql(file: Path, settings: Settings) -> Datasets:
    text = file.read_text(encoding="utf-8")
    inputs, outputs = tables_of_sql(text, settings.warehouse.dialect)
    return Datasets(_tables(inputs, settings), _tables(outputs, settings), text)


def _of_flow(file: Path, settings: Settings) -> Datasets:
    from workbench.ingestion.definition import read_flow

    flow = read_flow(file.parent, file.stem)
    return Datasets((_topic(flow.topic, flow.cluster, settings),), (_table(flow.into, settings),))


def _topic(name: str, cluster: str, settings: Settings) -> Dataset:
    broker = cluster or (settings.kafka.brokers[0] if settings.kafka.brokers else "embedded")
    return Dataset(f"kafka://{broker}", name)


def _tables(names: Iterable[str], settings: Settings) -> tuple[Dataset, ...]:
    return tuple(_table(each, settings) for each in names)


def _table(name: str, settings: Settings) -> Dataset:
    warehouse = settings.warehouse
    if warehouse.dialect == "duckdb":
        return Dataset("duckdb", name)
    return Dataset(f"{SCHEMES[warehouse.dialect]}://{warehouse.host}:{warehouse.port}", f"{warehouse.database}.{name}")
