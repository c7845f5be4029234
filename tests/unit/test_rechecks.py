"""What the hub makes of a provider's answer, whatever else happens to the person's login meanwhile."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest
from jupyterhub import orm
from jupyterhub.crypto import CryptKeeper, encrypt
from jupyterhub.user import User

from hub.authentication import expulsion
from hub.authentication.authenticator import WorkbenchAuthenticator
from hub.authentication.membership import LOGGED_OUT, end_login
from hub.authentication.states import read_without_writing
from hub.identities import Account
from workbench.errors import AuditError, ProviderRefused, ProviderUnavailable
from workbench.sections.login import LoginSettings
from workbench.security.audit import Event

OLD, NEW = b"o" * 32, b"n" * 32


@pytest.fixture
def two_keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[CryptKeeper]:
    """The hub after a rotation of its keys."""
    monkeypatch.setattr(User, "get_auth_state", User.get_auth_state)  # put back afterwards
    read_without_writing()
    CryptKeeper.clear_instance()
    yield CryptKeeper.instance(keys=[NEW, OLD], n_threads=1)
    CryptKeeper.clear_instance()


@pytest.fixture
def user() -> Iterator[User]:
    """Somebody of JupyterHub's, in a database of their own."""
    database = orm.new_session_factory("sqlite:///:memory:")()
    known = orm.User(name="gh-ada")
    database.add(known)
    database.commit()
    yield User(known, db=database)
    database.close()


def state(**changes: Any) -> dict[str, Any]:
    return {"provider": "fake", "subject": "1", "checked_at": time.time() - 300, "refresh_token": "old", **changes}


class Provider:
    """Answers when it is told to."""

    key = "fake"

    def __init__(self, answer: Exception | dict[str, Any]) -> None:
        self.answer = answer
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def refresh(self, auth_state: dict[str, Any], keep: Any) -> dict[str, Any]:
        await keep({**auth_state, "refresh_token": "new"})
        self.asked.set()
        await self.may_answer.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def is_allowed(self, model: dict[str, Any], is_same: Any) -> bool:
        return True


class Watched(WorkbenchAuthenticator):  # type: ignore[misc]
    """Notes who is shown out."""

    def __init__(self, provider: Provider) -> None:
        owners = {("fake", "1"): "gh-grace"}  # the account was given to her
        identities = SimpleNamespace(
            is_blocked=lambda name: False,
            is_same=None,
            name_of=lambda account: owners[account.provider, account.subject],
        )
        super().__init__(login_settings=LoginSettings(), identities=identities)
        self.providers, self.out = [provider], []

    async def show_out(self, user: Any, reason: str) -> None:
        self.out.append(reason)


def test_a_no_counts_though_pages_are_opened_meanwhile(two_keys, user):
    async def act() -> None:
        provider = Provider(ProviderRefused("no"))
        authenticator = Watched(provider)
        await user.save_auth_state(state())
        reading = user.get_auth_state()  # begun before the new tokens are kept
        asking = asyncio.ensure_future(authenticator.refresh_user(user))
        await asyncio.gather(reading, provider.asked.wait())
        for _ in range(3):
            assert (await user.get_auth_state())["refresh_token"] == "new"
        provider.may_answer.set()
        assert await asking is False
        await asyncio.gather(*authenticator._background)
        assert authenticator.out == ["no"]

    asyncio.run(asyncio.wait_for(act(), 20))


def test_a_login_meanwhile_counts_more_than_the_no(two_keys, user):
    async def act() -> None:
        provider = Provider(ProviderRefused("no"))
        authenticator = Watched(provider)
        await user.save_auth_state(state())
        asking = asyncio.ensure_future(authenticator.refresh_user(user))
        await provider.asked.wait()
        await user.save_auth_state(state(refresh_token="of the login"))
        provider.may_answer.set()
        assert await asking is True
        assert authenticator.out == []

    asyncio.run(asyncio.wait_for(act(), 20))


def test_what_is_read_stays_as_it_was_written_and_is_written_with_the_newest_key(two_keys, user):
    async def act() -> None:
        two_keys.keys = [OLD]
        await user.save_auth_state(state())
        written = user.encrypted_auth_state
        two_keys.keys = [NEW, OLD]
        assert (await user.get_auth_state())["subject"] == "1"
        assert user.encrypted_auth_state == written
        await user.save_auth_state(await user.get_auth_state())
        two_keys.keys = [NEW]
        assert (await user.get_auth_state())["subject"] == "1"
        two_keys.keys = [OLD]
        assert await user.get_auth_state() is None

    asyncio.run(asyncio.wait_for(act(), 20))


def test_an_account_that_is_somebody_elses_now_vouches_for_nobody_but_them(two_keys, user):
    async def act() -> None:
        account = Account(provider="fake", subject="1", login="ada", prefix="gh")
        provider = Provider({"account": account, "groups": [], "user_info": {}, "auth_state": state()})
        provider.may_answer.set()
        authenticator = Watched(provider)
        await user.save_auth_state(state())

        assert await authenticator.refresh_user(user) is False

        await asyncio.gather(*authenticator._background)
        assert authenticator.out == ["the account is that of gh-grace, not of gh-ada"]

    asyncio.run(asyncio.wait_for(act(), 20))


@pytest.mark.parametrize("is_new", [True, False])
def test_what_a_login_gets_while_a_logout_is_cleaned_up_stays(two_keys, user, is_new):
    async def act() -> None:
        provider = Provider(ProviderUnavailable("not now"))
        authenticator = Watched(provider)
        await user.save_auth_state(state(**{LOGGED_OUT: 1.0}))

        fresh = await encrypt(state(refresh_token="of the login"))

        ending = asyncio.ensure_future(end_login(authenticator, user, is_new=is_new))
        await asyncio.sleep(0)  # it reads
        user.encrypted_auth_state = fresh

        assert await ending == {}
        assert (await user.get_auth_state())["refresh_token"] == "of the login"
        if not is_new:  # nobody has logged out of it
            assert await end_login(authenticator, user, is_new=False) == {}
            assert user.encrypted_auth_state is not None

    asyncio.run(asyncio.wait_for(act(), 20))


def test_a_logout_revokes_the_tokens_that_a_question_has_just_got(two_keys, user):
    async def act() -> None:
        provider = Provider(ProviderUnavailable("not now"))
        authenticator = Watched(provider)
        await user.save_auth_state(state())
        asking = asyncio.ensure_future(authenticator.refresh_user(user))
        await provider.asked.wait()
        ending = asyncio.ensure_future(end_login(authenticator, user))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not ending.done()
        provider.may_answer.set()

        await asking
        assert (await ending)["refresh_token"] == "new"
        assert user.encrypted_auth_state is None

    asyncio.run(asyncio.wait_for(act(), 20))


def test_who_is_shown_out_does_not_stay_while_the_disk_of_the_audit_log_hangs(two_keys, user, monkeypatch, caplog):
    monkeypatch.setattr(expulsion, "NOTE_SECONDS", 0.01)
    monkeypatch.setattr(expulsion.roles, "assign_default_roles", lambda database, entity: None)
    writing: Future[None] = Future()
    writing.set_running_or_notify_cancel()
    events: list[Event] = []
    audit = SimpleNamespace(begin=lambda event: events.append(event) or writing)
    authenticator = SimpleNamespace(audit=audit, provider=lambda key: None)
    app = SimpleNamespace(db=user.db, log=logging.getLogger("app"), authenticator=authenticator)

    async def act() -> None:
        await user.save_auth_state(state())
        await expulsion.expel(app, user, reason="no", actor="hub")

    asyncio.run(asyncio.wait_for(act(), 20))

    assert user.encrypted_auth_state is None
    assert [each.resource for each in events] == ["gh-ada"]
    assert "has not taken it yet" in caplog.text
    writing.set_exception(AuditError("the disk is full"))
    assert "gh-ada: the disk is full" in caplog.text


class Server:
    """As much of a spawner as JupyterHub's own stop asks for; what comes after the stop takes as long as it is told."""

    _spawn_pending = _start_pending = _check_pending = _stop_pending = will_resume = False
    _spawn_future = _stop_future = server = authenticator = None
    _log_name = api_token = oauth_client_id = ""
    active = True

    def __init__(self) -> None:
        self.orm_spawner = SimpleNamespace()
        self.may_end = asyncio.Event()

    @property
    def pending(self) -> str | None:
        return "stop" if self._stop_pending else None

    async def poll(self) -> int:
        return 0

    async def run_post_stop_hook(self) -> None:
        await self.may_end.wait()

    def stop_polling(self) -> None:
        """Nothing polls."""

    def clear_state(self) -> None:
        self.active = False

    def get_state(self) -> dict[str, Any]:
        return {}


def test_a_stop_that_takes_long_is_not_broken_off(user, monkeypatch):
    async def delete_user(user: User, name: str) -> None:
        """There is no route."""

    monkeypatch.setattr(expulsion, "STOP_SECONDS", 0.01)
    app = SimpleNamespace(proxy=SimpleNamespace(delete_user=delete_user), log=logging.getLogger("app"))

    async def act() -> None:
        server = user.spawners[""] = Server()

        for _ in range(2):
            assert await expulsion._stop_servers(app, user) == ["server default was not stopped (it is still stopping)"]

        server.may_end.set()
        await server._stop_future
        assert (server.pending, server.active) == (None, False)
        assert "" not in user.spawners

    asyncio.run(asyncio.wait_for(act(), 20))
