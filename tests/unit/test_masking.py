"""Secrets do not reach a log, whoever writes the line and in whatever form."""

from __future__ import annotations

import base64
import io
import json
import logging
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.masking import HIDDEN, LEAST_CHARACTERS, Masks, mask_logs, masked, remember
from workbench.references import SecretReference
from workbench.resolving import References

CANARY = "p@ss/w0rd canary+4712"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch):
    """What a handler writes that was added after the masks, as JupyterHub adds its own."""
    before = logging.getLogRecordFactory()
    mask_logs()
    mask_logs()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logger = logging.getLogger("somebody.elses")
    logger.addHandler(handler)
    yield stream
    logger.removeHandler(handler)
    logging.setLogRecordFactory(before)


FORMS = {
    "plain": CANARY,
    "base64": base64.b64encode(CANARY.encode()).decode(),
    "base64 within more": base64.b64encode(f"user:{CANARY}:x".encode()).decode(),
    "base64 for URLs": base64.urlsafe_b64encode(f"a{CANARY}".encode()).decode(),
    "URL-encoded": quote(CANARY, safe=""),
    "hex": CANARY.encode().hex(),
    "JSON": json.dumps({"a": CANARY}),
    "URL-encoded in small letters": quote(CANARY, safe="").lower(),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_that_was_read_is_masked_in_every_form(written, form):
    References({"TOKEN": CANARY}).read(SecretReference("env", "TOKEN"))

    logging.getLogger("somebody.elses").warning("asked with %s and %d", FORMS[form], 7)

    line = written.getvalue()
    assert HIDDEN in line
    assert "and 7" in line
    for each in ("canary", CANARY, "Y2FuYXJ5", CANARY.encode().hex()):
        assert each not in line


def test_a_secret_in_a_traceback_is_masked_and_the_place_is_not(written):
    remember(CANARY)
    try:
        int(CANARY)
    except ValueError:
        logging.getLogger("somebody.elses").exception("it failed")

    assert CANARY not in written.getvalue()
    assert f"ValueError: invalid literal for int() with base 10: '{HIDDEN}'" in written.getvalue()
    assert "test_masking.py" in written.getvalue()


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("postgresql://ada:hunter2@host:5432/db", f"postgresql://{HIDDEN}@host:5432/db"),
        ("see https://tok3n@hooks.example.com/x?a=1", f"see https://{HIDDEN}@hooks.example.com/x?a=1"),
        ("Authorization: Bearer abc.def.ghi-jkl", f"Authorization: {HIDDEN}"),
        ("{'Authorization': 'token 0123456789', 'Accept': '*/*'}", f"{{'Authorization': '{HIDDEN}', 'Accept': '*/*'}}"),
        ("[('authorization', 'Basic YWRhOmh1bnRlcjI=')]", f"[('authorization', '{HIDDEN}')]"),
        ("sent bearer abcdefghijklmnop now", f"sent bearer {HIDDEN} now"),
        ("X-Vault-Token: hvs.CAESI", f"X-Vault-Token: {HIDDEN}"),
        ("Cookie: a=b; c=d", f"Cookie: {HIDDEN}"),
        ('Cookie: name="2|1:0|10:17|S3CRET"; b=S3CRET', f"Cookie: {HIDDEN}"),
        ('Cookie: "a"=1; b=S3CRET', f'Cookie: "{HIDDEN}'),
        ('Set-Cookie: sid="S3CRET"; Path=/', f"Set-Cookie: {HIDDEN}"),
        ('Authorization: Digest username="ada", response="S3CRET"', f"Authorization: {HIDDEN}"),
        ("{'Authorization': 'Digest response=\"S3CRET\"', 'A': 'b'}", f"{{'Authorization': '{HIDDEN}', 'A': 'b'}}"),
        ('{"Cookie": "a=\\"S3CRET\\"", "A": 1}', f'{{"Cookie": "{HIDDEN}", "A": 1}}'),
        ("{'Cookie': ['S3CRET', b'S3CRET'], 'A': 'b'}", f"{{'Cookie': ['{HIDDEN}'], 'A': 'b'}}"),
        ("[(b'cookie', b'S3CRET'), (b'a', b'b')]", f"[(b'cookie', b'{HIDDEN}'), (b'a', b'b')]"),
        ('sent Bearer "abcdefghijklmnop" now', f'sent Bearer "{HIDDEN}" now'),
        (r'"{\"Cookie\": \"S3CRET\"}"', rf'"{{\"Cookie\": {HIDDEN}'),
    ],
)
def test_logins_are_masked_by_their_form(line, shown):
    assert masked(line) == shown


@pytest.mark.parametrize(
    "line",
    [
        "GET https://host/a@b?x=y 200",
        "basic auth is off",
        "the bearer token ended",
        "authorization failed for ada",
        "sc://localhost:15002",
        "mail to ada@example.com",
    ],
)
def test_what_is_no_secret_stays(line):
    assert masked(line) == line


@given(st.text(min_size=LEAST_CHARACTERS, max_size=40).filter(lambda text: len(text.strip()) >= LEAST_CHARACTERS))
def test_no_form_of_any_secret_is_left(secret):
    masks = Masks()
    masks.remember(secret)
    value = secret.strip()

    assert value not in masks.masked(f"a {value} b") or value in HIDDEN
    assert masks.masked(quote(value, safe="")) == HIDDEN


@pytest.mark.parametrize(
    "form",
    [
        lambda each: quote(each, safe="!'()*~"),
        lambda each: repr(each.encode())[2:-1],
        lambda each: "%c3%a9" + quote(each[1:]),
    ],
)
def test_forms_of_other_programs_are_masked(form):
    masks = Masks()
    masks.remember("é(secret)! it's")

    assert masks.masked(form("é(secret)! it's")) == HIDDEN


def test_a_short_value_is_not_masked_because_it_stands_in_words():
    masks = Masks()
    masks.remember("test")

    assert masks.masked("the test ran") == "the test ran"


def test_masking_is_cheap():
    masks = Masks()
    for number in range(50):
        masks.remember(f"a-secret-of-the-test-{number:04}")
    line = "run 7 of daily: step load began, attempt 1, on worker-1 with 12 of 40 slots"
    started = time.perf_counter()
    for _ in range(1000):
        masks.masked(line)

    assert time.perf_counter() - started < 1.0
