"""The rules that a pipeline may set, beside its steps: when it runs, how often again, how many at once, what is kept."""

from __future__ import annotations

import math
from datetime import date, datetime, time, timedelta
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from pipelines.calendar import Ambiguous, CatchUp, Schedule, zone_of
from pipelines.calendar.due import ALL_AT_MOST
from pipelines.calendar.schedule import check_cron
from pipelines.parameters.times import Date
from workbench.durations import DURATION, duration_text, parse_duration

NAME = r"^[a-z0-9]([a-z0-9_-]{0,48}[a-z0-9])?$"  # Kubernetes' names have 63 characters, and we add to them
TABLE = r"^[^.\s]+\.[^.\s]+$"


class Rule(BaseModel):
    """Frozen, and without fields that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def parse_seconds(raw: object) -> float:
    """Seconds of a duration such as `90s`, `30m`, `1h30m` or `2d`.

    Raises:
        ValueError: when it is none, or no time at all.
    """
    seconds = parse_duration(raw).total_seconds()
    if not seconds:
        raise ValueError(f"{raw!r} is no time at all; leave the field out for none")
    return seconds


def _seconds_text(seconds: float) -> str:
    return duration_text(timedelta(seconds=seconds))


def _plain(raw: Any) -> Any:
    """A value as JSON has it: what it has no number for is a word, as the type float reads it."""
    if isinstance(raw, float) and (not math.isfinite(raw) or (raw == 0 and math.copysign(1, raw) < 0)):
        return repr(raw)
    if isinstance(raw, dict):
        return {key: _plain(each) for key, each in raw.items()}
    return [_plain(each) for each in raw] if isinstance(raw, list) else raw


def _known_zone(name: str) -> str:
    zone_of(name)
    return name


def _known_cron(cron: str) -> str:
    check_cron(cron)
    return " ".join(cron.split())


Seconds = Annotated[
    float,
    BeforeValidator(parse_seconds),
    PlainSerializer(_seconds_text),
    WithJsonSchema({"type": "string", "pattern": f"^{DURATION.pattern}$", "examples": ["90s", "30m", "1h30m"]}),
]
Value = Annotated[Any, PlainSerializer(_plain)]
Whole = Annotated[int, Field(strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Name = Annotated[str, Field(pattern=NAME)]
Day = Annotated[date, BeforeValidator(Date().read), PlainSerializer(date.isoformat)]
Zone = Annotated[str, AfterValidator(_known_zone)]
# Words of State, those that a file may name.
Cause = Literal["kernel_died", "lost", "infrastructure_error", "timed_out", "failed"]
End = Literal[Cause, "succeeded", "cancelled", "skipped"]
FAILURES: tuple[End, ...] = get_args(Cause)


class CatchUpRule(Rule):
    """What becomes of instants that passed while no scheduler ran: `none`, `last`, `all`, or a mapping with a cap."""

    mode: Literal["none", "last", "all"] = "none"
    at_most: Annotated[Whole, Field(ge=1, le=10_000)] = ALL_AT_MOST

    @model_validator(mode="before")
    @classmethod
    def _word(cls, raw: Any) -> Any:
        return {"mode": raw} if isinstance(raw, str) else raw

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Allow the word alone in editors."""
        made = handler(core)
        return {"anyOf": [made["properties"]["mode"], made]}


class ScheduleRule(Rule):
    """A cron expression in a time zone, and the parameters of the runs that it starts."""

    cron: Annotated[str, AfterValidator(_known_cron)]
    zone: Zone
    ambiguous: Ambiguous = "once"
    catch_up: CatchUpRule = CatchUpRule()
    parameters: dict[str, Value] = Field(default={})

    @model_validator(mode="after")
    def _ambiguous_matters(self) -> Self:
        if self.ambiguous != "once" and not self.schedule.has_fixed_times:
            raise ValueError(
                f"ambiguous is {self.ambiguous}, but {self.cron!r} has a star in minute or hour: "
                "it follows the clock on the wall, and runs twice in an hour that comes twice; leave the field out"
            )
        return self

    @property
    def schedule(self) -> Schedule:
        """For the calendar."""
        return Schedule(cron=self.cron, zone=self.zone, ambiguous=self.ambiguous)

    @property
    def catches_up(self) -> CatchUp:
        """For the calendar."""
        return CatchUp(mode=self.catch_up.mode, at_most=self.catch_up.at_most)


class Retries(Rule):
    """How often a step is tried again, how long after, and after what."""

    times: Annotated[Whole, Field(ge=0, le=100)] = 0
    wait_seconds: Seconds = Field(default=10.0, alias="wait")
    factor: Annotated[float, Field(strict=True, ge=1, le=10)] = 2.0
    longest_seconds: Seconds = Field(default=3600.0, alias="longest")
    on: tuple[Cause, ...] = ("kernel_died", "lost", "infrastructure_error")


class Concurrency(Rule):
    """How many runs there are at once, and what becomes of one more: it waits, or is skipped."""

    runs: Annotated[Whole, Field(ge=1, le=1000)] = 1
    over: Literal["queue", "skip"] = "queue"


class Alerts(Rule):
    """Which ends are told, and where: names of channels, never addresses with tokens in them."""

    to: Annotated[tuple[Name, ...], Field(min_length=1)]
    on: tuple[End, ...] = FAILURES
    late_seconds: Seconds | None = Field(default=None, alias="late")  #: after its instant a run has to have begun
    slow_seconds: Seconds | None = Field(default=None, alias="slow")  #: after its beginning it has to have ended
    overdue_seconds: Seconds | None = Field(default=None, alias="overdue")  #: after its instant it has to have ended


class Retention(Rule):
    """Which ended runs are kept; whatever these say, the last failure is."""

    runs: Annotated[Whole, Field(ge=1, le=1_000_000)] = 1000
    days: Annotated[Whole, Field(ge=1, le=36_500)] = 365


class Partitions(Rule):
    """What a backfill goes over: each partition is one run, with its name as a parameter."""

    by: Literal["hour", "day", "month"]
    since: Day = Field(alias="from")
    until: Day | None = None
    zone: Zone = "UTC"
    parameter: str

    @model_validator(mode="after")
    def _order(self) -> Self:
        if self.until is not None and self.until < self.since:
            raise ValueError(f"until {self.until} comes before from {self.since}; swap them")
        return self

    def names(self, since: date | None = None, until: date | None = None) -> tuple[str, ...]:
        """The partitions from the day *since* to the day *until*, both among them, by name and in order.

        Args:
            since: not before `from`, which it is when left out.
            until: when left out, that of the rule, and without one today in the zone.

        Raises:
            SettingsError: when there are more than 100,000, or the days are in the wrong order.
        """
        from workbench.batch.partitions import make_partitions

        zone = zone_of(self.zone)
        last = until or self.until or datetime.now(zone).date()
        end = datetime.combine(last, time(23 if self.by == "hour" else 0), zone)
        begin = max(since or self.since, self.since)
        return tuple(each.name for each in make_partitions(self.by, since=begin, until=end, zone=zone))
