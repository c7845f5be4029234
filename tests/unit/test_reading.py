"""What stands beside the source: offsets on their way to Kafka, and certificates that are refused."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError as Told
from confluent_kafka import KafkaException

from workbench.errors import KafkaError, KafkaUnavailable
from workbench.ingestion import offset_mirror
from workbench.ingestion.certificate_watch import CertificateWatch
from workbench.ingestion.offset_mirror import OffsetMirror
from workbench.ingestion.stalled import Stalled
from workbench.loading import Span

REFUSED = Told(Told._SSL, "ssl://kafka:9093/bootstrap: SSL handshake failed: certificate verify failed")


class Consumer:
    """Notes what is committed."""

    def __init__(self, error=None):
        self.error, self.commits = error, []

    def commit(self, *, offsets, asynchronous):
        assert asynchronous
        self.commits.append({(each.topic, each.partition): each.offset for each in offsets})
        if self.error:
            raise self.error


class Connection:
    """Finds the cause that it was told."""

    def __init__(self, cause):
        self.cause, self.asked = cause, []

    def explain(self, text):
        self.asked.append(text)
        return self.cause


def test_the_newest_offset_of_each_partition_is_sent_once():
    consumer, mirror = Consumer(), OffsetMirror("t")
    mirror.send(consumer)
    mirror.add([Span(0, 0, 5, 1), Span(1, 0, 7, 1)])
    mirror.add([Span(0, 5, 9, 1)])
    mirror.send(consumer)
    mirror.send_last(consumer)
    assert consumer.commits == [{("t", 0): 9, ("t", 1): 7}]


def test_what_comes_soon_after_waits_unless_it_is_the_last(monkeypatch):
    monkeypatch.setattr(offset_mirror, "MIRROR_SECONDS", 30.0)  # longer than a busy machine takes for the lines below
    consumer, mirror = Consumer(), OffsetMirror("t")
    for end in (5, 6, 7):
        mirror.add([Span(0, 0, end, 1)])
        mirror.send(consumer)
    assert consumer.commits == [{("t", 0): 5}]
    mirror.send_last(consumer)
    assert consumer.commits == [{("t", 0): 5}, {("t", 0): 7}]


def test_a_commit_that_is_refused_stops_nobody():
    consumer, mirror = Consumer(KafkaException(Told(Told.UNKNOWN_MEMBER_ID))), OffsetMirror("t")
    mirror.add([Span(0, 0, 5, 1)])
    mirror.send(consumer)
    assert len(consumer.commits) == 1


def test_a_refused_certificate_asks_for_a_new_client_when_its_files_would_do_now():
    connection = Connection(KafkaUnavailable("it did not answer"))
    watch = CertificateWatch(connection)
    watch.check()
    watch.on_error(REFUSED)
    with pytest.raises(Stalled, match="ssl://kafka:9093/bootstrap wants a new client"):
        watch.check()
    assert connection.asked == ["ssl://kafka:9093/bootstrap: TLS handshake failed"]


def test_a_refused_certificate_is_told_when_a_new_client_would_not_help():
    cause = KafkaError("the certificate of Kafka is not accepted")
    watch = CertificateWatch(Connection(cause))
    watch.on_error(REFUSED)
    with pytest.raises(KafkaError) as raised:
        watch.check()
    assert raised.value is cause


@pytest.mark.parametrize("error", [Told(Told._TRANSPORT, "ssl://kafka:9093: disconnected"), Told(Told._SSL, "x: EOF")])
def test_other_errors_of_a_client_are_its_own(error):
    watch = CertificateWatch(Connection(KafkaError("not asked")))
    watch.on_error(error)
    watch.check()
