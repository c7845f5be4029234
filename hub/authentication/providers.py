"""One login page for several identity providers.

Each provider is OAuthenticator's own class, which speaks the protocol; what is added here is
what happens when there are two of them: a name space, state cookies and handlers of its own
for each, and a dispatcher that JupyterHub sees as its one authenticator.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any, ClassVar, cast

from jupyterhub.auth import Authenticator
from oauthenticator.github import GitHubOAuthenticator
from oauthenticator.google import GoogleOAuthenticator
from oauthenticator.oauth2 import OAuthCallbackHandler, OAuthenticator, OAuthLoginHandler, _deserialize_state
from tornado import web
from traitlets import Bool, List, Set, Unicode

STATE_COOKIE_DAYS = 600 / 86400  # a login takes at most ten minutes
STATE_ID = re.compile(r"[0-9a-f]{32}")
SLUG_LENGTH = 20


class ProviderMixin:
    """What a provider has beside OAuthenticator's: a key, a label and names of its own."""

    key: ClassVar[str]  #: in URLs and cookies
    label: ClassVar[str]  #: on the button

    async def update_auth_model(self, auth_model: dict[str, Any]) -> dict[str, Any]:
        """Say yes or no about administration: OAuthenticator's None would leave a right that was taken away."""
        auth_model = await super().update_auth_model(auth_model)  # type: ignore[misc]
        auth_model["admin"] = bool(auth_model["admin"])
        return auth_model

    def login_url(self, base_url: str) -> str:
        """Where this provider's button leads."""
        return f"{base_url.rstrip('/')}/{self.key}/login"


class GitHub(ProviderMixin, GitHubOAuthenticator):  # type: ignore[misc]
    """GitHub accounts; their hub names begin with `gh-`."""

    key = "github"
    label = "GitHub"

    def user_info_to_username(self, user_info: dict[str, Any]) -> str:
        """`gh-octo` for the login `octo`; GitHub's logins are letters, digits and dashes."""
        return f"gh-{user_info['login'].lower()}"

    async def _check_membership_allowed_organizations(
        self, org_team: str, username: str, access_token: str, token_type: str
    ) -> bool:
        # The API knows the login, not the name that it has in the hub.
        login = username.removeprefix("gh-")
        return bool(await super()._check_membership_allowed_organizations(org_team, login, access_token, token_type))


class Google(ProviderMixin, GoogleOAuthenticator):  # type: ignore[misc]
    """Google accounts; their hub names begin with `g-`."""

    key = "google"
    label = "Google"

    allowed_mails = Set(Unicode(), config=True, help="Mail addresses that may enter.")
    allowed_domains = Set(Unicode(), config=True, help="Google Workspace domains whose people may enter.")

    def user_info_to_username(self, user_info: dict[str, Any]) -> str:
        """`g-ada-1f3a9c`: the part before the @, made safe for URLs and Linux, and six digits of the account's hash.

        The hash is of the account id, which Google never gives to anybody else; mail addresses
        change hands.
        """
        super().user_info_to_username(user_info)  # notes the mail's domain, which the checks of the base read
        local = re.sub(r"[^a-z0-9]+", "-", user_info["email"].partition("@")[0].lower()).strip("-")
        digest = hashlib.sha256(str(user_info["id"]).encode()).hexdigest()[:6]
        return f"g-{local[:SLUG_LENGTH]}-{digest}"

    async def check_allowed(self, username: str, auth_model: dict[str, Any] | None) -> bool:
        """Whether the account is listed by mail or Workspace domain; refuses unverified mail addresses."""
        if await super().check_allowed(username, auth_model):
            return True
        if auth_model is None:
            return False
        user_info = auth_model["auth_state"][self.user_auth_state_key]
        # `hd` is set by Google for Workspace accounts only; the text after the @ proves nothing.
        return user_info["email"].lower() in self.allowed_mails or user_info.get("hd", "") in self.allowed_domains


class WorkbenchAuthenticator(Authenticator):  # type: ignore[misc]
    """Dispatches to the enabled providers; JupyterHub's only authenticator."""

    providers = List(help="The enabled providers, in the order of their buttons.")
    provider_classes = List(config=True, help="Classes of the enabled providers.")
    # Each provider checks its own rules; the outer lists would only widen them.
    any_allow_config = Bool(True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # What is meant for one class is set on it: `c.Authenticator.…` would reach every provider.
        self.providers = [provider(config=self.config) for provider in self.provider_classes]

    def get_handlers(self, app: Any) -> list[tuple[str, type]]:
        """A login and a callback handler for each provider."""
        return [handler for provider in self.providers for handler in handlers_of(provider)]

    async def authenticate(self, handler: web.RequestHandler, data: Any = None) -> None:
        """Refuse every form: people come in through a provider's callback only."""
        return

    async def refresh_user(self, user: Any, handler: Any = None, **kwargs: Any) -> bool | dict[str, Any]:
        """Ask the user's provider again, and check again that the account may enter."""
        provider = provider_of(user.name, self.providers)
        if provider is None:
            return False
        refreshed = await provider.refresh_user(user, handler, **kwargs)
        if isinstance(refreshed, dict) and not await _may_enter(provider, user.name, refreshed):
            self.log.warning("%s may no longer enter; login needed", user.name)
            return False
        return cast("bool | dict[str, Any]", refreshed)


def provider_of(name: str, providers: Sequence[OAuthenticator]) -> OAuthenticator | None:
    """The provider whose accounts have names like *name*."""
    prefixes = {"gh-": "github", "g-": "google"}
    key = next((key for prefix, key in prefixes.items() if name.startswith(prefix)), None)
    return next((provider for provider in providers if provider.key == key), None)


async def _may_enter(provider: OAuthenticator, name: str, auth_model: dict[str, Any]) -> bool:
    if auth_model["name"] != name or not provider.check_blocked_users(name, auth_model):
        return False
    return bool(auth_model.get("admin")) or bool(await provider.check_allowed(name, auth_model))


def handlers_of(provider: OAuthenticator) -> list[tuple[str, type]]:
    """Login and callback handlers bound to *provider*, with a state cookie for each flow.

    A cookie per flow keeps two tabs apart, and a provider's callback never accepts a state
    that was issued for another (RFC 6749 §10.12).
    """

    def cookie_name(state_id: str) -> str:
        return f"oauth-{provider.key}-{state_id}"

    class Login(OAuthLoginHandler):  # type: ignore[misc]
        authenticator = provider

        def set_state_cookie(self, state_cookie_value: str) -> None:
            state_id = _deserialize_state(state_cookie_value)["state_id"]
            self._set_cookie(
                cookie_name(state_id), state_cookie_value, expires_days=STATE_COOKIE_DAYS, httponly=True, samesite="Lax"
            )

    class Callback(OAuthCallbackHandler):  # type: ignore[misc]
        authenticator = provider
        _state_cookie: str | None = None

        def get_state_cookie(self) -> str:
            if self._state_cookie is None:
                state_id = str(_deserialize_state(self.get_state_url()).get("state_id", ""))
                if not STATE_ID.fullmatch(state_id):
                    raise web.HTTPError(400, "The login has no valid state. Begin again from the login page.")
                cookie = self.get_secure_cookie(cookie_name(state_id), max_age_days=STATE_COOKIE_DAYS)
                self._state_cookie = (cookie or b"").decode()
                self.clear_cookie(cookie_name(state_id))
            return self._state_cookie

    return [(rf"/{provider.key}/login", Login), (rf"/{provider.key}/callback", Callback)]
