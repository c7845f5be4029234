"""The stand-in provider stands aside when there is anything real to protect, and is as strict as what it stands in for."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import subprocess
import sys
from types import SimpleNamespace

import httpx
import jwt
import pytest
from tornado.web import HTTPError

from hub.addresses import HubPorts
from hub.auditing import AuditTrail
from hub.demo_identity.issuer import FAILURES_PER_MINUTE, Grant, Issuer
from hub.demo_identity.pages import Authorize
from hub.demo_identity.people import PEOPLE
from hub.demo_identity.server import check_allowed_to_run
from tests.services.browser import changed
from tests.services.workbench import environment, wait_until
from workbench.errors import SettingsError
from workbench.runtime.ports import any_free
from workbench.sections import HubSettings, LoginSettings
from workbench.security.audit import Action, AuditLog, read_events
from workbench.security.secrets import ensure_code, ensure_token, private_folder, write_private
from workbench.settings import Settings

VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
PATHS = {
    "github": ("/login/oauth/authorize", "/login/oauth/access_token"),
    "google": ("/o/oauth2/v2/auth", "/oauth2/v4/token"),
}


def issuer() -> Issuer:
    return Issuer(
        url="http://127.0.0.1:8098",
        sign_in_code="ABCD-EFGH-JKMN",
        client_secret="secret",
        callbacks=frozenset({"http://127.0.0.1:8000/hub/github/callback"}),
    )


class Demo:
    """The provider's process, and what a browser and the hub do with it."""

    def __init__(self, home, ports: HubPorts) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{ports.identity}"
        self.hub_url = f"http://127.0.0.1:{ports.proxy}"
        self.secret = ensure_token(home / "keys" / "demo-identity-client")
        self.client = httpx.Client(base_url=self.url, trust_env=False, timeout=30)

    def sign_in(self, provider: str, person: str, code: str) -> httpx.Response:
        query = {
            "client_id": "workbench-demo",
            "redirect_uri": f"{self.hub_url}/hub/{provider}/callback",
            "scope": "openid email profile",
            "state": "s",
            "nonce": "n",
            "access_type": "offline",
            "code_challenge": CHALLENGE,
            "code_challenge_method": "S256",
        }
        fields = {"login": person, "sign_in_code": code}
        return self.client.post(changed(f"{self.url}{PATHS[provider][0]}", **query), data=fields)

    def code(self, provider: str, person: str) -> str:
        answer = self.sign_in(provider, person, ensure_code(self.home / "keys" / "sign-in-code"))
        assert answer.status_code == 302, answer.text
        return httpx.URL(answer.headers["location"]).params["code"]

    def token(self, provider: str, **form: str) -> httpx.Response:
        fields = {
            "client_id": "workbench-demo",
            "client_secret": self.secret,
            "redirect_uri": f"{self.hub_url}/hub/{provider}/callback",
            "code_verifier": VERIFIER,
        }
        return self.client.post(PATHS[provider][1], data={**fields, **form})

    def login(self, provider: str, person: str = "ada") -> dict:
        answer = self.token(provider, code=self.code(provider, person))
        assert answer.status_code == 200, answer.text
        return answer.json()

    def get(self, path: str, token: str) -> httpx.Response:
        return self.client.get(path, headers={"Authorization": f"Bearer {token}"})


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    home = private_folder(tmp_path_factory.mktemp("demo") / "home")
    ports = HubPorts(proxy=any_free(), hub_api=any_free(), proxy_api=any_free(), identity=any_free())
    write_private(private_folder(home / "run") / "hub.json", ports.as_json())
    process = subprocess.Popen([sys.executable, "-m", "hub.demo_identity"], env=environment(home), cwd=home)
    running = Demo(home, ports)
    try:
        wait_until(lambda: answers(running) or process.poll() is not None, 60, "the demo identity provider")
        yield running
    finally:
        running.client.close()
        process.kill()
        process.wait(10)


def answers(demo: Demo) -> bool:
    try:
        return demo.client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def test_it_does_not_run_beside_a_real_client():
    settings = Settings.load()
    real = settings.model_copy(update={"login": LoginSettings(GITHUB_CLIENT_ID="real")})

    with pytest.raises(SettingsError, match="real OAuth client"):
        check_allowed_to_run(real)


@pytest.mark.parametrize(
    "variables",
    [{"WORKBENCH_HUB_HOST": "0.0.0.0"}, {"WORKBENCH_HUB_PUBLIC_URL": "https://hub.example.com"}],
    ids=["host", "proxy"],
)
def test_it_does_not_run_where_others_reach_the_hub(variables):
    exposed = Settings.load().model_copy(update={"hub": HubSettings(**variables)})

    with pytest.raises(SettingsError, match="runs on loopback only"):
        check_allowed_to_run(exposed)


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:8000", "https://hub.localhost", "https://[::1]:8443"])
def test_it_runs_where_only_this_machine_reaches_the_hub(url):
    here = Settings.load().model_copy(update={"hub": HubSettings(WORKBENCH_HUB_PUBLIC_URL=url)})

    check_allowed_to_run(here)


@pytest.mark.parametrize(
    ("variables", "remedy"),
    [
        (
            {"GITHUB_CLIENT_ID": "real", "GITHUB_CLIENT_SECRET": "s", "OAUTH2_STATE_SECRET": "s"},
            "does not run beside it",
        ),
        ({"WORKBENCH_HUB_HOST": "0.0.0.0", "WORKBENCH_HUB_TLS": "generated"}, "listen on 127.0.0.1"),
    ],
    ids=["real client", "other host"],
)
def test_its_process_ends_with_the_remedy(tmp_path, variables, remedy):
    done = subprocess.run(
        [sys.executable, "-m", "hub.demo_identity"],
        env=environment(tmp_path, OAUTH2_ENABLED_PROVIDERS="github", **variables),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert remedy in done.stderr


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
        issuer().grant_of("Bearer made-up", "github")

    assert caught.value.status_code == 401
    assert len({person.number for person in PEOPLE}) == len(PEOPLE)


def test_a_token_of_one_protocol_is_none_of_the_other():
    one = issuer()
    token = one.issue_token(Grant(person=PEOPLE[0], protocol="github"))

    assert one.grant_of(f"token {token}", "github").person is PEOPLE[0]
    with pytest.raises(HTTPError):
        one.grant_of(f"Bearer {token}", "google")


@pytest.mark.parametrize("provider", ["github", "google"])
def test_a_code_works_once_for_the_client_and_the_protocol_that_asked(demo, provider):
    other = {"github": "google", "google": "github"}[provider]

    assert demo.token(provider, code=demo.code(provider, "ada"), client_secret="x").status_code == 401
    assert demo.token(provider, code=demo.code(provider, "ada"), client_id="x").status_code == 401
    assert demo.token(provider, code=demo.code(provider, "ada"), code_verifier="x").json()["error"] == "invalid_grant"
    assert demo.token(other, code=demo.code(provider, "ada")).status_code == 400
    code = demo.code(provider, "ada")
    assert demo.token(provider, code=code).status_code == 200
    assert demo.token(provider, code=code).status_code == 400


def test_the_id_token_is_good_by_the_rules_of_openid_connect(demo):
    metadata = demo.client.get("/.well-known/openid-configuration").json()
    token = demo.login("google")

    key = jwt.PyJWKClient(metadata["jwks_uri"]).get_signing_key_from_jwt(token["id_token"])
    claims = jwt.decode(
        token["id_token"],
        key,
        algorithms=metadata["id_token_signing_alg_values_supported"],
        audience="workbench-demo",
        issuer=demo.url,
        options={"require": ["iss", "aud", "sub", "azp", "exp", "iat", "nonce"]},
    )

    assert metadata["issuer"] == demo.url
    assert claims["nonce"] == "n"
    assert claims["sub"] == demo.get("/oauth2/v1/userinfo", token["access_token"]).json()["id"] == "1001"
    assert (claims["email"], claims["email_verified"], claims["hd"]) == ("ada@example.com", True, "example.com")
    assert claims["picture"].startswith("data:image/svg+xml;base64,")


def test_only_people_of_the_domain_have_its_hd(demo):
    claims = demo.get("/oauth2/v1/userinfo", demo.login("google", "mallory")["access_token"]).json()

    assert claims["email"] == "mallory@example.com"
    assert "hd" not in claims


def test_a_refresh_token_brings_fresh_tokens_until_it_is_revoked(demo):
    first = demo.login("google")

    fresh = demo.token("google", grant_type="refresh_token", refresh_token=first["refresh_token"]).json()

    assert fresh["access_token"] != first["access_token"]
    assert "nonce" not in jwt.decode(fresh["id_token"], options={"verify_signature": False})
    assert demo.get("/oauth2/v3/userinfo", fresh["access_token"]).json()["sub"] == "1001"
    assert demo.client.post("/revoke", data={"token": first["refresh_token"]}).status_code == 200
    assert demo.get("/oauth2/v3/userinfo", fresh["access_token"]).status_code == 401
    again = demo.token("google", grant_type="refresh_token", refresh_token=first["refresh_token"])
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")
    assert demo.client.post("/revoke", data={"token": "unknown"}).status_code == 200


@pytest.mark.parametrize(("what", "others_end"), [("token", False), ("grant", True)])
def test_github_tokens_end_one_by_one_or_all_at_once(demo, what, others_end):
    token, other = (demo.login("github", "grace")["access_token"] for _ in range(2))
    address = f"/api/v3/applications/workbench-demo/{what}"

    def delete(secret: str) -> int:
        body = {"access_token": token}
        return demo.client.request("DELETE", address, auth=("workbench-demo", secret), json=body).status_code

    assert delete("wrong") == 401
    assert demo.get("/api/v3/user", token).json()["login"] == "grace"
    assert delete(demo.secret) == 204
    assert delete(demo.secret) == 404
    assert demo.get("/api/v3/user", token).status_code == 401
    assert (demo.get("/api/v3/user", other).status_code == 401) is others_end


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/orgs/example/members/ada", 204),
        ("/orgs/example/members/mallory", 404),
        ("/orgs/other/members/ada", 404),
        ("/orgs/example/teams/engineers/members/ada", 204),
        ("/orgs/example/teams/engineers/members/grace", 404),
        ("/orgs/example/teams/none/members/ada", 404),
    ],
)
def test_it_knows_who_is_in_its_organization_and_teams(demo, path, status):
    token = demo.login("github")["access_token"]

    assert demo.get(f"/api/v3{path}", token).status_code == status
    assert demo.get(f"/api/v3{path}", "made-up").status_code == 401


def test_it_tells_people_their_mail_addresses_and_teams(demo):
    token = demo.login("github", "grace")["access_token"]

    assert demo.get("/api/v3/user/emails", token).json()[0]["email"] == "grace@example.com"
    assert [team["slug"] for team in demo.get("/api/v3/user/teams", token).json()] == ["analysts"]


def test_a_wrong_sign_in_code_is_in_the_audit_log_before_it_is_refused(demo):
    log = AuditLog.of(demo.home).path
    before = len(list(read_events(log, action=Action.LOGIN_FAILED))) if log.exists() else 0

    assert demo.sign_in("github", "Ada", "WRON-GWRO-NGWR").status_code == 403
    assert demo.sign_in("google", "hunter2", "WRON-GWRO-NGWR").status_code == 403

    told = list(read_events(log, action=Action.LOGIN_FAILED))[before:]
    assert [(each.actor, each.resource, each.outcome) for each in told] == [("", "hub", "failed")] * 2
    address = {"address": "127.0.0.1", "left_out": "0"}
    assert told[0].details == {"login": "ada", "provider": "github", "reason": "wrong sign-in code", **address}
    assert told[1].details == {"provider": "google", "reason": "no such login", **address}
    assert not any(each in log.read_text() for each in ("WRON", "hunter2"))


def test_as_many_wrong_codes_as_are_looked_at_and_one_more_are_an_alert(demo):
    statuses = [demo.sign_in("github", "ada", "WRONG").status_code for _ in range(FAILURES_PER_MINUTE + 1)]

    assert statuses[-1] == 429
    told = list(read_events(AuditLog.of(demo.home).path, action=Action.LOGIN_FAILED))
    assert len(told) > 10
    assert told[-1].details["reason"] == "too many wrong sign-in codes"


def test_a_wrong_code_is_refused_while_the_audit_log_cannot_be_written(tmp_path):
    (tmp_path / "audit").write_text("no folder")
    handler = Authorize.__new__(Authorize)
    handler.request = SimpleNamespace(remote_ip="127.0.0.1")
    handler.initialize(issuer(), AuditTrail(AuditLog.of(tmp_path)), "github")

    with pytest.raises(HTTPError) as caught:
        asyncio.run(handler._failed(PEOPLE[0], "wrong sign-in code"))

    assert caught.value.status_code == 503
