"""Signatures of webhooks: the scheme of Standard Webhooks, and nothing that only looks like it."""

from __future__ import annotations

import base64
import hmac
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from pipelines.service.webhooks import signing
from pipelines.service.webhooks.signing import ID, SIGNATURE, TIMESTAMP, Signed, key_of
from workbench.errors import WorkbenchError

# Made with the library of Standard Webhooks, version 1.1.0.
SECRET = SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
HEADERS = {
    ID: "msg_p5jXN8AQM9LWM0D4loKWxJek",
    TIMESTAMP: "1614265330",
    SIGNATURE: "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
BODY = b'{"test": 2432232314}'
KEY = key_of(SECRET)


def test_a_signature_is_that_of_the_standard():
    signed = Signed.read(HEADERS, BODY)

    assert signed.is_signed(KEY)
    assert signed.headers(KEY) == HEADERS


@pytest.mark.parametrize(
    "signature",
    [
        f"v1,AAAA {HEADERS[SIGNATURE]}",
        f"v1a,AAAA {HEADERS[SIGNATURE]}",
        f"{HEADERS[SIGNATURE]} v1,%%% nothing v2,AAAA",
    ],
)
def test_one_of_several_signatures_is_enough(signature: str):
    assert Signed.read({**HEADERS, SIGNATURE: signature}, BODY).is_signed(KEY)


@pytest.mark.parametrize(
    "changed",
    [
        {ID: "msg_other"},
        {TIMESTAMP: "1614265331"},
        {SIGNATURE: HEADERS[SIGNATURE].replace("v1,", "v1a,")},
        {SIGNATURE: HEADERS[SIGNATURE].removeprefix("v1,")},
        {SIGNATURE: HEADERS[SIGNATURE].replace("g0h", "g0i")},
        {SIGNATURE: "v1,"},
        {SIGNATURE: ""},
        {SIGNATURE: "v1,é"},
    ],
)
def test_what_was_changed_is_not_signed(changed: dict[str, str]):
    found = Signed.read({**HEADERS, **changed}, BODY)

    assert found is None or not found.is_signed(KEY)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {**HEADERS, ID: ""},
        {**HEADERS, ID: "a.b"},
        {**HEADERS, ID: "a b"},
        {**HEADERS, ID: "x" * 257},
        {**HEADERS, TIMESTAMP: "nan"},
        {**HEADERS, TIMESTAMP: "1614265330.0"},
        {**HEADERS, TIMESTAMP: "-1"},
        {**HEADERS, TIMESTAMP: "01614265330"},
        {**HEADERS, TIMESTAMP: "١٢٣"},
        {**HEADERS, TIMESTAMP: "9" * 13},
        {**HEADERS, SIGNATURE: "v1,AAAA " * 1000},
    ],
)
def test_headers_that_are_malformed_are_none(headers: dict[str, str]):
    assert Signed.read(headers, BODY) is None


def test_a_full_stop_cannot_be_moved_from_one_part_to_the_next():
    signed = Signed(id="a", timestamp=1, body=b"2.body")
    moved = {**signed.headers(KEY), ID: "a.1", TIMESTAMP: "2"}

    assert Signed.read(moved, b"body") is None


@pytest.mark.parametrize(("now", "is_fresh"), [(-301, False), (-300, True), (0, True), (300, True), (301, False)])
def test_a_request_is_good_for_five_minutes(now: int, *, is_fresh: bool):
    assert Signed(id="a", timestamp=1000, body=b"").is_fresh(1000 + now) is is_fresh


def test_all_signatures_are_compared_in_constant_time(monkeypatch):
    compared = []
    monkeypatch.setattr(signing.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or a == b)
    signed = Signed.read({**HEADERS, SIGNATURE: f"{HEADERS[SIGNATURE]} v1,AAAA v1,BBBB"}, BODY)

    assert signed.is_signed(KEY)
    assert len(compared) == 3


@given(
    st.binary(max_size=200),
    st.from_regex(signing.IDS, fullmatch=True),
    st.integers(1, 10**12 - 1),
    st.binary(min_size=24),
)
def test_what_is_signed_is_read_back(body: bytes, name: str, timestamp: int, key: bytes):
    made = Signed(id=name, timestamp=timestamp, body=body)
    found = Signed.read(made.headers(key), body)

    assert found.is_signed(key)
    assert not replace(found, body=body + b"x").is_signed(key)
    assert not found.is_signed(hmac.digest(key, b"", "sha256"))


def test_a_secret_is_base64_behind_its_prefix_or_any_text():
    assert base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw") == KEY
    assert key_of(SecretStr("x" * 24)) == b"x" * 24


@pytest.mark.parametrize("secret", ["", "short", "whsec_", "whsec_MfKQ9r8GKYqr", "whsec_%%%%" + "A" * 40])
def test_a_secret_that_is_weak_is_refused_and_not_shown(secret: str):
    with pytest.raises(WorkbenchError, match="fewer than 24 bytes") as refused:
        key_of(SecretStr(secret))

    assert not secret.strip("whsec_") or secret not in str(refused.value)
