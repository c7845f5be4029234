"""What may start a run beside the clock. Each event starts one run; its id is `${trigger.event}`."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from pipelines.definition.rules import TABLE, End, Name, Rule, Value, Whole
from workbench.references import REFERENCE

Count = Annotated[Whole, Field(ge=1)]


class KafkaTrigger(Rule):
    """A topic has so many records more than at the last run, or a consumer group is so many behind."""

    topic: Annotated[str, Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$")]
    records: Count | None = None
    lag: Count | None = None
    group: str = ""
    cluster: str = ""  #: of pipelines/clusters.yaml; empty is that of KAFKA_BROKERS

    @model_validator(mode="after")
    def _either(self) -> Self:
        if (self.records is None) == (self.lag is None):
            raise ValueError("write either records, new since the last run, or lag, of a consumer group")
        if (self.lag is None) != (not self.group):
            raise ValueError("lag and group go together: it is the group that is behind")
        return self


class FileTrigger(Rule):
    """A file that fits is new, or has changed."""

    path: Annotated[str, Field(min_length=1)]  #: a glob, such as incoming/*.csv


class TableTrigger(Rule):
    """A table of the warehouse has changed."""

    name: Annotated[str, Field(pattern=TABLE)]


class PipelineTrigger(Rule):
    """A run of another pipeline has ended so."""

    name: Name
    on: Annotated[tuple[End, ...], Field(min_length=1)] = ("succeeded",)


class WebhookTrigger(Rule):
    """Somebody posts to the service, signed with this secret."""

    secret: Annotated[str, Field(pattern=f"^(?:{REFERENCE.pattern})$")]


class Trigger(Rule):
    """One of them, and the parameters of the runs that it starts."""

    kafka: KafkaTrigger | None = None
    file: FileTrigger | None = None
    table: TableTrigger | None = None
    pipeline: PipelineTrigger | None = None
    webhook: WebhookTrigger | None = None
    parameters: dict[str, Value] = Field(default={})

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len(kinds := [name for name in KINDS if getattr(self, name) is not None]) != 1:
            raise ValueError(f"write exactly one of {', '.join(KINDS)}; there is {' and '.join(kinds) or 'none'}")
        return self

    @property
    def kind(self) -> str:
        """Which of them it is."""
        return next(name for name in KINDS if getattr(self, name) is not None)


KINDS = ("kafka", "file", "table", "pipeline", "webhook")
WEBHOOK = "webhook "  #: and the reference of its secret: the name of its schedule
