"""jupyterhub_config.py sets what the settings say: (settings → configuration) without a hub."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from sqlalchemy.exc import SQLAlchemyError
from traitlets.config import Config

from hub.addresses import HubPorts
from hub.authentication.github import GitHub
from hub.authentication.handlers import login_handlers
from hub.authentication.openid import Google, OpenID
from hub.configuration import configure
from hub.monitoring import count_right, count_token, log_counted
from hub.operations import set_operations, starting, stopped
from workbench.errors import SettingsError
from workbench.observability.metrics import AUTHORIZATIONS, TOKEN_KINDS, TOKENS_USED
from workbench.resources import resource
from workbench.settings import Settings

PORTS = HubPorts(proxy=8000, hub_api=8081, proxy_api=8099, identity=8098)
REAL = {
    "OAUTH2_ENABLED_PROVIDERS": "github",
    "OAUTH2_STATE_SECRET": "state-secret",
    "GITHUB_CLIENT_ID": "id",
    "GITHUB_CLIENT_SECRET": "client-secret",
    "WORKBENCH_LOGIN_GITHUB_USERS": "Octo",
    "WORKBENCH_HUB_PUBLIC_URL": "https://hub.example.com/",
}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def configured() -> Config:
    c = Config()
    configure(c)
    return c


def test_the_file_that_jupyterhub_reads_is_short():
    assert len(resource("jupyterhub_config.py").read_text().splitlines()) <= 20


def test_the_demo_is_on_loopback_and_keeps_to_itself(home):
    c = configured()

    assert c.JupyterHub.bind_url == "http://127.0.0.1:8000"
    assert c.GitHub.github_url == "http://127.0.0.1:8098"
    assert c.Google.issuer == c.Google.google_api_url == "http://127.0.0.1:8098"
    assert c.GitHub.allowed_logins == {"ada", "grace"}
    assert c.WorkbenchAuthenticator.login_settings.admins == ("gh-ada",)
    assert "demo" in c.JupyterHub.db_url
    assert "users-demo" in c.SimpleLocalProcessSpawner.home_dir_template


def test_the_demo_lets_nobody_in_behind_a_public_address(home, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HUB_PUBLIC_URL", "https://hub.example.com")

    with pytest.raises(SettingsError, match=r"WORKBENCH_HUB_PUBLIC_URL is https://hub\.example\.com: the demo"):
        configured()


def test_the_page_of_pipelines_is_told_of_the_hub_in_a_file_that_nobody_else_reads(home):
    c = configured()

    service = next(each for each in c.JupyterHub.services.get_value([]) if each["name"] == "pipelines")
    path = home / "run" / "hub-pipelines.json"
    told = json.loads(path.read_text())
    assert path.stat().st_mode & 0o777 == 0o600
    assert told["token"] == service["api_token"]
    assert service["url"] == f"http://127.0.0.1:{told['port']}"
    assert service["oauth_redirect_uri"] == "/services/pipelines/oauth_callback"
    assert told["rights"] == {"viewers": "viewer", "analysts": "runner", "engineers": "editor", "admins": "owner"}


def test_with_an_origin_for_each_user_the_page_of_pipelines_has_one_too(home, monkeypatch):
    for name, value in {**REAL, "WORKBENCH_HUB_SUBDOMAINS": "true", "WORKBENCH_HUB_TLS": "generated"}.items():
        monkeypatch.setenv(name, value)
    configured()

    told = json.loads((home / "run" / "hub-pipelines.json").read_text())

    assert (told["host"], told["hub_host"]) == ("https://pipelines--service.hub.example.com", "https://hub.example.com")


def test_without_a_store_there_is_no_page_of_pipelines(home, monkeypatch):
    monkeypatch.setenv("WORKBENCH_WAREHOUSE_DIALECT", "duckdb")

    assert "pipelines" not in [each["name"] for each in configured().JupyterHub.services.get_value([])]


def test_a_real_provider_leaves_nothing_of_the_demo(home, monkeypatch):
    for name, value in REAL.items():
        monkeypatch.setenv(name, value)

    c = configured()

    assert c.WorkbenchAuthenticator.provider_classes == [GitHub]
    assert c.GitHub.github_url == "https://github.com"
    assert c.Google.issuer == "https://accounts.google.com"
    assert c.GitHub.allowed_logins == {"octo"}
    assert c.GitHub.oauth_callback_url == "https://hub.example.com/hub/github/callback"
    assert c.WorkbenchAuthenticator.login_settings.admins == ()
    assert "demo" not in c.JupyterHub.db_url


def test_nobody_is_allowed_by_default(home, monkeypatch):
    for name, value in {**REAL, "WORKBENCH_LOGIN_GITHUB_USERS": ""}.items():
        monkeypatch.setenv(name, value)

    c = configured()

    for section, rules in {
        "GitHub": ("allowed_logins", "allowed_organizations"),
        "Google": ("allowed_mails", "allowed_domains", "allowed_mail_groups"),
        "OpenID": ("allowed_accounts", "allowed_claim_groups"),
    }.items():
        assert [c[section][rule] for rule in rules] == [set()] * len(rules)
        assert "allow_all" not in c[section]
    assert "allow_all" not in c.WorkbenchAuthenticator


def test_no_secret_reaches_a_users_server(home, monkeypatch):
    for name, value in {**REAL, "DW_HOST": "db", "DW_USER": "u", "DW_PASSWORD": "warehouse-password"}.items():
        monkeypatch.setenv(name, value)

    environment = configured().Spawner.environment

    assert environment["DW_PASSWORD"] == "warehouse-password"
    assert not [value for value in environment.values() if value in ("client-secret", "state-secret")]


def test_secrets_are_kept_from_one_start_to_the_next(home):
    assert configured().JupyterHub.cookie_secret == configured().JupyterHub.cookie_secret
    assert configured().CryptKeeper["keys"] == configured().CryptKeeper["keys"]


def test_keys_of_auth_state_are_read_one_a_line(home):
    configured()
    keys = home / "keys" / "hub-auth-state"
    first = keys.read_text()
    keys.write_text("ab" * 32 + "\n" + first)

    assert configured().CryptKeeper["keys"] == [b"\xab" * 32, bytes.fromhex(first.strip())]


def test_each_provider_has_its_own_handlers():
    paths = [handler[0] for handler in login_handlers([GitHub(), Google(), OpenID()])]

    for key in ("github", "google", "oidc"):
        assert {f"/{key}/login", f"/{key}/callback", f"/accounts/link/{key}"} <= set(paths)


def test_groups_that_a_role_names_are_asked_for(home, monkeypatch):
    roles = {
        "WORKBENCH_LOGIN_ENGINEERS": "github:example:data,gh-ada,oidc:x",
        "WORKBENCH_LOGIN_ADMINS": "github:example",
    }
    for name, value in {**REAL, **roles}.items():
        monkeypatch.setenv(name, value)

    c = configured()

    assert c.GitHub.groups_to_check == {"example", "example:data"}
    assert "read:org" in c.GitHub.scope


def test_the_same_number_at_two_issuers_is_two_accounts():
    one, other = (OpenID(issuer=issuer).account({"sub": "1"}) for issuer in ("https://a.example", "https://b.example"))

    assert one.subject != other.subject


@pytest.mark.parametrize("spawner", ["Spawner", "UnitSpawner", "KubeSpawner"])
def test_every_spawner_has_its_stops_and_refusals_in_the_audit_log(home, spawner):
    c = Config()
    c.JupyterHub.services, c.JupyterHub.load_roles = [], []
    c[spawner].pre_spawn_hook = print
    c[spawner].post_stop_hook = None

    set_operations(c, Settings.load())

    assert (c[spawner].pre_spawn_hook.func, c[spawner].pre_spawn_hook.args[1]) == (starting, print)
    assert (c[spawner].post_stop_hook.func, c[spawner].post_stop_hook.args[1]) == (stopped, None)


@pytest.mark.parametrize(
    ("status", "who", "counted"),
    [
        (200, "gh-ada", "allowed"),
        (403, "gh-ada", "refused"),
        (403, None, "refused"),
        (200, None, ""),
        (404, "gh-ada", ""),
        (503, "gh-ada", ""),
    ],
)
def test_a_request_to_the_hub_is_counted_by_whether_it_was_let_do_what_it_asked_for(status, who, counted):
    counts = {each: AUTHORIZATIONS.labels("hub", each)._value for each in ("allowed", "refused")}
    before = {each: count.get() for each, count in counts.items()}

    count_right(SimpleNamespace(get_status=lambda: status, _jupyterhub_user=who))

    grown = [each for each, count in counts.items() if count.get() > before[each]]
    assert grown == ([counted] if counted else [])


def test_requests_are_counted_and_logged_as_jupyterhub_does(home):
    assert configured().JupyterHub.tornado_settings["log_function"] is log_counted


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        ({"note": "for my script"}, "user"),
        ({"note": None}, "user"),
        ({"note": "Server at /user/gh-ada/"}, "server"),
        ({"service_id": 1}, "service"),
        ({"client_id": "jupyterhub-user-gh-ada"}, "session"),
        (None, "other"),
        (SQLAlchemyError(), "other"),
    ],
)
def test_a_request_with_a_token_is_counted_by_whose_it_is(token, kind):
    counts = {each: TOKENS_USED.labels(each)._value for each in TOKEN_KINDS}
    before = {each: count.get() for each, count in counts.items()}
    common = {"service_id": None, "client_id": "jupyterhub", "note": ""}
    found = SimpleNamespace(**(common | token)) if isinstance(token, dict) else token
    db = SimpleNamespace(no_autoflush=nullcontext(), rollback=Mock())
    handler = SimpleNamespace(get_token=Mock(side_effect=[found]), db=db)

    count_token(handler)
    assert {each: count.get() for each, count in counts.items()} == before, "it came without a token"

    handler._token_authenticated = True
    count_token(handler)
    assert [each for each, count in counts.items() if count.get() > before[each]] == [kind]
    # What failed within JupyterHub's one session would fail the next request.
    assert db.rollback.called == isinstance(token, Exception)
