"""jupyterhub_config.py sets what the settings say: (settings → configuration) without a hub."""

from __future__ import annotations

from pathlib import Path

import pytest
from traitlets.config import Config

from hub.addresses import HubPorts
from hub.authentication.providers import GitHub, Google, WorkbenchAuthenticator
from hub.configuration import configure, security_headers
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
    assert c.GitHub.allowed_users == {"gh-ada", "gh-grace"}
    assert "demo" in c.JupyterHub.db_url
    assert "users-demo" in c.SimpleLocalProcessSpawner.home_dir_template


def test_a_real_provider_leaves_nothing_of_the_demo(home, monkeypatch):
    for name, value in REAL.items():
        monkeypatch.setenv(name, value)

    c = configured()

    assert c.WorkbenchAuthenticator.provider_classes == [GitHub]
    assert "github_url" not in c.GitHub
    assert c.GitHub.allowed_users == {"gh-octo"}
    assert c.GitHub.oauth_callback_url == "https://hub.example.com/hub/github/callback"
    assert c.GitHub.admin_users == set()
    assert "demo" not in c.JupyterHub.db_url


def test_nobody_is_allowed_by_default(home, monkeypatch):
    for name, value in {**REAL, "WORKBENCH_LOGIN_GITHUB_USERS": ""}.items():
        monkeypatch.setenv(name, value)

    c = configured()

    assert c.GitHub.allowed_users == set()
    assert c.GitHub.allowed_organizations == set()
    assert "allow_all" not in c.GitHub


def test_no_secret_reaches_a_users_server(home, monkeypatch):
    for name, value in {**REAL, "DW_HOST": "db", "DW_USER": "u", "DW_PASSWORD": "warehouse-password"}.items():
        monkeypatch.setenv(name, value)

    environment = configured().Spawner.environment

    assert environment["DW_PASSWORD"] == "warehouse-password"
    assert not [value for value in environment.values() if value in ("client-secret", "state-secret")]


def test_secrets_are_kept_from_one_start_to_the_next(home):
    assert configured().JupyterHub.cookie_secret == configured().JupyterHub.cookie_secret
    assert configured().CryptKeeper["keys"] == configured().CryptKeeper["keys"]


@pytest.mark.parametrize(("url", "hsts"), [("https://hub.example.com", True), ("http://127.0.0.1:8000", False)])
def test_hsts_is_for_https_only(home, url, hsts):
    assert ("stsSeconds" in security_headers(Settings.load(), url)) is hsts


@pytest.mark.parametrize(
    ("info", "name"),
    [
        ({"email": "Ada.Lovelace@example.com", "id": "1001"}, "g-ada-lovelace-fe675f"),
        ({"email": "@@@x", "id": "1"}, "g--6b86b2"),
    ],
)
def test_google_names_are_safe_everywhere(info, name):
    assert Google().user_info_to_username(info) == name


def test_each_provider_has_its_own_handlers():
    authenticator = WorkbenchAuthenticator(provider_classes=[GitHub, Google])

    paths = [path for path, _ in authenticator.get_handlers(None)]

    assert paths == ["/github/login", "/github/callback", "/google/login", "/google/callback"]
