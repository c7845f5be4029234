"""Google's side: OpenID Connect with ID tokens, refresh tokens for offline access, and revocation."""

from __future__ import annotations

from typing import Any

from hub.demo_identity.id_tokens import profile
from hub.demo_identity.issuer import TOKEN_SECONDS, Grant
from hub.demo_identity.pages import Authorize, Endpoint, Handler

ENDPOINTS = {
    "authorization_endpoint": "/o/oauth2/v2/auth",
    "token_endpoint": "/oauth2/v4/token",
    "userinfo_endpoint": "/oauth2/v3/userinfo",
    "revocation_endpoint": "/revoke",
    "jwks_uri": "/oauth2/v3/certs",
}
CAPABILITIES = {
    "response_types_supported": ["code"],
    "grant_types_supported": ["authorization_code", "refresh_token"],
    "subject_types_supported": ["public"],
    "id_token_signing_alg_values_supported": ["RS256"],
    "scopes_supported": ["openid", "email", "profile"],
    "code_challenge_methods_supported": ["S256"],
    "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
    "authorization_response_iss_parameter_supported": True,
}


class Discovery(Endpoint):
    """OpenID Connect Discovery 1.0."""

    def get(self) -> None:
        """Where the endpoints are."""
        url = self.issuer.url
        self.write({"issuer": url, **{name: f"{url}{path}" for name, path in ENDPOINTS.items()}, **CAPABILITIES})


class Certificates(Endpoint):
    """The public keys."""

    def get(self) -> None:
        """The key that signs ID tokens."""
        self.write(self.issuer.key.key_set())


class Token(Endpoint):
    """Codes and refresh tokens for tokens."""

    def post(self) -> None:
        """Exchange a code, or a refresh token, which stays good, for an access token and an ID token."""
        self.check_client()
        if self.get_argument("grant_type", "") == "refresh_token":
            grant = self.issuer.use_refresh_token(self.get_argument("refresh_token", ""))
            self.write({**self._tokens(grant), **self._id_token(grant, nonce="")})
            return
        grant = self.issuer.redeem(
            self.get_argument("code"),
            self.get_argument("code_verifier", ""),
            self.get_argument("redirect_uri", ""),
            self.protocol,
        )
        offline = {"refresh_token": self.issuer.issue_refresh_token(grant)} if grant.is_offline else {}
        self.write({**self._tokens(grant), **self._id_token(grant, nonce=grant.nonce), **offline})

    def _tokens(self, grant: Grant) -> dict[str, Any]:
        return {
            "access_token": self.issuer.issue_token(grant),
            "token_type": "Bearer",
            "scope": " ".join(grant.scopes),
            "expires_in": int(TOKEN_SECONDS[self.protocol]),
        }

    def _id_token(self, grant: Grant, *, nonce: str) -> dict[str, str]:
        if "openid" not in grant.scopes:
            return {}
        issuer = self.issuer
        claims = {"iss": issuer.url, "aud": issuer.client_id, "azp": issuer.client_id, "sub": grant.person.subject}
        told = {"nonce": nonce} if nonce else {}
        return {"id_token": issuer.key.sign({**claims, **profile(grant.person), **told})}


class OpenIdUserInfo(Endpoint):
    """The userinfo endpoint of OpenID Connect."""

    def get(self) -> None:
        """The claims of the authenticated user."""
        person = self.grant.person
        self.write({"sub": person.subject, **profile(person)})


class UserInfo(Endpoint):
    """Google's userinfo, v1, which OAuthenticator reads: it says `id` and `verified_email`."""

    def get(self) -> None:
        """The authenticated user."""
        person = self.grant.person
        claims = profile(person)
        self.write({"id": person.subject, "verified_email": claims.pop("email_verified"), **claims})


class Revoke(Endpoint):
    """RFC 7009, which asks for no client here, as Google does not: whoever holds a token may end it."""

    def post(self) -> None:
        """End all tokens of the login; 200 for unknown ones too."""
        grant = self.issuer.find(self.get_argument("token", ""))
        if grant is not None and grant.protocol == self.protocol:
            self.issuer.revoke(grant)
        self.write({})


ROUTES: list[tuple[str, type[Handler]]] = [
    (r"/\.well-known/openid-configuration", Discovery),
    (ENDPOINTS["authorization_endpoint"], Authorize),
    (ENDPOINTS["token_endpoint"], Token),
    (ENDPOINTS["userinfo_endpoint"], OpenIdUserInfo),
    (ENDPOINTS["revocation_endpoint"], Revoke),
    (ENDPOINTS["jwks_uri"], Certificates),
    (r"/oauth2/v1/userinfo", UserInfo),
]
