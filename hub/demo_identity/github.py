"""GitHub's side: tokens, the REST API's user, organization and teams, and how tokens are taken back."""

from __future__ import annotations

import json
from typing import Any

from tornado.web import HTTPError

from hub.demo_identity.issuer import TOKEN_SECONDS, Grant
from hub.demo_identity.pages import Authorize, Endpoint, Handler
from hub.demo_identity.people import ORGANIZATION, Person, find_person

API = "/api/v3"


class Token(Endpoint):
    """Codes for tokens."""

    def post(self) -> None:
        """Exchange a code for a token."""
        self.check_client()
        grant = self.issuer.redeem(
            self.get_argument("code"),
            self.get_argument("code_verifier", ""),
            self.get_argument("redirect_uri", ""),
            self.protocol,
        )
        self.write(
            {
                "access_token": self.issuer.issue_token(grant),
                "token_type": "bearer",
                "scope": ",".join(grant.scopes),
                "expires_in": int(TOKEN_SECONDS[self.protocol]),
            }
        )


class User(Endpoint):
    """GET /user."""

    def get(self) -> None:
        """The authenticated user."""
        self.write(_described(self.grant.person))


class Mails(Endpoint):
    """GET /user/emails."""

    def get(self) -> None:
        """The mail addresses of the authenticated user."""
        # tornado's write takes no list.
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.write(json.dumps([{"email": self.grant.person.mail, "primary": True, "verified": True}]))


class Teams(Endpoint):
    """GET /user/teams."""

    def get(self) -> None:
        """The teams of the authenticated user."""
        person = self.grant.person
        organization = {"login": ORGANIZATION}
        teams = [{"slug": team, "name": team.title(), "organization": organization} for team in person.teams]
        self.set_header("Content-Type", "application/json; charset=utf-8")
        self.write(json.dumps(teams))


class Member(Endpoint):
    """GET /orgs/ORG/members/LOGIN and /orgs/ORG/teams/TEAM/members/LOGIN."""

    def get(self, organization: str, team: str | None, login: str) -> None:
        """204 for a member, 404 for everybody else."""
        if not self.grant.person.is_member(organization):
            raise HTTPError(404, "Not Found")
        person = find_person(login)
        if person is None or not person.is_member(organization, team or ""):
            raise HTTPError(404, "Not Found")
        self.set_status(204)


class Application(Endpoint):
    """DELETE /applications/CLIENT_ID/token and /grant."""

    def delete(self, client_id: str, what: str) -> None:
        """End the login of a token, or all that its owner has allowed."""
        self.check_client()
        grant = self.issuer.find(self._token())
        if client_id != self.issuer.client_id or grant is None or grant.protocol != self.protocol:
            raise HTTPError(404, "Not Found")
        self._end(grant, what)
        self.set_status(204)

    def _token(self) -> str:
        try:
            return str(json.loads(self.request.body)["access_token"])
        except (ValueError, KeyError, TypeError):
            raise HTTPError(422, "access_token is missing") from None

    def _end(self, grant: Grant, what: str) -> None:
        if what == "grant":
            self.issuer.revoke_all(grant)
        else:
            self.issuer.revoke(grant)


def _described(person: Person) -> dict[str, Any]:
    return {
        "login": person.login,
        "id": person.number,
        "type": "User",
        "name": person.name,
        "email": person.mail,
        "avatar_url": person.picture,
    }


ROUTES: list[tuple[str, type[Handler]]] = [
    (r"/login/oauth/authorize", Authorize),
    (r"/login/oauth/access_token", Token),
    (rf"{API}/user", User),
    (rf"{API}/user/emails", Mails),
    (rf"{API}/user/teams", Teams),
    (rf"{API}/orgs/([^/]+)(?:/teams/([^/]+))?/members/([^/]+)", Member),
    (rf"{API}/applications/([^/]+)/(grant|token)", Application),
]
