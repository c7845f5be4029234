"""All sources that triggers want to know of: each is asked from when the first trigger names it."""

from __future__ import annotations

from functools import partial

from pipelines.definition.triggers import Trigger
from pipelines.scheduler.outside.asking import Answer, Asker, Key, Question
from pipelines.scheduler.outside.judging import Verdict, judge_lag, judge_records, judge_table
from pipelines.scheduler.outside.sources import cluster_source, warehouse_source
from workbench.settings import Settings

KINDS = ("kafka", "table")  #: of triggers


class Outside:
    """What is outside, as far as triggers ask for it.

    Args:
        settings: where clusters and the warehouse are.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._askers: dict[str, Asker] = {}

    def verdict(self, key: Key, question: Question) -> Verdict | None:
        """What follows from what is known by now; None when nothing does. Never waits."""
        answer = self._asker(question.rule).ask(key, question)
        return None if answer is None else _judge(answer)

    def close(self) -> None:
        """Ask nothing any more."""
        for each in self._askers.values():
            each.end()

    def _asker(self, rule: Trigger) -> Asker:
        name = "the warehouse" if rule.kafka is None else f"Kafka {rule.kafka.cluster}".rstrip()
        if name not in self._askers:
            if rule.kafka is None:
                opening = partial(warehouse_source, self._settings)
            else:
                opening = partial(cluster_source, self._settings, rule.kafka.cluster)
            self._askers[name] = Asker(name, opening)
        return self._askers[name]


def _judge(answer: Answer) -> Verdict | None:
    question, rule = answer.question, answer.question.rule
    if rule.table is not None:
        moment, is_changed = answer.found
        return judge_table(rule.table.name, question.position, moment, is_changed=is_changed)
    assert rule.kafka is not None, "others are watched elsewhere"
    if rule.kafka.lag is None:
        return judge_records(rule.kafka, question.position, answer.found)
    return judge_lag(rule.kafka, question.position, answer.found, is_running=question.is_running)
