"""Who may log in, through which identity providers, and in which role."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, SecretStr

from workbench.sections.base import AbsolutePath, CommaSeparated, Section, as_text, is_loopback, variable

PROVIDERS = ("google", "github", "oidc")
BUILT_IN = ("google", "github")  #: those that the demo identity provider stands in for
ROLES = ("viewer", "analyst", "engineer", "admin")
SHORTEST_RECHECK_SECONDS = 5


class LoginSettings(Section):
    """Who may log in, and through which identity providers."""

    providers: CommaSeparated = variable(
        "OAUTH2_ENABLED_PROVIDERS", BUILT_IN, "the buttons on the login page: `google`, `github`, `oidc`"
    )
    state_secret: SecretStr = variable(
        "OAUTH2_STATE_SECRET",
        SecretStr(""),
        "signs the cookies of the hub, those of OAuth logins included; needed with a real client",
    )
    google_client_id: str = variable("GOOGLE_CLIENT_ID", "", "OAuth client registered with Google")
    google_client_secret: SecretStr = variable("GOOGLE_CLIENT_SECRET", SecretStr(""), "its secret")
    github_client_id: str = variable("GITHUB_CLIENT_ID", "", "OAuth app registered with GitHub")
    github_client_secret: SecretStr = variable("GITHUB_CLIENT_SECRET", SecretStr(""), "its secret")
    github_url: str = variable(
        "WORKBENCH_LOGIN_GITHUB_URL", "https://github.com", "address of GitHub, or of a GitHub Enterprise Server"
    )
    github_users: CommaSeparated = variable(
        "WORKBENCH_LOGIN_GITHUB_USERS", (), "GitHub logins that may enter; `id:1234` names an account by its number"
    )
    github_organizations: CommaSeparated = variable(
        "WORKBENCH_LOGIN_GITHUB_ORGANIZATIONS", (), "members of these organizations (`org` or `org:team`) may enter"
    )
    google_users: CommaSeparated = variable(
        "WORKBENCH_LOGIN_GOOGLE_USERS",
        (),
        "Google mail addresses that may enter; `id:1234` names an account by its number",
    )
    google_domains: CommaSeparated = variable(
        "WORKBENCH_LOGIN_GOOGLE_DOMAINS", (), "everyone of these Google Workspace domains may enter"
    )
    google_groups: CommaSeparated = variable(
        "WORKBENCH_LOGIN_GOOGLE_GROUPS", (), "members of these Google groups (`group@example.com`) may enter"
    )
    google_service_account_file: AbsolutePath | None = variable(
        "WORKBENCH_LOGIN_GOOGLE_SERVICE_ACCOUNT_FILE",
        None,
        "JSON key of a service account that may read the groups of the domain; needed for Google groups",
    )
    google_directory_admin: str = variable(
        "WORKBENCH_LOGIN_GOOGLE_DIRECTORY_ADMIN", "", "mail address of the administrator whom it stands for"
    )
    oidc_issuer: str = variable(
        "WORKBENCH_LOGIN_OIDC_ISSUER", "", "address of an OpenID Connect issuer, such as a realm of Keycloak"
    )
    oidc_client_id: str = variable("WORKBENCH_LOGIN_OIDC_CLIENT_ID", "", "client registered with that issuer")
    oidc_client_secret: SecretStr = variable("WORKBENCH_LOGIN_OIDC_CLIENT_SECRET", SecretStr(""), "its secret")
    oidc_label: str = variable(
        "WORKBENCH_LOGIN_OIDC_LABEL", "single sign-on", "what its button says after `Sign in with`"
    )
    oidc_users: CommaSeparated = variable(
        "WORKBENCH_LOGIN_OIDC_USERS", (), "verified mail addresses or subjects of the issuer that may enter"
    )
    oidc_groups: CommaSeparated = variable(
        "WORKBENCH_LOGIN_OIDC_GROUPS", (), "members of these groups of the issuer may enter"
    )
    oidc_scopes: CommaSeparated = variable(
        "WORKBENCH_LOGIN_OIDC_SCOPES",
        ("openid", "email", "profile"),
        "scopes to ask the issuer for; `offline_access` too keeps people logged in beyond its own sessions",
    )
    oidc_groups_claim: str = variable("WORKBENCH_LOGIN_OIDC_GROUPS_CLAIM", "groups", "claim that holds the groups")
    admins: CommaSeparated = variable(
        "WORKBENCH_LOGIN_ADMINS", (), "hub names or groups of administrators, for example `gh-octo`"
    )
    engineers: CommaSeparated = variable(
        "WORKBENCH_LOGIN_ENGINEERS",
        (),
        "hub names or groups (`github:org:team`, `google:group@example.com`, `oidc:group`)",
    )
    analysts: CommaSeparated = variable("WORKBENCH_LOGIN_ANALYSTS", (), "the same for analysts")
    viewers: CommaSeparated = variable("WORKBENCH_LOGIN_VIEWERS", (), "the same for viewers, who start no server")
    default_role: str = variable(
        "WORKBENCH_LOGIN_DEFAULT_ROLE", "analyst", "role of who may enter and is in none of these lists"
    )
    recheck_seconds: Annotated[int, Field(ge=SHORTEST_RECHECK_SECONDS, le=420)] = variable(
        "WORKBENCH_LOGIN_RECHECK_SECONDS", 240, "how often the provider is asked whether somebody may still enter"
    )
    grace_seconds: Annotated[int, Field(ge=0)] = variable(
        "WORKBENCH_LOGIN_GRACE_SECONDS", 7200, "how long people stay logged in while their provider does not answer"
    )

    @property
    def is_demo(self) -> bool:
        """Whether the loopback identity provider stands in: no real client is configured."""
        return not (self.google_client_id or self.github_client_id or self.oidc_client_id)

    @property
    def roles(self) -> dict[str, frozenset[str]]:
        """Hub names and groups that a list gives each role, the mightiest first."""
        lists = {"admin": self.admins, "engineer": self.engineers, "analyst": self.analysts, "viewer": self.viewers}
        return {role: frozenset(names) for role, names in lists.items()}

    def problems(self) -> list[str]:
        """What contradicts itself inside the section, one sentence with its remedy each."""
        known = ", ".join(PROVIDERS)
        found = [
            f"OAUTH2_ENABLED_PROVIDERS: unknown provider {name!r}. Known are {known}."
            for name in self.providers
            if name not in PROVIDERS
        ]
        if not self.providers:
            found.append(f"OAUTH2_ENABLED_PROVIDERS names no provider. Choose among {known}.")
        if len(set(self.providers)) != len(self.providers):
            found.append("OAUTH2_ENABLED_PROVIDERS names a provider twice. Name it once.")
        if self.default_role not in ROLES:
            found.append(
                f"WORKBENCH_LOGIN_DEFAULT_ROLE: unknown role {self.default_role!r}. Known are {', '.join(ROLES)}."
            )
        elif self.default_role == "admin":
            found.append(
                "WORKBENCH_LOGIN_DEFAULT_ROLE is admin: everybody would be. List them in WORKBENCH_LOGIN_ADMINS."
            )
        if "openid" not in self.oidc_scopes:
            found.append(f"{self.label('oidc_scopes')} lacks openid, without which there is no ID token. Add it.")
        found += self._address_problems() + self._google_group_problems()
        if "oidc" in self.providers or not self.is_demo:
            found += self._real_client_problems()
        return found

    def _address_problems(self) -> list[str]:
        # The client secret goes there.
        addresses = {"github_url": self.github_url, "oidc_issuer": self.oidc_issuer}
        return [
            f"{self.label(name)}: {address!r} is not an https address. Write https://login.example.com."
            for name, address in addresses.items()
            if address and not _is_safe(address)
        ]

    def _google_group_problems(self) -> list[str]:
        file = self.google_service_account_file
        if file and not file.is_file():
            return [
                f"{self.label('google_service_account_file')}: there is no file {file}. Give the path of a JSON key."
            ]
        named = [name for role in self.roles.values() for name in role if name.startswith("google:")]
        if (self.google_groups or named) and not (file and self.google_directory_admin):
            groups = ", ".join([*self.google_groups, *named])
            needed = f"{self.label('google_service_account_file')} and {self.label('google_directory_admin')}"
            return [f"Google groups are named ({groups}) but nothing can read them. Set {needed}."]
        return []

    def _real_client_problems(self) -> list[str]:
        found = []
        if not self.state_secret.get_secret_value():
            found.append(
                "OAUTH2_STATE_SECRET is not set. Set it to a random string, for example from `openssl rand -hex 32`."
            )
        for name in (name for name in self.providers if name in PROVIDERS):
            needed = ["client_id", "client_secret", *(["issuer"] if name == "oidc" else [])]
            found += [
                f"{self.label(f'{name}_{each}')} is not set but {name} is enabled. Set it, or drop {name} from OAUTH2_ENABLED_PROVIDERS."
                for each in needed
                if not as_text(getattr(self, f"{name}_{each}"))
            ]
        return found


def _is_safe(address: str) -> bool:
    """Whether nobody on the way reads what is sent there: https, or http that stays on this machine."""
    url = urlsplit(address)
    return not url.username and (url.scheme == "https" or (url.scheme == "http" and is_loopback(url.hostname or "")))
