"""JupyterHub's one authenticator: sends each login to its provider, decides who enters, and asks again."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Coroutine
from typing import Any

from jupyterhub.auth import Authenticator
from traitlets import Any as Value
from traitlets import Bool, Bytes, List, Unicode

from hub.auditing import AuditTrail, keep_checkpoints
from hub.authentication.expulsion import expel
from hub.authentication.flows import Flow
from hub.authentication.handlers import login_handlers
from hub.authentication.membership import LOGGED_OUT, apply_model, watch_members
from hub.authentication.provider import Keep, Provider
from hub.identities import Account, Identities
from hub.roles import GROUPS, role_for
from workbench.errors import ProviderRefused, ProviderUnavailable
from workbench.sections.login import LoginSettings
from workbench.security.audit import Action
from workbench.security.audit.proof.checkpointer import Checkpointer
from workbench.security.throttle import Throttle

FRESH_SECONDS = 5.0  # several tabs ask at once: the answer of the first serves all
UNANSWERED_SECONDS = 20.0  # the same while the provider does not answer, when each question takes long


class WorkbenchAuthenticator(Authenticator):  # type: ignore[misc]
    """Dispatches to the enabled providers; JupyterHub's only authenticator."""

    provider_classes = List(config=True, help="Classes of the enabled providers, in the order of their buttons.")
    login_settings: LoginSettings = Value(config=True, help="The section of the settings.")
    state_secret = Bytes(config=True, help="Seals what a login remembers in the browser.")
    identities: Identities = Value(config=True, help="The accounts and people of this hub.")
    audit: AuditTrail = Value(config=True, help="The audit log.")
    checkpointer: Checkpointer = Value(config=True, help="Makes the signed checkpoints of the audit log.")
    public_url = Unicode(config=True, help="How browsers reach the hub.")
    pages = List(config=True, help="Handlers of pages beside those of the login.")
    # Each provider checks its own rules; the outer lists would only widen them.
    any_allow_config = Bool(True)
    manage_groups = Bool(True)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # What is meant for one class is set on it: `c.Authenticator.…` would reach every provider.
        self.providers: list[Provider] = [provider(config=self.config) for provider in self.provider_classes]
        self.refreshing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.failures = Throttle()
        self._unanswered: dict[str, float] = {}
        self._leaving: set[str] = set()
        self._background: set[asyncio.Task[Any]] = set()
        self._app: Any = None

    def provider(self, key: str) -> Provider | None:
        """The enabled provider with that key."""
        return next((provider for provider in self.providers if provider.key == key), None)

    def get_handlers(self, app: Any) -> list[tuple[Any, ...]]:
        """The pages of login, linking and logout; also begins to watch who may still be here."""
        self._app = app
        self._in_background(watch_members(app, self))
        self._in_background(keep_checkpoints(self.checkpointer))
        return [*login_handlers(self.providers), *self.pages]

    async def authenticate(self, handler: Any, data: Any = None) -> dict[str, Any] | None:
        """The model of whoever has come back from a provider; a form lets nobody in."""
        if not isinstance(data, Flow):
            return None
        model = await self.sign_in(data, handler.get_argument("code"), handler.get_argument("iss", ""))
        handler.login = model["account"].login  # for the audit log, should no rule let the account in
        return model

    async def sign_in(self, flow: Flow, code: str, issuer: str) -> dict[str, Any]:
        """The model of an account that has proved itself, with the name that it has or would get.

        Raises:
            ProviderRefused, ProviderUnavailable: see `Provider.sign_in`.
        """
        provider = self.provider(flow.provider)
        assert provider is not None, "handlers are made for enabled providers only"
        model = await provider.sign_in(flow, code, issuer)
        return self.complete(self.identities.name_of(model["account"]), model)

    def complete(self, name: str, model: dict[str, Any]) -> dict[str, Any]:
        """The model with the hub's name, role and groups."""
        role = role_for(self.login_settings, name, model["groups"])
        return {
            **model,
            "name": name,
            "admin": role == "admin",
            "groups": sorted({*model["groups"], GROUPS[role]}),
        }

    def check_blocked_users(self, username: str, auth_model: dict[str, Any]) -> bool:
        """Whether the person was not off-boarded."""
        return not self.identities.is_blocked(username)

    async def check_allowed(self, username: str, auth_model: dict[str, Any] | None) -> bool:
        """Whether a rule of the account's provider, or of administrators, lets it in; deny by default."""
        if auth_model is None:
            return False
        provider = self.provider(auth_model["auth_state"]["provider"])
        if provider is None:
            return False
        return auth_model["admin"] or await provider.is_allowed(auth_model, self.identities.is_same)

    async def run_post_auth_hook(self, handler: Any, auth_model: dict[str, Any]) -> dict[str, Any]:
        """Called for who may enter: the name is theirs from now on.

        Raises:
            NameChanged: when role and rules were found for a name that is not the account's any more.
            IdentityError: when the person was off-boarded meanwhile.
        """
        account: Account = auth_model.pop("account")
        self.identities.admit(account, auth_model["name"])
        model = await super().run_post_auth_hook(handler, auth_model)
        await self.audit.record(
            Action.LOGIN_SUCCEEDED,
            actor=model["name"],
            resource="hub",
            provider=account.provider,
            login=account.login,
            address=handler.request.remote_ip,
            rights=",".join(["admin"] * bool(model["admin"]) + sorted(model["groups"])),
        )
        return dict(model)

    async def refresh_user(self, user: Any, handler: Any = None, **kwargs: Any) -> bool:
        """Whether the provider still vouches for the person, and the rules still let them in.

        Also true when that cannot be asked, and the last answer is not too old. What has changed is
        kept here, under the lock: JupyterHub would write it later, over what another tab has got
        since, and a refresh token may be good for one use only.
        """
        if handler is not None and not hasattr(handler, "_token_authenticated"):
            # JupyterHub 6.1 reads it after a False, and sets it for requests with a token only.
            handler._token_authenticated = False  # noqa: SLF001
        async with self.refreshing[user.name]:
            state = await user.get_auth_state() or {}
            if not state or user.name in self._leaving:
                return False
            if time.time() - state["checked_at"] < FRESH_SECONDS:
                return True
            if time.monotonic() - self._unanswered.get(user.name, -UNANSWERED_SECONDS) < UNANSWERED_SECONDS:
                return self._is_within_grace(state)
            return await self._ask(user, state)

    async def _ask(self, user: Any, state: dict[str, Any]) -> bool:
        """Ask the provider and keep its answer, unless somebody has logged in or out meanwhile: their word counts."""
        seen = [user.encrypted_auth_state]

        async def keep(fresh: dict[str, Any]) -> None:
            await user.save_auth_state(fresh)
            seen[0] = user.encrypted_auth_state

        model: dict[str, Any] | None
        try:
            model = await self._still_allowed(user.name, state, keep)
        except ProviderUnavailable as error:
            self.log.warning("%s could not be checked again: %s", user.name, error.message)
            self._unanswered[user.name] = time.monotonic()
            return self._is_within_grace(state)
        except ProviderRefused as error:
            model, refusal = None, error.message
        if user.encrypted_auth_state != seen[0]:
            return user.encrypted_auth_state is not None
        if model is None:
            # Not within the request, which may be the one that starts the server to be stopped.
            self._in_background(self.show_out(user, refusal))
            return False
        if LOGGED_OUT in state:
            model["auth_state"][LOGGED_OUT] = state[LOGGED_OUT]
        await apply_model(self._app, user, model)
        return True

    async def _still_allowed(self, name: str, state: dict[str, Any], keep: Keep) -> dict[str, Any]:
        provider = self.provider(state.get("provider", ""))
        if provider is None:
            raise ProviderRefused(f"{state.get('provider')!r} is no provider of this hub any more")
        model = self.complete(name, await provider.refresh(state, keep))
        if self.identities.is_blocked(name):
            raise ProviderRefused("the person was off-boarded")
        if model["account"].subject != state["subject"]:
            raise ProviderRefused("the token belongs to another account now")
        if (known := self.identities.name_of(model["account"])) != name:
            raise ProviderRefused(f"the account is that of {known}, not of {name}")
        if not await self.check_allowed(name, model):
            raise ProviderRefused("no rule lets the account in any more")
        return model

    async def show_out(self, user: Any, reason: str) -> None:
        """End everything that the person can do here, unless that is being done."""
        if user.name not in self._leaving:
            self._leaving.add(user.name)
            try:
                await expel(self._app, user, reason=reason, actor="hub")
            finally:
                self._leaving.discard(user.name)

    def _in_background(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _is_within_grace(self, state: dict[str, Any]) -> bool:
        return bool(time.time() - state["checked_at"] < self.login_settings.grace_seconds)
