"""The pages of login, logout and linked accounts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from jupyterhub.handlers.base import BaseHandler
from jupyterhub.handlers.login import LogoutHandler
from jupyterhub.metrics import LOGIN_DURATION_SECONDS, LoginStatus
from jupyterhub.utils import url_path_join
from tornado import web

from hub.authentication.expulsion import forget_cookies, revoke_at_provider
from hub.authentication.flows import FLOW_SECONDS, STATE, Flow, cookie_name, seal, unseal
from hub.authentication.membership import end_login
from hub.authentication.provider import Provider
from workbench.errors import AccountTaken, IdentityError, ProviderUnavailable
from workbench.security.audit import Action, Outcome
from workbench.security.audit.commands import audits_itself, not_audited

FLOWS_AT_ONCE = 8  # tabs of one browser; each has a cookie, and requests have room for a few only
LONGEST_PARAMETER = 2048
LONGEST_REASON = 500  # in the log: a provider may have its part in it
AGAIN = "Begin again from the login page."


def login_handlers(providers: Sequence[Provider]) -> list[tuple[Any, ...]]:
    """The handlers, for JupyterHub's list."""
    handlers: list[tuple[Any, ...]] = [(r"/logout", Logout), (r"/accounts", Accounts)]
    for provider in providers:
        values = {"provider": provider}
        handlers += [
            (rf"/{provider.key}/login", Login, values),
            (rf"/{provider.key}/callback", Callback, values),
            (rf"/accounts/link/{provider.key}", Link, values),
        ]
    return handlers


class _Page(BaseHandler):  # type: ignore[misc]
    """What begins or ends a flow at one provider."""

    def initialize(self, provider: Provider) -> None:
        """Called by tornado with what the routing table says."""
        self.provider = provider

    def log_exception(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        """Log what went wrong without the query: tornado's own line would hold the code and the state."""
        where = f"{self.request.method} {self.request.path}"
        if isinstance(error, web.HTTPError):
            told = " ".join((error.log_message or "").replace("%%", "%").split())[:LONGEST_REASON]
            self.log.warning("%d %s (%s): %s", error.status_code, where, self.request.remote_ip, told)
        elif kind and error:
            self.log.error("%s failed", where, exc_info=(kind, error, trace))

    async def begin(self, flow: Flow) -> None:
        """Send the browser to the provider, with the flow in a cookie of its own."""
        try:
            address = await self.provider.authorization(flow)
        except IdentityError as error:
            raise web.HTTPError(503, _escaped(error)) from error
        old = [name for name in self.request.cookies if name.startswith(f"{self.prefix}login-")]
        for name in old[: max(0, len(old) - FLOWS_AT_ONCE + 1)]:
            self.forget(name)
        self._set_cookie(
            f"{self.prefix}{flow.cookie}",
            seal(flow, self.authenticator.state_secret),
            encrypted=False,  # it is already, with a key of its own
            path=self.hub.base_url,
            expires_days=FLOW_SECONDS / 86400,
            samesite="Lax",
        )
        self.redirect(address)

    @property
    def prefix(self) -> str:
        """What keeps the origins of users from setting our cookies (RFC 6265bis §4.1.3.2); as JupyterHub's own have it."""
        return "__Host-" if self.hub.cookie_name.startswith("__Host-") else ""

    def forget(self, cookie: str) -> None:
        """Have the browser forget a cookie of a flow."""
        self.clear_cookie(cookie, path="/" if self.prefix else self.hub.base_url, secure=bool(self.prefix))

    async def audit(self, action: Action, *, actor: str = "", outcome: str = "", **details: str) -> None:
        """Note what has come of it."""
        details = {"provider": self.provider.key, "address": self.request.remote_ip, **details}
        await self.authenticator.audit.record(action, actor=actor, resource="hub", outcome=outcome, **details)

    async def failed(self, reason: str) -> None:
        """Note that a login proved nothing. Anybody can send such a request, so not every one gets a line."""
        if (left_out := self.authenticator.failures.admit()) is not None:
            await self.audit(Action.LOGIN_FAILED, reason=reason, left_out=str(left_out))


class Login(_Page):
    """What the button leads to."""

    @not_audited("It sends the browser to the provider; what comes back is recorded.")
    async def get(self) -> None:
        """Begin a login; `next` is where the browser goes after it, within the hub."""
        # `_validate_next_url` is what JupyterHub's own login page calls.
        next_url = self._validate_next_url(self.get_argument("next", ""))
        await self.begin(Flow(provider=self.provider.key, next_url=next_url if next_url.isprintable() else ""))


class Link(_Page):
    """The button of a provider on the page of linked accounts."""

    @not_audited("It sends the browser to the provider; what comes back is recorded.")
    @web.authenticated
    async def post(self) -> None:
        """Begin to link: who is logged in now proves to own an account of this provider, too."""
        await self.begin(Flow(provider=self.provider.key, next_url="", link=self.current_user.name))


class Callback(_Page):
    """Where the provider sends the browser back to."""

    login = ""  #: what the provider calls the account, once it has said so

    @audits_itself(Action.LOGIN_SUCCEEDED)
    async def get(self) -> None:
        """End a login or a linking; whatever is wrong gives a page that says what to do."""
        flow = self._flow()
        if flow is None:
            await self.failed("no valid state")
            raise web.HTTPError(
                400, f"This login is not known here, has been used, or is older than ten minutes. {AGAIN}"
            )
        if error := self.get_argument("error", ""):
            await (self._refused(flow, reason=error[:80]) if flow.link else self.failed(error[:80]))
            raise web.HTTPError(400, f"{self.provider.label} ended the login: {_safe(error)}. {AGAIN}")
        if not self.get_argument("code", "") or self._is_too_long():
            raise web.HTTPError(400, f"{self.provider.label} sent no code. {AGAIN}")
        try:
            await (self._link(flow) if flow.link else self._log_in(flow))
        except ProviderUnavailable as error:
            if flow.link:
                await self._refused(flow, outcome=Outcome.FAILED, reason=error.message)
            else:
                await self.failed(error.message)
            raise web.HTTPError(503, _escaped(error)) from error
        except IdentityError as error:
            await self._refused(flow, reason=error.message)
            raise web.HTTPError(403, _escaped(error)) from error

    async def _log_in(self, flow: Flow) -> None:
        started = time.perf_counter()
        model = await self.authenticator.get_authenticated_user(self, flow)
        status = LoginStatus.success if model else LoginStatus.failure
        if model:
            user = await self.auth_to_user(model)
            self.set_login_cookie(user)
            user._auth_refreshed = time.monotonic()  # noqa: SLF001 - as JupyterHub's own login does
        LOGIN_DURATION_SECONDS.labels(status=status).observe(time.perf_counter() - started)
        if not model:
            await self.audit(Action.LOGIN_REFUSED, login=self.login, reason="no rule lets the account in")
            raise web.HTTPError(
                403,
                f"{self.provider.label} knows who you are, but no rule of this workbench lets you in. "
                "Ask its administrators to add your account, your team or your domain.",
            )
        self.redirect(flow.next_url or self.get_next_url(user))

    async def _link(self, flow: Flow) -> None:
        user = self.current_user
        if user is None or user.name != flow.link:
            await self._refused(flow, reason=f"{user.name if user else 'nobody'} is logged in")
            raise web.HTTPError(403, f"The account was to be linked to {flow.link}, who is not logged in any more.")
        model = await self.authenticator.sign_in(flow, self.get_argument("code"), self.get_argument("iss", ""))
        account = model["account"]
        if not await self.authenticator.check_allowed(user.name, model):
            await self._refused(flow, reason="no rule lets the account in", login=account.login)
            raise web.HTTPError(403, f"No rule of this workbench lets in that {self.provider.label} account.")
        await self.audit(Action.ACCOUNT_LINKED, actor=user.name, outcome=Outcome.BEGUN, login=account.login)
        try:
            self.authenticator.identities.link(user.name, account, label=str(self.provider.label))
        except AccountTaken as error:
            await self._refused(flow, reason="it is somebody else's", login=account.login)
            raise web.HTTPError(409, _escaped(error)) from error
        await self.audit(Action.ACCOUNT_LINKED, actor=user.name, login=account.login)
        self.redirect(url_path_join(self.hub.base_url, "accounts"))

    async def _refused(self, flow: Flow, outcome: Outcome = Outcome.REFUSED, **details: str) -> None:
        action = Action.ACCOUNT_LINKED if flow.link else Action.LOGIN_REFUSED
        await self.audit(action, actor=flow.link, outcome=outcome, **details)

    def _flow(self) -> Flow | None:
        """The flow of the state in the URL, if this browser began it and it comes back for the first time."""
        state = self.get_argument("state", "")
        if not STATE.fullmatch(state):
            return None
        name = f"{self.prefix}{cookie_name(self.provider.key, state)}"
        secret = self.authenticator.state_secret
        flow = unseal(self.get_cookie(name) or "", secret, provider=self.provider.key, state=state)
        self.forget(name)
        is_first = flow is not None and self.authenticator.identities.redeem(flow.state, flow.expires_at)
        return flow if is_first else None

    def _is_too_long(self) -> bool:
        return any(len(self.get_argument(name, "")) > LONGEST_PARAMETER for name in ("code", "iss"))

    def append_query_parameters(self, url: str, exclude: Any = None) -> str:
        """Nothing of the provider's answer goes along to the next page."""
        return url


class Logout(LogoutHandler):  # type: ignore[misc]
    """Ends the session here and, where there is a page for it, at the provider."""

    _address = ""

    @audits_itself(Action.LOGOUT)
    async def get(self) -> None:
        """Log out; a link on another site does not log anybody out."""
        if self.request.headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"}:
            raise web.HTTPError(403, "Another site asked to log you out. Log out from the hub's own page.")
        await super().get()

    async def default_handle_logout(self) -> None:
        """Give the provider its tokens back and end its session.

        Not while a server runs or an API token is good: whether their owner may still be here is asked
        with these tokens.
        """
        user = self.current_user
        if user is not None and (state := await end_login(self.authenticator, user)):
            self._address = await self._end_at_provider(state)
        await super().default_handle_logout()
        if user is not None:
            # What was stolen is worth nothing after it, either.
            forget_cookies(self, user)
            await self.authenticator.audit.record(Action.LOGOUT, actor=user.name, resource="hub")

    async def _end_at_provider(self, state: dict[str, Any]) -> str:
        """The page that ends the session at the provider; empty when it has none, or does not answer."""
        provider = self.authenticator.provider(state["provider"])
        if provider is None:
            return ""
        try:
            address = await provider.logout_address(state, self._login_page())
        except IdentityError as error:
            self.log.warning("the session at %s goes on: %s", provider.label, error.message)
            address = ""
        await revoke_at_provider(self.authenticator, state)
        return str(address)

    async def render_logout_page(self) -> None:
        """The provider's page when it has one, else the login page."""
        if self._address:
            self.redirect(self._address)
        else:
            await super().render_logout_page()

    def _login_page(self) -> str:
        return f"{self.authenticator.public_url}{url_path_join(self.hub.base_url, 'login')}"


class Accounts(BaseHandler):  # type: ignore[misc]
    """The page of one's own linked accounts."""

    @not_audited("It only looks.")
    @web.authenticated
    async def get(self) -> None:
        """Which accounts open this hub for the person, and which may still be linked."""
        labels = {provider.key: str(provider.label) for provider in self.authenticator.providers}
        linked = [
            {
                "provider": each.provider,
                "label": labels.get(each.provider, each.provider),
                "login": each.login,
                "since": time.strftime("%Y-%m-%d", time.gmtime(each.linked_at)),
            }
            for each in self.authenticator.identities.accounts_of(self.current_user.name)
        ]
        known = {each["provider"] for each in linked}
        linkable = [
            {"provider": key, "label": label, "url": url_path_join(self.hub.base_url, "accounts", "link", key)}
            for key, label in labels.items()
            if key not in known
        ]
        page = self.render_template(
            "accounts.html",
            user=self.current_user,
            profile=self.current_user.user_info or {},
            linked=linked,
            linkable=linkable,
        )
        self.finish(await page)


def _escaped(error: IdentityError) -> str:
    """The error as a message of tornado's, which formats with %."""
    return str(error).replace("%", "%%")


def _safe(text: str) -> str:
    """The provider's error code (RFC 6749 §4.1.2.1), cut to what may stand on a page."""
    return "".join(each for each in text if each.isalnum() or each in "_- ")[:80]
