"""One hub for the attacks that need no settings of their own, and what is at hand for attackers of any hub.

A module with a hub of its own has a fixture `hub` in place of this one; the others follow it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services.attacker import kept_people
from tests.services.browser import Browser
from tests.services.identity_provider import IdentityProvider
from tests.services.login_hub import LoginHub, running_login_hub
from tests.services.proxied_hub import ProxiedHub, running_hub

TRUSTED_ORIGIN = "https://trusted-domain.com"
PROVIDERS = ("github", "google", "oidc")
# Whom `test_attacks_accounts` tries to pass for; nobody else has these names.
RULES = {
    "WORKBENCH_LOGIN_GITHUB_USERS": "octo,wanderer",
    "WORKBENCH_LOGIN_GOOGLE_USERS": "guest@elsewhere.example",
    "WORKBENCH_LOGIN_OIDC_USERS": "boss@corp.example,clerk@corp.example",
    "WORKBENCH_LOGIN_ADMINS": "gh-chief",
}


@pytest.fixture(scope="package")
def shared_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoginHub]:
    """A hub with all three providers. Tests may restart it; nobody has a server there."""
    folder = tmp_path_factory.mktemp("shared-hub")
    with IdentityProvider() as provider, running_login_hub(folder, provider, providers=PROVIDERS, **RULES) as hub:
        yield hub


@pytest.fixture(scope="module")
def hub(shared_hub: LoginHub) -> LoginHub:
    return shared_hub


@pytest.fixture(scope="module")
def uninformed_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoginHub]:
    """A hub of the module's own, which has not heard an issuer's metadata yet."""
    folder = tmp_path_factory.mktemp("uninformed-hub")
    with IdentityProvider() as provider, running_login_hub(folder, provider, providers=("google", "oidc")) as hub:
        yield hub


@pytest.fixture(scope="module")
def provider(hub: LoginHub) -> IdentityProvider:
    return hub.provider


@pytest.fixture(scope="package")
def encrypted_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedHub]:
    """A hub with a generated certificate and a trusted origin, and Ada's server."""
    home = tmp_path_factory.mktemp("encrypted-hub")
    with running_hub(home, tls="generated", WORKBENCH_HUB_CORS_ORIGINS=TRUSTED_ORIGIN) as hub:
        hub.start_server_of("ada")
        yield hub


@pytest.fixture(scope="package")
def subdomain_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProxiedHub]:
    """A hub whose users' servers are on hosts of their own."""
    with running_hub(tmp_path_factory.mktemp("subdomain-hub"), tls="generated", WORKBENCH_HUB_SUBDOMAINS="true") as hub:
        yield hub


@pytest.fixture
def browser(hub: LoginHub) -> Iterator[Browser]:
    """Somebody who is not logged in yet."""
    with hub.browser() as browser:
        yield browser


@pytest.fixture
def people_as_before(provider: IdentityProvider) -> Iterator[None]:
    """What a test does to people at the provider does not outlast it."""
    with kept_people(provider):
        yield
