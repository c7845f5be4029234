"""Whether a broker and a Spark server can do their work: what is asked, and how what comes back is read."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence

import pytest
from confluent_kafka.admin import ClusterMetadata, PartitionMetadata, TopicMetadata

from workbench.embedded import spark_readiness
from workbench.embedded.asking import ASK_SECONDS, Asking
from workbench.embedded.spark_readiness import _length, message, request, spark_obstacle
from workbench.ingestion.cluster.readiness import partition_obstacle
from workbench.runtime.ports import any_free

REQUEST_BYTES = len(request("", "localhost:20000"))


def cluster(*partitions: tuple[int, Sequence[int], Sequence[int]]) -> ClusterMetadata:
    """A cluster with one topic, whose partitions have these leaders, replicas and replicas in sync."""
    topic = TopicMetadata()
    topic.topic = "flights"
    for number, (leader, replicas, in_sync) in enumerate(partitions):
        found = topic.partitions[number] = PartitionMetadata()
        found.id, found.leader, found.replicas, found.isrs = number, leader, list(replicas), list(in_sync)
    metadata = ClusterMetadata()
    metadata.topics = {"flights": topic}
    return metadata


@pytest.mark.parametrize(
    ("partitions", "reason"),
    [
        ([], ""),
        ([(1, [1], [1]), (2, [2], [2])], ""),
        ([(1, [1, 2], [1])], "flights/0 has fewer replicas in sync than there should be"),
        ([(1, [1, 2], [1]), (-1, [2], [2])], "flights/1 has no leader, and can be neither read nor written"),
        (
            [(-1, [1], [])] * 5,
            "flights/0, flights/1, flights/2 and 2 more have no leader, and can be neither read nor written",
        ),
    ],
)
def test_a_broker_is_ready_when_every_partition_can_be_used_and_lacks_nothing(partitions, reason):
    assert partition_obstacle(cluster(*partitions)) == reason


def test_a_cluster_of_somebody_else_does_its_work_while_brokers_are_restarted():
    assert partition_obstacle(cluster((1, [1, 2], [1])), lacking=False) == ""
    assert "no leader" in partition_obstacle(cluster((-1, [1, 2], [])), lacking=False)


def test_it_is_asked_seldom_while_it_answers_and_at_each_look_while_it_does_not():
    now, answers, asked = [0.0], ["", "frozen", "frozen", ""], []
    asking = Asking(clock=lambda: now[0])

    def question() -> str:
        asked.append(now[0])
        return answers.pop(0)

    found = []
    for _ in range(8):
        found.append(asking.ask(question))
        now[0] += ASK_SECONDS / 3

    assert asked == [0, 15, 20, 25]
    assert found == ["", "", "", "frozen", "frozen", "", "", ""]


def test_the_request_is_what_pyspark_would_send():
    from pyspark.sql.connect.proto import base_pb2

    expected = base_pb2.AnalyzePlanRequest(
        session_id=spark_readiness.SESSION,
        user_context=base_pb2.UserContext(user_id=spark_readiness.USER),
        spark_version=base_pb2.AnalyzePlanRequest.SparkVersion(),
    )
    assert message() == expected.SerializeToString(deterministic=True)


def test_lengths_are_those_of_rfc_7541():
    # Its appendix C.1: 10 and 1337 with a prefix of five bits, 42 with one of eight.
    assert _length(10, 5) == b"\x0a"
    assert _length(1337, 5) == b"\x1f\x9a\x0a"
    assert _length(42, 8) == b"\x2a"


def test_nobody_listens():
    assert "nobody can ask it" in spark_obstacle(f"sc://localhost:{any_free()}", "")


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (b"", "it ends the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "it ends the connection"),
        (b"\x00\x00\x08\x07\x00" + b"\x00" * 12, "it breaks off the conversation"),
        (b"\x00\x00\x00\x01\x05\x00\x00\x00\x01", "it refuses to tell its version"),
        (b"\x00\x00\x00\x04\x00\x00\x00\x00\x00" * 100, "it answers something else"),
        (b"\x00\x00\x01\x00\x00\x00\x00\x00\x01\x00", ""),
    ],
)
def test_what_a_listener_says_is_read_with_care(said, reason):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                # All of it: what is closed with something unread breaks off what was sent.
                connection.recv(REQUEST_BYTES, socket.MSG_WAITALL)
                connection.sendall(said)
                connection.shutdown(socket.SHUT_WR)
                connection.recv(1)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        found = spark_obstacle(f"sc://localhost:{server.getsockname()[1]}", "", seconds=5)
        thread.join(5)

    assert (reason in found) if reason else (found == "")
