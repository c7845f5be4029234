"""Google, and a team's own issuer: OpenID Connect with every ID token verified."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from functools import cached_property
from typing import Any, TypeVar
from urllib.parse import urlencode

from google.auth.exceptions import GoogleAuthError
from oauthenticator.generic import GenericOAuthenticator
from oauthenticator.google import GoogleOAuthenticator
from traitlets import Set, Unicode

from hub.authentication.answers import asked
from hub.authentication.flows import Flow
from hub.authentication.id_tokens import Issuer, verify
from hub.authentication.provider import IsSame, Keep, Provider
from hub.identities import Account
from workbench.errors import ProviderRefused, ProviderUnavailable

T = TypeVar("T")


class OpenIDProvider(Provider):
    """A provider that signs who somebody is."""

    issuer = Unicode(config=True, help="The issuer, as its ID tokens and its metadata name it.")

    async def authorization(self, flow: Flow) -> str:
        """The address of the provider's login page, with the nonce that the ID token has to bring back."""
        await self.discover()
        return f"{await super().authorization(flow)}&{urlencode({'nonce': flow.nonce})}"

    async def sign_in(self, flow: Flow, code: str, issuer: str) -> dict[str, Any]:
        """See `Provider.sign_in`."""
        await self.discover()
        return await super().sign_in(flow, code, issuer)

    async def refresh(self, auth_state: dict[str, Any], keep: Keep) -> dict[str, Any]:
        """See `Provider.refresh`; what is wrong with the issuer itself says nothing about the person."""
        await unavailable_unless_good(self.discover())
        return await super().refresh(auth_state, keep)

    async def discover(self) -> None:
        """Learn what only the issuer's metadata says; does nothing for endpoints that are known."""

    async def check_sender(self, issuer: str) -> None:
        """Refuse an answer that another issuer has sent, or that does not say what it promised to (RFC 9207)."""
        if not issuer and (await self._issuer.metadata()).get("authorization_response_iss_parameter_supported"):
            raise ProviderRefused(f"the answer does not say that it comes from {self.issuer}")
        if issuer and issuer != self.issuer:
            raise ProviderRefused(f"the answer comes from {issuer[:80]!r}, not from {self.issuer}")

    async def check_id_token(self, token: dict[str, Any], *, nonce: str, is_new: bool) -> dict[str, Any]:
        """The claims of the ID token, which has to come with every login; at a refresh it may be missing."""
        id_token = token.get("id_token")
        if not id_token:
            if nonce:
                raise ProviderRefused(f"{self.label} sent no ID token")
            return {}
        if not is_new:
            return {}  # verified when it came; it may have expired since
        verified = verify(id_token, self._issuer, client_id=self.client_id, nonce=nonce)
        # Rights come from the profile: at a refresh, a key or a clock that is off takes none away.
        return await (verified if nonce else unavailable_unless_good(verified))

    async def revoke(self, auth_state: dict[str, Any]) -> None:
        """Revoke the refresh token, and with it what it gave (RFC 7009)."""
        address = (await self._issuer.metadata()).get("revocation_endpoint")
        if not address:
            return
        token = auth_state.get("refresh_token") or auth_state["access_token"]
        form = {"token": token, "client_id": self.client_id, "client_secret": self.client_secret}
        await asked(
            self.label,
            self.httpfetch(
                address,
                "revoking a token",
                parse_json=False,
                method="POST",
                headers={"Content-Type": "application/x-www-form-urlencoded"},
                body=urlencode(form),
            ),
            with_clients_secret=True,
        )

    @cached_property
    def _issuer(self) -> Issuer:
        return Issuer(self.issuer, self._read)

    async def _read(self, address: str) -> Any:
        return await asked(self.label, self.httpfetch(address, "reading the issuer's metadata", method="GET"))


class Google(OpenIDProvider, GoogleOAuthenticator):  # type: ignore[misc]
    """Google accounts; their hub names begin with `g-`. Rules name mail addresses, Workspace domains and groups."""

    key = "google"
    label = "Google"
    prefix = "g"
    subject_claim = "id"

    allowed_mails = Set(Unicode(), config=True, help="Mail addresses that may enter.")
    allowed_domains = Set(Unicode(), config=True, help="Google Workspace domains whose people may enter.")
    allowed_mail_groups = Set(Unicode(), config=True, help="Google groups, by address, whose members may enter.")

    def account(self, user_info: dict[str, Any]) -> Account:
        """The account by Google's number for it, which is never reused."""
        number, mail = _text(user_info, "id"), _text(user_info, "email")
        if not number or not mail:
            raise ProviderUnavailable(f"{self.label} sent a profile without a number and a mail address")
        return Account(provider=self.key, subject=number, login=mail, prefix=self.prefix)

    async def is_allowed(self, model: dict[str, Any], is_same: IsSame) -> bool:
        """By mail address, which has to be verified, by Workspace domain, or by group."""
        user_info = model["auth_state"][self.user_auth_state_key]
        if user_info.get("verified_email") is not True:
            raise ProviderRefused(
                f"the mail address {user_info['email']} is not verified", remedy="Verify it with Google and try again."
            )
        if f"id:{model['account'].subject}" in self.allowed_mails:
            return True
        mail = _text(user_info, "email")
        if mail.lower() in self.allowed_mails and is_same(model["account"], mail):
            return True
        # `hd` is set by Google for Workspace accounts only; the text after the @ proves nothing.
        if _text(user_info, "hd") in self.allowed_domains:
            return True
        return any(f"{self.key}:{each}" in model["groups"] for each in self.allowed_mail_groups)

    async def find_groups(self, token: dict[str, Any], user_info: dict[str, Any]) -> Iterable[str]:
        """`google:group@domain` of the Workspace's directory, when a rule names a group of that domain."""
        domain = _text(user_info, "hd")
        wanted = self.groups_to_check | self.allowed_mail_groups
        if not domain or not any(each.endswith(f"@{domain}") for each in wanted):
            return []
        await self._renew_credentials(domain)
        members = asked(self.label, self._fetch_member_groups(user_info["email"], domain))
        # A no is about the service account, not about the person.
        found = await unavailable_unless_good(members)
        return [f"{self.key}:{name}@{domain}" for name in found if f"{name}@{domain}" in wanted]

    async def _renew_credentials(self, domain: str) -> None:
        """Get the service account's token if it is old: in a thread, since google-auth waits for the network."""
        try:
            await asyncio.to_thread(self._get_service_credentials, domain)
        except GoogleAuthError as error:
            raise ProviderUnavailable(f"{self.label} gives no access to the directory of {domain}: {error}") from None


class OpenID(OpenIDProvider, GenericOAuthenticator):  # type: ignore[misc]
    """Accounts of a team's own issuer; their hub names begin with `o-`. Rules name mails, subjects and groups."""

    key = "oidc"
    label = Unicode("single sign-on", config=True, help="What the button says.")
    prefix = "o"
    subject_claim = "sub"

    allowed_accounts = Set(Unicode(), config=True, help="Verified mail addresses or subjects that may enter.")
    allowed_claim_groups = Set(Unicode(), config=True, help="Groups of the issuer whose members may enter.")
    groups_claim = Unicode("groups", config=True, help="The claim that holds the groups.")

    def account(self, user_info: dict[str, Any]) -> Account:
        """The account by its subject (Core 1.0 §5.7: the only claim to rely on, together with the issuer)."""
        subject = _text(user_info, "sub")
        if not subject:
            raise ProviderUnavailable(f"{self.label} sent a profile without a subject")
        login = _text(user_info, "preferred_username") or _text(user_info, "email") or subject
        # Two issuers may use the same subject: a change of the issuer makes other people of them.
        return Account(provider=self.key, subject=f"{self.issuer}|{subject}", login=login, prefix=self.prefix)

    async def discover(self) -> None:
        """Take the endpoints from the issuer's metadata."""
        found = await self._issuer.metadata()
        try:
            self.authorize_url = found["authorization_endpoint"]
            self.token_url = found["token_endpoint"]
            self.userdata_url = found["userinfo_endpoint"]
        except KeyError as error:
            raise ProviderUnavailable(f"the metadata of {self.issuer} has no {error}") from None
        if self.issuer.startswith("https://") and not self.token_url.startswith("https://"):
            raise ProviderUnavailable(f"{self.issuer} wants the client's secret without TLS, at {self.token_url}")

    async def is_allowed(self, model: dict[str, Any], is_same: IsSame) -> bool:
        """By subject, by mail address if it is verified, or by group."""
        user_info = model["auth_state"][self.user_auth_state_key]
        if user_info["sub"] in self.allowed_accounts:
            return True
        mail = _text(user_info, "email") if user_info.get("email_verified") is True else ""
        if mail and mail.lower() in self.allowed_accounts and is_same(model["account"], mail):
            return True
        return any(f"{self.key}:{each}" in model["groups"] for each in self.allowed_claim_groups)

    async def find_groups(self, token: dict[str, Any], user_info: dict[str, Any]) -> Iterable[str]:
        """`oidc:group` for each group of the claim that a rule names; Keycloak writes groups as paths."""
        found = user_info.get(self.groups_claim, [])
        groups = {str(each).removeprefix("/") for each in found} if isinstance(found, list) else set()
        wanted = {each.removeprefix("/") for each in self.groups_to_check | self.allowed_claim_groups}
        return [f"{self.key}:{each}" for each in groups & wanted]

    async def logout_address(self, auth_state: dict[str, Any], return_to: str) -> str:
        """The issuer's own logout page (RP-Initiated Logout 1.0), which sends the browser back."""
        address = (await self._issuer.metadata()).get("end_session_endpoint")
        if not address:
            return ""
        parameters = {"client_id": self.client_id, "post_logout_redirect_uri": return_to}
        if id_token := auth_state.get("id_token"):
            parameters["id_token_hint"] = id_token
        return f"{address}?{urlencode(parameters)}"


async def unavailable_unless_good(answer: Awaitable[T]) -> T:
    """The answer; a no in it counts as none.

    Raises:
        ProviderUnavailable: when there is no good answer.
    """
    try:
        return await answer
    except ProviderRefused as error:
        raise ProviderUnavailable(error.message, remedy=error.remedy) from None


def _text(user_info: dict[str, Any], claim: str) -> str:
    """A claim that has to be text; empty when it is missing or is anything else."""
    found = user_info.get(claim)
    return found if isinstance(found, str) else ""
