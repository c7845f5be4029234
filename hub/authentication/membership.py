"""Watches whether people may still be here, also while nobody presses a key.

JupyterHub asks the authenticator only when somebody sends a request. A person who was removed
from the team would keep a running server until then; here each is asked about in turn.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from jupyterhub import orm, roles
from jupyterhub.utils import utcnow

from hub.auditing import tell_failure
from hub.authentication.expulsion import revoke_at_provider
from workbench.security.audit import Action, Event

if TYPE_CHECKING:
    from hub.authentication.authenticator import WorkbenchAuthenticator

LOGGED_OUT = "logged_out_at"  #: in an auth_state that is kept although the person has logged out
OWN_TOKENS = "jupyterhub"  # the OAuth client of tokens that people make; those of sessions have others
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
                await check_member(authenticator, user)
            except Exception:
                app.log.exception("%s could not be checked; the next round will", user.name)

    await asyncio.gather(*(check(user) for user in people.values()))


async def check_member(authenticator: WorkbenchAuthenticator, user: Any) -> None:
    """Ask about one person, if that is due; who may no longer be here is shown out."""
    state = await user.get_auth_state()
    if not state:
        if user.active:
            await authenticator.show_out(user, "the hub has no proof any more of who this is")
    elif LOGGED_OUT in state and not is_in_use(user):
        await revoke_at_provider(authenticator, await end_login(authenticator, user, is_new=False))
    elif time.time() - state["checked_at"] >= authenticator.login_settings.recheck_seconds:
        await authenticator.refresh_user(user)


async def end_login(authenticator: WorkbenchAuthenticator, user: Any, *, is_new: bool = True) -> dict[str, Any]:
    """End a login after a logout: forget what is kept of it, or note the logout while its owner is still here.

    Not while somebody is asked about, whose new tokens would be lost. What a login gets meanwhile stays.

    Args:
        authenticator: which asks.
        user: whose login it is.
        is_new: whether the logout is happening now; else it has to have been noted.

    Returns:
        What was forgotten, so that the provider can be told; empty when nothing was.
    """
    async with authenticator.refreshing[user.name]:
        seen = user.encrypted_auth_state
        state = await user.get_auth_state()
        if not state or user.encrypted_auth_state != seen or not (is_new or LOGGED_OUT in state):
            return {}
        if is_in_use(user):
            await user.save_auth_state({LOGGED_OUT: time.time(), **state})
            return {}
        await user.save_auth_state(None)
        return dict(state)


def is_in_use(user: Any) -> bool:
    """Whether the person is still here after a logout: with a server, or with an API token of their own."""
    now = utcnow(with_tz=False)
    tokens = (each for each in user.api_tokens if each.client_id == OWN_TOKENS)
    return bool(user.active) or any(each.expires_at is None or each.expires_at > now for each in tokens)


async def apply_model(app: Any, user: Any, model: dict[str, Any]) -> None:
    """Keep what the provider has just said: tokens, the right of administration, groups, the picture."""
    before = _rights(user)
    await user.save_auth_state(model["auth_state"])
    user.admin = model["admin"]
    user.user_info = model["user_info"]
    roles.assign_default_roles(app.db, entity=user.orm_user)
    user.sync_groups(model["groups"])
    app.db.commit()
    if (now := _rights(user)) != before:
        event = Event.of(Action.RIGHTS_CHANGED, actor="hub", resource=user.name, before=before, now=now)
        # A right that was taken is gone whether or not there is room for a line.
        app.authenticator.audit.begin(event).add_done_callback(partial(tell_failure, user.name))


def _rights(user: Any) -> str:
    groups = sorted(group.name for group in user.groups)
    return ",".join(["admin", *groups] if user.admin else groups)
