"""GitHub's protocol with the paths of a GitHub Enterprise Server; it speaks no OpenID Connect.

docs.github.com: "Authorizing OAuth apps", "REST API endpoints for users, emails, organization
members, team members, OAuth authorizations".
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from tests.services.identity.grants import Grant, Person
from tests.services.identity.oauth import Protocol, Route, route
from tests.services.identity.wire import Answer, Refused, Request

NOT_FOUND = Answer(status=404, body={"message": "Not Found"})
NO_CONTENT = Answer(status=204)
API = "/api/v3"


class GitHub(Protocol):
    """Tokens without an end, members of organizations and teams, errors with status 200."""

    name = "github"

    def routes(self) -> list[Route]:
        client = rf"{API}/applications/([^/]+)"
        return [
            route("authorize", "GET", r"/login/oauth/authorize", self.authorize),
            route("token", "POST", r"/login/oauth/access_token", self.token),
            route("userinfo", "GET", rf"{API}/user", self.user),
            route("userinfo", "GET", rf"{API}/user/(\d+)", self.account),
            route("userinfo", "GET", rf"{API}/user/emails", self.emails),
            route("membership", "GET", rf"{API}/user/teams", self.teams),
            route("membership", "GET", rf"{API}/user/orgs", self.organizations),
            route("membership", "GET", rf"{API}/user/memberships/orgs/([^/]+)", self.own_membership),
            route("membership", "GET", rf"{API}/orgs/([^/]+)/members/([^/]+)", self.member),
            route("membership", "GET", rf"{API}/orgs/([^/]+)/teams/([^/]+)/members/([^/]+)", self.team_member),
            route("membership", "GET", rf"{API}/orgs/([^/]+)/teams/([^/]+)/memberships/([^/]+)", self.team_membership),
            route("revoke", "DELETE", rf"{client}/(grant|token)", self.revoke),
            route("revoke", "POST", rf"{client}/token", self.check_token),
        ]

    def token(self, request: Request) -> Answer:
        """A token for a code, or for a refresh token when `github_tokens_expire`, as those of GitHub Apps do."""
        try:
            body = self._token(request)
        except Refused as refused:
            # GitHub says so with 200.
            body = refused.answer.body | {"error": "bad_verification_code"}
        if "json" in request.headers.get("accept", ""):
            return Answer(body=body)
        return Answer(body=urlencode(body).encode(), headers={"Content-Type": "application/x-www-form-urlencoded"})

    def _token(self, request: Request) -> dict[str, Any]:
        self.check_client(request)
        grants, policy = self.provider.grants, self.provider
        if request.form.get("grant_type") == "refresh_token":
            token = request.form.get("refresh_token", "")
            grant = grants.use_refresh(token, self.client.id, rotates=True, detects_reuse=policy.detects_reuse)
        else:
            grant = grants.redeem(request.form, self.name, self.client.id)
        answer = {"token_type": "bearer", "scope": ",".join(sorted(grant.scopes))}
        if not policy.github_tokens_expire:
            return {"access_token": grants.give_access(grant, float("inf")), **answer}
        return {
            "access_token": grants.give_access(grant, policy.access_seconds),
            "refresh_token": grants.give_refresh(grant),
            "expires_in": int(policy.access_seconds),
            **answer,
        }

    def user(self, request: Request) -> Answer:
        return Answer(body=self._described(self._grant(request).person), headers={"X-OAuth-Scopes": ""})

    def account(self, request: Request, number: str) -> Answer:
        self._grant(request)
        found = next((each for each in self.provider.people if each.number == int(number)), None)
        return Answer(body=self._described(found)) if found else NOT_FOUND

    def emails(self, request: Request) -> Answer:
        grant = self._grant(request)
        if not {"user", "user:email"} & set(grant.scopes):
            return NOT_FOUND
        person = grant.person
        private = {"email": f"{person.number}@users.noreply.example", "primary": False, "verified": True}
        own = {"email": person.mail, "primary": True, "verified": person.mail_verified}
        return Answer(body=[private, own] if person.mail else [private])

    def organizations(self, request: Request) -> Answer:
        grant = self._grant(request, "read:org")
        return Answer(body=[{"login": name} for name in sorted(grant.person.organizations)])

    def teams(self, request: Request) -> Answer:
        """A page of the person's teams; pages are short, so that whoever forgets the second is found out."""
        teams = sorted(self._grant(request, "read:org").person.teams)
        page, size = int(request.query.get("page", "1")), self.provider.teams_per_page
        shown = [team.split(":") for team in teams[(page - 1) * size : page * size]]
        body = [{"slug": slug, "name": slug.title(), "organization": {"login": org}} for org, slug in shown]
        if page * size >= len(teams):
            return Answer(body=body)
        following = f"{self.provider.url}{request.path}?{urlencode({**request.query, 'page': page + 1})}"
        return Answer(body=body, headers={"Link": f'<{following}>; rel="next"'})

    def own_membership(self, request: Request, organization: str) -> Answer:
        if organization not in self._grant(request, "read:org").person.organizations:
            return NOT_FOUND
        return Answer(body={"state": "active", "role": "member", "organization": {"login": organization}})

    def member(self, request: Request, organization: str, login: str) -> Answer:
        self._grant(request, "read:org")
        person = self._find(login)
        return NO_CONTENT if person and organization in person.organizations else NOT_FOUND

    def team_member(self, request: Request, organization: str, team: str, login: str) -> Answer:
        self._grant(request, "read:org")
        person = self._find(login)
        return NO_CONTENT if person and f"{organization}:{team}" in person.teams else NOT_FOUND

    def team_membership(self, request: Request, organization: str, team: str, login: str) -> Answer:
        found = self.team_member(request, organization, team, login)
        return Answer(body={"state": "active", "role": "member"}) if found is NO_CONTENT else found

    def revoke(self, request: Request, client_id: str, what: str) -> Answer:
        """End a token, or all that the person gave to the client."""
        grant = self._told_token(request, client_id)
        token = request.json()["access_token"]
        self.provider.note_revocation(token)
        if what == "grant":
            self.provider.grants.end_protocol(grant.person, self.name)
        else:
            self.provider.grants.revoke(token)
        return NO_CONTENT

    def check_token(self, request: Request, client_id: str) -> Answer:
        grant = self._told_token(request, client_id)
        return Answer(body={"user": self._described(grant.person), "scopes": list(grant.scopes)})

    def _told_token(self, request: Request, client_id: str) -> Grant:
        self.check_client(request)
        grant = self.provider.grants.find(str(request.json().get("access_token", "")))
        if client_id != self.client.id or grant is None or grant.protocol != self.name:
            raise Refused(404, {"message": "Not Found"})
        return grant

    def _grant(self, request: Request, scope: str = "") -> Grant:
        if not request.headers.get("user-agent"):
            raise Refused(403, {"message": "Request forbidden by administrative rules."})
        grant = self.grant_of(request)
        if scope and scope not in grant.scopes:
            raise Refused(403, {"message": f"Resource not accessible: {scope} is needed"})
        return grant

    def _find(self, login: str) -> Person | None:
        # As at GitHub, case does not count.
        return next((each for each in self.provider.people if each.login.lower() == login.lower()), None)

    @staticmethod
    def _described(person: Person) -> dict[str, Any]:
        return {
            "login": person.login,
            "id": person.number,
            "type": "User",
            "name": person.name or None,
            "email": person.mail if person.is_mail_public and person.mail else None,
            "avatar_url": person.picture,
        }
