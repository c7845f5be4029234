"""Watches whether people may still be here, also while nobody presses a key.

JupyterHub asks the authenticator only when somebody sends a request. A person who was removed
from the team would keep a running server until then; here each is asked about in turn.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from jupyterhub import orm, roles

from hub.authentication.expulsion import revoke_at_provider

if TYPE_CHECKING:
    from hub.authentication.authenticator import WorkbenchAuthenticator

LOOKS_PER_CHECK = 4  # how often it is looked who is due, within the time after which somebody is
QUESTIONS_AT_ONCE = 10


async def watch_members(app: Any, authenticator: WorkbenchAuthenticator) -> None:
    """Check whoever is due, for as long as the hub runs."""
    while True:
        await asyncio.sleep(authenticator.login_settings.recheck_seconds / LOOKS_PER_CHECK)
        try:
            await check_members(app, authenticator)
        except Exception:
            app.log.exception("not everybody could be checked; the next round will")


async def check_members(app: Any, authenticator: WorkbenchAuthenticator) -> None:
    """Ask about everybody who is due; ten at a time."""
    known = app.db.query(orm.User).filter(orm.User.encrypted_auth_state.isnot(None)).all()
    people = {user.name: app.users[user] for user in known}
    # A server whose owner cannot be asked about would stay for ever.
    people |= {user.name: user for user in list(app.users.values()) if user.active}
    slots = asyncio.Semaphore(QUESTIONS_AT_ONCE)

    async def check(user: Any) -> None:
        async with slots:
            try:
                await check_member(app, authenticator, user)
            except Exception:
                app.log.exception("%s could not be checked; the next round will", user.name)

    await asyncio.gather(*(check(user) for user in people.values()))


async def check_member(app: Any, authenticator: WorkbenchAuthenticator, user: Any) -> None:
    """Ask about one person, if that is due; who may no longer be here is shown out."""
    state = await user.get_auth_state() or {}
    if "logged_out_at" in state and not user.active:
        await revoke_at_provider(authenticator, state)
        await user.save_auth_state(None)
        return
    if time.time() - state.get("checked_at", 0) < authenticator.login_settings.recheck_seconds:
        return
    await authenticator.refresh_user(user)


async def apply_model(app: Any, user: Any, model: dict[str, Any]) -> None:
    """Keep what the provider has just said: tokens, the right of administration, groups, the picture."""
    await user.save_auth_state(model["auth_state"])
    user.admin = model["admin"]
    user.user_info = model["user_info"]
    roles.assign_default_roles(app.db, entity=user.orm_user)
    user.sync_groups(model["groups"])
    app.db.commit()
