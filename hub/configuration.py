"""Turns the settings into JupyterHub's configuration. Every function only assigns, so each can be tested alone."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

from hub.addresses import HubPorts, public_url
from hub.authentication.providers import GitHub, Google, WorkbenchAuthenticator
from hub.spawning.environment import kernel_environment, prepare_home, remove_runtime
from workbench.security.secrets import ensure_token, private_folder
from workbench.settings import Settings

PROVIDERS = {"github": GitHub, "google": Google}
DEMO_ADMINS = {"gh-ada"}
DEMO_GITHUB_USERS = {"gh-ada", "gh-grace"}
DEMO_DOMAIN = "example.com"

# What a user's server keeps of the hub's environment: paths, language, trust, and where clusters are.
KEPT_VARIABLES = [
    *("PATH", "LANG", "LC_ALL", "TZ", "JAVA_HOME", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("HADOOP_CONF_DIR", "YARN_CONF_DIR", "KUBECONFIG"),
]

# JupyterHub's pages run under the plan's policy unchanged; the last line only narrows it.
CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' 'unsafe-inline'; img-src 'self' data: https:; "
    "frame-ancestors 'none'; base-uri 'self'; object-src 'none'"
)


def configure(c: Any) -> None:
    """Set everything that JupyterHub reads on its configuration object `c`."""
    settings = Settings.load()
    ports = HubPorts.read(settings.home)
    set_storage(c, settings)
    set_addresses(c, settings, ports)
    set_authentication(c, settings, ports)
    set_proxy(c, settings, ports)
    set_spawner(c, settings)


def set_storage(c: Any, settings: Settings) -> None:
    """The database, the cookie secret and the key that encrypts auth_state, all under WORKBENCH_HOME."""
    folder, keys = private_folder(settings.home / "hub"), settings.home / "keys"
    # Nobody inherits what a demo account with the same name was allowed.
    name = "jupyterhub-demo.sqlite" if settings.login.is_demo else "jupyterhub.sqlite"
    c.JupyterHub.db_url = f"sqlite:///{folder / name}"
    secret = settings.login.state_secret.get_secret_value() or ensure_token(keys / "hub-cookie-secret")
    c.JupyterHub.cookie_secret = hashlib.sha256(secret.encode()).digest()
    c.CryptKeeper.keys = [bytes.fromhex(ensure_token(keys / "hub-auth-state"))]


def set_addresses(c: Any, settings: Settings, ports: HubPorts) -> None:
    """Where the hub and its pages are, and what every page of the hub is sent with."""
    c.JupyterHub.bind_url = f"http://{settings.hub.host}:{ports.proxy}"
    c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{ports.hub_api}"
    c.JupyterHub.hub_connect_ip = "127.0.0.1"
    c.JupyterHub.template_paths = [str(Path(__file__).parent / "templates")]
    c.JupyterHub.tornado_settings = {
        "headers": {"Content-Security-Policy": CONTENT_SECURITY_POLICY},
        "cookie_options": {"SameSite": "Lax"},
    }
    c.JupyterHub.oauth_require_pkce = True
    # Long-lived tokens are asked for with a lifetime; none lives for ever.
    c.JupyterHub.token_expires_in_max_seconds = 90 * 86400


def set_authentication(c: Any, settings: Settings, ports: HubPorts) -> None:
    """The enabled providers and who may enter through each; nobody is allowed by default."""
    login = settings.login
    c.JupyterHub.authenticator_class = WorkbenchAuthenticator
    c.WorkbenchAuthenticator.provider_classes = [PROVIDERS[name] for name in login.providers]
    c.WorkbenchAuthenticator.enable_auth_state = True
    # Whoever may no longer enter cannot use API tokens or reach a running server either.
    c.WorkbenchAuthenticator.auth_refresh_strict = True
    c.WorkbenchAuthenticator.refresh_pre_spawn = True
    for name in login.providers:
        section = c[PROVIDERS[name].__name__]
        section.enable_auth_state = True
        section.oauth_callback_url = f"{public_url(settings, ports)}/hub/{name}/callback"
        section.client_id = getattr(login, f"{name}_client_id")
        section.client_secret = getattr(login, f"{name}_client_secret").get_secret_value()
        section.admin_users = set(login.admins)
    c.GitHub.allowed_users = {f"gh-{user.lower()}" for user in login.github_users}
    c.GitHub.allowed_organizations = set(login.github_organizations)
    c.GitHub.scope = ["read:user", "user:email", *(["read:org"] if login.github_organizations else [])]
    c.Google.allowed_mails = {mail.lower() for mail in login.google_users}
    c.Google.allowed_domains = set(login.google_domains)
    c.Google.scope = ["openid", "email", "profile"]
    # Google's access tokens last an hour; a refresh token keeps people logged in after it.
    c.Google.extra_authorize_params = {"access_type": "offline", "prompt": "consent"}
    if login.is_demo:
        set_demo_identity(c, settings, ports)


def set_demo_identity(c: Any, settings: Settings, ports: HubPorts) -> None:
    """Point both providers at the loopback identity provider, and let its people in."""
    issuer = f"http://127.0.0.1:{ports.identity}"
    secret = ensure_token(settings.home / "keys" / "demo-identity-client")
    for section in (c.GitHub, c.Google):
        section.client_id, section.client_secret = "workbench-demo", secret
        section.admin_users = DEMO_ADMINS
    c.GitHub.github_url = issuer
    c.GitHub.allowed_users = DEMO_GITHUB_USERS
    c.Google.authorize_url = f"{issuer}/o/oauth2/v2/auth"
    c.Google.google_api_url = issuer
    c.Google.allowed_domains = {DEMO_DOMAIN}


def set_proxy(c: Any, settings: Settings, ports: HubPorts) -> None:
    """Traefik in front, with security headers and CORS on every response, whoever made it."""
    folder = private_folder(settings.home / "hub")
    c.JupyterHub.proxy_class = "traefik_file"
    c.TraefikFileProviderProxy.static_config_file = str(folder / "traefik.toml")
    c.TraefikFileProviderProxy.dynamic_config_file = str(folder / "routes.toml")
    c.TraefikProxy.traefik_api_url = f"http://127.0.0.1:{ports.proxy_api}"
    c.TraefikProxy.traefik_api_username = "hub"
    c.TraefikProxy.traefik_api_password = ensure_token(settings.home / "keys" / "proxy-api")
    c.TraefikProxy.extra_static_config = {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "entryPoints": {"http": {"http": {"middlewares": ["security@file"]}}},
    }
    c.TraefikProxy.extra_dynamic_config = {
        "http": {"middlewares": {"security": {"headers": security_headers(settings, public_url(settings, ports))}}}
    }


def security_headers(settings: Settings, url: str) -> dict[str, Any]:
    """Traefik's `headers` middleware: the plan's table, and an empty value for what is removed."""
    headers: dict[str, Any] = {
        "contentTypeNosniff": True,
        "referrerPolicy": "same-origin",
        "customFrameOptionsValue": "DENY",
        "customResponseHeaders": {"Server": "", "X-JupyterHub-Version": ""},
        "accessControlAllowMethods": ["GET", "POST", "PUT", "DELETE"],
        "accessControlAllowCredentials": True,
        "accessControlAllowOriginList": list(settings.hub.cors_origins) or [url],
        "addVaryHeader": True,
    }
    if url.startswith("https://"):
        headers |= {"stsSeconds": 31536000, "stsIncludeSubdomains": True}
    return headers


def set_spawner(c: Any, settings: Settings) -> None:
    """JupyterLab for each user, in a private folder under WORKBENCH_HOME, as the hub's own OS user."""
    c.JupyterHub.spawner_class = "simple"
    c.SimpleLocalProcessSpawner.home_dir_template = str(users_folder(settings) / "{username}")
    c.Spawner.cmd = [str(Path(sys.executable).parent / "jupyterhub-singleuser")]
    c.Spawner.args = ["--allow-root"] if os.geteuid() == 0 else []
    c.Spawner.default_url = "/lab/tree/00-start-here.ipynb"
    c.Spawner.environment = kernel_environment(settings)
    c.Spawner.env_keep = KEPT_VARIABLES
    c.Spawner.pre_spawn_hook = prepare_home
    c.Spawner.post_stop_hook = remove_runtime
    # The first start of JupyterLab on a busy two-core machine.
    c.Spawner.http_timeout = 90
    c.Spawner.start_timeout = 90


def users_folder(settings: Settings) -> Path:
    """Where the users' homes are; demo accounts have others than real ones."""
    return settings.home / ("users-demo" if settings.login.is_demo else "users")
