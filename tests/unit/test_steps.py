"""What the steps compute without Spark."""

from __future__ import annotations

import hashlib
import hmac
import subprocess
import sys
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from workbench.transformation.steps import Hashed, LastCharacters, Removed, Truncated, pseudonym
from workbench.transformation.steps.durations import UNITS, as_interval, parse_duration

SECRET = SecretStr("a secret of more than sixteen bytes")


def test_importing_the_steps_loads_no_driver():
    probe = "import sys, workbench.transformation.steps; print([n for n in ('pyspark', 'pandas', 'pyarrow') if n in sys.modules])"

    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("10 minutes", timedelta(minutes=10)),
        ("1 Hour 30 minutes", timedelta(minutes=90)),
        ("  500 milliseconds ", timedelta(milliseconds=500)),
        ("2 weeks", timedelta(days=14)),
        ("0 seconds", timedelta()),
        (timedelta(days=1), timedelta(days=1)),
    ],
)
def test_lengths_of_time_are_read(text, length):
    assert parse_duration(text) == length


@pytest.mark.parametrize(
    "text",
    ["", "10", "minutes", "1 month", "1 year", "-5 minutes", "1.5 hours", "5 minutes or so", "9999999999999 weeks"],
)
def test_what_is_no_length_of_time_is_refused(text):
    with pytest.raises(ValueError):
        parse_duration(text)
    with pytest.raises(ValueError, match="negative"):
        parse_duration(timedelta(seconds=-1))


@given(st.integers(0, 10**6), st.sampled_from(sorted(UNITS)))
def test_a_length_survives_the_way_to_spark_and_back(count, unit):
    length = parse_duration(f"{count} {unit}s")

    assert length == count * UNITS[unit]
    assert parse_duration(as_interval(length)) == length


@given(st.text(), st.text(min_size=16, alphabet=st.characters(codec="utf-8")), st.text(max_size=5))
def test_the_pads_make_hmac(value, secret, purpose):
    inner, outer = Hashed(SecretStr(secret), purpose).pads
    key = secret.encode()
    key = hmac.digest(key, purpose.encode(), "sha256") if purpose else key
    text = value.encode("utf-8", "replace")

    computed = hashlib.sha256(outer + hashlib.sha256(inner + text).digest()).hexdigest()

    assert computed == hmac.new(key, text, "sha256").hexdigest()
    assert computed == pseudonym(text.decode(), SecretStr(secret), purpose)


def test_a_rule_does_not_show_its_secret():
    assert SECRET.get_secret_value() not in repr(Hashed(SECRET))


@pytest.mark.parametrize(
    ("rule", "kind", "told"),
    [
        (Hashed(SECRET), "double", "not always the same"),
        (Hashed(SECRET), "timestamp", "not always the same"),
        (Hashed(SecretStr("short")), "string", "fewer than 16 bytes"),
        (Hashed("a secret that is a plain text"), "string", "no SecretStr"),  # type: ignore[arg-type]
        (LastCharacters(0), "string", "less than 1"),
        (LastCharacters(4), "int", "not string"),
        (Truncated("month"), "string", "neither date nor timestamp"),
        (Truncated("hour"), "date", "'hour' is none of"),
    ],
)
def test_a_rule_says_what_it_cannot_do(rule, kind, told):
    assert told in rule.problem(kind)


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        (Hashed(SECRET), "string"),
        (Hashed(SECRET), "bigint"),
        (LastCharacters(4), "string"),
        (Removed(), "map<string,int>"),
        (Truncated("month"), "date"),
        (Truncated("hour"), "timestamp_ntz"),
    ],
)
def test_a_rule_that_fits_has_no_problem(rule, kind):
    assert rule.problem(kind) == ""
