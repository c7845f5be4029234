"""What strangers can make the service do: whatever they send, secrets are read once a second at most."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from pipelines.definition.triggers import WEBHOOK
from pipelines.service.rights import NotSignedIn, TooManyRefused
from pipelines.service.webhooks import kept, receiving
from pipelines.service.webhooks.kept import KEPT_SECONDS, KeptKeys
from pipelines.service.webhooks.receiving import Webhooks
from pipelines.service.webhooks.signing import ID, SIGNATURE, TIMESTAMP
from workbench.resolving import References
from workbench.security.audit import AuditLog

REFERENCE = "vault:secret/hooks#orders"
FORGED = {ID: "msg_1", SIGNATURE: "v1,AAAA"}


class Counted:
    """A store of secrets that counts how often it is asked."""

    def __init__(self) -> None:
        self.reads: list[str] = []

    def __call__(self, name: str) -> SecretStr:
        self.reads.append(name)
        return SecretStr("s" * 32)


@pytest.fixture
def secrets() -> Counted:
    return Counted()


@pytest.fixture
def webhooks(tmp_path, monkeypatch, secrets) -> Webhooks:
    @contextmanager
    def transaction() -> Any:
        yield None

    found = [SimpleNamespace(pipeline="orders", name=f"{WEBHOOK}{REFERENCE}")]
    monkeypatch.setattr(receiving, "named_schedules", lambda *_: found)
    site = SimpleNamespace(store=SimpleNamespace(transaction=transaction), audit=AuditLog.of(tmp_path))
    return Webhooks(site, References(readers={"vault": secrets}))


def refused(webhooks: Webhooks, headers: dict[str, str], pipeline: str = "orders") -> str:
    with pytest.raises((NotSignedIn, TooManyRefused)) as caught:
        webhooks.receive(pipeline, headers, b"{}")
    return type(caught.value).__name__


@pytest.mark.parametrize("headers", [{}, {**FORGED, TIMESTAMP: "nan"}, {TIMESTAMP: "1", SIGNATURE: "v1,AAAA"}])
def test_for_a_request_without_proper_headers_no_secret_is_read(webhooks, secrets, headers):
    assert refused(webhooks, headers) == "NotSignedIn"
    assert secrets.reads == []


def test_however_many_forged_requests_come_a_secret_is_read_once_a_second(webhooks, secrets):
    begun = time.monotonic()
    answers = [refused(webhooks, {**FORGED, TIMESTAMP: str(int(time.time()))}) for _ in range(150)]

    assert set(answers) == {"NotSignedIn", "TooManyRefused"}
    assert 1 <= len(secrets.reads) <= 1 + (time.monotonic() - begun) / KEPT_SECONDS


def test_a_key_is_read_again_after_a_second_and_one_that_is_not_there_too():
    now, reads = [0.0], []
    keys = KeptKeys(reads.append, clock=lambda: now[0])

    assert [keys.key("a"), keys.key("a"), keys.key("b")] == [None, None, None]
    assert reads == ["a", "b"]
    now[0] += KEPT_SECONDS
    keys.key("a")
    assert reads == ["a", "b", "a"]


def test_keys_that_nobody_asks_for_are_forgotten():
    now = [0.0]
    keys = KeptKeys(lambda reference: reference.encode(), clock=lambda: now[0])
    keys.key("a")
    now[0] += KEPT_SECONDS
    keys.key("b")

    assert set(keys._kept) == {"b"}


def test_while_a_key_is_being_read_nobody_reads_it_again_and_nobody_waits_for_long(monkeypatch):
    monkeypatch.setattr(kept, "PATIENCE_SECONDS", 0.05)
    reading, may_end, reads = threading.Event(), threading.Event(), []

    def read(reference: str) -> bytes:
        reads.append(reference)
        reading.set()
        may_end.wait(30)
        return b"k"

    keys = KeptKeys(read, clock=lambda: 0.0)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(keys.key, "a")
        assert reading.wait(30)
        with pytest.raises(TooManyRefused):
            keys.key("a")
        may_end.set()
        assert first.result(30) == b"k"

    assert keys.key("a") == b"k"
    assert reads == ["a"]
