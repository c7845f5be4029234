"""One scheduler: looks at files, at the clock and at what has happened, and makes the runs that follow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from pipelines.definition import Project
from pipelines.planning.pins import Pins, read_pins
from pipelines.planning.registering import ensure_registered
from pipelines.planning.run_as import RunAsRule
from pipelines.planning.runs import Plan
from pipelines.scheduler.agenda import Agenda
from pipelines.scheduler.catalog import Catalog
from pipelines.scheduler.outside.observing import Outside
from pipelines.scheduler.schedules import cron_name, ensure_schedules, trigger_name
from pipelines.scheduler.ticking import tick_schedules
from pipelines.scheduler.triggers import TriggerWatch
from pipelines.store.database import Store
from pipelines.store.events import database_time
from pipelines.store.runs.schedules import Schedule, read_schedules, remove_schedules
from workbench.errors import StoreUnavailable, WorkbenchError

if TYPE_CHECKING:
    from sqlalchemy import Connection

logger = logging.getLogger(__name__)

AT_ONCE = 100  # schedules in one transaction


class Scheduler:
    """What a scheduler knows, and what it does when it is asked to. Every method may raise StoreUnavailable.

    Args:
        store: entered.
        project: where files are.
        outside: what is asked about Kafka and the warehouse; without it, triggers by them are not watched.
        tell: called with runs that were made, each with its pipeline, once they are in the store.
        run_as: says which pipelines are not scheduled without `run_as`.
    """

    def __init__(
        self,
        store: Store,
        project: Project,
        outside: Outside | None = None,
        tell: Callable[[Sequence[tuple[str, int]]], None] = lambda _runs: None,
        run_as: RunAsRule = RunAsRule(),
    ) -> None:
        self._store, self._project, self._tell, self._run_as = store, project, tell, run_as
        self._catalog = Catalog(project)
        self._agenda = Agenda()
        self._pins: Pins | None = None
        self._missing: frozenset[str] = frozenset()  # pipelines whose files were gone at the last look
        self._pending: set[str] = set()  # pipelines that the store does not know in their present form
        self._ahead = timedelta()  # of the database's clock before ours
        self._triggers = TriggerWatch(store, self._agenda, project.roots[0], outside, tell)

    def sync(self) -> None:
        """Take over what has changed in files, and what others have changed in the store."""
        self._pins = read_pins(self._project)
        changes = self._catalog.refresh()
        for problem in changes.problems:
            is_there = problem.file.stem in self._catalog.pipelines
            logger.error("%s%s", problem, " The last good form of this pipeline stays in force." if is_there else "")
        self._pending = {each for each in self._pending | set(changes.changed) if each in self._catalog.pipelines}
        for name in sorted(self._pending):
            self._register(name)
        # A file that is replaced may be away for a moment: what was gone at the last look, too, is gone.
        self._forget(self._missing - set(self._catalog.pipelines))
        self._missing = changes.gone
        # What others have in the store and we have no file of is theirs: another folder, a newer version.
        with self._store.transaction() as connection:
            self._measure(connection)
            self._agenda.replace(each for each in read_schedules(connection) if self._rules(each))
        self._triggers.forget()

    def tick(self) -> None:
        """Make the runs of all schedules that are due."""
        if self._agenda.next_at is None or self._agenda.next_at > self.now:
            return
        with self._store.transaction() as connection:
            now = self._measure(connection)
        due = self._agenda.pop_due(now)
        for start in range(0, len(due), AT_ONCE):
            self._tick_some(due[start : start + AT_ONCE], now)

    def watch(self) -> bool:
        """Make runs of what has happened; see `TriggerWatch.watch`."""
        return self._triggers.watch(
            (rule, self._plan(name))
            for name, pipeline in self._catalog.pipelines.items()
            if name not in self._pending
            for rule in pipeline.definition.triggers
        )

    @property
    def now(self) -> datetime:
        """The time of the database, as far as it was measured."""
        return datetime.now(UTC) + self._ahead

    def seconds_until_next(self, most: float) -> float:
        """How long nothing is due, at most *most*."""
        if self._agenda.next_at is None:
            return most
        return max(0.0, min(most, (self._agenda.next_at - self.now).total_seconds()))

    def _register(self, name: str) -> None:
        pipeline = self._catalog.pipelines[name]
        try:
            with self._store.transaction() as connection:
                ensure_registered(connection, pipeline, self._run_as)
                ensure_schedules(connection, pipeline)
        except StoreUnavailable:
            raise
        except WorkbenchError as error:
            # Until its file changes.
            del self._catalog.pipelines[name]
            logger.error("%s. It is not scheduled. %s", error.message, error.remedy)  # noqa: TRY400 - it says all
        except Exception:
            # What nobody has thought of in one file keeps no other pipeline from its schedule.
            del self._catalog.pipelines[name]
            logger.exception("%s is not scheduled until its file changes", name)
        self._pending.discard(name)

    def _forget(self, names: Iterable[str]) -> None:
        with self._store.transaction() as connection:
            for name in names:
                remove_schedules(connection, name)

    def _rules(self, schedule: Schedule) -> bool:
        """Whether the schedule is of a rule that we know."""
        pipeline = self._catalog.pipelines.get(schedule.pipeline)
        if pipeline is None:
            return False
        rule = pipeline.definition.schedule
        names = {trigger_name(each) for each in pipeline.definition.triggers}
        return schedule.name in names or (rule is not None and schedule.name == cron_name(rule))

    def _tick_some(self, due: list[Schedule], now: datetime) -> None:
        """In one transaction; when something is wrong with one of them, each in its own."""
        try:
            with self._store.transaction() as connection:
                ticked = [*tick_schedules(connection, [(each, self._plan(each.pipeline)) for each in due], now)]
        except StoreUnavailable:
            self._put(due)
            raise
        except Exception as error:
            if len(due) > 1:
                for each in due:
                    self._tick_some([each], now)
                return
            # It is taken up again by the next `sync`.
            foreseen = isinstance(error, WorkbenchError)
            logger.error("%s: %s", due[0].pipeline, error, exc_info=not foreseen)  # noqa: TRY400 - it says all
            return
        self._put(schedule for schedule, _ in ticked)
        self._tell([(schedule.pipeline, run) for schedule, runs in ticked for run in runs])

    def _put(self, schedules: Iterable[Schedule]) -> None:
        for each in schedules:
            self._agenda.put(each)

    def _plan(self, name: str) -> Plan:
        assert self._pins is not None, "sync comes first"
        return Plan(self._catalog.pipelines[name], self._pins)

    def _measure(self, connection: Connection) -> datetime:
        now = database_time(connection)
        self._ahead = now - datetime.now(UTC)
        return now
