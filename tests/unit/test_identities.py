"""Accounts and the names of people: whatever a login was, who it belongs to never changes."""

from __future__ import annotations

import re
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hub.identities
from hub.identities import LOCK_SECONDS, Account, Identities, hashed_name, plain_name
from workbench.errors import AccountTaken, IdentityError, NameChanged, WorkbenchError

SAFE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


def github(login: str, number: int) -> Account:
    return Account(provider="github", subject=str(number), login=login, prefix="gh", is_unique=True)


def google(mail: str, number: str) -> Account:
    return Account(provider="google", subject=number, login=mail, prefix="g")


@pytest.fixture
def identities(tmp_path: Path) -> Identities:
    return Identities(tmp_path / "identities.sqlite")


def test_a_name_is_the_login_where_that_is_safe_and_unique(identities):
    assert identities.admit(github("Octo-Cat", 1)) == "gh-octo-cat"


def test_looking_a_name_up_gives_it_to_nobody(identities):
    assert identities.name_of(github("octo", 1)) == identities.name_of(github("octo", 2)) == "gh-octo"


def test_a_renamed_login_keeps_the_persons_name(identities):
    identities.admit(github("octo", 1))

    assert identities.admit(github("octopus", 1)) == "gh-octo"
    assert [each.login for each in identities.accounts_of("gh-octo")] == ["octopus"]


def test_who_registers_a_login_anew_is_somebody_else(identities):
    identities.admit(github("octo", 1))
    identities.admit(github("octopus", 1))

    assert identities.admit(github("octo", 2)) == hashed_name(github("octo", 2)) != "gh-octo"


def test_a_name_that_another_account_got_during_the_login_gives_nothing(identities):
    looked_up = identities.name_of(github("octo", 1))
    identities.admit(github("octo", 2), looked_up)

    with pytest.raises(NameChanged, match="gh-octo when its rules were asked"):
        identities.admit(github("octo", 1), looked_up)
    assert not identities.is_known(hashed_name(github("octo", 1)))


def test_an_account_that_was_linked_during_the_login_does_not_get_in_with_the_rules_of_before(identities):
    identities.admit(github("octo", 1))
    looked_up = identities.name_of(google("octo@example.com", "9"))
    identities.link("gh-octo", google("octo@example.com", "9"))

    with pytest.raises(NameChanged, match="and is gh-octo now"):
        identities.admit(google("octo@example.com", "9"), looked_up)


def test_who_is_off_boarded_during_the_login_does_not_get_in(identities):
    octo = identities.admit(github("octo", 1))
    identities.block(octo)

    with pytest.raises(IdentityError, match="gh-octo was off-boarded"):
        identities.admit(github("octo", 1), octo)


def test_an_allow_list_means_the_account_that_came_first(identities):
    assert identities.is_same(github("octo", 1), "octo")
    assert identities.is_same(github("renamed", 1), "OCTO")
    assert not identities.is_same(github("octo", 2), "octo")
    assert identities.is_same(google("octo", "2"), "octo")


def test_a_linked_account_opens_the_same_door(identities):
    identities.admit(github("octo", 1))
    identities.link("gh-octo", google("octo@example.com", "9"))

    assert identities.admit(google("octo@example.com", "9")) == "gh-octo"
    assert [each.provider for each in identities.accounts_of("gh-octo")] == ["github", "google"]
    identities.link("gh-octo", google("octo@example.com", "9"))


def test_an_account_of_somebody_else_is_not_linked(identities):
    identities.admit(github("octo", 1))
    identities.admit(google("mallory@example.com", "9"))

    with pytest.raises(AccountTaken, match="this Google account belongs to g-mallory-"):
        identities.link("gh-octo", google("mallory@example.com", "9"), label="Google")


def test_an_account_that_was_unlinked_is_somebody_new(identities):
    identities.admit(github("octo", 1))
    identities.link("gh-octo", google("octo@example.com", "9"))
    first, second = identities.accounts_of("gh-octo")

    identities.unlink("gh-octo", second)

    assert identities.accounts_of("gh-octo") == (first,)
    assert identities.admit(google("octo@example.com", "9")) == hashed_name(google("octo@example.com", "9"))


def test_nobody_gets_the_name_whose_first_account_was_unlinked(identities):
    identities.admit(github("octo", 1))
    identities.link("gh-octo", google("octo@example.com", "9"))

    identities.unlink("gh-octo", identities.accounts_of("gh-octo")[0])

    assert identities.admit(github("octo", 1)) != "gh-octo"
    assert identities.admit(google("octo@example.com", "9")) == "gh-octo"


def test_the_last_account_cannot_be_unlinked(identities):
    identities.admit(github("octo", 1))

    with pytest.raises(WorkbenchError, match="no other account"):
        identities.unlink("gh-octo", identities.accounts_of("gh-octo")[0])

    assert identities.admit(github("octo", 1)) == "gh-octo"


def test_who_is_blocked_stays_blocked_until_readmitted(identities):
    identities.admit(github("octo", 1))
    identities.block("gh-octo")
    assert identities.is_blocked("gh-octo")

    identities.unblock("gh-octo")

    assert not identities.is_blocked("gh-octo")
    assert not identities.is_blocked("gh-nobody")
    assert not identities.is_known("gh-nobody")


def test_all_who_are_blocked_are_found_at_once(identities):
    for number in range(3):
        identities.block(identities.admit(github(f"octo{number}", number)))
    identities.unblock("gh-octo1")

    assert identities.blocked() == {"gh-octo0", "gh-octo2"}


def test_readers_do_not_wait_for_a_writer(identities, tmp_path):
    octo = identities.admit(github("octo", 1))
    with closing(sqlite3.connect(tmp_path / "identities.sqlite", isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        begun = time.monotonic()

        assert identities.name_of(github("octo", 1)) == octo
        assert identities.accounts_of(octo)
        assert (identities.is_blocked(octo), identities.is_known(octo), identities.blocked()) == (False, True, set())

    assert time.monotonic() - begun < LOCK_SECONDS


def test_a_flow_comes_back_once(identities):
    assert identities.redeem("a", time.time() + 600)
    assert not identities.redeem("a", time.time() + 600)
    assert identities.redeem("b", time.time() + 600)


def test_flows_that_have_expired_are_forgotten(identities):
    assert identities.redeem("a", time.time() - 1)
    assert identities.redeem("a", time.time() + 600)


def test_the_store_is_private_and_survives(tmp_path):
    file = tmp_path / "identities.sqlite"
    Identities(file).admit(github("octo", 1))

    assert file.stat().st_mode & 0o777 == 0o600
    assert Identities(file).name_of(github("renamed", 1)) == "gh-octo"


def test_many_who_come_at_once_get_names_of_their_own(tmp_path, monkeypatch):
    # Who waits for the lock may be the last of all, and a busy disk takes its time for each.
    monkeypatch.setattr(hub.identities, "LOCK_SECONDS", 60)
    identities = Identities(tmp_path / "identities.sqlite")
    accounts = [github("octo", number) for number in range(40)]

    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(identities.admit, accounts))

    assert len(set(names)) == len(accounts)
    assert names.count("gh-octo") == 1


@given(login=st.text(max_size=60), subject=st.text(min_size=1, max_size=40), is_unique=st.booleans())
def test_names_are_safe_in_urls_on_linux_and_in_kubernetes(login, subject, is_unique):
    account = Account(provider="github", subject=subject, login=login, prefix="gh", is_unique=is_unique)

    for name in (plain_name(account), hashed_name(account), hashed_name(account, 12)):
        assert not name or (SAFE.fullmatch(name) and len(name) <= 32)


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_two_logins_share_a_plain_name_only_by_case(one, other):
    names = [plain_name(github(login, 1)) for login in (one, other)]

    assert not names[0] or names[0] != names[1] or one.lower() == other.lower()
