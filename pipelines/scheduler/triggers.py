"""What triggers see becomes runs, a few at a time, so that the clock does not wait for what has happened."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.definition.triggers import FileTrigger
from pipelines.definition.triggers import Trigger as TriggerRule
from pipelines.planning.runs import Plan, Start
from pipelines.scheduler.agenda import Agenda, Key
from pipelines.scheduler.outside.asking import Key as AskedKey
from pipelines.scheduler.outside.asking import Question
from pipelines.scheduler.outside.judging import LAST_RUN
from pipelines.scheduler.outside.observing import KINDS as OUTSIDE
from pipelines.scheduler.outside.observing import Outside
from pipelines.scheduler.schedules import trigger_name
from pipelines.scheduler.watching import OVERLAP, Backlog, Happening, files_time, watch_files, watch_pipeline
from pipelines.store.database import Store
from pipelines.store.events import database_time
from pipelines.store.pages.runs import is_open, known_events
from pipelines.store.records import NewRun, Trigger
from pipelines.store.runs.schedules import Schedule, Tick, advance, read_schedules
from workbench.errors import StoreUnavailable, WorkbenchError
from workbench.storable import is_storable

if TYPE_CHECKING:
    from sqlalchemy import Connection

logger = logging.getLogger(__name__)

EVENTS_AT_ONCE = 50  # whose runs are made between two looks at the clock


class TriggerWatch:
    """Looks at all triggers, and makes the runs of what has happened.

    Args:
        store: entered.
        agenda: has the schedules of triggers, and is told when they move on.
        root: the folder that paths are relative to.
        outside: what is asked about Kafka and the warehouse; without it, triggers by them are not watched.
        tell: called with runs that were made, each with its pipeline, once they are in the store.
    """

    def __init__(
        self,
        store: Store,
        agenda: Agenda,
        root: Path,
        outside: Outside | None,
        tell: Callable[[Sequence[tuple[str, int]]], None],
    ) -> None:
        self._store, self._agenda, self._root, self._outside, self._tell = store, agenda, root, outside, tell
        self._backlogs: dict[Key, Backlog] = {}
        self._left: Key | None = None  # the trigger with which the last watch ended early
        self._told: set[Key] = set()  # triggers of which it was said that a file starts no run
        self._wrong: dict[Key, str] = {}  # what was said last of triggers that fail

    def watch(self, rules: Iterable[tuple[TriggerRule, Plan]]) -> bool:
        """Make runs of what has happened, at most `EVENTS_AT_ONCE`.

        Returns:
            Whether more is left: call it again when nothing else is due. It goes on with the next trigger.

        Raises:
            StoreUnavailable: when the store does not answer.
        """
        budget = EVENTS_AT_ONCE
        for key, rule, plan in self._in_turn(rules):
            if (schedule := self._agenda.get(*key)) is None:
                continue
            try:
                budget -= self._watch_one(rule, schedule, plan, budget)
            except StoreUnavailable:
                raise
            except Exception as error:  # noqa: BLE001 as it says
                # Also what nobody has thought of: in one trigger it keeps no other from its runs.
                self._report(key, error)
                continue
            self._wrong.pop(key, None)
            if not budget or self._backlogs.get(key):
                self._left = key
                return True
        self._left = None
        return False

    def forget(self) -> None:
        """Keep nothing of triggers that are no longer on the agenda."""
        self._backlogs = {key: each for key, each in self._backlogs.items() if self._agenda.get(*key)}
        self._told = {key for key in self._told if self._agenda.get(*key)}
        self._wrong = {key: each for key, each in self._wrong.items() if self._agenda.get(*key)}

    def _report(self, key: Key, error: Exception) -> None:
        """Say what is wrong with a trigger, once: it is tried again each second."""
        text = f"{type(error).__name__}: {error}"
        if self._wrong.get(key) != text:
            self._wrong[key] = text
            logger.error("%s, trigger %s: %s", *key, error, exc_info=not isinstance(error, WorkbenchError))

    def _in_turn(self, rules: Iterable[tuple[TriggerRule, Plan]]) -> list[tuple[Key, TriggerRule, Plan]]:
        """All of them, those first that the last watch did not come to."""
        found = [((plan.pipeline.name, trigger_name(rule)), rule, plan) for rule, plan in rules]
        at = next((number for number, (key, *_) in enumerate(found, start=1) if key == self._left), 0)
        return [*found[at:], *found[:at]]

    def _watch_one(self, rule: TriggerRule, schedule: Schedule, plan: Plan, most: int) -> int:
        """Returns how many runs of *most* it has made, or found made."""
        if rule.webhook is not None:
            return 0  # the service makes its runs
        if rule.kind in OUTSIDE:
            self._watch_outside(rule, schedule, plan)
            return 0
        backlog = self._backlogs.setdefault((schedule.pipeline, schedule.name), Backlog())
        # A walk through many folders takes longer than a transaction may stand idle.
        files = [] if backlog or rule.file is None else self._files(rule.file, schedule)
        with self._store.transaction() as connection:
            if self._put_back(connection, rule, schedule):
                return 0
            if not backlog:
                ends = () if rule.pipeline is None else watch_pipeline(rule.pipeline, connection, schedule.cursor)
                backlog.see([*files, *ends])
            new = backlog.first(most, partial(known_events, connection, schedule.pipeline))
            if not new:
                return 0
            runs = [_event_run(plan, rule, each) for each in new]
            # A clock that is ahead would take it past events to come; what is seen twice has its run.
            seen = min(max(each.seen for each in new), database_time(connection))
            cursor = max(schedule.cursor, seen)
            made = self._advance(connection, schedule, replace(schedule, cursor=cursor), runs)
        if made is None:
            backlog.doubt()
        else:
            backlog.done(len(new))
            self._tell([(schedule.pipeline, run) for run in made])
        return len(new)

    def _files(self, rule: FileTrigger, schedule: Schedule) -> list[Happening]:
        """Those that have changed and whose names can be kept; of others it is said once that they start nothing."""
        found = [*watch_files(rule, self._root, schedule.cursor)]
        key = schedule.pipeline, schedule.name
        if (odd := next((each for each in found if not is_storable(each.event)), None)) is None:
            self._told.discard(key)
            return found
        if key not in self._told:
            self._told.add(key)
            told = "%s, trigger %s: %s starts no run: its name is not UTF-8. Rename it."
            logger.warning(told, *key, os.fsencode(odd.event))
        return [each for each in found if is_storable(each.event)]

    def _put_back(self, connection: Connection, rule: TriggerRule, schedule: Schedule) -> bool:
        """Put a cursor back that is ahead of the clock of its events; returns whether it was."""
        now = database_time(connection) if rule.file is None else files_time()
        if schedule.cursor - OVERLAP <= now:
            return False
        logger.warning(
            "%s, trigger %s: it has come to %s, and it is %s: a clock was wrong. It goes on from now.",
            schedule.pipeline, schedule.name, schedule.cursor.isoformat(), now.isoformat(),
        )  # fmt: skip
        self._advance(connection, schedule, replace(schedule, cursor=now), [])
        return True

    def _watch_outside(self, rule: TriggerRule, schedule: Schedule, plan: Plan) -> None:
        if self._outside is None:
            return
        verdict = self._outside.verdict(
            AskedKey(schedule.pipeline, schedule.name, schedule.cursor), self._question(rule, schedule)
        )
        if verdict is None:
            return
        with self._store.transaction() as connection:
            # Each row has another cursor: an answer to an older one is none to it.
            cursor = max(database_time(connection), schedule.cursor + timedelta(microseconds=1))
            position, runs = verdict.position, []
            if verdict.event is not None:
                event_id = f"{schedule.name} {cursor.isoformat()}"
                runs = [
                    _event_run(plan, rule, Happening(id=event_id, event=verdict.event, instant=cursor, seen=cursor))
                ]
                position = {**position, LAST_RUN: runs[0].key}
            made = self._advance(connection, schedule, replace(schedule, cursor=cursor, position=position), runs)
        self._tell([(schedule.pipeline, run) for run in made or ()])

    def _question(self, rule: TriggerRule, schedule: Schedule) -> Question:
        """What is asked about a trigger, with what is known before."""
        last_run = (schedule.position or {}).get(LAST_RUN)
        if last_run is None or rule.kafka is None or rule.kafka.lag is None:
            return Question(rule, schedule.position)
        with self._store.transaction() as connection:
            return Question(rule, schedule.position, is_running=is_open(connection, last_run))

    def _advance(
        self, connection: Connection, seen: Schedule, then: Schedule, runs: list[NewRun]
    ) -> Collection[int] | None:
        """Make the runs, move the schedule on, and return what was made; None when another scheduler was here."""
        wanted = Tick(
            pipeline=seen.pipeline,
            schedule=seen.name,
            seen=seen.cursor,
            cursor=then.cursor,
            next_at=None,
            runs=runs,
            position=then.position,
        )
        if (made := advance(connection, wanted)) is not None:
            self._agenda.put(then)
            return made.values()
        # Its row comes with the next `sync` at the latest, and until then nothing is lost.
        for each in read_schedules(connection, seen.pipeline):
            if each.name == seen.name:
                self._agenda.put(each)
        return None


def _event_run(plan: Plan, rule: TriggerRule, happening: Happening) -> NewRun:
    start = Start(trigger=Trigger.EVENT, instant=happening.instant, event_id=happening.id, event=happening.event)
    return plan.run(start, plan.bound(rule.parameters, happening.instant, happening.event))
