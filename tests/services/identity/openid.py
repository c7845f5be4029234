"""OpenID Connect: Google with its own paths and fields, and an issuer as a team would run one."""

from __future__ import annotations

import time
from typing import Any, ClassVar
from urllib.parse import urlencode

import jwt

from tests.services.identity.grants import Grant
from tests.services.identity.id_tokens import TAMPERINGS
from tests.services.identity.oauth import Protocol, Route, route
from tests.services.identity.wire import Answer, Refused, Request

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class OpenId(Protocol):
    """An issuer at `/realm`, with groups and a logout of its own."""

    name = "oidc"
    paths: ClassVar = {
        "authorization_endpoint": "/realm/authorize",
        "token_endpoint": "/realm/token",
        "userinfo_endpoint": "/realm/userinfo",
        "jwks_uri": "/realm/certs",
        "revocation_endpoint": "/realm/revoke",
        "end_session_endpoint": "/realm/end_session",
    }

    @property
    def issuer(self) -> str:
        return f"{self.provider.url}/realm"

    def sender(self) -> dict[str, str]:
        return {"iss": self.issuer}

    def routes(self) -> list[Route]:
        return [
            *self._shared_routes(),
            route("logout", "GET POST", self.paths["end_session_endpoint"], self.end_session),
        ]

    def _shared_routes(self) -> list[Route]:
        path = self.issuer.removeprefix(self.provider.url)
        return [
            route("discovery", "GET", rf"{path}/\.well-known/openid-configuration", self.discovery),
            route("authorize", "GET", self.paths["authorization_endpoint"], self.authorize),
            route("token", "POST", self.paths["token_endpoint"], self.token),
            route("userinfo", "GET POST", self.paths["userinfo_endpoint"], self.userinfo),
            route("jwks", "GET", self.paths["jwks_uri"], self.jwks),
            route("revoke", "POST", self.paths["revocation_endpoint"], self.revoke),
        ]

    def discovery(self, request: Request) -> Answer:
        addresses = {name: f"{self.provider.url}{path}" for name, path in self.paths.items()}
        supported = {
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "code_challenge_methods_supported": ["S256"],
            "scopes_supported": ["openid", "email", "profile", "offline_access"],
            "authorization_response_iss_parameter_supported": True,
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        }
        return Answer(body={"issuer": self.issuer, **addresses, **supported, **self.provider.discovery_changes})

    def jwks(self, request: Request) -> Answer:
        return Answer(body={"keys": [key.published() for key in self.provider.keys]})

    def token(self, request: Request) -> Answer:
        """Tokens for a code or a refresh token."""
        self.check_client(request)
        policy, grants = self.provider, self.provider.grants
        refresh_token, rotates = request.form.get("refresh_token", ""), self.name in policy.rotates_refresh_tokens
        if is_refresh := request.form.get("grant_type") == "refresh_token":
            grant = grants.use_refresh(
                refresh_token, self.client.id, rotates=rotates, detects_reuse=policy.detects_reuse
            )
        else:
            grant = grants.redeem(request.form, self.name, self.client.id)
        if grant.person not in policy.people:
            raise Refused(400, {"error": "invalid_grant", "error_description": "the account is gone"})
        body = {
            "access_token": grants.give_access(grant, policy.access_seconds),
            "token_type": "Bearer",
            "expires_in": int(policy.access_seconds),
            "scope": " ".join(grant.scopes),
        }
        if grant.is_offline and (rotates or not is_refresh):
            body["refresh_token"] = grants.give_refresh(grant)
        if "openid" in grant.scopes:
            body |= self._id_token(grant, with_nonce=not is_refresh)
        return Answer(body=body, headers={"Cache-Control": "no-store"})

    def _id_token(self, grant: Grant, *, with_nonce: bool) -> dict[str, str]:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": grant.client_id,
            "azp": grant.client_id,
            "sub": grant.person.sub,
            "iat": now,
            "exp": now + 3600,
            "sid": grant.family,
            **self.profile(grant),
        }
        if grant.nonce and with_nonce:
            claims["nonce"] = grant.nonce
        sign = TAMPERINGS[self.provider.tampering] if self.provider.tampering else lambda key, all_: key.sign(all_)
        token = sign(self.provider.keys[-1], claims)
        return {"id_token": token} if token else {}

    def profile(self, grant: Grant) -> dict[str, Any]:
        """The claims about the person, in ID token and userinfo."""
        person = grant.person
        mail = {"email": person.mail, "email_verified": person.mail_verified} if person.mail else {}
        shown = {"preferred_username": person.login, "name": person.name, "picture": person.picture}
        return {**mail, **{name: value for name, value in shown.items() if value}, "groups": sorted(person.groups)}

    def userinfo(self, request: Request) -> Answer:
        grant = self.grant_of(request)
        return Answer(body={"sub": grant.person.sub, **self.profile(grant)})

    def revoke(self, request: Request) -> Answer:
        """RFC 7009: 200 for unknown tokens too."""
        self.check_client(request)
        token = request.form.get("token", "")
        self.provider.note_revocation(token)
        self.provider.grants.revoke(token)
        return Answer(body={})

    def end_session(self, request: Request) -> Answer:
        """OpenID Connect RP-Initiated Logout: the login of the ID token ends, with its tokens."""
        told = {**request.query, **request.form}
        try:
            # The hint may be old, but it has to be ours.
            key, options = self.provider.keys[-1].private.public_key(), {"verify_exp": False, "verify_aud": False}
            claims = jwt.decode(told.get("id_token_hint", ""), key, algorithms=["RS256"], options=options)
        except jwt.InvalidTokenError:
            raise Refused(400, {"error": "invalid_request", "error_description": "id_token_hint"}) from None
        self.provider.ended_sessions.append(claims["sid"])
        self.provider.grants.end_family(claims["sid"])
        address = told.get("post_logout_redirect_uri", "")
        if not address:
            return Answer(body={"message": "You are logged out."})
        if address not in self.client.after_logout:
            raise Refused(400, {"error": "invalid_request", "error_description": f"{address!r} is not registered"})
        query = urlencode({"state": told["state"]}) if "state" in told else ""
        return Answer(status=302, headers={"Location": f"{address}?{query}".rstrip("?")})


class Google(OpenId):
    """Google's paths and fields, refresh tokens for offline access, and groups in the Directory API."""

    name = "google"
    paths: ClassVar = {
        "authorization_endpoint": "/o/oauth2/v2/auth",
        "token_endpoint": "/oauth2/v4/token",
        "userinfo_endpoint": "/oauth2/v1/userinfo",
        "jwks_uri": "/oauth2/v3/certs",
        "revocation_endpoint": "/revoke",
    }

    @property
    def issuer(self) -> str:
        return self.provider.url

    def routes(self) -> list[Route]:
        return [
            *self._shared_routes(),
            route("userinfo", "GET POST", "/oauth2/v3/userinfo", super().userinfo),
            route("token", "POST", "/service-account/token", self.service_token),
            route("membership", "GET", "/admin/directory/v1/groups", self.groups),
        ]

    def check_client(self, request: Request) -> None:
        # Google asks for no client when a token is revoked.
        if request.path != self.paths["revocation_endpoint"]:
            super().check_client(request)

    def profile(self, grant: Grant) -> dict[str, Any]:
        person = grant.person
        mail = {"email": person.mail, "email_verified": person.mail_verified} if person.mail else {}
        shown = {"hd": person.hd, "name": person.name, "picture": person.picture}
        return {**mail, **{name: value for name, value in shown.items() if value}}

    def userinfo(self, request: Request) -> Answer:
        """Version 1: `id` and `verified_email`, where OpenID Connect says `sub` and `email_verified`."""
        grant = self.grant_of(request)
        claims = self.profile(grant)
        if "email_verified" in claims:
            claims["verified_email"] = claims.pop("email_verified")
        return Answer(body={"id": grant.person.sub, **claims})

    def service_token(self, request: Request) -> Answer:
        """A token of the service account whose key signed the assertion (RFC 7523)."""
        account = self.provider.service_key
        try:
            claims = jwt.decode(
                request.form.get("assertion", ""),
                account.private.public_key(),
                algorithms=["RS256"],
                audience=f"{self.provider.url}{request.path}",
            )
        except jwt.InvalidTokenError as error:
            raise Refused(400, {"error": "invalid_grant", "error_description": str(error)}) from None
        if request.form.get("grant_type") != JWT_BEARER or claims.get("sub") != self.provider.directory_admin:
            raise Refused(401, {"error": "unauthorized_client", "error_description": "not delegated"})
        token = f"directory-{account.id}-{len(self.provider.directory_tokens)}"
        self.provider.directory_tokens.add(token)
        return Answer(body={"access_token": token, "token_type": "Bearer", "expires_in": 3600})

    def groups(self, request: Request) -> Answer:
        """The groups of a person, or of a group, a page each for two."""
        if request.token not in self.provider.directory_tokens:
            raise Refused(401, {"error": {"code": 401, "message": "Invalid Credentials"}})
        key, page = request.query.get("userKey", ""), int(request.query.get("pageToken", "0"))
        found = sorted(next((each.groups for each in self.provider.people if key in {each.mail, each.sub}), set()))
        body: dict[str, Any] = {"kind": "admin#directory#groups"}
        if shown := found[page : page + 2]:
            body["groups"] = [{"email": mail, "name": mail.partition("@")[0]} for mail in shown]
        return Answer(body={**body, "nextPageToken": str(page + 2)} if page + 2 < len(found) else body)
