"""Who may do what in the hub: four roles, each a group of JupyterHub with scopes.

The authenticator puts every person into the group of one role at login and again whenever the
provider is asked, so a right that was taken away at the provider is gone within minutes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from workbench.sections.login import ROLES, LoginSettings

GROUPS = {role: f"{role}s" for role in ROLES}  #: provider groups hold a colon, so none has such a name
SCOPES = {
    # What a page or an API token needs to know who somebody is; nothing that starts or changes anything.
    "viewer": ["read:users!user", "users:activity!user", "tokens!user", "access:services"],
    "analyst": ["self", "access:services"],
    "engineer": ["self", "access:services"],
}

# JupyterHub's own, and the page of pipelines: panels ask it as the user whose server it is.
SERVER_SCOPES = ["users:activity!user", "access:servers!server", "access:services!service=pipelines"]


def role_for(login: LoginSettings, name: str, groups: Iterable[str]) -> str:
    """The mightiest role that a list of the settings gives to the hub name or one of the provider's groups."""
    known = {name, *groups}
    # Keycloak writes groups as paths, and people copy them so.
    listed = {role: {each.replace("oidc:/", "oidc:") for each in names} for role, names in login.roles.items()}
    return next((role for role, names in listed.items() if names & known), login.default_role)


def role_of(user: Any) -> str:
    """The role of a user of JupyterHub; viewer, which may start nothing, when there is none.

    Args:
        user: JupyterHub's `User`, with `admin` and `groups`.
    """
    if user.admin:
        return "admin"
    groups = {group.name for group in user.groups}
    return next((role for role in reversed(ROLES) if GROUPS[role] in groups), "viewer")


def set_roles(c: Any) -> None:
    """Give each group its scopes; what every user has by default shrinks to what a viewer has."""
    c.JupyterHub.load_roles = [
        {"name": "user", "description": "What everybody has who may enter.", "scopes": SCOPES["viewer"]},
        {"name": "server", "description": "What the token of a user's server may.", "scopes": SERVER_SCOPES},
        *(
            {"name": f"workbench-{role}", "groups": [GROUPS[role]], "scopes": SCOPES[role]}
            for role in ("analyst", "engineer")
        ),
    ]
