"""Who is who: accounts at identity providers, and the people of the hub whom they belong to.

An account is the provider's own number for it: GitHub's `id`, the `sub` of OpenID Connect.
Logins and mail addresses change hands; these never do. A person's name in the hub is chosen
when the first account of theirs comes in, is never given to anybody else, and stays when a
login is renamed.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from workbench.errors import AccountTaken, IdentityError, NameChanged, WorkbenchError

NAME_LENGTH = 31  # Linux takes 32 (useradd), labels of Kubernetes 63
LOCK_SECONDS = 2  # the hub waits with everything while it waits for another process
HASH_LENGTHS = (6, 12)  # the second when two accounts have the first in common

_OPENING = threading.Lock()  # not of each store: JupyterHub copies its configuration, and a lock cannot be copied

METADATA = sa.MetaData()
PEOPLE = sa.Table(
    "people",
    METADATA,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("blocked_at", sa.Float),
)
ACCOUNTS = sa.Table(
    "accounts",
    METADATA,
    sa.Column("provider", sa.String, primary_key=True),
    sa.Column("subject", sa.String, primary_key=True),
    sa.Column("name", sa.ForeignKey("people.name"), nullable=False, index=True),
    sa.Column("login", sa.String, nullable=False),
    sa.Column("linked_at", sa.Float, nullable=False),
    sa.Column("last_login_at", sa.Float, nullable=False),
)
# Which account a login of an allow list meant when it first came in.
LISTED = sa.Table(
    "listed",
    METADATA,
    sa.Column("provider", sa.String, primary_key=True),
    sa.Column("login", sa.String, primary_key=True),
    sa.Column("subject", sa.String, nullable=False),
)
REDEEMED = sa.Table(
    "redeemed", METADATA, sa.Column("flow", sa.String, primary_key=True), sa.Column("expires_at", sa.Float)
)


@dataclass(frozen=True, kw_only=True)
class Account:
    """An account at a provider, as the provider has just described it."""

    provider: str
    subject: str  #: the provider's own number; never given to anybody else
    login: str  #: what people call it; may change hands
    prefix: str  #: of hub names: `gh`, `g`
    is_unique: bool = False  #: whether no two accounts of the provider have the login at the same time


@dataclass(frozen=True, kw_only=True)
class LinkedAccount:
    """An account that belongs to a person of the hub."""

    provider: str
    subject: str
    login: str
    linked_at: float  #: seconds since the epoch, like the next
    last_login_at: float


class Identities:
    """The accounts and people of one hub, in an SQLite file of mode 0600."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._engine: sa.Engine | None = None

    def name_of(self, account: Account) -> str:
        """The person's name in the hub: the one that the account has, else the one that it would get."""
        with self._reading() as connection:
            return _known_name(connection, account) or _free_name(connection, account)

    def admit(self, account: Account, looked_up: str | None = None) -> str:
        """Note that the account has logged in; returns the person's name, chosen when there was none.

        Args:
            account: whose rules have let it in.
            looked_up: the name that `name_of` gave when the rules were asked. They were asked for that name
                only: another account may have got it since, or this one may have been linked to somebody.

        Raises:
            NameChanged: when the name is another one now; nothing is noted.
            IdentityError: when the person was off-boarded, also since the rules were asked.
        """
        now = time.time()
        with self._transaction() as connection:
            name = _known_name(connection, account)
            if name is None:
                name = _free_name(connection, account)
                _check_unchanged(looked_up, name)
                connection.execute(PEOPLE.insert().values(name=name))
                connection.execute(
                    ACCOUNTS.insert().values(**_row(account), name=name, linked_at=now, last_login_at=now)
                )
            else:
                _check_unchanged(looked_up, name)
                if _is_blocked(connection, name):
                    raise IdentityError(f"{name} was off-boarded", remedy="Ask the administrators to readmit them.")
                connection.execute(
                    ACCOUNTS.update().where(*_is(account)).values(login=account.login, last_login_at=now)
                )
        return name

    def link(self, name: str, account: Account, *, label: str = "") -> None:
        """Give the account to a person who has just proved to own it.

        Args:
            name: the person's.
            account: theirs from now on.
            label: what people call the provider.

        Raises:
            AccountTaken: when it belongs to somebody else.
        """
        now = time.time()
        with self._transaction() as connection:
            known = _known_name(connection, account)
            if known == name:
                return
            if known is not None:
                raise AccountTaken(
                    f"this {label or account.provider} account belongs to {known} here, not to {name}",
                    remedy=f"Log in as {known} with it, or ask an administrator to off-board {known}.",
                )
            connection.execute(ACCOUNTS.insert().values(**_row(account), name=name, linked_at=now, last_login_at=now))

    def unlink(self, name: str, account: LinkedAccount) -> None:
        """Take an account from a person. Whoever comes with it next is somebody new.

        Raises:
            WorkbenchError: when it is the only account of theirs, without which nobody could be them any more.
        """
        with self._transaction() as connection:
            mine = ACCOUNTS.c.name == name
            if connection.execute(sa.select(sa.func.count()).select_from(ACCOUNTS).where(mine)).scalar_one() < 2:
                raise WorkbenchError(
                    f"{name} has no other account", remedy=f"`workbench hub offboard {name}` shows them out for good."
                )
            connection.execute(ACCOUNTS.delete().where(mine, *_is(account)))

    def accounts_of(self, name: str) -> tuple[LinkedAccount, ...]:
        """The accounts of a person, the oldest first."""
        query = sa.select(ACCOUNTS).where(ACCOUNTS.c.name == name).order_by(ACCOUNTS.c.linked_at)
        with self._reading() as connection:
            return tuple(
                LinkedAccount(**{key: value for key, value in row.items() if key != "name"})
                for row in connection.execute(query).mappings()
            )

    def is_same(self, account: Account, listed: str) -> bool:
        """Whether an entry of an allow list still means the account that it meant when it first came in.

        A login or a mail address that somebody gave up can be had by anybody; the list then still
        means the first account. An administrator lists the new one by its number, where that can be.

        Args:
            account: who wants to come in.
            listed: the login or the mail address that the list holds.
        """
        # The subjects of another issuer say nothing about this one's.
        provider, login = f"{account.provider}|{account.subject.rpartition('|')[0]}".rstrip("|"), listed.lower()
        with self._transaction() as connection:
            query = sa.select(LISTED.c.subject).where(LISTED.c.provider == provider, LISTED.c.login == login)
            subject = connection.execute(query).scalar_one_or_none()
            if subject is None:
                connection.execute(LISTED.insert().values(provider=provider, login=login, subject=account.subject))
        return subject in {None, account.subject}

    def block(self, name: str) -> None:
        """Let the person in through none of the accounts, until `unblock`."""
        self._set_blocked(name, time.time())

    def unblock(self, name: str) -> None:
        """Let the person in again, as far as the providers and the rules do."""
        self._set_blocked(name, None)

    def is_blocked(self, name: str) -> bool:
        """Whether the person was off-boarded."""
        with self._reading() as connection:
            return _is_blocked(connection, name)

    def blocked(self) -> frozenset[str]:
        """The names of all who were off-boarded."""
        query = sa.select(PEOPLE.c.name).where(PEOPLE.c.blocked_at.is_not(None))
        with self._reading() as connection:
            return frozenset(connection.execute(query).scalars())

    def is_known(self, name: str) -> bool:
        """Whether somebody with that name has ever been let in."""
        query = sa.select(PEOPLE.c.name).where(PEOPLE.c.name == name)
        with self._reading() as connection:
            return connection.execute(query).scalar_one_or_none() is not None

    def redeem(self, flow: str, expires_at: float) -> bool:
        """Whether the login flow comes back for the first time; flows that have expired are forgotten."""
        with self._transaction() as connection:
            connection.execute(REDEEMED.delete().where(REDEEMED.c.expires_at < time.time()))
            try:
                connection.execute(REDEEMED.insert().values(flow=flow, expires_at=expires_at))
            except sa.exc.IntegrityError:
                return False
        return True

    def _set_blocked(self, name: str, blocked_at: float | None) -> None:
        with self._transaction() as connection:
            connection.execute(PEOPLE.update().where(PEOPLE.c.name == name).values(blocked_at=blocked_at))

    @contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[sa.Connection]:
        """Writers wait for each other from the first statement on."""
        with _OPENING:
            self._engine = self._engine or _open(self._file)
        with self._engine.begin() as connection:
            connection.exec_driver_sql(begin)
            yield connection

    def _reading(self) -> AbstractContextManager[sa.Connection]:
        """Readers wait for nobody: they see what was there when they began (sqlite.org/wal.html)."""
        return self._transaction("BEGIN")


def _open(file: Path) -> sa.Engine:
    file.touch(mode=0o600)
    # The transaction above is begun by us; the driver's own would begin with the first write.
    engine = sa.create_engine(f"sqlite:///{file}", connect_args={"isolation_level": None, "timeout": LOCK_SECONDS})
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
        for table in METADATA.sorted_tables:
            connection.execute(sa.schema.CreateTable(table, if_not_exists=True))
        for index in ACCOUNTS.indexes:
            connection.execute(sa.schema.CreateIndex(index, if_not_exists=True))
    return engine


def _row(account: Account) -> dict[str, Any]:
    return {"provider": account.provider, "subject": account.subject, "login": account.login}


def _is(account: Account | LinkedAccount) -> tuple[sa.ColumnElement[bool], ...]:
    return ACCOUNTS.c.provider == account.provider, ACCOUNTS.c.subject == account.subject


def _known_name(connection: sa.Connection, account: Account) -> str | None:
    return connection.execute(sa.select(ACCOUNTS.c.name).where(*_is(account))).scalar_one_or_none()


def _is_blocked(connection: sa.Connection, name: str) -> bool:
    query = sa.select(PEOPLE.c.blocked_at).where(PEOPLE.c.name == name)
    return connection.execute(query).scalar_one_or_none() is not None


def _check_unchanged(looked_up: str | None, name: str) -> None:
    if looked_up not in {None, name}:
        raise NameChanged(
            f"the name of this account was {looked_up} when its rules were asked, and is {name} now",
            remedy="Log in again.",
        )


def _free_name(connection: sa.Connection, account: Account) -> str:
    names = [plain_name(account), *(hashed_name(account, length) for length in HASH_LENGTHS)]
    taken = set(connection.execute(sa.select(PEOPLE.c.name).where(PEOPLE.c.name.in_(names))).scalars())
    return next(name for name in names if name and name not in taken)


def plain_name(account: Account) -> str:
    """`gh-octo` for the login `octo`; empty when the login is not safe as it is, or not alone in having it.

    Safe are lower-case letters, digits and single dashes: in URLs, for Linux and for Kubernetes.
    """
    name = f"{account.prefix}-{account.login.lower()}"
    is_safe = re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) and len(name) <= NAME_LENGTH
    return name if account.is_unique and is_safe else ""


def hashed_name(account: Account, length: int = HASH_LENGTHS[0]) -> str:
    """`g-ada-1f3a9c`: what is safe of the login, and some digits of the hash of the account's number."""
    local = re.sub(r"[^a-z0-9]+", "-", account.login.partition("@")[0].lower()).strip("-")
    digest = hashlib.sha256(account.subject.encode()).hexdigest()[:length]
    readable = f"{account.prefix}-{local}"[: NAME_LENGTH - length - 1].strip("-")
    return f"{readable}-{digest}"
