"""The records of the benchmark, all of 127 bytes, and what a table that holds every one of them answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.sections import KafkaSettings, WarehouseSettings
from workbench.security.secrets import write_private

RECORD_BYTES = 127
PARTITIONS = 4
FLUSH_SECONDS = 120.0
POLL_EVERY = 1000
KINDS = ("sale", "refund", "transfer", "fee")
NOTES = "the quick brown fox jumps over the lazy dog and runs away from every hound "

SCHEMA, TABLE = "bench", "records"
COLUMNS = {
    "id": "bigint",
    "account": "integer",
    "kind": "text",
    "amount": "double precision",
    "at": "timestamptz",
    "note": "text",
}
# Sums and extremes of every column: a record that is missing, doubled or wrong in one of them shows.
QUESTIONS = {
    "rows": "count(*)",
    "distinct ids": "count(DISTINCT id)",
    "sum of ids": "sum(id)::bigint",
    "sum of accounts": "sum(account)::bigint",
    "refunds": "count(*) FILTER (WHERE kind = 'refund')",
    "sum of cents": "sum(round(amount * 100))::bigint",
    "sum of milliseconds": "sum(round(extract(epoch FROM at) * 1000))::bigint",
    "characters of notes": "sum(length(note))::bigint",
}
EPOCH_MILLISECONDS = 1_767_225_600_000  # 2026-01-01T00:00:00Z


@dataclass(frozen=True, kw_only=True)
class Load:
    """What one lane has to do: all records of a topic into a table."""

    kafka: KafkaSettings
    warehouse: WarehouseSettings
    topic: str
    records: int
    schema: str = SCHEMA
    table: str = TABLE

    @property
    def connection(self) -> KafkaConnection:
        """How to reach the cluster, for each client."""
        return KafkaConnection.from_settings(self.kafka)

    def write(self, path: Path) -> Path:
        """Keep it in a file of mode 0600: plain JSON, for a process of another environment too."""
        fields = {
            "kafka": self.kafka.as_environment(),
            "confluent": self.connection.for_confluent(),
            "warehouse": self.warehouse.as_environment(),
            "topic": self.topic,
            "records": self.records,
            "schema": self.schema,
            "table": self.table,
        }
        write_private(path, json.dumps(fields))
        return path

    @classmethod
    def read(cls, path: Path) -> Load:
        """The load that `write` has kept."""
        fields = json.loads(path.read_text(encoding="utf-8"))
        # model_validate looks at what it is given, not at the environment.
        return cls(
            kafka=KafkaSettings.model_validate(fields["kafka"]),
            warehouse=WarehouseSettings.model_validate(fields["warehouse"]),
            topic=fields["topic"],
            records=fields["records"],
            schema=fields["schema"],
            table=fields["table"],
        )


@dataclass(frozen=True)
class Fields:
    """The fields of a record that follow from its id."""

    account: int
    kind: str
    cents: int
    milliseconds: int  #: after the beginning of 2026

    @classmethod
    def of(cls, number: int) -> Fields:
        """Those of the record *number*; no column is sorted but by accident, none is constant."""
        return cls(number * 7919 % 100_003, KINDS[number * 31 % 7 % 4], number * 104_729 % 1_000_000, number * 37)


def make_record(number: int) -> bytes:
    """The JSON of the record *number*: 127 bytes."""
    fields = Fields.of(number)
    seconds, milliseconds = divmod(fields.milliseconds, 1000)
    days, seconds = divmod(seconds, 86_400)
    at = f"2026-01-{days + 1:02}T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{milliseconds:03}Z"
    text = (
        f'{{"id":{number},"account":{fields.account},"kind":"{fields.kind}","amount":{fields.cents / 100},'
        f'"at":"{at}","note":"'
    )
    start, missing = number % 29, RECORD_BYTES - len(text) - 2
    return f'{text}{NOTES[start : start + missing]}"}}'.encode()


def make_records(count: int) -> Iterator[bytes]:
    """The records 0 to *count* - 1."""
    return map(make_record, range(count))


def ensure_topic(connection: KafkaConnection, count: int) -> str:
    """The topic that holds exactly *count* records in four equal partitions; filled when it is not there."""
    topic = f"records-{count}"
    if create_topic(connection, topic):
        produce_records(connection, topic, count)
    held = count_records(connection, topic)
    if held != count:
        raise RuntimeError(f"topic {topic} holds {held} records, not {count}; use a new home for the servers")
    return topic


def create_topic(connection: KafkaConnection, topic: str) -> bool:
    """Create the topic with four partitions; False when it is there already."""
    from confluent_kafka.admin import AdminClient, NewTopic

    client = AdminClient(connection.for_confluent())
    if topic in client.list_topics(timeout=15).topics:
        return False
    new = NewTopic(topic, PARTITIONS, 1, config={"retention.ms": "-1"})
    client.create_topics([new])[topic].result(15)
    return True


def produce_records(connection: KafkaConnection, topic: str, count: int) -> None:
    """Send the records 0 to *count* - 1; record n goes to partition n modulo 4."""
    from confluent_kafka import Producer

    producer = Producer({
        **connection.for_confluent(),
        "enable.idempotence": True,
        "compression.type": "lz4",
        "linger.ms": 50,
        "batch.size": 1_000_000,
        "queue.buffering.max.messages": 500_000,
    })  # fmt: skip
    for number, value in enumerate(make_records(count)):
        while True:
            try:
                producer.produce(topic, value, partition=number % PARTITIONS)
            except BufferError:
                producer.poll(0.1)
            else:
                break
        if number % POLL_EVERY == 0:
            producer.poll(0)
    if unsent := producer.flush(FLUSH_SECONDS):
        raise RuntimeError(f"{unsent} records for {topic} were not acknowledged")


def count_records(connection: KafkaConnection, topic: str) -> int:
    """How many records the topic holds."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({**connection.for_confluent(), "group.id": "count"})
    try:
        ends = (consumer.get_watermark_offsets(TopicPartition(topic, each), timeout=15) for each in range(PARTITIONS))
        return sum(end - begin for begin, end in ends)
    finally:
        consumer.close()


def connect(warehouse: WarehouseSettings) -> psycopg.Connection[tuple[int, ...]]:
    """A connection of the benchmark's own, every statement a transaction."""
    address = make_conninfo(
        host=warehouse.host,
        port=warehouse.port,
        dbname=warehouse.database,
        user=warehouse.user,
        password=warehouse.password.get_secret_value(),
        sslmode=warehouse.effective_sslmode,
    )
    return psycopg.connect(address, autocommit=True)


def make_table(load: Load, *, primary_key: bool) -> None:
    """The six columns in a new table."""
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(name), sql.SQL(kind)) for name, kind in COLUMNS.items()
    )
    key = sql.SQL(", PRIMARY KEY (id)" if primary_key else "")
    table = sql.Identifier(load.schema, load.table)
    with connect(load.warehouse) as connection:
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(load.schema)))
        connection.execute(sql.SQL("CREATE TABLE {} ({}{})").format(table, columns, key))


def drop_tables(load: Load) -> None:
    """Remove what a lane has left, the ledger of the workbench included, and let the next begin on a calm server."""
    with connect(load.warehouse) as connection:
        for schema in (load.schema, "workbench"):
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(schema)))


def expected_answers(count: int) -> dict[str, int]:
    """What QUESTIONS answer when the table holds the records 0 to *count* - 1."""
    answers = dict.fromkeys(QUESTIONS, 0)
    for number in range(count):
        record = make_record(number)
        fields = Fields.of(number)
        answers["sum of accounts"] += fields.account
        answers["refunds"] += fields.kind == "refund"
        answers["sum of cents"] += fields.cents
        answers["sum of milliseconds"] += EPOCH_MILLISECONDS + fields.milliseconds
        answers["characters of notes"] += len(record) - len(b'"}') - record.rindex(b'"note":"') - len(b'"note":"')
    return {**answers, "rows": count, "distinct ids": count, "sum of ids": count * (count - 1) // 2}


def table_answers(load: Load) -> dict[str, int]:
    """What QUESTIONS answer now."""
    asked = sql.SQL(", ").join(sql.SQL(each) for each in QUESTIONS.values())
    query = sql.SQL("SELECT {} FROM {}").format(asked, sql.Identifier(load.schema, load.table))
    with connect(load.warehouse) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return dict(zip(QUESTIONS, (int(value or 0) for value in row), strict=True))
