"""A realm of a Keycloak that runs: its addresses, and what its administrator does there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import psutil

ADMIN = "admin"


@dataclass(frozen=True)
class Realm:
    """A realm of a Keycloak that answers, on loopback: https for clients, http for the broker's keys and the hub."""

    name: str
    https: str
    http: str
    authority: Path  #: signed the certificate of `https`
    pid: int  #: of the script that runs Keycloak
    admin_password: str = field(repr=False)

    @property
    def issuer(self) -> str:
        return f"{self.http}/realms/{self.name}"

    @property
    def token_url(self) -> str:
        return f"{self.https}/realms/{self.name}/protocol/openid-connect/token"

    @property
    def keys_url(self) -> str:
        return f"{self.issuer}/protocol/openid-connect/certs"

    def another(self, name: str, **settings: Any) -> Realm:
        """A new realm of the same Keycloak, with settings of its `RealmRepresentation`."""
        self._ask("POST", "/admin/realms", {"realm": name, "enabled": True, **settings})
        return replace(self, name=name)

    def add_client(self, client_id: str, secret: str, *, audience: str) -> None:
        """A client that gets tokens for itself, by client credentials."""
        mapper = {
            "name": "audience",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-audience-mapper",
            "config": {"included.custom.audience": audience, "access.token.claim": "true"},
        }
        self.post(
            "/clients",
            {
                "clientId": client_id,
                "secret": secret,
                "serviceAccountsEnabled": True,
                "standardFlowEnabled": False,
                "protocolMappers": [mapper],
            },
        )

    def add_login_client(self, client_id: str, secret: str, *, callback: str, after_logout: str) -> None:
        """A confidential client that people log in through: PKCE required, groups in the user info."""
        # As the console makes it: groups are written as paths, `/engineers`.
        mapper = {
            "name": "groups",
            "protocol": "openid-connect",
            "protocolMapper": "oidc-group-membership-mapper",
            "config": {"claim.name": "groups", "full.path": "true", "userinfo.token.claim": "true"},
        }
        self.post(
            "/clients",
            {
                "clientId": client_id,
                "secret": secret,
                "redirectUris": [callback],
                "attributes": {"pkce.code.challenge.method": "S256", "post.logout.redirect.uris": after_logout},
                "protocolMappers": [mapper],
            },
        )

    def add_person(self, login: str, password: str, *, groups: Sequence[str]) -> str:
        """Somebody with a verified mail address in groups that are made when they are not there; returns their id."""
        known = {each["name"] for each in self.get("/groups")}
        for name in set(groups) - known:
            self.post("/groups", {"name": name})
        self.post(
            "/users",
            {
                "username": login,
                "email": f"{login}@example.com",
                "emailVerified": True,
                "firstName": login.title(),
                "lastName": "Example",
                "enabled": True,
                "groups": list(groups),
                "credentials": [{"type": "password", "value": password, "temporary": False}],
            },
        )
        return str(self.get(f"/users?username={login}&exact=true")[0]["id"])

    def leave_group(self, person: str, group: str) -> None:
        """Take the person, by id, out of a group."""
        found = next(each["id"] for each in self.get("/groups") if each["name"] == group)
        self.delete(f"/users/{person}/groups/{found}")

    def change_person(self, person: str, **changes: Any) -> None:
        """Set fields of the person's `UserRepresentation`, such as `enabled`."""
        self.put(f"/users/{person}", {**self.get(f"/users/{person}"), **changes})

    def end_sessions(self, person: str) -> None:
        """What `Sign out` does in the console: every session of the person ends, offline ones too."""
        self.post(f"/users/{person}/logout", {})

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Keycloak takes connections and answers none."""
        processes = [psutil.Process(self.pid), *psutil.Process(self.pid).children(recursive=True)]
        for each in processes:
            each.suspend()
        try:
            yield
        finally:
            for each in processes:
                each.resume()

    def get(self, path: str) -> Any:
        """Read something of the realm through the admin REST API; *path* begins behind the realm's name."""
        return self._ask("GET", f"/admin/realms/{self.name}{path}").json()

    def post(self, path: str, content: dict[str, Any]) -> None:
        """Add something."""
        self._ask("POST", f"/admin/realms/{self.name}{path}", content)

    def put(self, path: str, content: dict[str, Any]) -> None:
        """Change something; the realm itself is the empty path."""
        self._ask("PUT", f"/admin/realms/{self.name}{path}", content)

    def delete(self, path: str) -> None:
        """Remove something."""
        self._ask("DELETE", f"/admin/realms/{self.name}{path}")

    def _ask(self, method: str, path: str, content: dict[str, Any] | None = None) -> httpx.Response:
        login = {"grant_type": "password", "client_id": "admin-cli", "username": ADMIN, "password": self.admin_password}
        with httpx.Client(base_url=self.http, timeout=30) as client:
            token = client.post("/realms/master/protocol/openid-connect/token", data=login).raise_for_status().json()
            headers = {"Authorization": f"Bearer {token['access_token']}"}
            return client.request(method, path, json=content, headers=headers).raise_for_status()
