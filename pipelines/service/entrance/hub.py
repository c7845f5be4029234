"""Through JupyterHub: its OAuth for browsers, its tokens for programs, its groups for rights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from jupyterhub.services.auth import HubOAuth, HubOAuthCallbackHandler
from tornado.httputil import url_concat
from tornado.web import RequestHandler

from pipelines.service.entrance.path_only import PathOnly
from pipelines.service.rights import Person, Right, right_of_groups
from workbench.logs.context import HEADER, log_context
from workbench.security.audit.commands import not_audited

MOST_ADDRESS = 2000  #: characters of an address to which a login leads back
KNOWN_SECONDS = 30  # whoever was shown out of the hub is out here, too


@dataclass(frozen=True, kw_only=True)
class HubAddress:
    """What the hub has written for this service."""

    port: int  #: to listen on; the hub's proxy leads to it
    prefix: str  #: of addresses that browsers see
    hub_prefix: str
    host: str  #: origin of the service, when it has one of its own; else empty
    hub_host: str  #: with its scheme, when the hub has another host than its services; else empty
    api_url: str
    rights: dict[str, str]  #: name of a right by group of the hub
    token: str = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Self:
        """What stands in the file.

        Raises:
            OSError: when it is not there.
        """
        return cls(**json.loads(path.read_text(encoding="utf-8")))


class HubEntrance:
    """Asks the hub.

    Args:
        address: where it is, and which rights its groups have.
    """

    def __init__(self, address: HubAddress) -> None:
        self._rights, self._prefix = address.rights, address.prefix
        name = address.prefix.strip("/").rpartition("/")[2]
        self._auth = _Hub(
            api_url=address.api_url,
            api_token=address.token,
            oauth_client_id=f"service-{name}",
            base_url=address.prefix,
            oauth_redirect_uri=f"{address.host}{address.prefix}oauth_callback",
            hub_prefix=address.hub_prefix,
            hub_host=address.hub_host,
            cookie_options={"samesite": "Lax"},
            access_scopes={"access:services", f"access:services!service={name}"},
            cache_max_age=KNOWN_SECONDS,
        )

    async def person(self, handler: RequestHandler) -> Person | None:
        """See `Entrance`. Whoever may not use the service is known, and has no right."""
        # JupyterHub's client asks once for each request, and a stream is one for minutes.
        vars(handler).pop("_cached_hub_user", None)
        model = await self._auth.get_user(handler, sync=False)
        if model is None:
            return None
        groups = frozenset(model.get("groups") or ())
        right = Right.OWNER if model.get("admin") else right_of_groups(groups, self._rights)
        if model.get("kind") != "user" or not self._auth.check_scopes(self._auth.access_scopes, model):
            right = Right.NONE
        token = self._auth.get_token(handler) or ""
        return Person(
            name=model["name"],
            right=right,
            groups=groups,
            session=hashlib.sha256(token.encode()).digest(),
            is_program=bool(getattr(handler, "_token_authenticated", False)),
        )

    def sign_in(self, handler: RequestHandler) -> str | None:
        """See `Entrance`: OAuth with state and PKCE, as `HubAuthenticated.get_login_url` begins it."""
        verifier, challenge, method = self._auth.generate_pkce_code_challenge()
        # It is kept until somebody comes back with it: a stranger's long address takes no room.
        here = handler.request.uri or self._prefix
        next_url = here if len(here) <= MOST_ADDRESS else self._prefix
        state = self._auth.set_state_cookie(handler, next_url=next_url, code_verifier=verifier)
        asked = {"state": state, "code_challenge": challenge, "code_challenge_method": method}
        return url_concat(self._auth.login_url, asked)

    def routes(self, prefix: str) -> list[Any]:
        """See `Entrance`."""
        return [(f"{prefix}oauth_callback", _Callback, {"auth": self._auth})]


class _Hub(HubOAuth):  # type: ignore[misc] # jupyterhub has no types
    """JupyterHub's client; what it asks the hub has the id of the request that it asks for."""

    async def _api_request(self, method: str, url: str, **options: Any) -> Any:
        if request := log_context().get("request"):
            options["headers"] = {HEADER: request, **options.get("headers", {})}
        return await super()._api_request(method, url, **options)


class _Callback(PathOnly, HubOAuthCallbackHandler):  # type: ignore[misc] # jupyterhub has no types
    """JupyterHub's own, with our client."""

    def initialize(self, auth: HubOAuth) -> None:
        self.hub_auth = auth

    @not_audited("A visit by who is logged in at the hub, which has recorded the login.")
    async def get(self) -> None:
        """Called by tornado."""
        await HubOAuthCallbackHandler.get(self)
