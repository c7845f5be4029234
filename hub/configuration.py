"""Turns the settings into JupyterHub's configuration. Every function can be tested alone."""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
from pathlib import Path
from typing import Any

from hub.addresses import HubPorts, public_url
from hub.authentication.authenticator import WorkbenchAuthenticator
from hub.authentication.github import GitHub
from hub.authentication.openid import Google, OpenID
from hub.authentication.states import read_without_writing
from hub.culling import set_culler
from hub.demo_identity.server import check_allowed_to_run
from hub.identities import Identities
from hub.keys import read_keys
from hub.logs import hide_secrets, set_logs
from hub.monitoring import set_monitoring
from hub.operations import set_operations
from hub.proxy import set_proxy
from hub.roles import set_roles
from hub.services import set_services
from hub.spawning.configuration import set_spawner
from workbench.logs.beginning import begin_logs
from workbench.sections import LoginSettings
from workbench.security.secrets import ensure_token, private_folder
from workbench.settings import Settings, log_settings

PROVIDERS = {"github": GitHub, "google": Google, "oidc": OpenID}
DEMO_ADMINS = ("gh-ada",)
DEMO_GITHUB_LOGINS = {"ada", "grace"}
DEMO_DOMAIN = "example.com"


def configure(c: Any) -> None:
    """Set everything that JupyterHub reads on its configuration object `c`."""
    hide_secrets()
    read_without_writing()
    begin_logs("hub", log_settings().options)
    settings = Settings.load()
    set_logs(c, settings.logs.options)
    ports = HubPorts.read(settings.home)
    set_storage(c, settings)
    set_hub(c, ports)
    set_authentication(c, settings, ports)
    set_proxy(c, settings, ports)
    set_spawner(c, settings)
    set_roles(c)
    set_culler(c, settings)
    set_services(c, settings, ports)
    set_operations(c, settings)
    set_monitoring(c, settings, ports)


def set_storage(c: Any, settings: Settings) -> None:
    """The database, the cookie secret and the key that encrypts auth_state, all under WORKBENCH_HOME."""
    keys = settings.home / "keys"
    private_folder(settings.home / "hub")
    database = database_file(settings)
    write_ahead(database)
    c.JupyterHub.db_url = f"sqlite:///{database}"
    secret = settings.login.state_secret.get_secret_value() or ensure_token(keys / "hub-cookie-secret")
    c.JupyterHub.cookie_secret = hashlib.sha256(secret.encode()).digest()
    c.CryptKeeper.keys = read_keys(keys / "hub-auth-state")


def database_file(settings: Settings) -> Path:
    """Where the hub keeps users, servers and the hashes of tokens."""
    return settings.home / "hub" / f"jupyterhub{_demo(settings)}.sqlite"


def write_ahead(database: Path) -> None:
    """Have SQLite keep a write-ahead log, which it remembers: one fsync a commit (sqlite.org/wal.html)."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")


def set_hub(c: Any, ports: HubPorts) -> None:
    """Where the hub itself listens, its pages, and how long tokens live."""
    c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{ports.hub_api}"
    c.JupyterHub.hub_connect_ip = "127.0.0.1"
    c.JupyterHub.template_paths = [str(Path(__file__).parent / "templates")]
    c.JupyterHub.logo_file = str(Path(__file__).parent / "static" / "logo.svg")
    c.JupyterHub.oauth_require_pkce = True
    # Long-lived tokens are asked for with a lifetime; none lives for ever.
    c.JupyterHub.token_expires_in_max_seconds = 90 * 86400


def set_authentication(c: Any, settings: Settings, ports: HubPorts) -> None:
    """The enabled providers and who may enter through each; nobody is allowed by default."""
    login, keys = settings.login, settings.home / "keys"
    c.JupyterHub.authenticator_class = WorkbenchAuthenticator
    mine = c.WorkbenchAuthenticator
    mine.provider_classes = [PROVIDERS[name] for name in login.providers]
    mine.login_settings = with_demo_admins(login)
    mine.state_secret = (login.state_secret.get_secret_value() or ensure_token(keys / "hub-cookie-secret")).encode()
    mine.identities = Identities(private_folder(settings.home / "hub") / f"identities{_demo(settings)}.sqlite")
    mine.public_url = public_url(settings, ports)
    mine.enable_auth_state = True
    mine.auth_refresh_age = login.recheck_seconds
    # Whoever may no longer enter cannot use API tokens or reach a running server either.
    mine.auth_refresh_strict = True
    mine.refresh_pre_spawn = True
    for name in login.providers:
        section = c[PROVIDERS[name].__name__]
        section.oauth_callback_url = f"{public_url(settings, ports)}/hub/{name}/callback"
        section.client_id = getattr(login, f"{name}_client_id")
        section.client_secret = getattr(login, f"{name}_client_secret").get_secret_value()
        section.groups_to_check = _groups_of(login, name)
    set_github(c, login)
    set_google(c, login)
    set_oidc(c, login)
    if login.is_demo:
        set_demo_identity(c, settings, ports)


def set_github(c: Any, login: LoginSettings) -> None:
    """Logins, organizations and teams; the scopes that reading them takes."""
    c.GitHub.github_url = login.github_url.rstrip("/")
    c.GitHub.allowed_logins = {user.lower() for user in login.github_users}
    c.GitHub.allowed_organizations = set(login.github_organizations)
    reads_teams = bool(login.github_organizations or _groups_of(login, "github"))
    c.GitHub.scope = ["read:user", "user:email", *(["read:org"] if reads_teams else [])]


def set_google(c: Any, login: LoginSettings) -> None:
    """Mail addresses, Workspace domains and groups."""
    c.Google.issuer = "https://accounts.google.com"
    c.Google.scope = ["openid", "email", "profile"]
    c.Google.allowed_mails = {mail.lower() for mail in login.google_users}
    c.Google.allowed_domains = set(login.google_domains)
    c.Google.allowed_mail_groups = set(login.google_groups)
    # Google's access tokens last an hour; a refresh token keeps people logged in after it.
    c.Google.extra_authorize_params = {"access_type": "offline", "prompt": "consent"}
    if login.google_service_account_file:
        groups = {*login.google_groups, *_groups_of(login, "google")}
        domains = {group.partition("@")[2] for group in groups}
        administrator = login.google_directory_admin.partition("@")[0]
        c.Google.google_service_account_keys = dict.fromkeys(domains, str(login.google_service_account_file))
        c.Google.gsuite_administrator = dict.fromkeys(domains, administrator)


def set_oidc(c: Any, login: LoginSettings) -> None:
    """A team's own issuer: accounts and groups."""
    c.OpenID.issuer = login.oidc_issuer
    c.OpenID.label = login.oidc_label
    c.OpenID.scope = list(login.oidc_scopes)
    c.OpenID.groups_claim = login.oidc_groups_claim
    c.OpenID.allowed_accounts = {each.lower() if "@" in each else each for each in login.oidc_users}
    c.OpenID.allowed_claim_groups = {group.removeprefix("/") for group in login.oidc_groups}


def set_demo_identity(c: Any, settings: Settings, ports: HubPorts) -> None:
    """Point both providers at the loopback identity provider, and let its people in.

    Raises:
        SettingsError: when others than this machine reach the hub.
    """
    check_allowed_to_run(settings)
    issuer = f"http://127.0.0.1:{ports.identity}"
    secret = ensure_token(settings.home / "keys" / "demo-identity-client")
    for section in (c.GitHub, c.Google):
        section.client_id, section.client_secret = "workbench-demo", secret
    c.GitHub.github_url = issuer
    c.GitHub.allowed_logins = DEMO_GITHUB_LOGINS
    c.Google.issuer = issuer
    c.Google.authorize_url = f"{issuer}/o/oauth2/v2/auth"
    c.Google.google_api_url = issuer
    c.Google.allowed_domains = {DEMO_DOMAIN}


def with_demo_admins(login: LoginSettings) -> LoginSettings:
    """The same settings; while the demo identity provider stands in, its administrator is one."""
    return login.model_copy(update={"admins": DEMO_ADMINS}) if login.is_demo else login


def _groups_of(login: LoginSettings, provider: str) -> set[str]:
    """The groups of a provider that the lists of roles name, without its prefix."""
    prefix = f"{provider}:"
    return {name.removeprefix(prefix) for names in login.roles.values() for name in names if name.startswith(prefix)}


def _demo(settings: Settings) -> str:
    # Nobody inherits what a demo account with the same name was allowed.
    return "-demo" if settings.login.is_demo else ""
