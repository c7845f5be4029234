"""The servers that login tests stand on: the identity provider is strict, and a real hub lets its people in."""

from __future__ import annotations

import base64
import hashlib
import json
import stat
import time

import httpx
import jwt
import pytest

from tests.services.browser import changed, send
from tests.services.identity_provider import TAMPERINGS, Fault, IdentityProvider

CALLBACK = "http://127.0.0.1:1/callback"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
TOKEN_PATHS = {"github": "/login/oauth/access_token", "google": "/oauth2/v4/token", "oidc": "/realm/token"}
AUTHORIZE_PATHS = {"github": "/login/oauth/authorize", "google": "/o/oauth2/v2/auth", "oidc": "/realm/authorize"}


@pytest.fixture
def provider():
    with IdentityProvider() as provider:
        for protocol in provider.protocols.values():
            protocol.client.callbacks.add(CALLBACK)
        yield provider


def get(address: str, **options) -> httpx.Response:
    return send("GET", address, **options)


def authorize_address(provider: IdentityProvider, name: str, **changes: str) -> str:
    query = {
        "response_type": "code",
        "client_id": provider.protocols[name].client.id,
        "redirect_uri": CALLBACK,
        "scope": "openid read:org user:email",
        "state": "s",
        "nonce": "n",
        "access_type": "offline",
        "code_challenge": CHALLENGE,
        "code_challenge_method": "S256",
    }
    return changed(f"{provider.url}{AUTHORIZE_PATHS[name]}", **{**query, **changes})


def code_of(provider: IdentityProvider, name: str, **changes: str) -> str:
    answer = get(authorize_address(provider, name, **changes))
    return httpx.URL(answer.headers["location"]).params["code"]


def ask_token(provider: IdentityProvider, name: str, **form: str) -> httpx.Response:
    client = provider.protocols[name].client
    fields = {"client_id": client.id, "client_secret": client.secret, "redirect_uri": CALLBACK, **form}
    headers = {"Accept": "application/json"}
    return send("POST", f"{provider.url}{TOKEN_PATHS[name]}", data=fields, headers=headers)


def redeem(provider: IdentityProvider, name: str, **form: str) -> dict:
    return ask_token(provider, name, **{"code": code_of(provider, name), "code_verifier": VERIFIER, **form}).json()


@pytest.mark.parametrize(("name", "prefix"), [("github", "gh-"), ("google", "g-"), ("oidc", "o-")])
def test_a_member_comes_in_through_a_real_hub(hub, name, prefix):
    with hub.browser() as browser:
        home = browser.login(name, person="grace")

        assert home.status_code == 200, home.text
        assert f"{prefix}grace" in home.text
        assert browser.api("/user").json()["name"].startswith(f"{prefix}grace")


@pytest.mark.parametrize("name", ["github", "google", "oidc"])
def test_a_stranger_does_not(hub, name):
    with hub.browser() as browser:
        assert browser.login(name, person="mallory").status_code == 403
        assert not browser.is_logged_in()


def test_a_browser_sends_what_the_hub_wants_against_xsrf(hub):
    with hub.browser() as browser:
        browser.login("github", person="ada")
        name = browser.api("/user").json()["name"]

        assert browser.api(f"/users/{name}/tokens", "POST", json={"expires_in": 60}).status_code == 201
        refused = browser.api(f"/users/{name}/tokens", "POST", headers={"X-XSRFToken": "x"}, json={"expires_in": 60})
        assert refused.status_code == 403


def test_the_tests_token_is_an_administrators_and_private(hub):
    assert stat.S_IMODE((hub.home / "keys" / "tests-api-token").stat().st_mode) == 0o600
    assert hub.api("/users").status_code == 200


def test_logins_outlive_a_restart_of_the_hub(hub):
    with hub.browser() as browser:
        browser.login("github", person="ada")
        before = hub.pid

        hub.restart()

        assert hub.pid != before
        assert browser.is_logged_in()


@pytest.mark.parametrize("name", ["github", "google", "oidc"])
def test_a_code_works_once_and_only_with_its_verifier_callback_and_client(provider, name):
    assert "access_token" in redeem(provider, name)
    for wrong in ({"code_verifier": "x"}, {"redirect_uri": CALLBACK + "/x"}, {"client_secret": "x"}):
        assert "access_token" not in redeem(provider, name, **wrong), wrong
    code = code_of(provider, name)
    assert "access_token" in ask_token(provider, name, code=code, code_verifier=VERIFIER).json()
    assert "access_token" not in ask_token(provider, name, code=code, code_verifier=VERIFIER).json()


@pytest.mark.parametrize("name", ["github", "google", "oidc"])
def test_nobody_is_redirected_to_an_unregistered_callback_or_without_pkce(provider, name):
    assert get(authorize_address(provider, name, redirect_uri="https://evil.example/")).status_code == 400
    assert get(authorize_address(provider, name, client_id="x")).status_code == 400
    without = get(authorize_address(provider, name, code_challenge_method="plain"))
    assert "error=invalid_request" in without.headers["location"]


@pytest.mark.parametrize("name", ["google", "oidc"])
def test_an_id_token_is_signed_by_the_published_key_for_the_client(provider, name):
    protocol = provider.protocols[name]
    metadata = get(f"{protocol.issuer}/.well-known/openid-configuration").json()
    keys = jwt.PyJWKClient(metadata["jwks_uri"])

    token = redeem(provider, name)["id_token"]

    key = keys.get_signing_key_from_jwt(token)
    claims = jwt.decode(token, key, algorithms=["RS256"], audience=protocol.client.id, issuer=metadata["issuer"])
    assert (claims["sub"], claims["nonce"], claims["email_verified"]) == ("1001", "n", True)


@pytest.mark.parametrize("how", sorted(set(TAMPERINGS) - {"missing"}))
def test_a_tampered_id_token_is_not_the_one_that_a_client_may_accept(provider, how):
    provider.tampering = how
    key, google = provider.keys[-1], provider.protocols["google"]
    token = redeem(provider, "google")["id_token"]

    with pytest.raises((jwt.InvalidTokenError, AssertionError)):
        claims = jwt.decode(
            token,
            key.private.public_key(),
            algorithms=["RS256"],
            audience=google.client.id,
            issuer=google.issuer,
            options={"require": ["exp", "sub"]},
        )
        assert (claims["sub"], claims.get("nonce"), claims["azp"]) == ("1001", "n", google.client.id)
        assert jwt.get_unverified_header(token)["kid"] == key.id


def test_a_rotated_refresh_token_that_is_used_again_ends_the_login(provider):
    first = redeem(provider, "oidc")
    second = ask_token(provider, "oidc", grant_type="refresh_token", refresh_token=first["refresh_token"]).json()
    userinfo = {"headers": {"Authorization": f"Bearer {second['access_token']}"}}
    assert get(f"{provider.issuer}/userinfo", **userinfo).json()["sub"] == "1001"

    again = ask_token(provider, "oidc", grant_type="refresh_token", refresh_token=first["refresh_token"])

    assert again.json()["error"] == "invalid_grant"
    assert get(f"{provider.issuer}/userinfo", **userinfo).status_code == 401


def test_what_a_test_changes_of_a_person_is_seen_at_once(provider):
    headers = {"Authorization": f"token {redeem(provider, 'github')['access_token']}"}
    ada = provider.person("ada")
    member = f"{provider.url}/api/v3/orgs/example/members/"

    assert get(f"{member}ada", headers=headers).status_code == 204
    ada.login = "countess"
    assert get(f"{member}ada", headers=headers).status_code == 404
    renamed = get(f"{provider.url}/api/v3/user", headers=headers).json()
    assert (renamed["id"], renamed["login"]) == (1001, "countess")
    ada.organizations.clear()
    assert get(f"{member}countess", headers=headers).status_code == 404
    provider.revoke_tokens("countess")
    assert get(f"{provider.url}/api/v3/user", headers=headers).status_code == 401


def test_whoever_gets_a_free_login_has_another_number_and_not_the_old_tokens(provider):
    headers = {"Authorization": f"token {redeem(provider, 'github')['access_token']}"}
    number = provider.person("ada").number

    assert provider.reregister("ada").number != number
    assert get(f"{provider.url}/api/v3/user", headers=headers).status_code == 401


def test_a_service_account_reads_all_pages_of_groups(provider, tmp_path):
    account = json.loads(provider.write_service_account(tmp_path / "key.json").read_text())
    provider.person("ada").groups = {f"{number}@example.com" for number in range(5)}
    now = int(time.time())
    claims = {"iss": account["client_email"], "aud": account["token_uri"], "iat": now, "exp": now + 60}
    form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer"}

    def ask(subject: str) -> httpx.Response:
        assertion = jwt.encode({**claims, "sub": subject}, account["private_key"], algorithm="RS256")
        return send("POST", account["token_uri"], data={**form, "assertion": assertion})

    headers = {"Authorization": f"Bearer {ask('admin@example.com').json()['access_token']}"}
    found, page = set(), {"nextPageToken": "0"}
    while "nextPageToken" in page:
        query = {"userKey": "ada@example.com", "pageToken": page["nextPageToken"]}
        page = get(f"{provider.url}/admin/directory/v1/groups", params=query, headers=headers).json()
        found |= {each["email"] for each in page["groups"]}

    assert found == provider.person("ada").groups
    assert ask("ada@example.com").status_code == 401


def test_a_logout_at_the_issuer_ends_the_tokens_of_that_login(provider):
    provider.protocols["oidc"].client.after_logout.add(CALLBACK)
    token = redeem(provider, "oidc")
    query = {"id_token_hint": token["id_token"], "post_logout_redirect_uri": CALLBACK}

    assert get(changed(f"{provider.issuer}/end_session", **{**query, "id_token_hint": "x"})).status_code == 400
    assert get(f"{provider.issuer}/end_session", params=query).headers["location"] == CALLBACK
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    assert get(f"{provider.issuer}/userinfo", headers=headers).status_code == 401
    assert len(provider.ended_sessions) == 1


def test_revocations_are_done_and_counted(provider):
    github, client = redeem(provider, "github")["access_token"], provider.protocols["github"].client
    google = redeem(provider, "google")

    done = send(
        "DELETE",
        f"{provider.url}/api/v3/applications/{client.id}/grant",
        auth=(client.id, client.secret),
        json={"access_token": github},
    )
    send("POST", f"{provider.url}/revoke", data={"token": google["refresh_token"]})

    assert done.status_code == 204
    assert provider.revoked == [github, google["refresh_token"]]
    headers = {"Authorization": f"Bearer {google['access_token']}"}
    assert get(f"{provider.url}/oauth2/v1/userinfo", headers=headers).status_code == 401


@pytest.mark.parametrize(
    ("fault", "status"),
    [(Fault.status(500), 500), (Fault.too_many_requests(7), 429), (Fault.rate_limited(), 403), (Fault.html(), 200)],
)
def test_a_fault_spoils_its_kind_of_endpoint_alone(provider, fault, status):
    with provider.fault("jwks", fault):
        assert get(f"{provider.issuer}/certs").status_code == status
        assert get(f"{provider.issuer}/.well-known/openid-configuration").json()["issuer"] == provider.issuer
    assert get(f"{provider.issuer}/certs").json()["keys"]


def test_a_hanging_and_a_resetting_endpoint_give_no_answer(provider):
    with provider.fault("jwks", Fault.hang(30)), pytest.raises(httpx.ReadTimeout):
        get(f"{provider.issuer}/certs", timeout=0.3)
    with provider.fault("jwks", Fault.reset()), pytest.raises(httpx.TransportError):
        get(f"{provider.issuer}/certs")
    assert len(provider.requests_to("/realm/certs")) == 2
