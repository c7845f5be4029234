from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import SettingsError
from workbench.ingestion.cluster.admin import ClusterTopic, ClusterTopics, Grant, Property
from workbench.ingestion.topics import Acl, Change, Topic, read_topics
from workbench.ingestion.topics.plan import as_duration, differences, is_same, loss

DEFAULTS = {
    "retention.ms": Property("604800000", "LONG"),
    "retention.bytes": Property("-1", "LONG"),
    "cleanup.policy": Property("delete", "LIST"),
    "segment.ms": Property("604800000", "LONG"),
}


def read(folder: Path, text: str) -> tuple[Topic, ...]:
    file = folder / "topics.yaml"
    file.write_text(text)
    return read_topics(file)


def existing(name: str = "a", *, partitions: int = 1, replication: int = 1, **properties: str) -> ClusterTopics:
    own = {key.replace("_", "."): value for key, value in properties.items()}
    merged = {**DEFAULTS, **{key: Property(value, DEFAULTS[key].kind, is_own=True) for key, value in own.items()}}
    topic = ClusterTopic(name=name, partitions=partitions, replication=replication, properties=merged)
    return ClusterTopics(topics={name: topic})


def actions(changes: tuple[Change, ...]) -> list[tuple[str, str]]:
    return [(change.action, change.about) for change in changes]


def test_every_field_is_read(tmp_path):
    (tmp_path / "a.avsc").write_text("{}")

    (topic,) = read(
        tmp_path,
        """
        topics:
          a:
            partitions: 4
            replication: 3
            retention_hours: 24
            retention_bytes: 1000000
            compaction: and-delete
            schema: {subject: a-value, format: avro, file: a.avsc}
            owner: team
            acls: [{principal: "User:alice", operations: [read, WRITE], group: reports-*}]
            config: {segment.ms: 3600000, unclean.leader.election.enable: false, min.cleanable.dirty.ratio: 0.5}
        """,
    )

    assert (topic.partitions, topic.replication, topic.owner) == (4, 3, "team")
    assert topic.configuration == {
        "retention.ms": "86400000",
        "retention.bytes": "1000000",
        "cleanup.policy": "compact,delete",
        "segment.ms": "3600000",
        "unclean.leader.election.enable": "false",
        "min.cleanable.dirty.ratio": "0.5",
    }
    assert topic.grants == {
        Grant("User:alice", "read", "topic", "a"),
        Grant("User:alice", "write", "topic", "a"),
        Grant("User:alice", "read", "group", "reports-", is_prefix=True),
    }
    assert topic.schema
    assert topic.schema.file.is_file()


def test_defaults_are_for_topics_that_say_nothing_else(tmp_path):
    first, second = read(
        tmp_path,
        """
        defaults: {partitions: 3, retention_hours: 24, config: {segment.ms: 1, segment.bytes: 2}}
        topics: {a: , b: {partitions: 1, config: {segment.ms: 9}}}
        """,
    )

    assert (first.partitions, second.partitions) == (3, 1)
    assert first.configuration == {"retention.ms": "86400000", "segment.ms": "1", "segment.bytes": "2"}
    assert second.configuration == {"retention.ms": "86400000", "segment.ms": "9", "segment.bytes": "2"}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{topics: {}, topic: {}}", "unknown field 'topic'. Known are defaults, topics"),
        ("topics: {a: {partitions: 1}, a: {partitions: 2}}", "'a' stands twice"),
        ("topics: {a: {retention_hours: 0}}", "retention_hours is 0. Write 1 or more, or -1"),
        ("topics: {a: {retention_bytes: -2}}", "retention_bytes is -2"),
        ("topics: {a: {replication: 0}}", "replication is 0"),
        ("topics: {a: {partitions: -1}}", "partitions is -1. Write 1 or more."),
        ("topics: {a: {compaction: 1}}", "compaction is 1. Write one of false, true, and-delete"),
        ("topics: {a: {compaction: compact}}", "compaction is 'compact'"),
        ("topics: {a: {schema: {subject: a, format: xml, file: a}}}", "schema: format is 'xml'"),
        ("topics: {a: {schema: {subject: a, format: avro}}}", "schema: file is missing"),
        ("topics: {a: {schema: {subject: a, format: avro, file: none.avsc}}}", "there is no file"),
        ("{defaults: {schema: {}}, topics: {}}", "defaults: unknown field 'schema'"),
        ("{defaults: 3, topics: {}}", "defaults is 3"),
        ("topics: {a: {owner: 3}}", "owner is 3, which is no text"),
        ("topics: {a: {acls: {principal: x}}}", "which is no list"),
        ("topics: {a: {acls: [{operations: [read]}]}}", "acls 1: principal is missing"),
        ("topics: {a: {acls: [{principal: alice, operations: [read]}]}}", "principal is 'alice'"),
        ("topics: {a: {acls: [{principal: 'User:a', operations: []}]}}", "no list of at least 1"),
        ("topics: {a: {acls: [{principal: 'User:a', operations: [look]}]}}", "operations 1 is 'look'"),
        ("topics: {a: {acls: [{principal: 'User:a', operations: [read], group: '*'}]}}", "group is '*'"),
        ("topics: {a: {acls: [{principal: 'User:a', operations: [read], host: b}]}}", "unknown field 'host'"),
        ("topics: {a: {config: [1]}}", "config is [1]"),
        ("topics: {a: {config: {segment.ms: [1]}}}", "segment.ms is [1]"),
        ("{defaults: {retention_hours: 1}, topics: {a: {config: {retention.ms: 5}}}}", "both retention_hours and"),
        ("topics: {2024: {}}", "topic 2024: a name is text"),
        ("topics: {a b: {}}", "topic a b: a name is text"),
        ("topics: {..: {}}", "topic ..: a name is text"),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path, text, part):
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text)

    assert part in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_all_problems_come_in_one_error(tmp_path):
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, "topics: {a: {partitions: 0, replication: x}, b: {mood: 1}}")

    assert len(caught.value.problems) == 3


@pytest.mark.parametrize(
    ("name", "old", "new", "is_lost"),
    [
        ("retention.ms", "-1", "1000", True),
        ("retention.ms", "1000", "999", True),
        ("retention.ms", "1000", "1001", False),
        ("retention.ms", "1000", "-1", False),
        ("retention.ms", "1000", "soon", False),  # the cluster refuses it
        ("retention.bytes", "-1", "1", True),
        ("cleanup.policy", "delete", "compact", True),
        ("cleanup.policy", "delete", "compact,delete", True),
        ("cleanup.policy", "compact", "delete", True),
        ("cleanup.policy", "", "delete", True),
        ("cleanup.policy", "delete,compact", "delete", False),
        ("cleanup.policy", "compact,delete", "compact", False),
        ("unclean.leader.election.enable", "false", "TRUE", True),
        ("unclean.leader.election.enable", "true", "false", False),
        ("segment.ms", "1000", "1", False),
    ],
)
def test_what_loses_records_is_known(name, old, new, is_lost):
    assert bool(loss(name, old, new)) is is_lost


def test_spellings_of_one_value_are_no_difference():
    assert is_same("LIST", "compact,delete", "delete, compact")
    assert is_same("DOUBLE", "0.5", "0.50")
    assert is_same("BOOLEAN", "true", "TRUE")
    assert not is_same("LONG", "1", "x")
    assert not is_same("STRING", "a", "A")


def test_durations_are_in_hours_where_they_can_be():
    assert [as_duration(each) for each in ("-1", "7200000", "5000")] == ["for ever", "2 h", "5000 ms"]


def test_a_property_of_a_topic_that_the_file_does_not_name_is_shown_and_left_alone():
    changes = differences([Topic(name="a")], existing(segment_ms="5"))

    assert actions(changes) == [("extra", "segment.ms")]


def test_the_clusters_defaults_are_compared_and_not_shown_as_extras():
    assert differences([Topic(name="a", retention_hours=168)], existing()) == ()


def test_a_misspelt_property_is_refused_with_what_was_meant():
    (change,) = differences([Topic(name="a", config={"segment.mss": "5"})], existing())

    assert change.action == "refuse"
    assert "did you mean segment.ms?" in change.detail


def test_other_replication_is_refused():
    (change,) = differences([Topic(name="a", replication=3)], existing())

    assert (change.action, change.about) == ("refuse", "replication")
    assert "1 → 3: reassign by hand" in change.detail


def test_acls_are_added_listed_and_only_pruned_when_asked():
    wanted = [Topic(name="a", acls=(Acl(principal="User:alice", operations=("read",)),))]
    other = Grant("User:bob", "write", "topic", "a")
    denial = Grant("User:eve", "read", "topic", "a", is_denied=True)
    elsewhere = Grant("User:bob", "write", "topic", "b")
    found = ClusterTopics(topics=existing().topics, grants=frozenset({other, denial, elsewhere}))

    plain = differences(wanted, found)
    pruned = differences(wanted, found, prune_acls=True)

    assert [(each.action, each.grant) for each in plain] == [
        ("allow", Grant("User:alice", "read", "topic", "a")),
        ("extra", other),
        ("extra", denial),
    ]
    assert [each.action for each in pruned] == ["allow", "withdraw", "extra"]


def test_a_group_that_two_topics_ask_for_is_allowed_once():
    acl = Acl(principal="User:alice", operations=("read",), group="reports")
    changes = differences([Topic(name="a", acls=(acl,)), Topic(name="b", acls=(acl,))], ClusterTopics(topics={}))

    assert [str(each.grant) for each in changes if each.grant and each.grant.resource == "group"] == [
        "User:alice may read group reports"
    ]


def test_acls_that_cannot_be_read_are_refused_only_where_they_are_asked_for():
    found = ClusterTopics(topics=existing().topics, no_grants_because="the cluster has no authorizer")
    acl = Acl(principal="User:alice", operations=("read",))

    assert differences([Topic(name="a")], found) == ()
    assert actions(differences([Topic(name="a", acls=(acl,))], found)) == [("refuse", "acl")]


HOURS = st.one_of(st.none(), st.just(-1), st.integers(1, 1000))
SIZES = st.one_of(st.none(), st.just(-1), st.integers(1, 10**12))
POLICIES = st.sampled_from(["delete", "compact", "compact,delete"])
WANTED = st.builds(
    Topic,
    name=st.just("a"),
    partitions=st.integers(1, 5),
    retention_hours=HOURS,
    retention_bytes=SIZES,
    compaction=st.sampled_from([None, False, True, "and-delete"]),
)
FOUND = st.builds(
    lambda partitions, hours, size, policy: existing(
        partitions=partitions,
        retention_ms=str(hours if hours == -1 else hours * 3_600_000),
        retention_bytes=str(size),
        cleanup_policy=policy,
    ),
    st.integers(1, 5),
    HOURS.filter(bool),
    SIZES.filter(bool),
    POLICIES,
)


def applied(found: ClusterTopics, changes: tuple[Change, ...]) -> ClusterTopics:
    """What the cluster has when all of it is done."""
    topic = found.topics["a"]
    properties = dict(topic.properties)
    partitions = topic.partitions
    for change in changes:
        if change.action == "config":
            properties[change.about] = Property(change.new, properties[change.about].kind, is_own=True)
        if change.action == "grow":
            partitions = int(change.new)
    return ClusterTopics(
        topics={"a": ClusterTopic(name="a", partitions=partitions, replication=1, properties=properties)}
    )


@given(WANTED, FOUND, st.booleans())
def test_what_was_applied_is_no_difference_any_more(topic, found, is_allowed):
    allowed = ["a"] if is_allowed else []
    changes = differences([topic], found, allow_data_loss=allowed)

    left = differences([topic], applied(found, changes), allow_data_loss=allowed)

    assert {change.about for change in left if change.action != "extra"} == {
        change.about for change in changes if change.action == "refuse"
    }
    assert all(change.action in {"extra", "refuse"} for change in left)


@given(WANTED, FOUND)
def test_without_leave_nothing_is_kept_for_less_long(topic, found):
    def bound(cluster: ClusterTopics, name: str) -> float:
        value = int(cluster.topics["a"].properties[name].value)
        return float("inf") if value == -1 else value

    after = applied(found, differences([topic], found))

    assert bound(after, "retention.ms") >= bound(found, "retention.ms")
    assert bound(after, "retention.bytes") >= bound(found, "retention.bytes")
    assert after.topics["a"].partitions >= found.topics["a"].partitions
    policies = [set(each.topics["a"].properties["cleanup.policy"].value.split(",")) for each in (after, found)]
    assert policies[0] <= policies[1]


@given(st.dictionaries(st.from_regex(r"[a-z0-9._-]{3,20}", fullmatch=True), st.integers(1, 100), max_size=5))
def test_names_and_numbers_come_back_as_they_were_written(tmp_path_factory, partitions):
    file = tmp_path_factory.mktemp("topics") / "topics.yaml"
    file.write_text(yaml.safe_dump({"topics": {name: {"partitions": count} for name, count in partitions.items()}}))

    assert {topic.name: topic.partitions for topic in read_topics(file)} == partitions
