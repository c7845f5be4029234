from __future__ import annotations

from pathlib import Path

import pytest

from workbench.errors import SettingsError, WorkbenchError
from workbench.ingestion.definition import read_flow
from workbench.ingestion.topics import Topic, read_topics
from workbench.resources import resource


def test_the_shipped_topics_and_flows_are_valid():
    topics = {topic.name: topic for topic in read_topics(resource("pipelines") / "topics.yaml")}
    flows = [read_flow(resource("pipelines") / "flows", name) for name in ("flights", "weather")]

    assert topics["flights"].configuration == {"retention.ms": "-1"}
    assert [flow.into for flow in flows] == ["raw.flights", "raw.weather"]
    assert all(flow.topic in topics for flow in flows)


def test_retention_in_hours_becomes_milliseconds():
    assert Topic(name="x", retention_hours=2).configuration == {"retention.ms": "7200000"}
    assert Topic(name="x").configuration == {}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "no mapping `topics:`"),
        ("topics: {a: 3}", "topic a is 3"),
        ("topics: {a: {partition: 3}}", "unknown field 'partition'"),
        ("topics: {a: {partitions: 0}}", "partitions is 0"),
        ("topics: {a: {partitions: many}}", "partitions is 'many'"),
        ("topics: [", "topics.yaml"),
    ],
)
def test_a_wrong_topics_file_names_the_file_and_the_field(tmp_path: Path, text, part):
    file = tmp_path / "topics.yaml"
    file.write_text(text)

    with pytest.raises(SettingsError) as caught:
        read_topics(file)

    assert part in str(caught.value)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("- a", "is not a mapping"),
        ("topic: a", "into is missing"),
        ("{topic: a, into: b, columns: {x: string}}", "write schema.table"),
        ("{topic: a, into: b.c, columns: {x: text}}", "unknown type 'text'"),
        ("{topic: a, into: b.c, columns: {x: string}, mood: 1}", "unknown field 'mood'"),
    ],
)
def test_a_wrong_flow_names_the_file_and_the_field(tmp_path: Path, text, part):
    (tmp_path / "x.yaml").write_text(text)

    with pytest.raises(SettingsError) as caught:
        read_flow(tmp_path, "x")

    assert part in str(caught.value)


def test_an_unknown_flow_lists_the_known(tmp_path: Path):
    (tmp_path / "known.yaml").write_text("")

    with pytest.raises(WorkbenchError, match="has known"):
        read_flow(tmp_path, "other")
