"""Keys of subjects: made once, destroyed for good, and values that only they open."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.services.keysets import make_keys, open_keys, turn
from workbench.errors import (
    Corrupt,
    EncryptionError,
    KeysetError,
    OtherContext,
    PoliciesRefused,
    SubjectErased,
    Truncated,
    UnknownSubjectKey,
    UnsupportedFormat,
)
from workbench.ingestion.decoding import parse_schema
from workbench.ingestion.decoding.contract import Contract
from workbench.ingestion.decoding.guarded import decode_guarded
from workbench.ingestion.decoding.json import JsonDecoder
from workbench.ingestion.protection import ProtectingDecoder
from workbench.security.encryption.data_keys import writing_data_keys
from workbench.security.encryption.rewrapping import retire
from workbench.security.policies.reading import read_policies
from workbench.security.secrets import locked
from workbench.security.subjects.columns import EncryptedColumns, decrypt_values, encrypt_columns
from workbench.security.subjects.keys import SubjectKey, SubjectKeys, context
from workbench.security.subjects.sealing import BEGIN, seal, unseal
from workbench.warehouse.backup import subject_keys
from workbench.warehouse.backup.repository import Repository
from workbench.warehouse.backup.subject_keys import (
    COPY,
    check_subject_keys,
    destroy_in_copy,
    refresh_subject_keys,
    restore_subject_keys,
)

RULE = EncryptedColumns(table="raw.orders", kind="customer", subject="who", columns=("mail", "phone"))
PLACE = RULE.place("mail")


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> tuple[SubjectKey, SubjectKey]:
    """The keys of two subjects."""
    keys = make_keys(tmp_path_factory.mktemp("home"))
    with writing_data_keys(keys, holder="test") as make:
        return SubjectKey(b"1" * 8, make(context("customer", "ab"))), SubjectKey(
            b"2" * 8, make(context("customer", "cd"))
        )


@pytest.fixture
def subjects(tmp_path) -> SubjectKeys:
    return SubjectKeys(tmp_path, make_keys(tmp_path))


def again(subjects: SubjectKeys) -> SubjectKeys:
    """As another process has them."""
    home = subjects.store.path.parent.parent
    return SubjectKeys(home, open_keys(home))


def rows(*values: tuple[object, str | None, str | None]) -> pa.Table:
    who, mail, phone = zip(*values, strict=True)
    return pa.table({"who": pa.array(who), "mail": pa.array(mail, pa.string()), "phone": pa.array(phone, pa.string())})


def read(table: pa.Table, keys: SubjectKeys, column: str = "mail", *, skips_erased: bool = False) -> list[str | None]:
    subjects = table["who"].to_pylist()
    return decrypt_values(table[column].to_pylist(), subjects, RULE, column, keys, skips_erased=skips_erased)


@given(st.text(), st.text())
def test_what_is_sealed_is_opened_in_its_place_alone(pair, text, place):
    mine, other = pair
    value = seal(mine, text, place)

    assert unseal(mine, value, place) == text
    assert value.isascii()
    assert value.startswith(BEGIN)
    with pytest.raises(OtherContext):
        unseal(mine, value, place + "x")
    with pytest.raises(OtherContext):
        unseal(other, value, place)


@given(st.text(min_size=1), st.data())
def test_no_changed_value_is_opened(pair, text, data):
    value = seal(pair[0], text, PLACE)
    at = data.draw(st.integers(0, len(value) - 1))
    changed = (
        value[:at] + data.draw(st.characters(codec="ascii").filter(lambda each: each != value[at])) + value[at + 1 :]
    )
    with pytest.raises(EncryptionError):
        unseal(pair[0], changed, PLACE)
    with pytest.raises((Truncated, Corrupt, UnsupportedFormat)):
        unseal(pair[0], value[:at], PLACE)


def test_each_subject_has_one_key_for_all_processes(subjects):
    first, _ = encrypt_columns(rows((1, "a@b", None), (2, "c@d", "7"), (1, None, "8")), RULE, subjects)
    second, _ = encrypt_columns(rows((1, "a@b", None)), RULE, again(subjects))

    assert read(first, again(subjects)) == ["a@b", "c@d", None]
    assert read(first, subjects, "phone") == [None, "7", "8"]
    assert read(second, subjects) == ["a@b"]
    assert first["mail"][0] != second["mail"][0]  # never equal
    assert subjects.store.counts() == (2, 0)
    assert subjects.store.path.stat().st_mode & 0o777 == 0o600


def test_of_who_was_erased_nothing_is_left_and_nothing_is_written(subjects):
    table, _ = encrypt_columns(rows(("ann", "a@b", None), ("bob", "c@d", None)), RULE, subjects)
    ann = subjects.fingerprints.of("customer", "ann")
    wrapped = subjects.store.read("customer", [ann])[ann].header
    assert wrapped in subjects.store.path.read_bytes()

    assert again(subjects).destroy([("customer", ann)]) == 1

    folder = subjects.store.path.parent
    assert not any(wrapped in path.read_bytes() for path in folder.iterdir() if path.is_file())
    with pytest.raises(SubjectErased, match="mail in row 0 is of a customer that was erased"):
        read(table, subjects)  # which had remembered the key
    assert read(table, subjects, skips_erased=True) == [None, "c@d"]
    late, nobodys = encrypt_columns(rows(("ann", "late", None), ("bob", "e@f", None)), RULE, subjects)
    assert (late["mail"][0].as_py(), nobodys) == (None, [])
    assert read(late, subjects) == [None, "e@f"]
    assert again(subjects).destroy([("customer", ann)]) == 0
    assert subjects.store.counts() == (1, 1)
    assert b"ann" not in subjects.store.path.read_bytes()


def test_values_of_others_are_told_apart(subjects, tmp_path):
    table, _ = encrypt_columns(rows((1, "a@b", "7"), (2, "c@d", "8")), RULE, subjects)
    mail, phone = table["mail"].to_pylist(), table["phone"].to_pylist()

    def opened(values: list[str | None], who: list[object], keys: SubjectKeys = subjects) -> list[str | None]:
        return decrypt_values(values, who, RULE, "mail", keys, skips_erased=False)

    for values, who in ((mail, [2, 1]), (phone, [1, 2])):
        with pytest.raises(OtherContext, match="mail in row 0"):
            opened(values, who)
    for who in ([3, 2], [None, 2]):
        with pytest.raises(UnknownSubjectKey, match="of a customer that has no key here"):
            opened(mail, who)
    with pytest.raises(UnsupportedFormat, match="mail in row 0 is in clear"):
        opened(["a@b"], [1])
    with pytest.raises(UnknownSubjectKey):
        opened(mail, [1, 2], SubjectKeys(tmp_path / "other", make_keys(tmp_path / "other")))
    with sqlite3.connect(subjects.store.path) as connection:
        connection.execute("UPDATE subjects SET id = x'0000000000000000'")
    with pytest.raises(UnknownSubjectKey, match="not there any more"):
        opened(mail, [1, 2], again(subjects))


def test_a_rotation_moves_the_keys_and_the_old_version_can_go(subjects):
    table, _ = encrypt_columns(rows((1, "a@b", None), (2, "c@d", None)), RULE, subjects)
    turn(subjects.keys)
    with pytest.raises(KeysetError, match="version 1 is needed by 1 of the inventory: keys of subjects"):
        retire(subjects.keys, 1)

    assert subjects.rewrap() == 2
    assert again(subjects).rewrap() == 0
    retire(subjects.keys, 1, destroy=True)

    assert read(table, again(subjects)) == ["a@b", "c@d"]


def test_keys_that_are_lost_are_not_made_anew(subjects):
    encrypt_columns(rows((1, "a@b", None)), RULE, subjects)
    subjects.store.path.unlink()

    for act in (lambda: encrypt_columns(rows((1, "a@b", None)), RULE, again(subjects)), again(subjects).rewrap):
        with pytest.raises(KeysetError, match="there are keys of subjects, but not"):
            act()


def test_of_a_copy_the_newest_alone_comes_back_and_others_lose_the_key_too(subjects, tmp_path):
    mine, other = Repository(tmp_path / "backups" / "1"), Repository(tmp_path / "backups" / "2")
    table, _ = encrypt_columns(rows((1, "a@b", None), (2, "c@d", None)), RULE, subjects)
    refresh_subject_keys(mine, subjects.keys)
    refresh_subject_keys(other, subjects.keys)
    first = (mine.folder / COPY).read_bytes()
    refresh_subject_keys(mine, subjects.keys)
    assert (mine.folder / COPY).read_bytes() == first  # nothing has changed

    one = [("customer", subjects.fingerprints.of("customer", "1"))]
    subjects.destroy(one)
    refresh_subject_keys(mine, subjects.keys)
    destroy_in_copy(other, subjects.keys, one)

    home = subjects.store.path.parent.parent
    for repository in (mine, other):
        subjects.store.path.unlink()
        (home / "keys" / "erasure-key").unlink()
        restore_subject_keys(repository, open_keys(home))
        assert read(table, again(subjects), skips_erased=True) == [None, "c@d"]
    assert not list((home / "backup").iterdir())
    check_subject_keys(mine, subjects.keys)
    (mine.folder / COPY).write_bytes((mine.folder / COPY).read_bytes()[:-1])
    with pytest.raises((Corrupt, Truncated)):
        check_subject_keys(mine, subjects.keys)


def test_of_two_who_write_a_copy_at_once_none_brings_a_destroyed_key_back(subjects, tmp_path, monkeypatch):
    repository = Repository(tmp_path / "backups" / "1")
    table, _ = encrypt_columns(rows((1, "a@b", None), (2, "c@d", None)), RULE, subjects)
    late: list[threading.Thread] = []
    encrypt = subject_keys.encrypt_file

    def erase() -> None:
        other = again(subjects)
        other.destroy([("customer", other.fingerprints.of("customer", "1"))])
        erased.set()
        refresh_subject_keys(repository, other.keys)

    def encrypt_late(*arguments: Any) -> None:
        if not late:
            late.append(threading.Thread(target=erase))
            late[0].start()
            assert erased.wait(30)
            if not is_locked():  # without the lock the other comes first
                late[0].join(30)
        encrypt(*arguments)

    def is_locked() -> bool:
        with locked(repository.folder / subject_keys.LOCK, waits=False) as is_alone:
            return not is_alone

    erased = threading.Event()
    monkeypatch.setattr(subject_keys, "encrypt_file", encrypt_late)
    refresh_subject_keys(repository, subjects.keys)
    late[0].join(30)
    subjects.store.path.unlink()
    restore_subject_keys(repository, subjects.keys)

    assert read(table, again(subjects), skips_erased=True) == [None, "c@d"]


def test_each_change_is_counted_in_the_file_and_in_its_copy(subjects, tmp_path):
    encrypt_columns(rows((1, "a@b", None)), RULE, subjects)
    made = subjects.store.changes()
    turn(subjects.keys)
    subjects.rewrap()
    moved = subjects.store.changes()
    subjects.destroy([("customer", subjects.fingerprints.of("customer", "1"))])

    assert made < moved < subjects.store.changes() == subjects.store.copy(tmp_path / "copy")


def test_with_another_key_of_fingerprints_nothing_is_encrypted(subjects):
    encrypt_columns(rows((1, "a@b", None)), RULE, subjects)
    (subjects.store.path.parent / "erasure-key").unlink()

    with pytest.raises(KeysetError, match="erasure-key is not the key with which"):
        encrypt_columns(rows((1, "a@b", None)), RULE, again(subjects))


def test_only_so_many_keys_are_remembered(subjects, monkeypatch):
    monkeypatch.setattr("workbench.security.subjects.keys.REMEMBERED", 3)
    table, _ = encrypt_columns(rows(*((n, f"{n}", None) for n in range(10))), RULE, subjects)

    assert read(table, subjects) == [str(n) for n in range(10)]
    assert len(subjects._opened) == 3


def test_a_record_that_says_not_whose_it_is_is_no_row(subjects):
    columns = parse_schema({"who": "int64", "mail": "string", "phone": "string", "n": "int64"})
    decoder = ProtectingDecoder(JsonDecoder(columns, Contract.IGNORE), [RULE], subjects)

    decoded = decoder.decode([
        b'{"who":1,"mail":"a@b","n":1}', b"{broken", b'{"mail":"c@d","n":2}', b'{"n":3}', None, b'{"who":1,"phone":"7"}',
    ])  # fmt: skip

    assert list(decoded.positions) == [0, 3, 5]
    assert decoded.rows["n"].to_pylist() == [1, 3, None]
    assert read(decoded.rows, subjects) == ["a@b", None, None]
    assert [each.position for each in decoded.undecodable] == [1, 2, 4]
    assert "who is null, which says whose key" in decoded.undecodable[1].reason


def test_keys_that_cannot_be_used_make_no_dead_letter_whatever_the_reason(subjects, monkeypatch):
    def no_more_files(*_):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    columns = parse_schema({"who": "int64", "mail": "string"})
    decoder = ProtectingDecoder(JsonDecoder(columns, Contract.IGNORE), [RULE], subjects)
    monkeypatch.setattr(subjects, "ensure", no_more_files)

    with pytest.raises(KeysetError, match="Too many open files"):
        decode_guarded(decoder, [b'{"who":1,"mail":"a@b"}'])
    monkeypatch.setattr(subjects, "ensure", lambda *_: {}["a@b"])
    with pytest.raises(KeysetError, match=r"KeyError \(unexpected\)"):
        decode_guarded(decoder, [b'{"who":1,"mail":"a@b"}'])


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ("{encrypt: {customer: [mail]}, keep: {days: 1, by: at}}", "customer is no kind of `subjects`"),
        ("{subjects: {customer: who}, encrypt: {clerk: [mail]}}", "write one of customer"),
        ("{subjects: {customer: who}, encrypt: {customer: []}}", "no column is named"),
        ("{subjects: {customer: who}, encrypt: {customer: [who]}}", "who says whose row it is"),
        ("{subjects: {customer: who}, keep: {days: 1, by: at}, encrypt: {customer: [at]}}", "at says how old a row is"),
        ("{subjects: {a: x, b: y}, encrypt: {a: [mail], b: [mail]}}", "mail is encrypted for a already"),
        ("{subjects: {customer: who}, encrypt: {customer: mail}}", "is 'mail', which is no list"),
    ],
)
def test_what_cannot_be_encrypted_is_told_with_its_field(tmp_path, fields, told):
    is_refused_in_line_4(tmp_path, f"version: 1\nroles: {{}}\ndata:\n  raw.orders: {fields}\n", told)


def is_refused_in_line_4(folder, text, told):
    file = folder / "policies.yaml"
    file.write_text(text)

    with pytest.raises(PoliciesRefused) as refused:
        read_policies(file)

    assert told in str(refused.value)
    assert [each.line for each in refused.value.problems] == [4]


TAGGED = """version: 1
roles: {{}}
tags:
  pii: {{columns: [raw.orders.mail, raw.orders.phone, raw.visits.mail], encrypt: customer}}
data:
  raw.orders: {orders}
  raw.visits: {{subjects: {{customer: who}}}}
"""


def test_a_tag_says_what_is_encrypted_in_all_its_tables(tmp_path):
    file = tmp_path / "policies.yaml"
    file.write_text(TAGGED.format(orders="{subjects: {customer: who, clerk: by}, encrypt: {customer: [mail, note]}}"))

    data = read_policies(file).file.data

    assert data["raw.orders"].encrypt == {"customer": ("mail", "note", "phone")}
    assert data["raw.visits"].encrypt == {"customer": ("mail",)}


@pytest.mark.parametrize(
    ("orders", "told"),
    [
        ("{keep: {days: 1, by: at}}", "raw.orders does not say whose its rows are; write `subjects: {customer: "),
        ("{subjects: {customer: mail}}", "mail says whose row it is"),
        ("{subjects: {customer: who}, keep: {days: 1, by: phone}}", "phone says how old a row is"),
        ("{subjects: {a: x, customer: who}, encrypt: {a: [mail]}}", "mail is encrypted for a already"),
    ],
)
def test_what_a_tag_cannot_encrypt_is_told_with_its_line(tmp_path, orders, told):
    is_refused_in_line_4(tmp_path, TAGGED.format(orders=orders), told)
