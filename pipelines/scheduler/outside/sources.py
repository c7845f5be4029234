"""The sources: a cluster of Kafka for its topics and groups, the warehouse for its tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pipelines.definition.triggers import KafkaTrigger
from pipelines.scheduler.outside.asking import Key, Question, Questions, Source
from pipelines.scheduler.outside.judging import TopicEnds
from workbench.errors import WarehouseUnavailable, WorkbenchError
from workbench.settings import Settings

Answers = tuple[Mapping[Key, Any], Mapping[Key, WorkbenchError]]
MOMENT = ("system", "relation", "snapshot")  # of a position, what the warehouse knows


@contextmanager
def cluster_source(settings: Settings, cluster: str) -> Iterator[Source]:
    """Topics and groups of one cluster, with one connection; an answer is a `TopicEnds`.

    Args:
        settings: which name the clusters.
        cluster: of the file of clusters; empty is that of KAFKA_BROKERS.

    Raises:
        SettingsError: when there is no such cluster.
        KafkaError: when none is configured.
    """
    from workbench.ingestion.cluster.clusters import open_cluster
    from workbench.ingestion.cluster.positions import PositionReader

    reader = PositionReader(open_cluster(settings, cluster))

    def ask(questions: Questions) -> Answers:
        rules = {key: _kafka(each) for key, each in questions.items()}
        consumed = sorted({(each.group, each.topic) for each in rules.values() if each.group})
        found = reader.read(sorted({each.topic for each in rules.values()}), consumed)
        refused = {
            key: error
            for key, each in rules.items()
            if (error := found.refused.get(each.topic) or found.refused.get((each.group, each.topic)))
        }
        answers = {
            key: TopicEnds(
                topic_id=found.topic_ids[each.topic],
                first=dict(found.first_offsets[each.topic]),
                ends=dict(found.next_offsets[each.topic]),
                committed=dict(found.committed.get((each.group, each.topic), {})),
            )
            for key, each in rules.items()
            if key not in refused
        }
        return answers, refused

    yield ask


@contextmanager
def warehouse_source(settings: Settings) -> Iterator[Source]:
    """Tables of the warehouse; an answer is what `TableWatch.look` returns, the moment in its JSON form.

    Raises:
        WarehouseError: when the warehouse is no PostgreSQL.
    """
    from workbench.warehouse.changes import TableMoment, TableWatch

    with TableWatch(settings.warehouse) as watch:

        def look(question: Question) -> tuple[dict[str, Any], bool]:
            assert question.rule.table is not None, "it is a trigger by a table"
            position = question.position
            since = None if position is None else TableMoment(**{name: position[name] for name in MOMENT})
            moment, is_changed = watch.look(question.rule.table.name, since)
            return moment.as_json(), is_changed

        def ask(questions: Questions) -> Answers:
            answers: dict[Key, Any] = {}
            refused: dict[Key, WorkbenchError] = {}
            for key, question in questions.items():
                try:
                    answers[key] = look(question)
                except WarehouseUnavailable:
                    raise
                except WorkbenchError as error:
                    refused[key] = error
            return answers, refused

        yield ask


def _kafka(question: Question) -> KafkaTrigger:
    assert question.rule.kafka is not None, "it is a trigger by Kafka"
    return question.rule.kafka
