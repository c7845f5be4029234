"""Reads the metrics of every process, as Prometheus would, into samples."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from workbench.observability.alerts.samples import Labels
from workbench.observability.monitor.database import Sample
from workbench.observability.monitor.scraping import Found, ScrapeFailed, Scraper
from workbench.observability.monitor.targets import Target, forget_target, read_targets

logger = logging.getLogger(__name__)

UP = "up"
FORGET_SECONDS = 600.0  #: a process that was killed is missed for so long, unless it comes back
AT_ONCE = 4


class Targets:
    """All processes, and which series each of them has had."""

    def __init__(self, home: Path, scraper: Scraper) -> None:
        self._home, self._scraper = home, scraper
        self._series: dict[str, frozenset[tuple[str, Labels]]] = {}
        self._gone_since: dict[Target, float] = {}
        self._failed: set[str] = set()

    def scrape(self) -> list[Sample]:
        """The samples of now: values, `up` of each process, and the ends of series that are no more."""
        targets = list(self._wanted())
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="scrape") as threads:
            found = {each.job: values for each, values in zip(targets, threads.map(self._scrape, targets), strict=True)}
        samples: list[Sample] = []
        for job, values in found.items():
            samples += [(metric, labels, value) for (metric, labels), value in (values or {}).items()]
            samples.append((UP, (("job", job),), float(values is not None)))
        samples += [(metric, labels, None) for metric, labels in self._ended(found)]
        return samples

    def _scrape(self, target: Target) -> Found | None:
        if not target.is_alive:
            return None  # its port may be another user's by now, who is not to be shown our token
        try:
            values = self._scraper.scrape(target)
        except ScrapeFailed as error:
            if target.job not in self._failed:
                logger.warning("no metrics: %s", error)
            self._failed.add(target.job)
            return None
        self._failed.discard(target.job)
        return values

    def _wanted(self) -> Iterable[Target]:
        """Those that live, and for a while those that were killed."""
        gone = dict(self._gone_since)
        self._gone_since.clear()
        for target in read_targets(self._home):
            if not target.is_alive:
                since = self._gone_since[target] = gone.get(target, time.monotonic())
                if time.monotonic() - since > FORGET_SECONDS:
                    forget_target(self._home, target)
                    continue
            yield target

    def _ended(self, found: dict[str, Found | None]) -> Iterable[tuple[str, Labels]]:
        """Series that were there at the last look, of processes that are asked no more too."""
        now = {job: frozenset(values or ()) for job, values in found.items()}
        for job, before in self._series.items():
            yield from before - now.get(job, frozenset())
            if job not in now:
                yield UP, (("job", job),)
        self._series = now
