"""What is due at a schedule, and which instants are skipped because they come late."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pipelines.calendar.instants import instants
from pipelines.calendar.schedule import Schedule

GRACE_SECONDS = 60.0
ALL_AT_MOST = 100
ROWS_AT_ONCE = 1000
LATE = "it passed while no scheduler ran"


@dataclass(frozen=True, kw_only=True)
class CatchUp:
    """What becomes of instants that passed while no scheduler ran."""

    mode: Literal["none", "last", "all"] = "none"
    at_most: int = ALL_AT_MOST  #: with `all`: the newest ones

    @property
    def newest(self) -> int:
        """How many instants run, those on time among them, however late they are."""
        return {"none": 0, "last": 1, "all": self.at_most}[self.mode]

    @property
    def reason(self) -> str:
        """Why an instant is skipped."""
        rule = {"last": "catch_up is last, and a newer instant runs", "all": f"the newest {self.at_most} run"}
        return f"{LATE}; {rule.get(self.mode, 'catch_up is none')}"


@dataclass(frozen=True)
class Due:
    """A logical instant that has come."""

    instant: datetime
    skipped: str = ""  #: why it does not run; empty when it does


def due(
    schedule: Schedule,
    cursor: datetime,
    now: datetime,
    catch_up: CatchUp,
    *,
    grace_seconds: float = GRACE_SECONDS,
    limit: int = ROWS_AT_ONCE,
) -> list[Due]:
    """What has come after *cursor* up to *now*, in order, and whether it runs or is skipped.

    No more than *limit* skipped instants come at once, without those that run: store them, put the
    cursor on the last one, and ask again.

    Args:
        schedule: what is asked for.
        cursor: the last instant that was dealt with.
        now: the time of the one clock that all schedulers share.
        catch_up: which late instants run.
        grace_seconds: how old an instant may be and still be on time.
        limit: how many skipped instants are returned at most.
    """
    oldest = now - timedelta(seconds=grace_seconds)
    skipped: list[Due] = []
    late: deque[datetime] = deque()
    on_time: list[datetime] = []
    for instant in instants(schedule, cursor, now):
        (on_time if instant >= oldest else late).append(instant)
        if late and len(late) + len(on_time) > catch_up.newest:
            skipped.append(Due(late.popleft(), catch_up.reason))
            if len(skipped) >= limit:
                return skipped
    return [*skipped, *map(Due, (*late, *on_time))]
