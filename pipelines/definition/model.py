"""A pipeline as its file says: steps with what they need, parameters, and rules. Nothing else is looked at."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, cast, get_args

from pydantic import AfterValidator, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from pipelines.definition.rules import (
    Alerts,
    Concurrency,
    Flag,
    Name,
    Partitions,
    Retention,
    Retries,
    Rule,
    ScheduleRule,
    Seconds,
    Value,
    Whole,
)
from pipelines.definition.triggers import Trigger
from pipelines.parameters import REQUIRED, parse_hint
from pipelines.parameters.carried import CHECKPOINT
from pipelines.parameters.declared import is_name

Kind = Literal["notebook", "function", "sql", "flow"]

TARGETS = get_args(Kind)
SCHEMA_ID = "https://json-schema.org/draft/2020-12/schema"


def _parameter_name(name: str) -> str:
    if not is_name(name):
        raise ValueError(f"{name!r} is no name of a parameter; take letters, digits and underscores, a letter first")
    return name


def _known_type(hint: str) -> str:
    return parse_hint(hint).hint


ParameterName = Annotated[str, AfterValidator(_parameter_name)]


class Declaration(Rule):
    """A parameter of the runs: its type alone, or a mapping. Without a type it has that of the step it is given to."""

    type: Annotated[str, AfterValidator(_known_type)] | None = None
    default: Value = REQUIRED
    description: str = ""

    @model_validator(mode="before")
    @classmethod
    def _word(cls, raw: Any) -> Any:
        if raw is None:
            return {}
        return {"type": raw} if isinstance(raw, str) else raw

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Allow the short forms in editors."""
        made = handler(core)
        del made["properties"]["default"]["default"]  # there is none
        return {"anyOf": [{"type": ["string", "null"]}, made]}


class Step(Rule):
    """One notebook, function, SQL file or flow."""

    notebook: str | None = None
    function: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = None
    sql: str | None = None
    flow: Name | None = None
    description: str = ""
    after: tuple[Name, ...] = ()
    parameters: dict[ParameterName, Value] = Field(default={})
    retries: Retries = Retries()
    timeout_seconds: Seconds | None = Field(default=None, alias="timeout")
    cell_timeout_seconds: Seconds | None = Field(default=None, alias="cell_timeout")
    checkpoints: tuple[str, ...] = (CHECKPOINT,)  #: tags or ids of cells from which a later attempt may go on
    cache: Flag = False
    pool: Name = "default"

    @model_validator(mode="after")
    def _one_target(self) -> Self:
        named = [each for each in TARGETS if getattr(self, each) is not None]
        if len(named) != 1:
            raise ValueError(f"write exactly one of {', '.join(TARGETS)}; there is {' and '.join(named) or 'none'}")
        if self.notebook is None and ("checkpoints" in self.model_fields_set or self.cell_timeout_seconds is not None):
            raise ValueError(f"checkpoints and cell_timeout are for notebooks, and this is a {self.kind}")
        return self

    @property
    def kind(self) -> Kind:
        """What it is."""
        return cast("Kind", next(each for each in TARGETS if getattr(self, each) is not None))

    @property
    def target(self) -> str:
        """The path, the `module:name` or the name of what it runs."""
        return str(getattr(self, self.kind))


class Definition(Rule):
    """A pipeline. `canonical` is what a run pins, `sha256` its short form."""

    name: Name
    description: str = ""
    owner: str = ""
    run_as: str = ""
    tags: tuple[Name, ...] = ()
    parameters: dict[ParameterName, Declaration] = Field(default={})
    schedule: ScheduleRule | None = None
    triggers: tuple[Trigger, ...] = ()
    steps: Annotated[dict[Name, Step], Field(min_length=1)]
    timeout_seconds: Seconds | None = Field(default=None, alias="timeout")
    concurrency: Concurrency = Concurrency()
    priority: Annotated[Whole, Field(ge=-100, le=100)] = 0
    alerts: Alerts | None = None
    retention: Retention = Retention()
    partitions: Partitions | None = None

    @property
    def canonical(self) -> str:
        """JSON that is the same for the same pipeline, however its file is written; fields at their default are left out."""
        dumped = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        for name, step in self.steps.items():
            if "retries" in step.model_fields_set:
                # With its defaults, a rule says never; without one, a step is tried again when its worker is lost.
                dumped["steps"][name].setdefault("retries", {})
        return json.dumps(dumped, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)

    @property
    def sha256(self) -> str:
        """Of the canonical form, in hexadecimal digits."""
        return hashlib.sha256(self.canonical.encode()).hexdigest()


def file_schema() -> Mapping[str, Any]:
    """JSON Schema of a file of pipelines/jobs/, for editors. The name of a pipeline is that of its file."""
    schema = Definition.model_json_schema()
    del schema["properties"]["name"]
    schema["required"].remove("name")
    return {"$schema": SCHEMA_ID, **schema, "title": "Pipeline"}
