"""Reading what is kept of a login changes nothing of it."""

from __future__ import annotations

from typing import Any

from cryptography.fernet import InvalidToken
from jupyterhub.crypto import EncryptionUnavailable, decrypt
from jupyterhub.user import User


def read_without_writing() -> None:
    """Have JupyterHub read an auth_state without writing it back. May be repeated.

    With more than one key its own way writes at every read. A page that was opened would then look like a
    login, over which the provider's no is dropped, and could put an old refresh token over a new one. Each
    recheck writes with the newest key anyway.
    """
    User.get_auth_state = _get_auth_state  # JupyterHub makes its users itself: there is no place for a subclass


async def _get_auth_state(self: Any) -> dict[str, Any] | None:
    encrypted = self.encrypted_auth_state
    if encrypted is None:
        return None
    try:
        state: dict[str, Any] | None = await decrypt(encrypted)
    except (ValueError, InvalidToken, EncryptionUnavailable) as error:
        self.log.warning("What is kept of the login of %s cannot be read: %s", self.name, error)
        return None
    return state
