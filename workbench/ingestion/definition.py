"""Flows as code: `pipelines/flows/*.yaml` says which topic goes into which table, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from workbench.errors import SettingsError, WorkbenchError
from workbench.ingestion.decoding import parse_schema
from workbench.ingestion.decoding.contract import Contract, column_fault
from workbench.ingestion.loads import METADATA
from workbench.ingestion.steps import StepCall, parse_steps, step_problems
from workbench.loading import Mode, Target

FORMATS = ("json", "avro", "protobuf", "json_schema")
STARTS = ("earliest", "latest", "fail")
REQUIRED = ("topic", "into")
FIELDS = (*REQUIRED, "columns", "mode", "key", "format", "contract", "start", "include", "cluster", "engine", "steps")
ENGINES = ("arrow", "spark", "stream")


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Which topic goes into which table, and how."""

    name: str
    topic: str
    into: str  #: schema.table
    columns: pa.Schema | None = None  #: None takes them from the table, or from the first records
    mode: Mode = Mode.APPEND
    key: tuple[str, ...] = ()
    format: str = "json"
    contract: Contract = Contract.IGNORE
    start: str | datetime = "earliest"  #: where the first run begins
    include: tuple[str, ...] = ()  #: key, timestamp, headers
    cluster: str = ""  #: of pipelines/clusters.yaml; empty is that of KAFKA_BROKERS
    engine: str = "arrow"  #: what brings the records: this process, Spark's executors, or a streaming query
    steps: tuple[StepCall, ...] = ()  #: between decoding and writing, with Spark
    stands_for: str = ""  #: the table whose rows these become, when `into` is a shadow of it

    @property
    def target(self) -> Target:
        """What the warehouse has to know."""
        return Target(
            table=self.into,
            topic=self.topic,
            mode=self.mode,
            key=self.key,
            evolves=self.contract is Contract.EVOLVE,
        )

    @property
    def group(self) -> str:
        """Consumer group of the workers of this flow."""
        return f"workbench.{self.into}.{self.topic}"


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
    if not isinstance(raw, dict):
        raise SettingsError([f"{path} is not a mapping of {', '.join(FIELDS)}."])
    if problems := [f"{path}: {field} is missing." for field in REQUIRED if field not in raw]:
        raise SettingsError(problems)
    return make_flow(name, raw, str(path))


def read_flows(folder: Path) -> tuple[Flow, ...]:
    """Every flow that has a file in a folder, by name.

    Raises:
        SettingsError: naming the file and every field that is wrong.
    """
    return tuple(read_flow(folder, path.stem) for path in sorted(folder.glob("*.yaml")))


def make_flow(name: str, fields: Mapping[str, Any], where: str = "flow") -> Flow:
    """A flow from the fields of its file, or from the arguments of a call.

    Raises:
        SettingsError: naming every field that is wrong.
    """
    problems = [
        f"{where}: unknown field {each!r}. Known are {', '.join(FIELDS)}." for each in fields if each not in FIELDS
    ]
    problems += _problems(fields, where)
    columns = None
    if isinstance(fields.get("columns"), dict) and fields["columns"]:
        try:
            columns = parse_schema(fields["columns"], where)
        except SettingsError as error:
            problems += error.problems
        problems += [f"{where}: {fault}." for name in fields["columns"] if (fault := column_fault(str(name)))]
    problems += _key_problems(fields, columns, where)
    calls, wrong = parse_steps(fields.get("steps") or (), where)
    problems += wrong or step_problems(fields, calls, where)
    if problems:
        raise SettingsError(problems)
    return Flow(
        name=name,
        topic=fields["topic"],
        into=fields["into"],
        columns=columns,
        mode=Mode(fields.get("mode", Mode.APPEND)),
        key=tuple(fields.get("key", ())),
        format=fields.get("format", "json"),
        contract=Contract(fields.get("contract", Contract.IGNORE)),
        start=fields.get("start", "earliest"),
        include=tuple(fields.get("include", ())),
        cluster=fields.get("cluster", ""),
        engine=fields.get("engine", "arrow"),
        steps=calls,
    )


def _problems(fields: Mapping[str, Any], where: str) -> list[str]:
    found: list[str] = []
    for field, known in (
        ("mode", tuple(Mode)),
        ("format", FORMATS),
        ("contract", tuple(Contract)),
        ("engine", ENGINES),
    ):
        if field in fields and fields[field] not in known:
            found.append(f"{where}: {field} is {fields[field]!r}. Known are {', '.join(known)}.")
    start = fields.get("start", "earliest")
    if start not in STARTS and not (isinstance(start, datetime) and start.tzinfo):
        found.append(
            f"{where}: start is {start!r}. Known are {', '.join(STARTS)}, and a time with its zone such as 2026-01-01T00:00:00Z."
        )
    found += [
        f"{where}: {field} is {fields[field]!r}, which is no list of names."
        for field in ("key", "include")
        if field in fields and not _is_names(fields[field])
    ]
    if _is_names(included := fields.get("include", ())) and (unknown := sorted(set(included) - METADATA.keys())):
        found.append(f"{where}: include has {', '.join(unknown)}. Known are {', '.join(METADATA)}.")
    if "columns" in fields and fields["columns"] is not None and not isinstance(fields["columns"], dict):
        found.append(f"{where}: columns is no mapping of names to types.")
    found += [
        f"{where}: {field} is {fields[field]!r}, which is no text."
        for field in ("topic", "into", "cluster")
        if field in fields and not isinstance(fields[field], str)
    ]
    if str(fields["into"]).count(".") != 1:
        found.append(f"{where}: into is {fields['into']!r}; write schema.table.")
    return found


def _key_problems(fields: Mapping[str, Any], columns: pa.Schema | None, where: str) -> list[str]:
    merges, key = fields.get("mode") == Mode.MERGE, fields.get("key", ())
    if merges and not key:
        return [f"{where}: mode merge needs key, the columns that identify a row."]
    if key and not merges:
        return [f"{where}: key is for mode merge."]
    if not merges or columns is None:
        return [f"{where}: mode merge needs columns."] if merges else []
    if fields.get("steps"):
        return []  # the steps may make the key
    missing = [each for each in key if each not in columns.names]
    return [f"{where}: key has {', '.join(missing)}, which columns has not."] if missing else []


def _is_names(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(each, str) for each in value)
