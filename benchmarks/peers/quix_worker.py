"""The application of the Quix lane. Runs in the environment of requirements-quix.txt, which has nothing of ours."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

from quixstreams import Application
from quixstreams.kafka import ConnectionConfig
from quixstreams.sinks.community.postgresql import PostgreSQLSink

# Quix keeps the records of five seconds in memory by default; this took no more CPU and half of the memory.
COMMIT_RECORDS = 10_000


def make_sink(load: dict[str, Any], mode: str) -> PostgreSQLSink:
    """The sink of a table that is there, with no columns but those of the records."""
    warehouse = load["warehouse"]
    return PostgreSQLSink(
        host=warehouse["DW_HOST"],
        port=int(warehouse["DW_PORT"]),
        dbname=warehouse["DW_DATABASE"],
        user=warehouse["DW_USER"],
        password=warehouse["DW_PASSWORD"],
        schema_name=load["schema"],
        table_name=load["table"],
        schema_auto_update=False,
        include_metadata=False,
        primary_key_columns="id" if mode == "merge" else (),
        upsert_on_primary_key=mode == "merge",
    )


def main() -> None:
    """Run until all records were processed; leaving flushes the sink. Tell when it was done."""
    load = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    application = Application(
        ConnectionConfig.from_librdkafka_dict(load["confluent"], ignore_extras=True),
        consumer_group=f"quix-{uuid4().hex}",
        auto_offset_reset="earliest",
        auto_create_topics=False,
        use_changelog_topics=False,
        commit_every=COMMIT_RECORDS,
        loglevel="WARNING",
        state_dir=Path.cwd() / "state",
    )
    records = application.dataframe(application.topic(load["topic"], value_deserializer="json"))
    records.sink(make_sink(load, sys.argv[2]))
    application.run(count=load["records"], collect=False)
    Path(os.environ["BENCHMARK_ENDED"]).write_text(str(time.monotonic()), encoding="utf-8")


if __name__ == "__main__":
    main()
