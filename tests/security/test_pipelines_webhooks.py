"""Requests that start runs from outside: who has the secret gets one run for each id, and everybody else nothing."""

from __future__ import annotations

import base64
import json
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import urlsplit

import httpx
import pytest
from pydantic import SecretStr

from pipelines.scheduler.scheduler import Scheduler
from pipelines.service.webhooks.receiving import REFUSED_PER_MINUTE
from pipelines.service.webhooks.signing import LARGEST_BYTES, TOLERANCE_SECONDS, Signed, key_of
from pipelines.store.retention import let_go
from tests.services.pipelines_project import Site, running_site
from tests.services.pipelines_service import RunningService, running_service
from tests.services.workbench import run, wait_until
from workbench.security.audit import AuditLog, read_events

OURS = "whsec_" + base64.b64encode(b"ours" * 8).decode()
THEIRS = "whsec_" + base64.b64encode(b"them" * 8).decode()
NOTHING = {"a": {"function": "nothing:nothing"}}
REFUSAL = {"message": "no webhook takes this request"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running_site(tmp_path_factory.mktemp("site")) as site:
        site.module("nothing", "def nothing() -> None:\n    pass\n")
        secret = site.file("secret", THEIRS)
        parameters = {"event": "str"}
        given = {"parameters": {"event": "${trigger.event}"}}
        for name, reference in {
            "ours": "env:OUR_SECRET", "theirs": f"file:{secret}", "unset": "env:NO_SUCH", "weak": "env:WEAK_SECRET",
        }.items():  # fmt: skip
            trigger = {"webhook": {"secret": reference}, **given}
            site.pipeline(name, parameters=parameters, triggers=[trigger], steps=NOTHING)
        site.pipeline("none", steps=NOTHING)
        Scheduler(site.store, site.project).sync()
        yield site


@pytest.fixture(scope="module")
def service(site: Site):
    with running_service(site, OUR_SECRET=OURS, WEAK_SECRET="weak") as service:
        yield service


def post(
    service: RunningService, name: str, body: bytes = b"{}", *, secret: str = OURS, **changed: str
) -> httpx.Response:
    """As a sender does; *changed* are headers, with _ for -."""
    moment = int(changed.pop("at", time.time()))
    signed = Signed(id=changed.pop("id", f"msg_{time.monotonic_ns()}"), timestamp=moment, body=body)
    headers = {
        **signed.headers(key_of(SecretStr(secret))),
        **{each.replace("_", "-"): value for each, value in changed.items()},
    }
    return send(service, name, body, headers)


def send(service: RunningService, name: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
    return httpx.post(
        f"{service.url}api/v1/webhooks/{name}", content=body, headers=headers, timeout=60, trust_env=False
    )


def runs(site: Site, name: str = "ours") -> list[tuple[object, ...]]:
    return site.ask(
        "SELECT id, event_id, parameters->'run'->>'event', trigger FROM pipelines.runs "
        f"WHERE pipeline = '{name}' ORDER BY id"
    )


def test_a_signed_request_starts_a_run_with_its_body(service: RunningService, site: Site):
    body = '{"type": "order.made", "data": {"ü": "\\u0000"}}'.encode()

    answer = post(service, "ours", body, id="msg_first")

    assert answer.status_code == 202, answer.text
    (found,) = [each for each in runs(site) if each[1] == "webhook msg_first"]
    assert found == (answer.json()["run"], "webhook msg_first", body.decode(), "event")
    events = list(read_events(AuditLog.of(site.home).path, action="webhook.accepted"))
    assert [(each.actor, each.resource, each.details["id"]) for each in events][-1:] == [
        ("webhook:ours", "pipeline:ours", "msg_first")
    ]


def test_an_id_is_one_run_however_often_and_at_once_it_comes(service: RunningService, site: Site):
    before = len(runs(site))
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: post(service, "ours", b"%d" % number, id="msg_again"), range(8)))

    assert {each.status_code for each in answers} == {202}
    assert len({each.json()["run"] for each in answers}) == 1
    assert len(runs(site)) == before + 1
    told = list(read_events(AuditLog.of(site.home).path, action="webhook.accepted"))
    ended = [each for each in told if each.details["id"] == "msg_again" and each.outcome != "begun"]
    assert [each.outcome for each in ended].count("success") == 1
    assert {each.details["run"] for each in ended} == {str(answers[0].json()["run"])}


def test_an_id_is_one_run_for_two_services_and_for_a_sender_that_tries_again_after_a_kill(
    site: Site, service: RunningService
):
    names = [f"msg_kill_{number}" for number in range(120)]
    with running_service(site, OUR_SECRET=OURS) as dying, ThreadPoolExecutor(4) as pool:
        both = list(pool.map(lambda each: post(each, "ours", id="msg_kill_two"), [service, dying, service, dying]))
        sent = [pool.submit(post, dying, "ours", id=name) for name in names]
        sent[5].result()
        site.processes[-1].kill()
        died = sum(each.exception() is not None for each in sent)
    answers = {name: post(service, "ours", id=name).json()["run"] for name in [*names, "msg_kill_two"]}

    assert {each.json()["run"] for each in both} == {answers["msg_kill_two"]}
    assert died
    found = {event: number for number, event, *_ in runs(site) if "msg_kill_" in event}
    assert found == {f"webhook {name}": number for name, number in answers.items()}


def test_strangers_are_all_answered_alike_and_start_nothing(service: RunningService, site: Site):
    before = site.ask("SELECT count(*) FROM pipelines.runs")
    old, soon = time.time() - TOLERANCE_SECONDS - 5, time.time() + TOLERANCE_SECONDS + 5
    attempts = [
        post(service, "ours", secret=THEIRS),
        post(service, "ours", webhook_signature="v1,AAAA"),
        post(service, "ours", webhook_signature=""),
        post(service, "ours", webhook_id="a.b"),
        post(service, "ours", webhook_timestamp="nan"),
        post(service, "ours", at=old),
        post(service, "ours", at=soon),
        send(service, "ours", b"{}", {}),
        send(service, "ours", b"{}", {"Authorization": "token owner-token"}),
        post(service, "theirs"),
        post(service, "none"),
        post(service, "unset"),
        post(service, "weak", secret="w" * 32),
        post(service, "no-such-pipeline"),
    ]

    assert {each.status_code for each in attempts} == {401}
    assert len({each.text for each in attempts}) == 1
    assert attempts[0].json()["error"]["message"] == REFUSAL["message"]
    told = [{name for name in each.headers if name != "date"} for each in attempts]
    assert all(each == told[0] for each in told)
    assert site.ask("SELECT count(*) FROM pipelines.runs") == before


def test_a_secret_of_one_pipeline_opens_no_other_and_one_in_a_file_may_change(service: RunningService, site: Site):
    assert post(service, "theirs", secret=THEIRS).status_code == 202
    assert post(service, "theirs", secret=OURS).status_code == 401

    path = site.folder / "project" / "secret"
    path.write_text(OURS + "\n")
    try:
        # A key is kept for a second.
        wait_until(lambda: post(service, "theirs", secret=OURS).status_code == 202, 10, "the new secret to be taken")
        assert post(service, "theirs", secret=THEIRS).status_code == 401
    finally:
        path.write_text(THEIRS)


def test_a_request_that_is_sent_again_later_is_refused_and_its_run_is_not_let_go_before(service, site: Site):
    body, moment = b"captured", int(time.time()) - TOLERANCE_SECONDS + 20
    first = post(service, "ours", body, id="msg_replayed", at=moment)
    site.ask(f"UPDATE pipelines.runs SET ended_at = now(), state = 'succeeded' WHERE id = {first.json()['run']}")
    site.ask("UPDATE pipelines.pipelines SET keep_runs = 0 WHERE name = 'ours'")
    with site.store.transaction() as connection:
        let_go(connection)
    second = post(service, "ours", body, id="msg_replayed", at=moment)

    assert first.json() == second.json()
    wait_until(lambda: time.time() - moment > TOLERANCE_SECONDS + 1, 60, "the request to be old")
    assert post(service, "ours", body, id="msg_replayed", at=moment).status_code == 401


def test_a_body_that_is_too_large_is_not_read(service: RunningService):
    limit, over = b"x" * LARGEST_BYTES, b"x" * (LARGEST_BYTES + 1)

    assert post(service, "ours", limit).status_code == 202
    assert post(service, "ours", over).status_code == 413
    assert announced(service, "Content-Length: 99999999999999999999999").startswith(b"HTTP/1.1 4")
    assert announced(
        service, "Transfer-Encoding: chunked", b"20000\r\n" + b"x" * 0x20000 + b"\r\n0\r\n\r\n"
    ).startswith(b"HTTP/1.1 400")


def announced(service: RunningService, header: str, body: bytes = b"") -> bytes:
    """The first line that is answered to a request with such a header."""
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname, address.port), 30) as connection:
        path = f"{address.path}api/v1/webhooks/ours"
        connection.sendall(f"POST {path} HTTP/1.1\r\nHost: localhost\r\n{header}\r\n\r\n".encode())
        with suppress(OSError):
            connection.sendall(body)
        try:
            return connection.recv(200)
        except ConnectionResetError:
            return b"HTTP/1.1 400"


def test_a_body_that_is_no_text_and_one_that_does_not_fit_are_told_to_who_signs(service: RunningService):
    assert post(service, "ours", b"\xff").status_code == 400
    assert "UTF-8" in post(service, "ours", b"\xff").text
    assert send(service, "ours", b"\xff", {}).status_code == 401


def test_other_methods_and_pages_stay_shut(service: RunningService):
    address = f"{service.url}api/v1/webhooks/ours"

    assert {httpx.request(each, address, trust_env=False).status_code for each in ("GET", "PUT", "DELETE")} == {405}
    assert httpx.post(f"{address}/more", trust_env=False).status_code == 401


def test_while_a_pipeline_is_paused_a_sender_is_asked_to_come_back_and_a_stranger_told_nothing(service, site: Site):
    assert service.api("owner", "POST", "/pipelines/ours/pause", {}).status_code == 200
    try:
        paused = post(service, "ours", id="msg_paused")
        stranger = post(service, "ours", secret=THEIRS)
    finally:
        service.api("owner", "POST", "/pipelines/ours/resume", {})

    assert (paused.status_code, paused.headers["retry-after"], stranger.status_code) == (503, "60", 401)
    assert post(service, "ours", id="msg_paused").status_code == 202


def test_what_cannot_be_recorded_starts_nothing_and_a_stranger_is_told_nothing(service: RunningService, site: Site):
    folder, aside = site.home / "audit", site.home / "audit-aside"
    folder.rename(aside)
    folder.write_text("in the way")
    try:
        answer = post(service, "ours", id="msg_unrecorded")
        stranger = post(service, "ours", secret=THEIRS)
    finally:
        folder.unlink()
        aside.rename(folder)

    assert (answer.status_code, answer.headers["retry-after"], stranger.status_code) == (503, "60", 401)
    assert [each for each in runs(site) if each[1] == "webhook msg_unrecorded"] == []
    assert post(service, "ours", id="msg_unrecorded").status_code == 202


def test_the_command_signs_what_the_service_takes(service: RunningService, site: Site, tmp_path):
    body = tmp_path / "event.json"
    body.write_bytes(b'{"n": 1}')
    file = tmp_path / "ours.yaml"
    file.write_text("steps: {a: {flow: flights}}\ntriggers: [{webhook: {secret: env:OUR_SECRET}}]\n")
    command = ("pipelines", "webhook", "--file", str(file), "--body", str(body), "--id", "msg_cli")

    done = run(*command, "--json", home=site.home, OUR_SECRET=OURS)
    plain = run(*command, home=site.home, OUR_SECRET=OURS)
    unset = run(*command, home=site.home)

    assert done.returncode == 0, done.stderr
    assert send(service, "ours", body.read_bytes(), json.loads(done.stdout)).status_code == 202
    assert [each.partition(": ")[0] for each in plain.stdout.splitlines()] == list(json.loads(done.stdout))
    assert unset.returncode != 0
    assert "the secret env:OUR_SECRET is not there" in unset.stderr


def test_failures_are_limited_in_the_log_and_then_in_the_answers_and_who_signs_is_not(service, site: Site):
    """Behind the others: it uses up what a minute allows."""
    address = f"{service.url}api/v1/webhooks/ours"
    before = len(list(read_events(AuditLog.of(site.home).path, action="webhook.refused")))
    with httpx.Client(trust_env=False) as client:
        # Of two minutes: the first may have begun with another test, and end meanwhile.
        statuses = [0]
        while statuses[-1] != 429 and len(statuses) <= 2 * REFUSED_PER_MINUTE:
            statuses.append(client.post(address, content=b"{}").status_code)
    after = len(list(read_events(AuditLog.of(site.home).path, action="webhook.refused")))

    assert set(statuses[1:-1]) <= {401}
    assert statuses[-1] == 429
    assert post(service, "ours").status_code == 202
    assert after - before <= 40


def test_no_secret_is_in_a_log_or_in_the_store(site: Site):
    texts = [path.read_text(errors="replace") for path in [*site.folder.rglob("*.log"), AuditLog.of(site.home).path]]
    for (table,) in site.ask("SELECT tablename FROM pg_tables WHERE schemaname = 'pipelines'"):
        texts += [str(row) for row in site.ask(f"SELECT t::text FROM pipelines.{table} t")]

    everything = "\n".join(texts)
    assert "webhook msg_first" in everything
    assert [each for each in (OURS, THEIRS, OURS[6:], "ours" * 8, "weak webhook") if each in everything] == []
    assert "the secret env:NO_SUCH is not there" in site.log("pipelines.service")
