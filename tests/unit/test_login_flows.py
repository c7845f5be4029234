"""What a login remembers in the browser: nobody else reads, makes, moves or keeps it."""

from __future__ import annotations

import asyncio
import base64
import time
from types import SimpleNamespace

import pytest
from tornado.web import HTTPError

from hub.authentication.flows import FLOW_SECONDS, STATE, Flow, cookie_name, seal, unseal
from hub.authentication.handlers import Callback
from workbench.errors import ProviderRefused, ProviderUnavailable
from workbench.security.audit import Action

SECRET = b"state-secret"


def opened(flow: Flow, sealed: str, secret: bytes = SECRET, **changes: str) -> Flow | None:
    return unseal(sealed, secret, **{"provider": flow.provider, "state": flow.state, **changes})


def test_a_flow_comes_back_as_it_was():
    flow = Flow(provider="github", next_url="/hub/home", link="gh-ada")

    assert opened(flow, seal(flow, SECRET)) == flow


def test_the_cookie_shows_nothing():
    flow = Flow(provider="github", next_url="/hub/a-secret-place")
    sealed = seal(flow, SECRET)

    clear = base64.urlsafe_b64decode(sealed).decode("latin-1")
    for value in (flow.verifier, flow.nonce, flow.next_url, flow.state):
        assert value not in sealed
        assert value not in clear


@pytest.mark.parametrize("changes", [{"provider": "google"}, {"state": "x" * 43}, {"secret": b"another"}])
def test_a_flow_is_good_for_one_provider_one_state_and_one_hub(changes):
    flow = Flow(provider="github")

    assert opened(flow, seal(flow, SECRET), **changes) is None


@pytest.mark.parametrize("sealed", ["", "x", "gAAAAA", "é"])
def test_what_is_not_ours_is_no_flow(sealed):
    assert unseal(sealed, SECRET, provider="github", state="x" * 43) is None


def test_every_byte_of_the_cookie_counts():
    flow = Flow(provider="github")
    sealed = seal(flow, SECRET)

    for index in range(0, len(sealed) - 2, 7):
        changed = "A" if sealed[index] != "A" else "B"
        assert opened(flow, sealed[:index] + changed + sealed[index + 1 :]) is None


def test_a_flow_is_good_for_ten_minutes():
    flow = Flow(provider="github", expires_at=time.time() - 1)

    assert opened(flow, seal(flow, SECRET)) is None
    assert Flow(provider="github").expires_at == pytest.approx(time.time() + FLOW_SECONDS, abs=5)


def test_state_verifier_and_nonce_are_never_the_same_twice():
    flows = [Flow(provider="github") for _ in range(50)]

    assert len({value for flow in flows for value in (flow.state, flow.verifier, flow.nonce)}) == 150
    assert all(STATE.fullmatch(flow.state) for flow in flows)


def test_the_challenge_is_that_of_rfc_7636_appendix_b():
    flow = Flow(provider="github", verifier="dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")

    assert flow.challenge == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_the_name_of_the_cookie_keeps_tabs_and_providers_apart():
    assert len({cookie_name(provider, state) for provider in ("a", "b") for state in ("1", "2")}) == 4


class Returned(Callback):
    """A browser that comes back from the provider with a flow of ours; notes what is recorded."""

    def __init__(self, flow: Flow, **sent: str) -> None:
        self.flow, self.sent, self.provider = flow, sent, SimpleNamespace(key="github", label="GitHub")
        self.recorded: list[tuple[str, str, str]] = []

    def _flow(self) -> Flow:
        return self.flow

    def get_argument(self, name: str, default: str = "") -> str:
        return self.sent.get(name, default)

    async def audit(self, action: Action, *, actor: str = "", outcome: str = "", **details: str) -> None:
        self.recorded.append((action, actor, details["reason"]))

    async def failed(self, reason: str) -> None:
        await self.audit(Action.LOGIN_FAILED, reason=reason)

    async def _link(self, flow: Flow) -> None:
        if self.sent["code"] == "away":
            raise ProviderUnavailable("it is away")
        raise ProviderRefused("it proves nothing")

    _log_in = _link


@pytest.mark.parametrize(
    ("link", "sent", "recorded"),
    [
        ("gh-ada", {"error": "access_denied"}, (Action.ACCOUNT_LINKED, "gh-ada", "access_denied")),
        ("gh-ada", {"code": "x"}, (Action.ACCOUNT_LINKED, "gh-ada", "it proves nothing")),
        ("gh-ada", {"code": "away"}, (Action.ACCOUNT_LINKED, "gh-ada", "it is away")),
        ("", {"error": "access_denied"}, (Action.LOGIN_FAILED, "", "access_denied")),
        ("", {"code": "away"}, (Action.LOGIN_FAILED, "", "it is away")),
        ("", {"code": "x"}, (Action.LOGIN_REFUSED, "", "it proves nothing")),
    ],
)
def test_a_link_that_comes_to_nothing_is_in_the_log_as_the_persons_own(link, sent, recorded):
    callback = Returned(Flow(provider="github", link=link), **sent)

    with pytest.raises(HTTPError):
        asyncio.run(callback.get())

    assert callback.recorded == [recorded]
