from __future__ import annotations

from uuid import uuid4

import pytest

from tests.services.workbench import run, wait_until
from workbench.errors import KafkaError
from workbench.ingestion.connection import KafkaConnection
from workbench.ingestion.topics import Topic, apply_topics, plan_topics
from workbench.ingestion.watermarks import read_topic_state


@pytest.fixture
def connection(settings) -> KafkaConnection:
    return KafkaConnection.from_settings(settings.kafka)


def partitions(connection: KafkaConnection, name: str) -> int:
    try:
        return len(read_topic_state(connection, name).next_offsets)
    except KafkaError:
        return 0


def test_a_topic_is_created_once_grows_and_never_shrinks(connection):
    name = f"topic-{uuid4().hex}"

    assert [change.action for change in apply_topics(connection, [Topic(name=name, partitions=2)])] == ["create"]
    wait_until(lambda: partitions(connection, name) == 2, 10, "two partitions")
    assert apply_topics(connection, [Topic(name=name, partitions=2)]) == ()

    assert [change.action for change in apply_topics(connection, [Topic(name=name, partitions=3)])] == ["grow"]
    wait_until(lambda: partitions(connection, name) == 3, 10, "three partitions")

    with pytest.raises(KafkaError, match="cannot shrink to 1 without losing records"):
        apply_topics(connection, [Topic(name=name, partitions=1)])


def test_a_plan_changes_nothing(connection):
    topic = Topic(name=f"topic-{uuid4().hex}")

    plan_topics(connection, [topic])

    assert [change.action for change in plan_topics(connection, [topic])] == ["create"]


def test_topics_are_not_made_by_writing_to_them(connection):
    with pytest.raises(KafkaError, match="there is no topic 'nobody-made-this'"):
        read_topic_state(connection, "nobody-made-this")


def test_the_command_shows_its_plan(shared_workbench, tmp_path):
    name = f"topic-{uuid4().hex}"
    file = tmp_path / "topics.yaml"
    file.write_text(f"topics: {{{name}: {{partitions: 2}}}}")

    done = run("topics", "plan", "--file", str(file), home=shared_workbench.home)

    assert f"{name}: create with 2 partitions" in done.stdout
    assert done.returncode == 0
