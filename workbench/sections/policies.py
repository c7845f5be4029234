"""Who may read what of the warehouse, and who applies it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr

from workbench.sections.base import AbsolutePath, Section, variable


class PoliciesSettings(Section):
    """Who may read what of the warehouse; without WORKBENCH_POLICIES_OWN_ROLES everybody of the hub connects as DW_USER."""

    file: AbsolutePath | None = variable(
        "WORKBENCH_POLICIES_FILE", None, "file of policies; unset is `pipelines/policies.yaml`"
    )
    admin_user: str = variable(
        "WORKBENCH_POLICIES_ADMIN_USER",
        "",
        "role that applies policies and makes people's roles; unset is the superuser of the embedded PostgreSQL",
    )
    admin_password: SecretStr = variable("WORKBENCH_POLICIES_ADMIN_PASSWORD", SecretStr(""), "password of that role")
    own_roles: bool = variable(
        "WORKBENCH_POLICIES_OWN_ROLES",
        False,
        "whether each person's JupyterLab connects to the warehouse as a role of that person, with what policies allow",
    )
    password_hours: Annotated[int, Field(ge=1, le=168)] = variable(
        "WORKBENCH_POLICIES_PASSWORD_HOURS", 24, "hours for which the password of such a role opens connections"
    )

    def problems(self) -> list[str]:
        """What contradicts itself inside the section, one sentence with its remedy each."""
        user, password = "WORKBENCH_POLICIES_ADMIN_USER", "WORKBENCH_POLICIES_ADMIN_PASSWORD"
        if bool(self.admin_user) == bool(self.admin_password.get_secret_value()):
            return []
        given, lacking = (user, password) if self.admin_user else (password, user)
        return [f"{given} is set but {lacking} is not. Set both, or neither."]
