"""The objectives of the service, and how much of each error budget is left.

Source: Beyer et al., "Site Reliability Engineering", chapters 3 and 4: what an objective allows to go wrong is a budget.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from workbench.observability.alerts.samples import Labels
from workbench.observability.dashboards.history import Count

HUB_REQUESTS, SERVICE_REQUESTS = (
    "jupyterhub_request_duration_seconds_bucket",
    "workbench_service_request_seconds_bucket",
)
READY = "workbench_component_ready"
NEEDED = frozenset({"hub", "kafka", "warehouse"})  #: what people cannot work without
#: Requests that nobody waits for, and one that stays open for as long as a server starts.
UNCOUNTED = ("HealthCheckHandler", "MetricsHandler", "SpawnProgressAPIHandler", "hub.health.Live", "hub.health.Ready")
FAST_SECONDS = 1.0
ALL = float("inf")
Found = Iterable[tuple[str, Labels, float | None]]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What is promised.

    Args:
        name: as it is kept.
        title: for people.
        target: share that has to be good.
        of: what is counted.
        good: what is good.
    """

    name: str
    title: str
    target: float
    of: str
    good: str


AVAILABILITY = Objective(
    name="availability", title="Availability", target=0.999, of="looks",
    good="hub, broker and warehouse can do their work",
)  # fmt: skip
RESPONSE_TIME = Objective(
    name="response_time", title="Response time", target=0.95, of="requests", good="answered within a second"
)
ERRORS = Objective(
    name="errors", title="Errors", target=0.99, of="requests", good="answered without an error of the server"
)
OBJECTIVES = (AVAILABILITY, RESPONSE_TIME, ERRORS)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """An objective, and what was counted for it."""

    objective: Objective
    good: float
    total: float

    @property
    def share(self) -> float | None:
        """Share that was good; None when nothing was counted."""
        return self.good / self.total if self.total else None

    @property
    def budget_left(self) -> float | None:
        """Share of what may go wrong that has not gone wrong yet: 1 is all, negative is too much."""
        if not self.total:
            return None
        allowed = self.total * (1 - self.objective.target)
        return 1 - (self.total - self.good) / allowed

    @property
    def is_met(self) -> bool:
        """Whether the share reaches the target; so too while nothing was counted."""
        return self.share is None or self.share >= self.objective.target


def measured(counts: Iterable[Count]) -> list[Measured]:
    """Each objective with its counts."""
    whole = {each.objective: each for each in counts if not each.part}
    nothing = Count(objective="", good=0, total=0)
    return [
        Measured(
            objective=each, good=whole.get(each.name, nothing).good, total=whole.get(each.name, nothing).total
        )
        for each in OBJECTIVES
    ]  # fmt: skip


class Tally:
    """Counts from one look to the next."""

    def __init__(self) -> None:
        self._before: dict[tuple[str, Labels], float] | None = None

    def look(self, found: Found) -> list[Count]:
        """What is to be added for the objectives.

        Args:
            found: all samples of a look, those too that have ended.
        """
        values = {(metric, labels): value for metric, labels, value in found if value is not None}
        ready = {dict(labels)["component"]: value == 1 for (metric, labels), value in values.items() if metric == READY}
        return [*self._availability(ready), *self._requests(values)]

    @staticmethod
    def _availability(ready: Mapping[str, bool]) -> Iterable[Count]:
        needed = NEEDED & ready.keys()
        if needed:
            yield Count(objective=AVAILABILITY.name, good=all(ready[each] for each in needed), total=1)
        for component, is_ready in ready.items():
            yield Count(objective=AVAILABILITY.name, part=component, good=is_ready, total=1)

    def _requests(self, values: Mapping[tuple[str, Labels], float]) -> Iterable[Count]:
        now = {
            key: value
            for key, value in values.items()
            if key[0] in {HUB_REQUESTS, SERVICE_REQUESTS} and not dict(key[1]).get("handler", "").endswith(UNCOUNTED)
        }
        total = fast = failed = 0.0
        for (_, labels), grown in self._grown(now):
            have = dict(labels)
            bound = float(have["le"])
            if bound == FAST_SECONDS:
                fast += grown
            if bound == ALL:
                total += grown
                failed += grown if (have.get("code") or have.get("status", "")).startswith("5") else 0
        if total:
            yield Count(objective=RESPONSE_TIME.name, good=fast, total=total)
            yield Count(objective=ERRORS.name, good=total - failed, total=total)

    def _grown(self, now: Mapping[tuple[str, Labels], float]) -> Iterable[tuple[tuple[str, Labels], float]]:
        """By how much each counter has grown; one that is less than before has begun anew."""
        before, self._before = self._before, {**(self._before or {}), **now}
        if before is None:
            return  # what was before the first look may have been counted by another monitor
        for key, value in now.items():
            last = before.get(key, 0.0)
            yield key, value - last if value >= last else value
