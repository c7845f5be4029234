"""Off-boarding: somebody is shown out for good, and what they have made is kept. Also the way back, and links that end.

`workbench hub …` asks the running hub for it, as the service `operator` with a scope of
its own. Steps that are done already are done again without harm.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from jupyterhub.apihandlers.base import APIHandler
from tornado import web
from tornado.iostream import StreamClosedError

from hub.authentication.expulsion import expel
from hub.departure import archive_account, close_account, readmit_account
from hub.identities import LinkedAccount
from hub.status import read_people
from hub.warehouse_roles import remove_role
from workbench.errors import WorkbenchError
from workbench.security.audit import Action, Outcome
from workbench.security.audit.commands import audits_itself, not_audited
from workbench.security.secrets import ensure_token
from workbench.settings import Settings

SERVICE = "operator"
SCOPE = "custom:workbench:people"
CUSTOM_SCOPES = {SCOPE: {"description": "List people, off-board them, let them in again, and unlink accounts."}}
ROLE = {"name": "workbench-operator", "scopes": [SCOPE], "services": [SERVICE]}

# OS users are changed one at a time, which takes seconds; an archive may take hours.
_accounts, _archives = asyncio.Lock(), asyncio.Lock()
#: Who is being off-boarded, and by how many commands.
_off_boarding: Counter[str] = Counter()


def operator_token(home: Path) -> str:
    """The token of the service `operator`: who can read its file may off-board people."""
    return ensure_token(home / "keys" / "hub-operator-token")


def operator_service(home: Path) -> dict[str, Any]:
    """The service as JupyterHub's configuration has it."""
    return {"name": SERVICE, "api_token": operator_token(home)}


def offboarding_handlers(settings: Settings) -> list[tuple[str, type, dict[str, Any]]]:
    """The part of the hub's API that the commands call."""
    shared = {"workbench": settings}
    return [
        (r"/api/workbench/users", People, shared),
        (r"/api/workbench/users/([^/]+)/offboard", Offboard, shared),
        (r"/api/workbench/users/([^/]+)/readmit", Readmit, shared),
        (r"/api/workbench/users/([^/]+)/unlink", Unlink, shared),
    ]


class _Handler(APIHandler):  # type: ignore[misc]
    def initialize(self, workbench: Settings) -> None:
        self.workbench = workbench

    async def prepare(self) -> None:
        """Called before each method; refuses who has not the scope."""
        await super().prepare()
        # JupyterHub's decorator knows scopes of its own only when this module is read.
        if not self.has_scope(SCOPE):
            raise web.HTTPError(403, f"This needs the scope {SCOPE}.")

    @property
    def actor(self) -> str:
        """Who typed the command, for the audit log."""
        return f"{SERVICE}:{self.body.get('by', '')}"

    @property
    def body(self) -> dict[str, Any]:
        """What the command sends along; empty when that is no object."""
        body = self.get_json_body()
        return body if isinstance(body, dict) else {}

    def check_known(self, name: str) -> Any:
        """The user of JupyterHub; None when there is none, though they have been let in once."""
        user = self.find_user(name)
        if user is None and not self.authenticator.identities.is_known(name):
            raise web.HTTPError(404, f"nobody here is called {name}")
        return user

    async def carry_out(self, *parts: Callable[[], Awaitable[list[str]]]) -> tuple[list[str], list[str]]:
        """Do each part, also when one before it fails; returns steps and problems, each told as soon as it is known."""
        steps: list[str] = []
        problems: list[str] = []
        for part in parts:
            try:
                done = await part()
            except Exception as error:  # noqa: BLE001 - whatever it was, the other parts are done
                problems.append(await self._tell_problem(error))
            else:
                steps += done
                for step in done:
                    await self.tell(step=step)
        return steps, problems

    async def expel(self, user: Any, reason: str) -> list[str]:
        """A part: end all that somebody can do here now; None is nobody.

        Raises:
            WorkbenchError: when a server of theirs still runs.
        """
        if user is None:
            return []
        steps = await expel(self.app, user, reason=reason, actor=self.actor)
        if any(each.active or each.pending for each in user.spawners.values()):
            raise WorkbenchError(
                f"a server of {user.name} still runs: {'; '.join(steps)}",
                remedy="Do it again, or stop it on the page Admin.",
            )
        return list(steps)

    async def _tell_problem(self, error: Exception) -> str:
        if isinstance(error, WorkbenchError):
            message, remedy = error.message, error.remedy
        else:
            self.log.error("A part went wrong", exc_info=error)
            message, remedy = f"{type(error).__name__}: {error}", "Look at logs/hub.log, then do it again."
        await self.tell(problem=message, remedy=remedy)
        return message

    async def tell(self, **line: object) -> None:
        """Send a line of JSON at once; what has begun is finished even when nobody listens any more."""
        with suppress(StreamClosedError):
            self.write(json.dumps(line) + "\n")
            await self.flush()


class People(_Handler):
    """GET /hub/api/workbench/users."""

    @not_audited("It only looks.")
    def get(self) -> None:
        """Everybody who has ever been let in."""
        people = read_people(self.app)
        self.write(json.dumps([asdict(each) for each in people]))


class Offboard(_Handler):
    """POST /hub/api/workbench/users/NAME/offboard."""

    _is_closed = False  #: whether nothing of the person runs on this machine any more

    @audits_itself(Action.USER_OFFBOARDED)
    async def post(self, name: str) -> None:
        """Answers a line for each step as it is done, and for each problem; the last says `done`."""
        user = self.check_known(name)
        _off_boarding[name] += 1
        try:
            # Whoever was blocked first cannot come back while the rest is done.
            steps, problems = await self.carry_out(
                partial(self._block, name),
                partial(self.expel, user, "off-boarded"),
                partial(remove_role, self.workbench, name),
                partial(self._close_account, name),
                partial(self._archive, name),
            )
        finally:
            _off_boarding[name] -= 1
        details = {"steps": "; ".join(steps), "problems": "; ".join(problems)}
        await self.authenticator.audit.record(
            Action.USER_OFFBOARDED,
            actor=self.actor,
            resource=name,
            outcome=Outcome.FAILED if problems else Outcome.SUCCESS,
            **{key: value for key, value in details.items() if value},
        )
        await self.tell(done=True)

    async def _block(self, name: str) -> list[str]:
        identities = self.authenticator.identities
        if identities.is_blocked(name):
            return []
        identities.block(name)
        if not identities.is_blocked(name):
            raise WorkbenchError(
                f"{name} has never signed in, so there is no account to block",
                remedy="See that no list of the settings lets them in.",
            )
        return ["sign-in blocked"]

    async def _close_account(self, name: str) -> list[str]:
        async with _accounts:
            steps = await asyncio.to_thread(close_account, self.workbench, name)
        self._is_closed = True
        return steps

    async def _archive(self, name: str) -> list[str]:
        # A home is left alone while something of its owner may write there.
        if not self._is_closed or self.body.get("keep_home"):
            return []
        # What ends the access of others does not wait for it.
        async with _archives:
            return await asyncio.to_thread(archive_account, self.workbench, name)


class Readmit(_Handler):
    """POST /hub/api/workbench/users/NAME/readmit."""

    @audits_itself(Action.USER_UNBLOCKED)
    async def post(self, name: str) -> None:
        """Let somebody in again, as far as provider and rules do; answers like off-boarding."""
        self.check_known(name)
        self._check_stays(name)
        audit, who = self.authenticator.audit, {"actor": self.actor, "resource": name}
        await audit.record(Action.USER_UNBLOCKED, **who, outcome=Outcome.BEGUN)
        try:
            async with _accounts:
                steps = await self._let_in(name)
        except Exception as error:
            outcome = Outcome.REFUSED if isinstance(error, web.HTTPError) else Outcome.FAILED
            await audit.record(Action.USER_UNBLOCKED, **who, outcome=outcome, reason=str(error))
            raise
        details = {"steps": "; ".join(steps)}
        await audit.record(Action.USER_UNBLOCKED, **who, **details)
        for step in steps:
            await self.tell(step=step)
        await self.tell(done=True)

    async def _let_in(self, name: str) -> list[str]:
        # An off-boarding that begins after this line blocks again, and closes the account after us.
        self._check_stays(name)
        steps = []
        if self.authenticator.identities.is_blocked(name):
            self.authenticator.identities.unblock(name)
            steps.append("sign-in unblocked")
        return steps + await asyncio.to_thread(readmit_account, self.workbench, name)

    def _check_stays(self, name: str) -> None:
        if _off_boarding[name]:
            raise web.HTTPError(
                409,
                f"{name} is being off-boarded, and the rest of that would undo this",
            )


class Unlink(_Handler):
    """POST /hub/api/workbench/users/NAME/unlink."""

    @audits_itself(Action.ACCOUNT_UNLINKED)
    async def post(self, name: str) -> None:
        """Take one account from somebody, and end all sessions of theirs; answers like off-boarding."""
        user = self.check_known(name)
        account = self._find(name, str(self.body.get("provider", "")), str(self.body.get("login", "")))
        try:
            self.authenticator.identities.unlink(name, account)
        except WorkbenchError as error:
            raise web.HTTPError(409, error.message) from error
        await self.tell(step=f"{account.provider} account {account.login} unlinked")
        # Nothing says which account has opened a session: all of them end, also when the log cannot be told.
        await self.carry_out(partial(self._record, name, account), partial(self.expel, user, "an account was unlinked"))
        await self.tell(done=True)

    async def _record(self, name: str, account: LinkedAccount) -> list[str]:
        shown = {"provider": account.provider, "login": account.login}
        await self.authenticator.audit.record(Action.ACCOUNT_UNLINKED, actor=self.actor, resource=name, **shown)
        return []

    def _find(self, name: str, provider: str, login: str) -> LinkedAccount:
        linked: tuple[LinkedAccount, ...] = self.authenticator.identities.accounts_of(name)
        found = [each for each in linked if each.provider == provider and login in {"", each.login}]
        if len(found) == 1:
            return found[0]
        theirs = ", ".join(f"{each.provider} {each.login}" for each in linked)
        problem = "has several such accounts; name one with --login" if found else "has no such account"
        raise web.HTTPError(400, f"{name} {problem}. Linked: {theirs or 'none'}")
