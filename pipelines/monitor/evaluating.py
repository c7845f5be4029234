"""Evaluates the alerts of the file, and has people told through the outbox."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipelines.store.alerts import TO
from pipelines.store.database import Store
from pipelines.store.outbox import post
from pipelines.store.records import Message as Posted
from workbench.errors import AlertsRefused
from workbench.observability import metrics
from workbench.observability.alerts.expressions import Moment
from workbench.observability.alerts.rules import Rule, load_rules
from workbench.observability.alerts.samples import Labels, Samples
from workbench.observability.alerts.states import Alert, Stage, evaluate, resumed
from workbench.observability.alerts.telling import Message, Pace, Told, plan
from workbench.observability.monitor.database import Level, MonitorDatabase
from workbench.observability.notifications import Severity

logger = logging.getLogger(__name__)

MOST_LEVELS = 20  #: of a quantity that are kept, for those who look


@dataclass
class _Known:
    rules: Sequence[Rule] | None = None  #: None until the file could be read
    file_version: tuple[int, ...] | None = None


class Evaluation:
    """The alerts of one file. What it knows is in the database before anybody acts on it.

    Args:
        file: pipelines/alerts.yaml; read anew when it has changed. While it is wrong, what it said before is kept.
        database: entered.
        pace: how often people are told.
    """

    def __init__(self, file: Path, database: MonitorDatabase, pace: Pace) -> None:
        self._file, self._database, self._pace = file, database, pace
        self._known = _Known()
        self._alerts: dict[str, dict[Labels, Alert]] = {}

    def resume(self, at: int) -> None:
        """Take up the alerts as they were when the last monitor ended, at milliseconds since 1970."""
        self._alerts = {
            rule: {each.labels: each for each in found} for rule, found in self._database.read_alerts().items()
        }
        last = self._database.evaluated() or at
        if last > at:
            # The clock was set back meanwhile. Nobody knows how long it was: as if it were a moment.
            self.move(at - last)
            last = at
        self._alerts = {rule: resumed(found.values(), last, at) for rule, found in self._alerts.items()}

    def move(self, milliseconds: int) -> None:
        """The clock was set: move the times of all alerts, of samples that are kept, and of what was told."""
        self._alerts = {
            rule: {labels: each.moved(milliseconds) for labels, each in found.items()}
            for rule, found in self._alerts.items()
        }
        with self._database.changing():
            self._database.move(milliseconds)
            told = self._database.read_told()
            self._database.set_told({rule: {**each, "at": each["at"] + milliseconds} for rule, each in told.items()})

    @property
    def has_rules(self) -> bool:
        """Whether the file could be read, now or once."""
        return self._known.rules is not None

    def evaluate(self, samples: Samples, at: int) -> None:
        """Bring the alerts to an instant, and keep them.

        Raises:
            MonitorError: when they cannot be kept.
        """
        rules = self._current_rules()
        if rules is None:
            return
        moment = Moment(samples, at)
        with metrics.EVALUATION_SECONDS.time():
            self._alerts = {rule.name: evaluate(rule, self._alerts.get(rule.name, {}), moment) for rule in rules}
            levels = {rule.name: _levels(rule, moment) for rule in rules}
        with self._database.changing():
            self._database.set_alerts(self._alerts, at)
            self._database.set_levels(levels)
        for severity in Severity:
            named = {rule.name for rule in rules if rule.severity is severity}
            firing = [a for name in named for a in self._alerts.get(name, {}).values() if a.stage is Stage.FIRING]
            metrics.ALERTS_FIRING.labels(severity).set(len(firing))

    def tell(self, store: Store, at: int) -> int:
        """Put the messages that are due into the outbox; returns how many. One that is there twice is sent with the same key.

        Raises:
            StoreError: when the store does not answer; they are due again at the next evaluation.
            MonitorError: when it cannot be kept that they were told.
        """
        if self._known.rules is None:
            return 0  # what people know is true as far as anybody knows
        silences = self._database.silences(time.time())
        told = {rule: Told.of_json(body) for rule, body in self._database.read_told().items()}
        messages, after = plan(
            self._known.rules,
            self._alerts,
            told,
            is_silenced=lambda rule, labels: any(each.covers(rule, labels) for each in silences),
            at=at,
            pace=self._pace,
        )
        if after == told:
            return 0
        posts = [_posted(message, channel) for message in messages for channel in message.channels]
        if posts:
            with store.transaction() as connection:
                post(connection, posts)
        with self._database.changing():
            self._database.set_told({rule: each.as_json() for rule, each in after.items()})
        for each in messages:
            logger.info("%s", each.title)
        return len(posts)

    def _current_rules(self) -> Sequence[Rule] | None:
        try:
            # Another owner or mode, too, may make readable what was not.
            status = self._file.stat() if self._file.exists() else None
            version = (status.st_mtime_ns, status.st_ctime_ns, status.st_ino) if status else ()
            if version != self._known.file_version:
                self._known.file_version = version
                self._known.rules = load_rules(self._file)
        except (AlertsRefused, OSError) as error:
            logger.warning("%s; the alerts of before are kept", error)
        return self._known.rules


def _levels(rule: Rule, moment: Moment) -> list[Level]:
    return [
        Level(part.quantity.name, labels, value)
        for part in rule.condition.parts
        for labels, value in part.nearest(moment, rule.seconds, MOST_LEVELS).items()
    ]


def _posted(message: Message, channel: str) -> Posted:
    body = {
        "alert": message.rule, "key": message.key, "title": message.title, "body": message.body,
        "severity": str(message.severity), "is_resolved": message.is_resolved,
    }  # fmt: skip
    return Posted(f"metric/{message.key}/{message.number}/{channel}", TO + channel, body)
