"""Channels and their addresses, and what a message says. No server."""

from __future__ import annotations

import logging

import pytest
from pydantic import SecretStr

from pipelines.alerting.texts import MOST_RUNS, as_notification
from pipelines.store.outbox import Taken
from workbench.errors import WorkbenchError
from workbench.observability.notifications import (
    Channel,
    Notification,
    Result,
    Severity,
    Unconfigured,
    find_address,
    load_channels,
    read_channels,
    send,
)
from workbench.observability.notifications.sending import body_for, read_service
from workbench.observability.notifications.transport import transport_of
from workbench.resolving import References

CANARY = "c4n4ryc4n4ryc4n4ry"
MESSAGE = Notification(title="t", body="b", key="k")


def file_of(folder, text):
    path = folder / "alerts.yaml"
    path.write_text(text)
    return path


def taken(number, state="failed", **more):
    body = {"run": number, "pipeline": "daily", "state": state, "reason": f"a ended {state}", **more}
    return Taken(number, f"alert/{number}/0/slack", "alert-to:slack", body, 1)


def test_channels_are_read_and_rules_of_metrics_are_left_to_others(tmp_path):
    path = file_of(
        tmp_path, "channels:\n  slack: {url: env:SLACK}\n  pager:\n    url: file:/etc/pager\nalerts:\n  - name: x\n"
    )

    assert load_channels(path).channels == {
        "slack": Channel("slack", "env:SLACK"),
        "pager": Channel("pager", "file:/etc/pager"),
    }
    assert load_channels(tmp_path / "none.yaml").channels == {}


@pytest.mark.parametrize(
    ("text", "line", "field"),
    [
        (f"channels:\n  slack:\n    url: slack://{CANARY}/b/c\n", 3, "channels.slack.url"),
        (f"channels:\n  slack: {CANARY}\n", 2, "channels.slack"),
        ("channels:\n  slack: {}\n", 2, "channels.slack"),
        (f"channels:\n  slack:\n    url: env:A\n    token: {CANARY}\n", 4, "channels.slack.token"),
        ("channels:\n  SLACK: {url: env:A}\n", 2, "channels.SLACK"),
        ("channels:\n  a: {url: env:A}\n  a: {url: env:B}\n", 3, "channels.a"),
        ("chanels: {}\n", 1, "chanels"),
        ("- a\n", 1, "the file"),
        ("channels:\n  slack: {url: [env:A]}\n", 2, "channels.slack.url"),
        (f"channels: {{{CANARY}\n", 2, "channels"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_without_its_value(tmp_path, text, line, field):
    path = file_of(tmp_path, text)

    faults = read_channels(path).faults

    assert (line, field) in {(each.line, each.field) for each in faults}
    with pytest.raises(WorkbenchError) as error:
        load_channels(path)
    assert f"{path}:{line}: " in str(error.value)
    assert CANARY not in str(error.value)


def test_an_address_in_a_file_that_others_may_read_is_refused(tmp_path):
    path = tmp_path / "url"
    path.write_text(f"slack://{CANARY}\n")
    channel = Channel("slack", f"file:{path}")
    path.chmod(0o644)
    with pytest.raises(Unconfigured, match="mode 0644"):
        find_address(channel, References())
    path.chmod(0o600)

    assert find_address(channel, References()).get_secret_value() == f"slack://{CANARY}"
    assert CANARY not in repr(find_address(channel, References()))


@pytest.mark.parametrize(
    "address", [f"slak://{CANARY}", f"slack://{CANARY}", CANARY, f"pagerduty://{CANARY}", "json://"]
)
def test_what_is_no_address_is_refused_and_not_shown(address, caplog, capfd):
    caplog.set_level(logging.DEBUG)

    outcome = send(Channel("slack", "env:A"), MESSAGE, References({"A": address}))

    assert outcome.result is Result.REFUSED
    assert "no Apprise URL" in outcome.reason
    assert CANARY not in repr(outcome) + caplog.text + "".join(capfd.readouterr())


def test_a_channel_without_an_address_is_refused_with_a_remedy():
    outcome = send(Channel("slack", "env:A"), MESSAGE, References())

    assert outcome.result is Result.REFUSED
    assert outcome.reason == "channel slack: env:A is not set"
    assert outcome.remedy


def test_a_message_says_which_run_where_and_why():
    causes = [{"step": "load", "state": "failed", "cell": 3, "error": "ValueError: no"}]
    one = as_notification(
        [taken(7, causes=causes, partition="2013-01-05")], "https://hub.example.com/services/pipelines"
    )

    assert one.title == "daily: run 7 failed"
    assert one.key == "alert/7/0/slack"
    assert one.severity is Severity.CRITICAL
    assert one.body.splitlines() == [
        "Run 7 of daily ended failed.",
        "Reason: a ended failed",
        "Partition: 2013-01-05",
        "Step load, cell 3 ended failed: ValueError: no",
        "See https://hub.example.com/services/pipelines/runs/7",
    ]


def test_what_waited_is_one_message_with_a_count():
    many = as_notification([taken(n, "failed" if n else "lost") for n in range(MOST_RUNS + 2)], "")

    assert many.title == f"daily: {MOST_RUNS + 2} runs, 1 lost, {MOST_RUNS + 1} failed"
    assert many.key == "alert/0/0/slack"
    assert many.body.startswith("2 earlier runs are not shown.\n\nRun 2 of daily")
    assert as_notification([taken(1, "succeeded")], "").severity is Severity.INFO


@pytest.mark.parametrize(
    ("address", "most"),
    [
        (f"pagerduty://{'a' * 32}@{'b' * 20}", 1024),  # within which it has no title
        ("discord://123/abc", 2000 - 112),  # as much is kept for the title
        ("ntfy://topic", 7800 - 112),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", 35000),
    ],
)
def test_a_message_is_no_longer_than_its_channel_takes(address, most):
    long = Notification(title="t" * 100, body="b" * 90_000, key="k")
    service = read_service(address)
    made = body_for(service, long)

    assert len(made) + (102 if service.title_maxlen <= 0 else 0) == most
    assert made.endswith("b\n… cut: 90,000 characters in all\n\nKey: k")
    (sent,) = service._apply_overflow(made, long.title, overflow="truncate", body_format="text")
    assert sent["body"].endswith(made[-100:])
    assert body_for(service, MESSAGE) == "b\n\nKey: k"


@pytest.mark.parametrize(
    ("address", "host", "port", "is_encrypted"),
    [
        ("json://localhost:8080/x", "localhost", 8080, False),
        ("jsons://alerts.example.com/x", "alerts.example.com", 443, True),
        ("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "hooks.slack.com", 443, True),
        (f"pagerduty://{'a' * 32}@{'b' * 20}", "events.pagerduty.com", 443, True),
        ("mailtos://ada:x@smtp.example.com:465?from=a@example.com&mode=ssl", "smtp.example.com", 465, True),
        ("mailto://ada:x@smtp.example.com:25?from=a@example.com&mode=insecure", "smtp.example.com", 25, False),
    ],
)
def test_how_a_channel_travels_is_told_without_its_secrets(address, host, port, is_encrypted):
    way = transport_of(SecretStr(address))

    assert (way.host, way.port, way.is_encrypted) == (host, port, is_encrypted)
