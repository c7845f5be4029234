"""What the roles of a warehouse are called that policies make."""

from __future__ import annotations

import hashlib
import re

from workbench.security.policies.model import MASKED

POLICY, USER = "wb_p_", "wb_u_"
RUN = f"{USER}~run-"  #: of what has the rights of a person for one attempt of a step; no plain name and no hash is like it
USERS = "wb_users"  #: everybody whom the workbench lets in is a member
PLAIN = re.compile(r"[a-z0-9_.@-]{1,58}", re.ASCII)


def policy_role(role: str) -> str:
    """The group role of a role of the file."""
    return f"{POLICY}{role}"


def user_role(name: str) -> str:
    """The login role of a hub name; names that are long or odd become a hash, behind a sign that no plain name has."""
    if PLAIN.fullmatch(name):
        return f"{USER}{name}"
    return f"{USER}~{hashlib.sha256(name.encode()).hexdigest()[:40]}"


def run_role(attempt: int, token: str) -> str:
    """The login role of one attempt of a step; *token* tells apart attempts of several stores."""
    return f"{RUN}{attempt}-{token}"


def is_ours(role: str) -> bool:
    """Whether policies manage a role."""
    return role == USERS or role.startswith((POLICY, USER))


def masked_view(table: str) -> str:
    """The view of a table with masks: `raw_masked.flights` for `raw.flights`."""
    schema, _, name = table.partition(".")
    return f"{schema}{MASKED}.{name}"
