"""Keeps what the dashboard shows and what the objectives count."""

from __future__ import annotations

from collections.abc import Sequence

from workbench.observability import metrics
from workbench.observability.alerts.expressions import Moment
from workbench.observability.alerts.samples import Samples
from workbench.observability.dashboards.history import MINUTE_MS, History
from workbench.observability.dashboards.objectives import OBJECTIVES, Tally
from workbench.observability.dashboards.pictures import PICTURES, label_text
from workbench.observability.monitor.database import Sample


class Recording:
    """Called at each look.

    Args:
        history: entered.
    """

    def __init__(self, history: History) -> None:
        self._history, self._tally = history, Tally()
        self._minute = 0
        for each in OBJECTIVES:
            metrics.OBJECTIVE_EVENTS.labels(each.name)
            metrics.OBJECTIVE_GOOD.labels(each.name)

    def record(self, samples: Samples, found: Sequence[Sample], at: int) -> None:
        """Keep what is so at an instant, in milliseconds.

        Raises:
            MonitorError: when it cannot be kept.
        """
        counts = self._tally.look(found)
        for each in counts:
            if not each.part:
                metrics.OBJECTIVE_EVENTS.labels(each.objective).inc(each.total)
                metrics.OBJECTIVE_GOOD.labels(each.objective).inc(each.good)
        self._history.count(at, counts)
        if at // MINUTE_MS == self._minute:
            return
        self._minute = at // MINUTE_MS
        moment = Moment(samples, at)
        points = [
            (picture.name, label_text(curve, labels), value)
            for picture in PICTURES
            for curve in picture.curves
            for labels, value in curve.evaluate(moment).items()
        ]
        self._history.add(at, points)

    def let_go(self, at: int) -> None:
        """Forget what is too old; raises MonitorError when that cannot be written."""
        self._history.let_go(at)

    def move(self, milliseconds: int) -> None:
        """The clock was set; raises MonitorError when that cannot be written."""
        self._minute = 0
        self._history.move(milliseconds)
