"""Forged, foreign and damaged ID tokens: none lets anybody in, at Google or at an issuer of one's own."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest

from tests.services.attacker import assert_refused
from tests.services.identity.id_tokens import Claims, SigningKey
from tests.services.identity.wire import Answer
from tests.services.identity_provider import TAMPERINGS, Fault, IdentityProvider
from tests.services.login_hub import LoginHub, running_login_hub

pytestmark = pytest.mark.usefixtures("people_as_before")
PROVIDERS = ("google", "oidc")
FOREIGN = SigningKey()
Tamper = Callable[[SigningKey, Claims], str]


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Iterator[LoginHub]:
    """A hub that soon asks again who somebody is."""
    folder, soon = tmp_path_factory.mktemp("hub"), {"WORKBENCH_LOGIN_RECHECK_SECONDS": "5"}
    with IdentityProvider() as provider, running_login_hub(folder, provider, providers=PROVIDERS, **soon) as hub:
        yield hub


def _encoded(part: object) -> bytes:
    text = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=")


def with_claims(**changes: Any) -> Tamper:
    """Claims changed and well signed, whatever type they have."""
    return lambda key, claims: with_payload({**claims, **changes})(key, claims)


def with_payload(payload: object) -> Tamper:
    """Anything for a payload, well signed: PyJWT itself makes claims only."""
    return lambda key, _: jwt.api_jws.encode(
        payload if isinstance(payload, bytes) else json.dumps(payload).encode(),
        key.private,
        algorithm="RS256",
        headers={"kid": key.id},
    )


def with_secret(secret: Callable[[SigningKey], bytes], **header: Any) -> Tamper:
    """Signed with something that everybody knows, as if it were a shared secret."""

    def tamper(key: SigningKey, claims: Claims) -> str:
        text = b".".join(map(_encoded, ({"alg": "HS256", "typ": "JWT", "kid": key.id, **header}, claims)))
        return (text + b"." + _encoded(hmac.new(secret(key), text, hashlib.sha256).digest())).decode()

    return tamper


def unsigned(algorithm: object) -> Tamper:
    return lambda key, claims: b".".join((_encoded({"alg": algorithm, "kid": key.id}), _encoded(claims), b"")).decode()


def by_attacker(**header: Any) -> Tamper:
    """Signed with the attacker's key; the header says where that is to be found."""
    return lambda key, claims: jwt.encode(claims, FOREIGN.private, algorithm="RS256", headers={"kid": key.id, **header})


def changed_text(change: Callable[[str], str]) -> Tamper:
    return lambda key, claims: change(key.sign(claims))


def _weaker(key: SigningKey, claims: Claims) -> str:
    header, payload, _ = key.sign(claims).split(".")
    return f"{header}.{payload}."


FORGERIES: dict[str, Tamper] = {
    "audiences with a foreign one and no azp": lambda key, claims: key.sign(
        {name: value for name, value in claims.items() if name != "azp"} | {"aud": [claims["aud"], "another-client"]}
    ),
    "audiences without ours": with_claims(aud=["another-client", "third-client"]),
    "no audiences": with_claims(aud=[]),
    "an audience that begins like ours": lambda key, claims: key.sign({**claims, "aud": claims["aud"] + "-2"}),
    "an audience that is a part of ours": lambda key, claims: key.sign({**claims, "aud": claims["aud"][:-1]}),
    "an audience that is an object": with_claims(aud={"x": 1}),
    "our audience, issued to another": with_claims(azp="another-client"),
    "issued to nobody": with_claims(azp=None),
    "an issuer with a slash more": lambda key, claims: key.sign({**claims, "iss": claims["iss"] + "/"}),
    "an issuer in capitals": lambda key, claims: key.sign({**claims, "iss": claims["iss"].upper()}),
    "a list of issuers": lambda key, claims: with_claims(iss=[claims["iss"], "https://evil.example"])(key, claims),
    "no issuer": with_claims(iss=None),
    "a subject that is a number": with_claims(sub=1001),
    "a subject that is a list": with_claims(sub=["1001", "1002"]),
    "an empty subject": with_claims(sub=""),
    "a subject with a space more": with_claims(sub="1002 "),
    "a nonce in a list": lambda key, claims: key.sign({**claims, "nonce": [claims["nonce"]]}),
    "an empty nonce": with_claims(nonce=""),
    "a nonce cut short": lambda key, claims: key.sign({**claims, "nonce": claims["nonce"][:-1]}),
    "an end that is text": with_claims(exp="tomorrow"),
    "an end beyond all numbers": with_payload(b'{"exp":1e999,"iat":1e999}'),
    "an end before its beginning": with_claims(exp=int(time.time()) - 3600),
    "good from tomorrow on": with_claims(nbf=int(time.time()) + 86400),
    "no time of issue": with_claims(iat=None),
    "a list for claims": with_payload([]),
    "text for claims": with_payload("claims"),
    "claims that are no JSON": with_payload(b"\xff\xfe"),
    "claims that are nested deeply": with_payload(b"[" * 20_000 + b"]" * 20_000),
    "HS256 with the published modulus": with_secret(lambda key: key.published()["n"].encode()),
    "HS256 with the JWK": with_secret(lambda key: json.dumps(key.published()).encode()),
    "HS256 with no key": with_secret(lambda _: b""),
    "HS256 with the client's id": with_secret(lambda _: b"google-client"),
    "HS256 with a path for a key id": with_secret(lambda _: b"", kid="../../../../dev/null"),
    "HS512 by its name": with_secret(lambda key: key.public_pem(), alg="HS512"),
    "a key id that is a path": lambda _, claims: FOREIGN.sign(claims, kid="../../../../../../etc/hostname"),
    "a key id that is a query": lambda _, claims: FOREIGN.sign(claims, kid="x' UNION SELECT 'key"),
    "a key id that is an address": lambda _, claims: FOREIGN.sign(claims, kid="https://evil.example/key"),
    "a key id of 100 kB": lambda _, claims: FOREIGN.sign(claims, kid="k" * 100_000),
    "a key id that is a list": lambda key, claims: b".".join(
        (_encoded({"alg": "RS256", "kid": [key.id]}), _encoded(claims), _encoded(b"x" * 256))
    ).decode(),
    "no key id, a foreign key": lambda _, claims: jwt.encode(claims, FOREIGN.private, algorithm="RS256"),
    "an embedded key": by_attacker(jwk=FOREIGN.published()),
    "an embedded key with its own id": lambda _, claims: jwt.encode(
        claims, FOREIGN.private, algorithm="RS256", headers={"kid": FOREIGN.id, "jwk": FOREIGN.published()}
    ),
    "an embedded certificate": by_attacker(x5c=[base64.b64encode(FOREIGN.public_pem()).decode()]),
    "an unknown critical header": lambda key, claims: jwt.encode(
        claims, key.private, algorithm="RS256", headers={"kid": key.id, "crit": ["evil"], "evil": 1}
    ),
    **{f"algorithm {name!r}": unsigned(name) for name in ("None", "NONE", "nOnE", "", None, "rs256", ["RS256"], {})},
    "no signature": _weaker,
    "a signature cut short": changed_text(lambda token: token[:-10]),
    "a part more": changed_text(lambda token: token + ".x"),
    "a part less": changed_text(lambda token: token.rpartition(".")[0]),
    "parts in other order": changed_text(lambda token: ".".join(reversed(token.split(".")))),
    "a line break inside": changed_text(lambda token: token.replace(".", ".\r\nX-Evil: 1\r\n", 1)),
    "no ASCII": changed_text(lambda _: "é.é.é"),
    "of 900 kB": changed_text(lambda token: token + "A" * 900_000),
    "of 2 MB": changed_text(lambda token: token + "A" * 2_000_000),
}
POINTERS = ("jku", "x5u", "kid")


@pytest.mark.parametrize("how", [*sorted(TAMPERINGS), *FORGERIES])
@pytest.mark.parametrize("name", PROVIDERS)
def test_a_forged_id_token_lets_nobody_in(provider, browser, monkeypatch, name, how):
    monkeypatch.setitem(TAMPERINGS, how, (TAMPERINGS | FORGERIES)[how])
    provider.tampering = how

    assert_refused(browser, browser.login(name, person="grace"), 403, 503)


@pytest.mark.parametrize("name", PROVIDERS)
def test_an_honest_id_token_lets_its_owner_in(browser, name):
    """The forgeries fail for what is forged, and for nothing else."""
    assert browser.login(name, person="grace").status_code == 200


@pytest.mark.parametrize("pointer", POINTERS)
def test_no_key_is_fetched_from_where_the_token_says(provider, browser, monkeypatch, pointer):
    address = f"{provider.url}/attacker/{pointer}"
    monkeypatch.setitem(TAMPERINGS, "pointing", by_attacker(**{pointer: address}))
    provider.tampering = "pointing"

    assert_refused(browser, browser.login("oidc", person="grace"), 403)
    assert provider.requests_to(f"/attacker/{pointer}") == []


def test_unknown_keys_do_not_make_the_hub_fetch_again_and_again(hub, provider):
    provider.tampering = "unknown_key"
    before = len(provider.requests_to("/realm/certs"))

    for _ in range(10):
        with hub.browser() as browser:
            browser.login("oidc", person="grace")

    assert len(provider.requests_to("/realm/certs")) - before <= 1


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_profile_of_another_account_than_the_id_token_lets_nobody_in(provider, browser, name):
    """Token substitution: the access token was given to somebody else (Core 1.0 §5.3.2)."""
    field = "id" if name == "google" else "sub"
    profile = {field: "1001", "email": "ada@example.com", "hd": "example.com", "groups": ["staff@example.com"]}
    verified = {"verified_email": True, "email_verified": True}

    with provider.fault(f"{name}:userinfo", Fault(answer=Answer(body={**profile, **verified}))):
        assert_refused(browser, browser.login(name, person="grace"), 403)


def test_a_forged_id_token_at_a_refresh_ends_the_login(hub, provider, browser):
    assert browser.login("oidc", person="ada").status_code == 200
    asked = len(provider.requests_to("/realm/token"))
    provider.expire_access_tokens()
    provider.tampering = "wrong_sub"
    deadline = time.monotonic() + 30

    while browser.is_logged_in():
        assert time.monotonic() < deadline, "still logged in"

    assert len(provider.requests_to("/realm/token")) > asked


@pytest.mark.parametrize("issuer", ["https://evil.example", "{issuer}/", "{issuer}.evil.example"])
def test_metadata_of_another_issuer_is_not_believed(uninformed_hub, issuer):
    provider = uninformed_hub.provider
    provider.discovery_changes = {"issuer": issuer.format(issuer=provider.issuer)}
    before = len(provider.requests)

    with uninformed_hub.browser() as browser:
        answer = browser.get("/hub/oidc/login")

        assert_refused(browser, answer, 503)
    assert "location" not in answer.headers
    assert [each.path for each in provider.requests[before:]] == ["/realm/.well-known/openid-configuration"]
