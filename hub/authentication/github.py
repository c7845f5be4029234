"""GitHub, and GitHub Enterprise Server: who has an account there, and which teams it is in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from oauthenticator.github import GitHubOAuthenticator
from traitlets import Set, Unicode

from hub.authentication.answers import asked, is_outage, said
from hub.authentication.provider import IsSame, Provider
from hub.identities import Account
from workbench.errors import ProviderRefused, ProviderUnavailable


class GitHub(Provider, GitHubOAuthenticator):  # type: ignore[misc]
    """GitHub accounts; their hub names begin with `gh-`. Rules name logins, numbers, organizations and teams."""

    key = "github"
    label = "GitHub"
    prefix = "gh"
    subject_claim = "id"

    allowed_logins = Set(Unicode(), config=True, help="Logins that may enter, or `id:` with the account's number.")
    allowed_organizations = Set(Unicode(), config=True, help="`org` or `org:team` whose members may enter.")

    async def check_sender(self, issuer: str) -> None:
        """Refuse a callback that names another issuer; GitHub names itself or nobody."""
        if issuer and issuer != f"{self.github_url}/login/oauth":
            raise ProviderRefused(f"the answer comes from {issuer[:80]!r}, not from {self.github_url}")

    def account(self, user_info: dict[str, Any]) -> Account:
        """The account by its number."""
        try:
            return Account(
                provider=self.key,
                subject=str(int(user_info["id"])),
                login=str(user_info["login"]),
                prefix=self.prefix,
                is_unique=True,
            )
        except (KeyError, TypeError, ValueError):
            raise ProviderUnavailable(f"{self.label} sent a profile without a number and a login") from None

    def profile(self, user_info: dict[str, Any]) -> dict[str, str]:
        """Name, public mail address and picture."""
        return super().profile({**user_info, "picture": user_info.get("avatar_url")})

    async def is_allowed(self, model: dict[str, Any], is_same: IsSame) -> bool:
        """By number, by login, or by organization or team."""
        account: Account = model["account"]
        if f"id:{account.subject}" in self.allowed_logins:
            return True
        if account.login.lower() in self.allowed_logins and is_same(account, account.login):
            return True
        return any(f"{self.key}:{each}" in model["groups"] for each in self.allowed_organizations)

    async def find_groups(self, token: dict[str, Any], user_info: dict[str, Any]) -> Iterable[str]:
        """`github:org` and `github:org:team`, each asked for."""
        login = str(user_info["login"])
        teams = sorted(self.groups_to_check | self.allowed_organizations)
        answers = await asyncio.gather(*(self._is_member(team, login, token) for team in teams))
        return [f"{self.key}:{team}" for team, is_member in zip(teams, answers, strict=True) if is_member]

    async def revoke(self, auth_state: dict[str, Any]) -> None:
        """Delete the grant, and with it every token of the person (docs.github.com, "Delete an app authorization")."""
        await asked(
            self.label,
            self.httpfetch(
                f"{self.github_api}/applications/{self.client_id}/grant",
                "revoking a grant",
                parse_json=False,
                method="DELETE",
                auth_username=self.client_id,
                auth_password=self.client_secret,
                body=json.dumps({"access_token": auth_state["access_token"]}),
                allow_nonstandard_methods=True,
            ),
            with_clients_secret=True,
        )

    async def _is_member(self, team: str, login: str, token: dict[str, Any]) -> bool:
        """Whether GitHub says 204; an outage is an error here, not a no."""
        organization, _, name = team.partition(":")
        path = f"orgs/{organization}/teams/{name}/members/{login}" if name else f"orgs/{organization}/members/{login}"
        headers = self.build_userdata_request_headers(token["access_token"], token["token_type"])
        answer = await asked(
            self.label,
            self.httpfetch(
                f"{self.github_api}/{path}", "asking for a membership", parse_json=False, raise_error=False,
                method="GET", headers=headers, follow_redirects=False,
            ),
        )  # fmt: skip
        if answer.code == 204:
            return True
        # 403 or 404 with a message is GitHub's own no; 302 is for who is in no organization (docs.github.com, "Members").
        body = answer.body or b""
        is_no = answer.code == 302 or (answer.code in {403, 404} and bool(said(body)))
        if not is_no or is_outage(answer.code, answer.headers, body):
            raise ProviderUnavailable(f"{self.label} answered {answer.code} when asked for members of {team}")
        return False
