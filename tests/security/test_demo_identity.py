"""The stand-in provider stands aside when there is anything real to protect."""

from __future__ import annotations

import pytest
from tornado.web import HTTPError

from hub.demo_identity import FAILURES_PER_MINUTE, PEOPLE, Issuer, check_allowed_to_run
from workbench.errors import SettingsError
from workbench.sections import HubSettings, LoginSettings
from workbench.settings import Settings


def issuer() -> Issuer:
    return Issuer(
        sign_in_code="ABCD-EFGH-JKMN",
        client_secret="secret",
        callbacks=frozenset({"http://127.0.0.1:8000/hub/github/callback"}),
    )


def test_it_does_not_run_beside_a_real_client():
    settings = Settings.load()
    real = settings.model_copy(update={"login": LoginSettings(GITHUB_CLIENT_ID="real")})

    with pytest.raises(SettingsError, match="real OAuth client"):
        check_allowed_to_run(real)


def test_it_does_not_run_where_others_reach_the_hub():
    exposed = Settings.load().model_copy(update={"hub": HubSettings(WORKBENCH_HUB_HOST="0.0.0.0")})

    with pytest.raises(SettingsError, match="runs on loopback only"):
        check_allowed_to_run(exposed)


def test_the_sign_in_code_may_be_typed_in_any_case_and_without_dashes():
    assert issuer().check_sign_in_code(" abcd efghjkmn ")
    assert not issuer().check_sign_in_code("")
    assert not issuer().check_sign_in_code("ÄBCD-EFGH-JKMN")


def test_guessing_is_slowed_down():
    guessed = issuer()
    for _ in range(FAILURES_PER_MINUTE):
        assert not guessed.check_sign_in_code("WRONG")

    with pytest.raises(HTTPError) as caught:
        guessed.check_sign_in_code("ABCD-EFGH-JKMN")

    assert caught.value.status_code == 429


def test_its_repr_shows_no_secret():
    shown = repr(issuer())

    assert "ABCD" not in shown
    assert "secret" not in shown.replace("client_secret", "")


def test_a_token_it_did_not_give_out_is_nobodys():
    with pytest.raises(HTTPError) as caught:
        issuer().person_of("Bearer made-up")

    assert caught.value.status_code == 401
    assert len({person.number for person in PEOPLE}) == len(PEOPLE)
