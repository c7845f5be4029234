"""The pipeline of the dlt lane. Runs in the environment of requirements-dlt.txt, which has nothing of ours."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dlt
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from dlt.destinations import postgres

BATCH_RECORDS = 3000
BATCH_SECONDS = 3
COLUMNS: Any = {
    "id": {"data_type": "bigint"},
    "account": {"data_type": "bigint", "precision": 32},
    "kind": {"data_type": "text"},
    "amount": {"data_type": "double"},
    "at": {"data_type": "timestamp"},
    "note": {"data_type": "text"},
}


def read(load: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """What the topic held at the beginning, in batches; the fields of each record are those of its JSON."""
    topic = load["topic"]
    consumer = Consumer({**load["confluent"], "group.id": "dlt", "enable.auto.commit": False})
    with closing(consumer):
        partitions = [
            TopicPartition(topic, number, OFFSET_BEGINNING)
            for number in consumer.list_topics(topic, timeout=15).topics[topic].partitions
        ]
        missing = sum(consumer.get_watermark_offsets(each, timeout=15)[1] for each in partitions)
        consumer.assign(partitions)
        while missing:
            messages = consumer.consume(BATCH_RECORDS, timeout=BATCH_SECONDS)
            if not messages:
                sys.exit(f"{missing} records did not come")
            if error := next((message.error() for message in messages if message.error()), None):
                sys.exit(str(error))
            missing -= len(messages)
            yield [json.loads(message.value()) for message in messages]


def main() -> None:
    """Run the pipeline once, and tell when it was done."""
    load = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    warehouse = load["warehouse"]
    credentials = {
        "host": warehouse["DW_HOST"],
        "port": int(warehouse["DW_PORT"]),
        "database": warehouse["DW_DATABASE"],
        "username": warehouse["DW_USER"],
        "password": warehouse["DW_PASSWORD"],
    }
    pipeline = dlt.pipeline("records", destination=postgres(credentials), dataset_name=load["schema"])
    resource = dlt.resource(read(load), name=load["table"], columns=COLUMNS, write_disposition="append")
    # Parquet goes in by ADBC; it took less CPU than CSV and INSERT did.
    pipeline.run(resource, loader_file_format="parquet").raise_on_failed_jobs()
    Path(os.environ["BENCHMARK_ENDED"]).write_text(str(time.monotonic()), encoding="utf-8")


if __name__ == "__main__":
    main()
