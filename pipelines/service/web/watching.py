"""What the monitor has kept, for administrators: pictures of the last day, and the objectives."""

from __future__ import annotations

import time

from pipelines.service.rights import Right, demand
from pipelines.service.web.base import Handler
from workbench.observability.dashboards.drawing import Drawing, draw
from workbench.observability.dashboards.history import DAY_MS, HOUR_MS, KEEP_DAYS, Count, History
from workbench.observability.dashboards.objectives import AVAILABILITY, measured
from workbench.observability.dashboards.pictures import PICTURES
from workbench.security.audit.commands import not_audited

HOURS = (1, 6, 24)
LOOK_SECONDS = 15  #: between two looks of a monitor that `workbench up` has started


class Watching(Handler):
    """Who may do everything may look: labels are names of all tables and pipelines."""

    async def prepare(self) -> None:
        """Called by tornado."""
        await super().prepare()
        demand(self.person.right, Right.OWNER, "to see how the workbench is doing")


class Dashboard(Watching):
    """Pictures of the last day."""

    @not_audited("It only looks.")
    async def get(self) -> None:
        """Called by tornado."""
        asked = self.get_query_argument("hours", "")
        hours = int(asked) if asked in {str(each) for each in HOURS} else HOURS[-1]
        drawings = await self.beside(lambda: self._drawn(hours))
        self.page("dashboard.html", drawings=drawings, hours=hours, choices=HOURS)

    def _drawn(self, hours: int) -> list[Drawing]:
        now = int(time.time() * 1000)
        since = now - hours * HOUR_MS
        with History.of(self.service.site.home, reading=True) as history:
            found = history.read(since)
        return [draw(each, found.get(each.name, {}), since, now) for each in PICTURES]


class Objectives(Watching):
    """What is promised, and what was so."""

    @not_audited("It only looks.")
    async def get(self) -> None:
        """Called by tornado."""
        counts = await self.beside(self._counts)
        parts = [each for each in counts if each.objective == AVAILABILITY.name and each.part]
        found = measured(counts)
        looked = next(each.total for each in found if each.objective is AVAILABILITY)
        self.page(
            "objectives.html", objectives=found, parts=parts, days=KEEP_DAYS, hours=looked * LOOK_SECONDS / 3600
        )  # fmt: skip

    def _counts(self) -> list[Count]:
        with History.of(self.service.site.home, reading=True) as history:
            return history.counts(int(time.time() * 1000) - KEEP_DAYS * DAY_MS)
