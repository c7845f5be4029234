"""The monitor as a process: started by `workbench up` or alone, ended by a signal."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.alerting.delivery import Post, courier
from pipelines.alerting.texts import run_pages
from pipelines.definition import Project
from pipelines.monitor.evaluating import Evaluation
from pipelines.monitor.heartbeat import Heartbeat
from pipelines.monitor.own import Machine, Pipelines, counting_security_events
from pipelines.monitor.recording import Recording
from pipelines.monitor.targets import Targets
from pipelines.processes.leaving import leaving_in_time
from pipelines.processes.life import Sign
from pipelines.store.database import Store, store_address
from workbench.errors import MonitorError, StoreError
from workbench.observability import metrics
from workbench.observability.alerts.quantities import is_wanted
from workbench.observability.alerts.samples import Samples
from workbench.observability.alerts.telling import Pace
from workbench.observability.dashboards.history import History
from workbench.observability.monitor.database import MonitorDatabase, Sample
from workbench.observability.monitor.scraping import Scraper
from workbench.runtime.metrics import metrics_token, serving_metrics
from workbench.runtime.process import holding
from workbench.security.references import references_of
from workbench.security.secrets import private_folder
from workbench.settings import Settings

logger = logging.getLogger(__name__)

SIGN = JOB = "monitor"
SCRAPE_SECONDS = 15.0
CONNECTIONS = 10  # of the store: one for us, one for each channel that is told at once
SAMPLES_MS = 2 * 3_600_000  #: that are kept in memory; what is counted is counted within an hour at most
LET_GO_TURNS = 40
NOT_EVALUATED = "alerts are not evaluated or not told; its log says why"
JUMP_SECONDS = 5.0  #: by which the clock may differ from the time that has passed


@dataclass(frozen=True, kw_only=True)
class MonitorOptions:
    """How a monitor is run.

    Args:
        project: whose pipelines/alerts.yaml it evaluates.
        scrape_seconds: between two looks.
        pace: how often people are told.
    """

    project: Project
    scrape_seconds: float = SCRAPE_SECONDS
    pace: Pace = field(default_factory=Pace)


def run_monitor(settings: Settings, options: MonitorOptions) -> None:
    """Watch until SIGTERM or SIGINT.

    Raises:
        SettingsError: when no PostgreSQL is configured.
        MonitorError: when its file cannot be opened, or another monitor of this WORKBENCH_HOME runs.
    """
    stopping, sign = threading.Event(), Sign(settings.home, SIGN)
    post = Post(options.project.alerts, references_of(settings, os.environ), run_pages(settings))

    def stop(*_: object) -> None:
        stopping.set()
        begin_to_leave()

    with (
        leaving_in_time("monitor") as begin_to_leave,
        _alone(settings.home),
        serving_metrics(settings.home, JOB, lambda: sign.obstacle),
        counting_security_events(settings.home),
        Store(store_address(settings), connections=CONNECTIONS) as store,
        MonitorDatabase.of(settings.home) as database,
        History.of(settings.home) as history,
        courier(store, post),
    ):
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        monitor = Monitor(settings, options, store, database, history)
        heartbeat = Heartbeat(os.environ)
        while not stopping.is_set():
            began = time.monotonic()
            is_well = monitor.turn()
            if is_well:
                heartbeat.beat()
            sign.give("" if is_well else NOT_EVALUATED)
            stopping.wait(max(0.0, options.scrape_seconds - (time.monotonic() - began)))


def _alone(home: Path) -> AbstractContextManager[None]:
    taken = MonitorError(f"another monitor runs on {home}", remedy="Use it: `workbench up` has started one.")
    return holding(private_folder(home / "monitor") / "monitor.lock", taken)


class Monitor:
    """What is done at each turn: look, read, evaluate, tell."""

    def __init__(
        self,
        settings: Settings,
        options: MonitorOptions,
        store: Store,
        database: MonitorDatabase,
        history: History,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._database, self._clock = store, database, clock
        self._machine, self._pipelines = Machine(settings), Pipelines(options.project.jobs)
        scraper = Scraper(metrics_token(settings.home), is_wanted)
        self._targets = Targets(settings.home, scraper)
        self._samples = Samples()
        self._evaluation = Evaluation(options.project.alerts, database, options.pace)
        self._passed = _Passed(clock)
        self._recording = Recording(history)
        self._turns = 0
        self._resume()

    def turn(self) -> bool:
        """Do it once; whether the store has answered, and alerts were evaluated and told. What fails is logged, and tried again at the next turn."""
        self._turns += 1
        self._machine.look()
        is_measured = False
        try:
            self._pipelines.look(self._store)
            is_measured = True
        except StoreError as error:
            logger.warning("nothing is measured of pipelines: %s", error.message)
        with metrics.SCRAPE_SECONDS.time():
            found = self._targets.scrape()
        try:
            self._follow_clock()
            at = self._now()
            for metric, labels, value in found:
                self._samples.add(metric, labels, at, value)
            with self._database.changing():
                self._database.add_samples(at, found)
                if self._turns % LET_GO_TURNS == 1:
                    self._database.let_go(at)
                    self._samples.forget(at - SAMPLES_MS)
            self._evaluation.evaluate(self._samples, at)
            self._record(found, at)
            self._evaluation.tell(self._store, at)
            return is_measured and self._evaluation.has_rules
        except MonitorError as error:
            logger.warning("%s", error)
        except StoreError as error:
            logger.warning("nobody is told of alerts until the store answers: %s", error.message)
        return False

    def _record(self, found: Sequence[Sample], at: int) -> None:
        """Keep what is shown; alerts do not depend on it."""
        try:
            self._recording.record(self._samples, found, at)
            if self._turns % LET_GO_TURNS == 1:
                self._recording.let_go(at)
        except MonitorError as error:
            logger.warning("the dashboard misses a moment: %s", error)

    def _resume(self) -> None:
        now = self._now()
        self._evaluation.resume(now)
        for at, samples in self._database.read_samples(now - SAMPLES_MS):
            for metric, labels, value in samples:
                self._samples.add(metric, labels, at, value)

    def _follow_clock(self) -> None:
        """When the clock was set, times that are kept are moved: durations stay what they were."""
        jump = self._passed.jump()
        if abs(jump) > JUMP_SECONDS:
            logger.warning("the clock was set by %.0f s", jump)
            self._samples.move(int(jump * 1000))
            self._evaluation.move(int(jump * 1000))
            self._recording.move(int(jump * 1000))

    def _now(self) -> int:
        return int(self._clock() * 1000)


#: Goes on while the machine sleeps, where there is such a clock: macOS has none of that name.
STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class _Passed:
    """Compares the clock with the time that has passed, sleep of the machine included."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = (clock(), time.clock_gettime(STEADY))

    def jump(self) -> float:
        """Seconds by which the clock was set since the last call."""
        before, self._last = self._last, (self._clock(), time.clock_gettime(STEADY))
        return (self._last[0] - before[0]) - (self._last[1] - before[1])
