"""Columns encrypted by subject, from Kafka into PostgreSQL, until the subject is erased."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from typer.testing import CliRunner

import workbench
from tests.services.canaries import files_with, forms_of, new_canary
from workbench.cli.main import make_application
from workbench.embedded.postgres import programs
from workbench.errors import SettingsError, SubjectErased, WarehouseError
from workbench.flows import ingest_flow
from workbench.ingestion.cluster.connection import KafkaConnection
from workbench.ingestion.definition import Flow, make_flow
from workbench.ingestion.producer import OutgoingRecord, produce
from workbench.ingestion.topics import Topic, apply_topics
from workbench.inspection import plan_flow, replay_flow_dead_letters, verify_flow
from workbench.loading import Mode
from workbench.replay import replay_flow
from workbench.security.audit import Action, AuditLog, read_events
from workbench.settings import Settings
from workbench.streams import run_stream

COLUMNS = {"n": "int64", "who": "int64", "mail": "string"}


@pytest.fixture
def flow(settings, tmp_path, monkeypatch) -> Flow:
    """A flow into a table whose mail is encrypted, from a topic of its own."""
    flow = make_flow("f", {"topic": f"t-{uuid4().hex}", "into": f"s_{uuid4().hex}.orders", "columns": COLUMNS})
    apply_topics(KafkaConnection.from_settings(settings.kafka), [Topic(name=flow.topic, partitions=2)])
    monkeypatch.setenv("WORKBENCH_POLICIES_FILE", str(policies(tmp_path, flow.into)))
    return flow


def policies(
    folder: Path, table: str, data: str = "{subjects: {customer: who}, encrypt: {customer: [mail]}, erase: [n]}"
) -> Path:
    file = folder / "policies.yaml"
    file.write_text(f"version: 1\nroles: {{}}\ndata:\n  {table}: {data}\n")
    return file


def send(flow: Flow, *orders: tuple[int, int | None, str]) -> None:
    connection = KafkaConnection.from_settings(Settings.load().kafka)
    values = (json.dumps({"n": n, "who": who, "mail": mail}).encode() for n, who, mail in orders)
    produce(connection, flow.topic, (OutgoingRecord(value, partition=0) for value in values))


def bring(flow: Flow) -> tuple[int, int]:
    done = ingest_flow(Settings.load(), flow, lambda _: None)
    return done.rows, done.dead


def table(flow: Flow):
    return workbench.sql(f"SELECT _offset AS at, n, who, mail FROM {flow.into} ORDER BY _offset")


def mails(flow: Flow, *, erased: str = "error") -> list[str | None]:
    found = workbench.decrypt(table(flow), flow.into, erased=erased)["mail"]
    return [each if isinstance(each, str) else None for each in found]


def policy(*words: str) -> dict[str, object]:
    done = CliRunner().invoke(make_application(), ["policy", *words, "--json"])
    assert done.exit_code == 0, done.output + repr(done.exception)
    return json.loads(done.stdout)


def dump(flow: Flow, folder: Path) -> bytes:
    """The whole warehouse as pg_dump writes it, which is what a copy of it holds."""
    warehouse, file = Settings.load().warehouse, folder / "dump.sql"
    address = f"host={warehouse.host} port={warehouse.port} dbname={warehouse.database} user={warehouse.user}"
    schema = flow.into.partition(".")[0]
    subprocess.run(
        [programs() / "bin" / "pg_dump", f"--file={file}", f"--schema={schema}", "--schema=workbench", address],
        env={"PATH": os.defpath, "PGPASSWORD": warehouse.password.get_secret_value()}, check=True,
    )  # fmt: skip
    return file.read_bytes()


def test_values_are_their_subjects_until_it_is_erased_in_the_table_and_in_every_copy(settings, flow, tmp_path):
    canary = new_canary()
    send(flow, (1, 7, canary), (2, 8, "b@c"), (3, None, "nobody's"), (4, 7, canary + "2"))

    assert bring(flow) == (3, 1)

    assert table(flow)["mail"].str.startswith("enc1:").all()
    assert mails(flow) == [canary, "b@c", canary + "2"]
    used = list(read_events(AuditLog.of(settings.home).path, action=Action.SUBJECT_KEYS_USED))
    assert [(each.resource, each.outcome) for each in used][-2:] == [(flow.into, "begun"), (flow.into, "success")]
    before = table(flow)  # as an export has it

    assert policy("erase", "customer", "7", "--yes") == {flow.into: 2}

    with pytest.raises(SubjectErased):
        workbench.decrypt(before, flow.into)
    assert workbench.decrypt(before, flow.into, erased="null")["mail"].tolist() == [None, "b@c", None]
    assert mails(flow, erased="null") == [None, "b@c", None]
    for folder in ("postgres", "logs"):  # nor in a file of the server, its WAL among them
        assert files_with(settings.home / folder, canary) == []
    held = dump(flow, tmp_path)
    assert b"enc1:" in held
    assert not any(form in held for form in forms_of(canary))

    # A late record, and all of them again, bring nothing of who was erased.
    send(flow, (5, 7, "late"), (6, 8, "e@f"))
    assert bring(flow) == (2, 0)
    assert mails(flow, erased="null")[-2:] == [None, "e@f"]
    replay_flow(Settings.load(), flow, "earliest", lambda _: None, keep=False)
    assert all(each.is_right for each in verify_flow(Settings.load(), flow))
    assert mails(flow) == [None, "b@c", None, None, "e@f"]
    assert policy("retain")["erased_again"] == {flow.into: 3}


def test_a_merge_keeps_the_last_value_of_a_key_and_letters_come_back_encrypted(settings, flow):
    flow = replace(flow, mode=Mode.MERGE, key=("n",))
    send(flow, (1, 17, "first"), (2, 18, "b@c"), (1, 19, "second"), (3, None, "nobody's"))
    assert bring(flow) == (2, 1)
    assert mails(flow) == ["b@c", "second"]

    assert replay_flow_dead_letters(Settings.load(), flow, lambda _: None).left == 1
    send(flow, (1, 17, "third"))
    assert bring(flow) == (1, 0)
    assert mails(flow) == ["b@c", "third"]


def test_what_cannot_be_encrypted_is_refused_before_anything_runs(settings, flow, tmp_path):
    def refused(flow: Flow, told: str, kind: type[Exception] = SettingsError) -> None:
        with pytest.raises(kind, match=told):
            ingest_flow(Settings.load(), flow, lambda _: None)

    refused(replace(flow, engine="spark"), "Engine spark does not encrypt")
    with pytest.raises(SettingsError, match="Engine spark"):
        plan_flow(Settings.load(), replace(flow, engine="spark"))
    refused(replace(flow, mode=Mode.MERGE, key=("mail",)), "Its key has mail")
    refused(_with(flow, {**COLUMNS, "mail": "json"}), "column mail is encrypted, which is for text")
    refused(_with(flow, {"n": "int64", "mail": "string"}), "column who is missing")
    refused(_with(flow, {**COLUMNS, "who": "float64"}), "column who is double")
    with pytest.raises(SettingsError, match="Engine stream does not encrypt"):
        run_stream(Settings.load(), replace(flow, engine="stream"))
    send(flow, (1, 17, "a@b"))
    assert bring(flow) == (1, 0)

    # Another file, or a mistake in it, does not bring the rest in clear.
    policies(tmp_path, flow.into, "{subjects: {customer: who}}")
    refused(flow, "mail is encrypted for the customer of who, and the policies say otherwise", WarehouseError)
    refused(replace(flow, start=datetime(2026, 1, 1, tzinfo=UTC)), "say otherwise", WarehouseError)
    assert len(table(flow)) == 1


def _with(flow: Flow, columns: dict[str, str]) -> Flow:
    return make_flow("f", {"topic": flow.topic, "into": flow.into, "columns": columns})
