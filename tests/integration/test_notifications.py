"""Messages to a real SMTP server, and to endpoints that speak as Slack and PagerDuty do."""

from __future__ import annotations

import email
import email.policy
import json
import logging
import threading
import time
from dataclasses import replace

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message
from typer.testing import CliRunner

from tests.services.notification_servers import http_endpoint
from workbench.cli.main import make_application
from workbench.observability.notifications import Channel, Notification, Result, send
from workbench.resolving import References
from workbench.runtime.ports import LOOPBACK, any_free

MESSAGE = Notification(title="daily: run 7 failed", body="Run 7 of daily ended failed.", key="alert/p/7/0/pager")
CHANNEL = Channel("team", "env:URL")
CANARY = "c4n4ryc4n4ryc4n4ryc4n4ry"
SLACK = f"slack://T12345678/B12345678/{CANARY}"
KEY = "a" * 24 + "c4n4ry00"
PAGER = f"pagerduty://{KEY}@c4n4ryapikey"


@pytest.fixture
def endpoint():
    with http_endpoint() as endpoint:
        yield endpoint


class Inbox(Message):
    def __init__(self):
        super().__init__()
        self.messages = []

    def handle_message(self, message):
        self.messages.append(message)


def to(address):
    return send(CHANNEL, MESSAGE, References({"URL": address}))


def test_a_message_comes_by_mail():
    inbox = Inbox()
    server = Controller(inbox, hostname=LOOPBACK, port=any_free())
    server.start()
    try:
        outcome = to(f"mailto://{LOOPBACK}:{server.port}?from=a@example.com&to=b@example.com&mode=insecure")
    finally:
        server.stop()

    assert outcome.result is Result.SENT
    (message,) = inbox.messages
    assert message["Subject"] == MESSAGE.title
    text = (
        email.message_from_bytes(message.as_bytes(), policy=email.policy.default)
        .get_body(("plain", "html"))
        .get_content()
    )
    assert MESSAGE.body in text
    assert MESSAGE.key in text


def test_a_message_comes_as_slack_takes_it(endpoint, monkeypatch):
    # Apprise has no setting for Slack's host: its plugin's address is replaced, and all else is as ever.
    monkeypatch.setattr("apprise.plugins.slack.NotifySlack.webhook_url", f"{endpoint.url}/services")

    assert to(SLACK).result is Result.SENT

    ((path, body),) = endpoint.requests
    assert path == f"/services/T12345678/B12345678/{CANARY}"
    assert MESSAGE.title in json.dumps(body)
    assert MESSAGE.body in json.dumps(body)


def test_pagerduty_is_given_the_same_key_each_time(endpoint, monkeypatch):
    from apprise.plugins import pagerduty

    endpoint.status = 202
    urls = dict.fromkeys(pagerduty.PAGERDUTY_API_LOOKUP, f"{endpoint.url}/v2/enqueue")
    monkeypatch.setattr(pagerduty, "PAGERDUTY_API_LOOKUP", urls)

    assert [to(PAGER).result, to(PAGER).result] == [Result.SENT, Result.SENT]

    first, second = (body for _, body in endpoint.requests)
    assert first["event_action"] == "trigger"
    assert first["payload"]["severity"] == "critical"
    assert first["dedup_key"] == second["dedup_key"]
    assert len(first["dedup_key"]) <= 255

    over = replace(MESSAGE, title="over", is_resolved=True)
    assert send(CHANNEL, over, References({"URL": PAGER})).result is Result.SENT
    third = endpoint.requests[2][1]
    assert third == {"routing_key": KEY, "event_action": "resolve", "dedup_key": first["dedup_key"]}


@pytest.mark.parametrize(
    ("status", "result"),
    [(500, "retry"), (503, "retry"), (429, "retry"), (401, "refused"), (404, "refused"), (302, "retry")],
)
def test_a_status_decides_whether_waiting_helps_and_no_log_has_the_address(endpoint, status, result, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    logging.getLogger("urllib3").setLevel(logging.WARNING)
    endpoint.status = status

    outcome = to(f"json://user:{CANARY}@{LOOPBACK}:{endpoint.port}/{CANARY}")

    assert outcome.result == result
    assert str(status) in outcome.reason
    assert len(endpoint.requests) == 1, "a redirect is not followed"
    assert CANARY not in repr(outcome) + caplog.text + "".join(capfd.readouterr())


def test_who_does_not_answer_is_not_waited_for_for_long(endpoint):
    endpoint.hangs = threading.Event()
    begin = time.monotonic()

    outcome = to(f"json://{LOOPBACK}:{endpoint.port}/?rto=100&cto=100")

    assert outcome.result is Result.RETRY
    assert time.monotonic() - begin < 30, "not the minute that the server takes"


def test_nobody_there_is_tried_again_later():
    assert to(f"json://{LOOPBACK}:{any_free()}/").result is Result.RETRY
    assert (
        to(f"mailto://{LOOPBACK}:{any_free()}?from=a@example.com&to=b@example.com&mode=insecure").result is Result.RETRY
    )


def test_the_command_says_what_became_of_a_message(endpoint, tmp_path, monkeypatch):
    file = tmp_path / "alerts.yaml"
    file.write_text("channels:\n  team: {url: env:TEAM_URL}\n  other: {url: env:OTHER_URL}\n")
    monkeypatch.setenv("TEAM_URL", f"json://user:{CANARY}@{LOOPBACK}:{endpoint.port}/")
    monkeypatch.delenv("OTHER_URL", raising=False)

    def run(*arguments):
        return CliRunner().invoke(make_application(), ["alerts", *arguments, "--file", str(file)])

    listed, one, both = run("channels", "--json"), run("test", "team"), run("test", "--json")
    endpoint.status = 401
    refused = run("test", "team")

    assert [each["configured"] for each in json.loads(listed.output)["channels"]] == [True, False]
    assert (one.exit_code, one.output) == (0, "team: sent\n")
    assert both.exit_code == 1
    assert [each["result"] for each in json.loads(both.output)["channels"]] == ["sent", "refused"]
    assert refused.exit_code == 1
    assert "status 401" in refused.output
    assert "Remedy" in refused.output
    assert run("test", "nobody").exception.exit_code == 2
    assert CANARY not in listed.output + one.output + both.output + refused.output
