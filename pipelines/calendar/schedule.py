"""A cron expression in a time zone, and what is wrong with one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

Ambiguous = Literal["once", "twice", "skip"]
ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A cron expression of five fields in a time zone.

    Raises:
        ValueError: when it never fires, or is no expression; when the zone is unknown.
    """

    cron: str
    zone: str = "UTC"
    ambiguous: Ambiguous = "once"  #: what jobs at fixed times do with a time that comes twice

    def __post_init__(self) -> None:
        zone_of(self.zone)
        check_cron(self.cron)

    @property
    def has_fixed_times(self) -> bool:
        """Whether Debian's cron treats it specially when clocks are changed."""
        return not any(field.startswith("*") for field in self.cron.split()[:2])


def check_cron(expression: str) -> None:
    """Let an expression pass that fires.

    Raises:
        ValueError: saying what is wrong, and what to write.
    """
    if len(expression.split()) != 5:
        raise ValueError(
            f"{expression!r} has not the five fields minute, hour, day, month, weekday; @daily is `0 0 * * *`"
        )
    try:
        next(CronSim(expression, datetime(2000, 1, 1)))  # noqa: DTZ001 - the wall's time
    except CronSimError as error:
        # Of a day such as 30 February, cronsim says that the field is bad.
        raise ValueError(
            f"{expression!r} is no expression, or never fires: {str(error).lower()}; write one such as `30 2 * * *`"
        ) from None
    except StopIteration:
        raise ValueError(
            f"{expression!r} never fires: no day within fifty years fits; write a day that there is, such as `0 0 28 2 *`"
        ) from None


def zone_of(name: str) -> ZoneInfo:
    """The IANA zone of this name.

    Raises:
        ValueError: when there is none.
    """
    try:
        if ZONE.fullmatch(name):
            return ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # zoneinfo: unknown, or a folder of zones
        pass
    raise ValueError(f"{name!r} is no IANA time zone, such as Europe/Berlin")
