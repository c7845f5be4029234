"""Showing somebody out: servers, tokens, cookies, and what the provider has given us for them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

from jupyterhub import roles
from jupyterhub.utils import exponential_backoff, new_token

from hub.auditing import tell_failure
from workbench.errors import IdentityError, WorkbenchError
from workbench.security.audit import Action, Event

STOP_SECONDS = 60.0
NOTE_SECONDS = 5.0  # for the audit log


async def expel(app: Any, user: Any, *, reason: str, actor: str) -> tuple[str, ...]:
    """End everything that a person can do here now; returns the steps that were done.

    They may log in again, if the provider and the rules let them. Tokens and cookies go first:
    who has nothing to show cannot start anew what is stopped after it. Every step is done, even
    when another fails, and doing it again changes nothing.

    Args:
        app: the JupyterHub application.
        user: JupyterHub's `User`.
        reason: for the audit log.
        actor: who decided it, a hub name or the part of the hub.
    """
    await _note(app, user.name, reason, actor)
    state = await user.get_auth_state()
    user.admin = False
    roles.assign_default_roles(app.db, entity=user.orm_user)
    user.sync_groups([])
    steps = [_revoke_tokens(app, user), forget_cookies(app, user)]
    if user.encrypted_auth_state is not None:
        await user.save_auth_state(None)
    # Before the servers, whose end takes time: who logs in again meanwhile keeps what that login gets.
    steps += await revoke_at_provider(app.authenticator, state)
    steps += await _stop_servers(app, user)
    app.db.commit()
    done = tuple(step for step in steps if step)
    app.log.warning("%s is out (%s): %s", user.name, reason, "; ".join(done) or "nothing was left")
    return done


async def _note(app: Any, name: str, reason: str, actor: str) -> None:
    # Before the first step: should the hub die in the midst, the log has it.
    writing = app.authenticator.audit.begin(
        Event.of(Action.MEMBERSHIP_REVOKED, actor=actor, resource=name, reason=reason)
    )
    try:
        await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(writing)), NOTE_SECONDS)
    except TimeoutError:
        # Nor does a disk that hangs; the event is written when it goes on.
        writing.add_done_callback(partial(tell_failure, name))
        app.log.error("%s is shown out (%s); the audit log has not taken it yet", name, reason)  # noqa: TRY400
    except WorkbenchError:
        # A full disk keeps nobody in.
        app.log.exception("%s is shown out (%s), which the audit log could not be told", name, reason)


async def revoke_at_provider(authenticator: Any, state: dict[str, Any] | None) -> list[str]:
    """Have the provider forget the tokens of an auth_state; a failure is told, not raised."""
    state = state or {}
    provider = authenticator.provider(state.get("provider", ""))
    if provider is None:
        return []
    try:
        await provider.revoke(state)
    except IdentityError as error:
        return [f"{provider.label} did not revoke its tokens ({error.message})"]
    return [f"{provider.label} revoked its tokens"]


def _revoke_tokens(app: Any, user: Any) -> str:
    tokens = [*user.api_tokens]
    codes = [*user.orm_user.oauth_codes]
    for each in (*tokens, *codes):
        app.db.delete(each)
    app.db.commit()
    return f"{len(tokens)} tokens revoked" if tokens else ""


def forget_cookies(app: Any, user: Any) -> str:
    """Make all cookies of the person worth nothing: the number that they hold becomes another."""
    user.cookie_id = user.orm_user.cookie_id = new_token()
    # What a login has opened beyond the hub: the person's server takes a token of its own for each browser.
    for each in [*(token for token in user.api_tokens if token.session_id is not None), *user.orm_user.oauth_codes]:
        app.db.delete(each)
    app.db.commit()
    return "cookies are worth nothing"


async def _stop_servers(app: Any, user: Any) -> list[str]:
    steps = []
    for name, spawner in list(user.spawners.items()):
        if not (spawner.active or spawner.pending):
            continue
        try:
            await _stop_server(app, user, name, spawner)
            steps.append(f"server {name or 'default'} stopped")
        except Exception as error:  # noqa: BLE001 - whatever it was, the other steps are done
            steps.append(f"server {name or 'default'} was not stopped ({error})")
    return steps


async def _stop_server(app: Any, user: Any, name: str, spawner: Any) -> None:
    """Stop one server.

    Raises:
        TimeoutError: when it still starts or stops after `STOP_SECONDS`; a stop goes on.
    """
    doing = "stopping" if spawner.pending == "stop" else "starting"
    # A server that is starting ends when its start does.
    await exponential_backoff(lambda: not spawner.pending, f"it is still {doing}", timeout=STOP_SECONDS)
    await app.proxy.delete_user(user, name)
    if not spawner.active:
        return
    # It goes on though we wait no more: JupyterHub takes a stop that was cancelled for one under way for ever.
    # Kept where JupyterHub keeps its own.
    stopping = spawner._stop_future = asyncio.ensure_future(user.stop(name))  # noqa: SLF001
    done, _ = await asyncio.wait({stopping}, timeout=STOP_SECONDS)
    if not done:
        raise TimeoutError("it is still stopping")
    await stopping
