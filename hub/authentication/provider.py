"""What every identity provider of the hub does beside the protocol that OAuthenticator's class speaks.

For each: a closed set of answers (who it is, a no, or no answer at all), proof of who sent an
ID token, memberships read strictly, refresh without mistaking an outage for a no, revocation.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, ClassVar
from urllib.parse import urlencode

from oauthenticator.oauth2 import OAuthenticator
from tornado.httpclient import AsyncHTTPClient
from traitlets import Set, Unicode, default

from hub.authentication.answers import TokenNotTaken, asked, check_code
from hub.authentication.flows import Flow
from hub.identities import Account
from workbench.errors import ProviderRefused, ProviderUnavailable

TIMEOUTS = {"connect_timeout": 3.0, "request_timeout": 8.0}  #: seconds; a login page waits for them
LOGINS_AT_ONCE = 100  # tornado's own limit is ten
LONGEST_ANSWER_BYTES = 1_000_000
Keep = Callable[[dict[str, Any]], Awaitable[None]]
IsSame = Callable[[Account, str], bool]


class Provider(OAuthenticator):  # type: ignore[misc]
    """What every provider of the hub has beside OAuthenticator's protocol."""

    key: ClassVar[str]  #: in URLs, cookies, group names and the identity store
    label: str  #: on the button
    prefix: ClassVar[str]  #: of hub names
    subject_claim: ClassVar[str]  #: of the profile: the account's number

    groups_to_check = Set(Unicode(), config=True, help="Groups that a rule names, without the provider's prefix.")

    @default("http_client")  # type: ignore[untyped-decorator] # traitlets has no types
    def _default_http_client(self) -> AsyncHTTPClient:
        return AsyncHTTPClient(
            force_instance=True, max_clients=LOGINS_AT_ONCE, max_body_size=LONGEST_ANSWER_BYTES, defaults=TIMEOUTS
        )

    def login_url(self, base_url: str) -> str:
        """Where this provider's button leads."""
        return f"{base_url.rstrip('/')}/{self.key}/login"

    async def authorization(self, flow: Flow) -> str:
        """The address of the provider's own login page for one flow.

        Raises:
            ProviderUnavailable: when the provider's metadata is needed and cannot be had.
        """
        parameters = {
            **self.extra_authorize_params,
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.oauth_callback_url,
            "scope": " ".join(self.scope),
            "state": flow.state,
            "code_challenge": flow.challenge,
            "code_challenge_method": "S256",
        }
        return f"{self.authorize_url}?{urlencode(parameters)}"

    async def sign_in(self, flow: Flow, code: str, issuer: str) -> dict[str, Any]:
        """Exchange the code of a callback for JupyterHub's model of a login.

        Args:
            flow: of the button, from its cookie.
            code: as the callback brought it.
            issuer: what the callback said about who sent it (RFC 9207); empty when nothing.

        Raises:
            ProviderRefused: when the provider says no, or what it sends proves nothing.
            ProviderUnavailable: when it does not answer.
        """
        await self.check_sender(issuer)
        token = await self.get_token_info(
            None,
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": self.oauth_callback_url,
                "code_verifier": flow.verifier,
                "client_id": self.client_id,
                "client_secret": self.client_secret,
            },
        )
        return await self._model(token, nonce=flow.nonce)

    async def refresh(self, auth_state: dict[str, Any], keep: Keep) -> dict[str, Any]:
        """Ask the provider again who the person is and where they belong.

        Args:
            auth_state: of the last answer.
            keep: called with the auth_state of new tokens before anything else is asked: the old refresh
                token may be good no more.

        Raises:
            ProviderRefused: when it no longer vouches for them.
            ProviderUnavailable: when it does not answer, which says nothing about them.
        """
        token, refresh_token = auth_state["token_response"], auth_state.get("refresh_token")
        try:
            # Also when it must have run out: a refresh token that is good once is not sent to who does not answer.
            return await self._model(token)
        except (ProviderRefused, TokenNotTaken):
            # The answer to the refresh token tells a no from a firewall, too.
            if not refresh_token:
                raise
        fresh = await self.get_token_info(None, self.build_refresh_token_request_params(refresh_token))
        # The old ID token stays the hint for a logout; that of a refresh may be missing (Core 1.0 §12.2).
        token = {"refresh_token": refresh_token, "id_token": auth_state.get("id_token"), **fresh}
        names = ("access_token", "refresh_token", "id_token")
        await keep({**auth_state, **{name: token[name] for name in names}, "token_response": token})
        return await self._model(token, is_fresh="id_token" in fresh)

    async def revoke(self, auth_state: dict[str, Any]) -> None:
        """Have the provider forget the tokens; does nothing where it offers no way.

        Raises:
            ProviderRefused, ProviderUnavailable: when it does not.
        """

    async def logout_address(self, auth_state: dict[str, Any], return_to: str) -> str:
        """Where the browser is sent to end the session at the provider; empty when there is no such place."""
        return ""

    async def check_sender(self, issuer: str) -> None:
        """Refuse a callback of another issuer (RFC 9207 §2.4)."""
        raise NotImplementedError

    def account(self, user_info: dict[str, Any]) -> Account:
        """The account that the provider has described."""
        raise NotImplementedError

    def profile(self, user_info: dict[str, Any]) -> dict[str, str]:
        """What is shown of the person: `display_name` and `avatar_url` in Lab, `mail` on the hub's pages, as far as known."""
        shown = {
            "display_name": user_info.get("name"),
            "avatar_url": user_info.get("picture"),
            "mail": user_info.get("email"),
        }
        return {key: str(value) for key, value in shown.items() if value}

    async def is_allowed(self, model: dict[str, Any], is_same: IsSame) -> bool:
        """Whether a rule lets the account in.

        Args:
            model: holds `account`, `groups` and `auth_state`.
            is_same: whether an entry of a list still means the account, see `Identities.is_same`.
        """
        raise NotImplementedError

    async def find_groups(self, token: dict[str, Any], user_info: dict[str, Any]) -> Iterable[str]:
        """Which of the groups that rules name the account is in, with the provider's prefix."""
        raise NotImplementedError

    async def get_token_info(self, handler: Any, params: dict[str, Any]) -> dict[str, Any]:
        """The answer of the token endpoint (RFC 6749 §5).

        Raises:
            ProviderRefused: with the error code of the protocol, such as `invalid_grant`.
            ProviderUnavailable: when it does not answer.
        """
        answer = await asked(
            self.label,
            self.httpfetch(
                self.token_url,
                "exchanging a code or a refresh token",
                method="POST",
                headers=self.build_token_info_request_headers(),
                body=urlencode(params),
            ),
            with_clients_secret=True,
        )
        if not isinstance(answer, dict):
            raise ProviderUnavailable(f"{self.label} sent no token answer")
        # GitHub says no with status 200.
        if answer.get("error"):
            check_code(self.label, str(answer["error"]))
        if not answer.get("access_token"):
            raise ProviderUnavailable(f"{self.label} sent no access token")
        return {"token_type": "Bearer", **answer}

    async def fetch(self, req: Any, label: str = "", parse_json: bool = True, **kwargs: Any) -> Any:
        """One request. Unlike OAuthenticator's own, it writes nothing of an answer into the log."""
        answer = await self.http_client.fetch(req, **kwargs)
        return json.loads(answer.body) if parse_json else answer

    async def get(self, address: str, token: dict[str, Any]) -> Any:
        """GET a JSON document of the provider's API with an access token."""
        headers = self.build_userdata_request_headers(token["access_token"], token["token_type"])
        question = self.httpfetch(address, "asking the provider", method="GET", headers=headers)
        return await asked(self.label, question, with_persons_token=True)

    async def _model(self, token: dict[str, Any], *, nonce: str = "", is_fresh: bool = False) -> dict[str, Any]:
        """JupyterHub's model: who it is, the groups, the picture, and what is kept for the next refresh."""
        claims = await self.check_id_token(token, nonce=nonce, is_new=bool(nonce) or is_fresh)
        # Rights come from here alone: a refresh need not bring another ID token.
        user_info = await self.read_user(token)
        account = self.account(user_info)
        if claims and claims["sub"] != user_info[self.subject_claim]:
            raise ProviderRefused("the ID token and the profile are of two different accounts")
        return {
            "account": account,
            "groups": sorted(await self.find_groups(token, user_info)),
            "user_info": self.profile(user_info),
            "auth_state": {
                "provider": self.key,
                "subject": account.subject,
                "checked_at": time.time(),
                **self.build_auth_state_dict(token, user_info),
            },
        }

    async def check_id_token(self, token: dict[str, Any], *, nonce: str, is_new: bool) -> dict[str, Any]:
        """The claims of the ID token; empty for a provider that has none."""
        return {}

    async def read_user(self, token: dict[str, Any]) -> dict[str, Any]:
        """The provider's description of the token's owner."""
        found = await self.get(self.userdata_url, token)
        if not isinstance(found, dict):
            raise ProviderUnavailable(f"{self.label} sent no profile")
        return found
