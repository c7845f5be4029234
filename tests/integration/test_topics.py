"""Topics as code against a real broker."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from tests.services.workbench import run, wait_until
from workbench.errors import KafkaError, WorkbenchError
from workbench.ingestion.cluster.admin import Grant, open_admin
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.cluster.watermarks import read_topic_state
from workbench.ingestion.producer import OutgoingRecord, produce
from workbench.ingestion.topics import Acl, Topic, apply_topics, list_topics, plan_topics

SHOWN_SECONDS = 60


@pytest.fixture
def connection(settings) -> KafkaConnection:
    return KafkaConnection.from_settings(settings.kafka)


@pytest.fixture
def name() -> str:
    return f"topic-{uuid4().hex}"


@pytest.fixture
def make_user(connection) -> Callable[[], KafkaConnection]:
    """Makes a SCRAM user who may do nothing yet; returns how they connect."""

    def make() -> KafkaConnection:
        from kafka.admin import UserScramCredentialUpsertion

        user = replace(connection, username=f"user-{uuid4().hex}", password=SecretStr(uuid4().hex))
        with open_admin(connection) as admin:
            upsert = UserScramCredentialUpsertion(user.username, "SCRAM-SHA-512", user.password.get_secret_value())
            assert admin.client.alter_user_scram_credentials([upsert]) == {user.username: None}
        wait_until(lambda: _is_known(user), SHOWN_SECONDS, "the user to be known")
        return user

    return make


def _is_known(user: KafkaConnection) -> bool:
    try:
        return bool(user.check())
    except KafkaError:
        return False


def partitions(connection: KafkaConnection, name: str) -> int:
    try:
        return len(read_topic_state(connection, name).next_offsets)
    except KafkaError:
        return 0


def properties(connection: KafkaConnection, name: str) -> dict[str, str]:
    with open_admin(connection) as admin:
        return {key: each.value for key, each in admin.read_topics([name])[name].properties.items()}


def settled(connection: KafkaConnection, topic: Topic) -> None:
    """Wait until the broker shows what was applied."""
    wait_until(lambda: not plan_topics(connection, [topic]), SHOWN_SECONDS, "no difference")


def read_one(user: KafkaConnection, topic: str, group: str) -> bytes | str | None:
    """One record as a member of the group, or the name of the broker's error."""
    from confluent_kafka import Consumer

    consumer = Consumer({**user.for_confluent(), "group.id": group, "auto.offset.reset": "earliest"})
    try:
        consumer.subscribe([topic])
        message = consumer.poll(20)
        assert message is not None
        return message.error().name() if message.error() else message.value()
    finally:
        consumer.close()


def write_one(user: KafkaConnection, topic: str) -> str:
    """The name of the broker's error, or an empty text."""
    from kafka import KafkaProducer
    from kafka.errors import KafkaError as DriverError

    producer = KafkaProducer(**user.for_kafka_python(), enable_idempotence=False)
    try:
        producer.send(topic, b"a record", partition=0).get(20)
    except DriverError as error:
        return type(error).__name__
    finally:
        producer.close()
    return ""


def test_a_topic_is_created_once_grows_and_never_shrinks(connection, name):
    assert [change.action for change in apply_topics(connection, [Topic(name=name, partitions=2)])] == ["create"]
    wait_until(lambda: partitions(connection, name) == 2, 10, "two partitions")
    assert apply_topics(connection, [Topic(name=name, partitions=2)]) == ()

    (grown,) = apply_topics(connection, [Topic(name=name, partitions=3)])
    assert grown.action == "grow"
    assert "keys move" in grown.detail
    wait_until(lambda: partitions(connection, name) == 3, 10, "three partitions")

    with pytest.raises(KafkaError, match="cannot shrink to 1 without losing records"):
        apply_topics(connection, [Topic(name=name, partitions=1)], allow_data_loss=[name])


def test_a_plan_changes_nothing(connection, name):
    topic = Topic(name=name, acls=(Acl(principal="User:nobody", operations=("read",)),))

    plan_topics(connection, [topic])

    assert [change.action for change in plan_topics(connection, [topic])] == ["create", "allow"]


def test_topics_are_not_made_by_writing_to_them(connection):
    with pytest.raises(KafkaError, match="there is no topic 'nobody-made-this'"):
        read_topic_state(connection, "nobody-made-this")


def test_nothing_wanted_is_nothing_to_do(connection):
    assert apply_topics(connection, []) == ()


def test_properties_follow_the_file(connection, name):
    settled_at = Topic(name=name, retention_hours=24, compaction="and-delete", config={"segment.ms": "60000"})
    apply_topics(connection, [settled_at])
    settled(connection, settled_at)

    wanted = Topic(name=name, retention_hours=48, compaction=True, config={"segment.ms": "30000"})
    changes = apply_topics(connection, [wanted])
    settled(connection, wanted)

    assert {change.about: (change.old, change.new) for change in changes} == {
        "cleanup.policy": ("compact,delete", "compact"),
        "retention.ms": ("86400000", "172800000"),
        "segment.ms": ("60000", "30000"),
    }
    assert properties(connection, name)["retention.ms"] == "172800000"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"retention_hours": 23}, "24 h → 23 h removes older records"),
        ({"retention_bytes": 999_999}, "1000000 bytes → 999999 bytes removes the oldest records"),
        ({"compaction": True}, "removes all but the last record of each key"),
        ({"compaction": "and-delete"}, "removes all but the last record of each key"),
    ],
)
def test_what_loses_records_needs_leave_for_just_that_topic(connection, name, change, reason):
    before = Topic(name=name, retention_hours=24, retention_bytes=1_000_000, compaction=False)
    other = Topic(name=f"{name}-other")
    apply_topics(connection, [before])
    settled(connection, before)
    wanted = replace(before, **change)

    for allowed in ([], [other.name]):
        with pytest.raises(KafkaError, match=reason):
            apply_topics(connection, [other, wanted], allow_data_loss=allowed)
    assert [each.action for each in plan_topics(connection, [other])] == ["create"]
    assert plan_topics(connection, [before]) == ()

    apply_topics(connection, [wanted], allow_data_loss=[name])
    settled(connection, wanted)


def test_a_compacted_topic_does_not_begin_to_delete_without_leave(connection, name):
    apply_topics(connection, [Topic(name=name, compaction=True)])
    settled(connection, Topic(name=name, compaction=True))

    with pytest.raises(KafkaError, match="removes records after their retention"):
        apply_topics(connection, [Topic(name=name, compaction="and-delete")])


def test_leave_for_an_unknown_topic_is_an_error(connection, name):
    with pytest.raises(WorkbenchError, match="the file has no such topic"):
        apply_topics(connection, [Topic(name=name)], allow_data_loss=["typing-error"])


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        ({"config": {"no.such.property": "1"}}, "no.such.property"),
        ({"config": {"segment.ms": "soon"}}, "segment.ms"),
        ({"config": {"retention.ms": "soon"}}, "retention.ms"),
        ({"replication": 7}, "replication"),
    ],
)
@pytest.mark.parametrize("is_there", [True, False])
def test_what_the_cluster_would_refuse_stops_all(connection, name, field, reason, is_there):
    if is_there:
        apply_topics(connection, [Topic(name=name)])
    other = Topic(name=f"{name}-other")

    with pytest.raises(KafkaError, match=reason):
        apply_topics(connection, [other, Topic(name=name, **field)])

    assert [each.action for each in plan_topics(connection, [other])] == ["create"]


def test_a_user_reads_the_topic_that_the_file_gives_and_no_other(connection, name, make_user):
    alice = make_user()
    group = f"group-{uuid4().hex}-"
    acl = Acl(principal=f"User:{alice.username}", operations=("read", "describe"), group=f"{group}*")
    bob = make_user()
    writer = Acl(principal=f"User:{bob.username}", operations=("write",))
    given, other = Topic(name=name, acls=(acl, writer)), Topic(name=f"{name}-other")
    apply_topics(connection, [given, other])
    for topic in (given, other):
        settled(connection, topic)
        produce(connection, topic.name, [OutgoingRecord(b"a record", partition=0)])

    assert read_one(alice, given.name, f"{group}1") == b"a record"
    assert read_one(alice, other.name, f"{group}2") == "TOPIC_AUTHORIZATION_FAILED"
    assert read_one(alice, given.name, "another-group") == "GROUP_AUTHORIZATION_FAILED"
    assert write_one(alice, given.name) == "TopicAuthorizationFailedError"
    assert [write_one(bob, topic.name) for topic in (given, other)] == ["", "TopicAuthorizationFailedError"]


def test_acls_beyond_the_file_are_shown_and_removed_on_request(connection, name):
    before = Topic(name=name, acls=(Acl(principal="User:bob", operations=("read", "write")),))
    wanted = Topic(name=name, acls=(Acl(principal="User:bob", operations=("read",)),))
    denial = Grant("User:eve", "read", "topic", name, is_denied=True)
    apply_topics(connection, [before])
    with open_admin(connection) as admin:
        assert admin.allow([denial]) == {}
    wait_until(lambda: len(plan_topics(connection, [wanted])) == 2, SHOWN_SECONDS, "both ACLs to be seen")

    assert [each.detail for each in plan_topics(connection, [wanted])] == [
        f"{name}: not in the file: User:bob may write topic {name}",
        f"{name}: not in the file: User:eve may not read topic {name}",
    ]
    assert apply_topics(connection, [wanted]) == ()

    (removed,) = apply_topics(connection, [wanted], prune_acls=True)
    assert (removed.action, removed.old) == ("withdraw", f"User:bob may write topic {name}")
    wait_until(lambda: len(plan_topics(connection, [wanted])) == 1, SHOWN_SECONDS, "the ACL to be gone")


def test_a_user_without_rights_is_told_what_they_may_not_see(connection, name, make_user):
    user = make_user()
    topic = Topic(name=name, acls=(Acl(principal=f"User:{user.username}", operations=("read",)),))
    apply_topics(connection, [topic])
    settled(connection, topic)

    assert plan_topics(user, [Topic(name=name)]) == ()
    (properties_hidden,) = plan_topics(user, [Topic(name=name, retention_hours=1)])
    (acls_hidden,) = plan_topics(user, [topic])
    assert "may not read the properties" in properties_hidden.detail
    assert "may not read the cluster's ACLs" in acls_hidden.detail
    with pytest.raises(KafkaError, match="TopicAuthorizationFailed"):
        plan_topics(user, [Topic(name=f"{name}-other")])


def test_the_list_has_declared_and_other_topics_with_their_records(connection, name):
    other = f"{name}-other"
    both = [Topic(name=name, partitions=2, retention_hours=-1), Topic(name=other, compaction=True)]
    apply_topics(connection, both)
    for topic in both:
        settled(connection, topic)
    produce(connection, name, [OutgoingRecord(b"x", partition=number % 2) for number in range(7)])

    found = {each.name: each for each in list_topics(connection, [Topic(name=name, owner="team")])}

    assert (found[name].partitions, found[name].replication, found[name].records) == (2, 1, 7)
    assert (found[name].owner, found[name].is_declared, found[name].retention) == ("team", True, "for ever")
    assert (found[other].owner, found[other].is_declared, found[other].retention) == ("", False, "compacted")
    assert not [each for each in found if each.startswith("__")]


def test_the_commands_plan_apply_check_and_list(shared_workbench, tmp_path, name):
    file = tmp_path / "topics.yaml"
    file.write_text(f"topics: {{{name}: {{partitions: 2, owner: team}}}}")

    def topics(*arguments: str):
        return run("topics", *arguments, "--file", str(file), home=shared_workbench.home)

    planned, checked = topics("plan"), topics("plan", "--check")
    assert f"{name}: create with 2 partitions" in planned.stdout
    assert (planned.returncode, checked.returncode) == (0, 1)
    assert json.loads(topics("plan", "--json").stdout)[0] == {
        "topic": name,
        "action": "create",
        "about": "topic",
        "old": "",
        "new": "",
        "detail": f"{name}: create with 2 partitions",
    }

    assert f"done     {name}: create" in topics("apply").stdout
    after = topics("plan", "--check")
    assert (after.returncode, after.stdout) == (0, "The cluster has what the file asks for.\n")

    listed = {each["name"]: each for each in json.loads(topics("list", "--json").stdout)}
    assert listed[name]["is_declared"]
    assert listed[name]["owner"] == "team"
    assert name in topics("list").stdout

    file.write_text(f"topics: {{{name}: {{partitions: 2, retention_hours: 1}}}}")
    refused = topics("apply")
    assert refused.returncode == 2
    assert f"--allow-data-loss {name}" in refused.stderr
    assert topics("apply", "--allow-data-loss", name).returncode == 0


def test_without_a_cluster_the_command_says_so(tmp_path: Path):
    done = run("topics", "plan", home=tmp_path)

    assert done.returncode == 2
    assert "no Kafka cluster is configured" in done.stderr
