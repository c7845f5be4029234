"""Names of WAL, what retention may remove, and the escrow of the root key."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import tarfile
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from workbench.embedded.backup_keeper import Due, due
from workbench.embedded.backups import check_apart
from workbench.embedded.recovery import appear
from workbench.errors import BackupError
from workbench.sections import BackupSettings
from workbench.warehouse.backup import escrow, status
from workbench.warehouse.backup.home import archive
from workbench.warehouse.backup.repository import Backup, Part
from workbench.warehouse.backup.retention import superfluous
from workbench.warehouse.backup.status import ArchiveLag
from workbench.warehouse.backup.wal import Segment, chain, first_gap

NOW = datetime(2026, 11, 27, tzinfo=UTC)
SEGMENTS = st.builds(Segment, st.integers(1, 2**32 - 1), st.integers(0, 2**40 - 1))
PASSPHRASE = SecretStr("six random words for a test")


def backup(hours_ago: float, start: int, stop: int, needs: str | None = None) -> Backup:
    finished = NOW - timedelta(hours=hours_ago)
    return Backup(
        name=f"{finished:%Y%m%dT%H%M%SZ}-000000",
        begun=finished - timedelta(minutes=1),
        finished=finished,
        start=Segment(1, start),
        stop=Segment(1, stop),
        server="18.6",
        database="analytics",
        user="workbench",
        home="/srv/workbench",
        needs=needs,
        parts=(Part(name="home.tar.gz.enc", size_bytes=1, sha256="00"),),
    )


@st.composite
def histories(draw):
    """Backups one after another, each begun at or after the segment in which the one before was; some incremental."""
    step = st.tuples(st.integers(1, 100), st.integers(0, 9), st.integers(0, 3), st.integers(0, 3))
    steps = draw(st.lists(step, min_size=1, max_size=8))
    hours, number, found = sum(step[0] for step in steps), 0, []
    for took, gap, within, before in steps:
        hours -= took
        number += gap
        # Built on an earlier one, full or not.
        needs = found[-before].name if 0 < before <= len(found) else None
        found.append(backup(hours, number, number + within, needs))
        number += within
    segments = [Segment(1, each) for each in range(number + draw(st.integers(0, 5)))]
    return found, segments


@given(SEGMENTS)
def test_a_segment_is_known_by_its_name(segment):
    assert Segment.parse(segment.name) == segment


def test_names_are_those_of_postgresql():
    # SELECT pg_walfile_name('1/2A000028') on timeline 3
    assert Segment.at(3, "1/2A000028").name == "00000003000000010000002A"
    assert Segment.parse("00000003000000010000002A.partial") is None
    assert Segment.parse("000000030000000100000100") is None


@given(st.sets(st.integers(0, 30)), st.integers(0, 30))
def test_a_chain_ends_at_the_first_gap(numbers, stop):
    found = [each.number for each in chain([Segment(1, each) for each in numbers], Segment(1, stop))]

    assert found == list(range(stop + 1, stop + 1 + len(found)))
    assert set(found) <= numbers
    assert stop + 1 + len(found) not in numbers
    later = any(each > stop + len(found) for each in numbers)
    gap = first_gap([Segment(1, each) for each in numbers], Segment(1, stop))
    assert gap == (Segment(1, stop + 1 + len(found)) if later else None)


@given(histories(), st.floats(0, 1000))
def test_each_moment_within_the_time_to_keep_can_still_be_restored(history, hours):
    backups, segments = history
    oldest = NOW - timedelta(hours=hours)

    removed, let_go = superfluous(backups, segments, oldest)

    kept = [each for each in backups if each not in removed]
    left = {each.number for each in segments} - {each.number for each in let_go}
    assert backups[-1] in kept
    reached = [each for each in backups if each.finished <= oldest]
    assert not reached or reached[-1] in kept
    assert all(each.finished < oldest for each in removed)
    assert {each.needs for each in kept} <= {None, *(each.name for each in kept)}
    for each in kept:
        assert {segment.number for segment in segments if segment.number >= each.start.number} <= left


@given(histories(), st.floats(0, 1000))
def test_what_is_left_is_no_more_than_that(history, hours):
    backups, segments = history
    oldest = NOW - timedelta(hours=hours)

    removed, let_go = superfluous(backups, segments, oldest)

    kept = [each for each in backups if each not in removed]
    needed = {each.needs for each in kept}
    assert len([each for each in kept if each.finished <= oldest and each.name not in needed]) <= 1
    left = [each.number for each in segments if each not in let_go]
    assert not left or min(left) >= min(each.start.number for each in kept)
    # Doing it again finds nothing.
    assert superfluous(kept, [Segment(1, each) for each in left], oldest) == ([], [])


def test_without_a_backup_nothing_goes():
    assert superfluous([], [Segment(1, 1)], NOW) == ([], [])


@pytest.mark.parametrize("needs", [None, "20261126T000000Z-000000"])
def test_a_catalog_is_read_as_it_was_written(needs):
    written = backup(3, 4, 5, needs)

    assert Backup.parse(written.as_json(), "catalog") == written


def test_a_catalog_of_the_version_before_is_read():
    written = backup(3, 4, 5)
    fields = json.loads(written.as_json())
    del fields["needs"]

    assert Backup.parse(json.dumps(fields | {"format": 1}).encode(), "catalog") == written


@pytest.mark.parametrize(
    ("made", "hours", "expected"),
    [
        ([], 0, Due.FULL),
        ([backup(23, 1, 1)], 0, None),
        ([backup(25, 1, 1)], 0, Due.FULL),
        ([backup(5, 1, 1)], 6, None),
        ([backup(7, 1, 1)], 6, Due.INCREMENTAL),
        ([backup(7, 1, 1), backup(5, 2, 2, "full")], 6, None),
        ([backup(25, 1, 1), backup(1, 2, 2, "full")], 6, Due.FULL),
        ([backup(1, 2, 2, "a full one that cannot be read")], 6, Due.FULL),
    ],
)
def test_which_backup_is_due(made, hours, expected):
    settings = BackupSettings(WORKBENCH_BACKUP_INCREMENTAL_HOURS=hours)

    assert due(made, made[-1].begun if made else None, NOW, settings) is expected


class TestArchiveLag:
    def test_what_is_closed_waits_until_it_is_archived(self):
        lag = ArchiveLag(None)

        assert lag.look(Segment(1, 5), Segment(1, 4), 100) is None
        assert lag.look(Segment(1, 6), Segment(1, 4), 110) == 110
        assert lag.look(Segment(1, 8), Segment(1, 4), 120) == 110
        assert lag.look(Segment(1, 8), Segment(1, 5), 130) == 120
        assert lag.look(Segment(1, 8), Segment(1, 7), 140) is None

    def test_an_idle_server_waits_for_nothing(self):
        lag = ArchiveLag(None)

        assert [lag.look(Segment(1, 5), None, now) for now in (100, 200, 300)] == [None, None, None]

    def test_it_goes_on_where_an_earlier_process_was(self):
        assert ArchiveLag(50).look(Segment(1, 6), Segment(1, 4), 110) == 50
        assert ArchiveLag(50).look(Segment(1, 6), Segment(1, 5), 110) is None
        assert ArchiveLag(50).look(Segment(1, 6), None, 110) == 50


def test_the_status_tells_the_newest_verified_backup_and_why_a_later_one_failed(tmp_path):
    assert status.read_status(tmp_path) is None
    begun = status.begin(tmp_path)
    assert begun.covered_until == begun.since
    status.note_failed(tmp_path, "no space")
    assert status.read_status(tmp_path).problem == "no space"

    made = backup(3, 4, 5)
    status.note_verified(tmp_path, made, 2.5)
    status.note_failed(tmp_path, "no space again")

    found = status.read_status(tmp_path)
    assert (found.verified, found.covered_until, found.since) == (made.name, made.finished.timestamp(), begun.since)
    assert (found.size_bytes, found.seconds, found.problem) == (1, 2.5, "no space again")
    assert (tmp_path / "backup" / "status.json").stat().st_mode & 0o777 == 0o600
    (tmp_path / "backup" / "status.json").write_text("[]")
    assert status.read_status(tmp_path) is None


def test_a_catalog_of_a_newer_version_is_refused():
    content = backup(3, 4, 5).as_json().replace(b'"format": 2', b'"format": 3')

    with pytest.raises(BackupError, match="format 3"):
        Backup.parse(content, "catalog")


@pytest.fixture
def _cheap_passphrases(monkeypatch):
    monkeypatch.setattr(escrow, "COST", 2**10)


@pytest.mark.usefixtures("_cheap_passphrases")
class TestEscrow:
    def test_the_passphrase_gives_the_root_key_back(self, tmp_path):
        root = os.urandom(32)

        escrow.write_escrow(tmp_path / "root", root, PASSPHRASE)

        assert escrow.read_escrow(tmp_path / "root", PASSPHRASE) == root
        assert root.hex() not in (tmp_path / "root").read_text()
        assert (tmp_path / "root").stat().st_mode & 0o777 == 0o600

    def test_another_passphrase_does_not(self, tmp_path):
        escrow.write_escrow(tmp_path / "root", os.urandom(32), PASSPHRASE)

        with pytest.raises(BackupError, match="does not open"):
            escrow.read_escrow(tmp_path / "root", SecretStr("six other words for a test"))

    def test_a_short_passphrase_is_refused(self, tmp_path):
        with pytest.raises(BackupError, match="less than 16"):
            escrow.write_escrow(tmp_path / "root", os.urandom(32), SecretStr("short"))

        assert not (tmp_path / "root").exists()

    def test_nothing_is_written_over(self, tmp_path):
        (tmp_path / "root").write_text("another one")

        with pytest.raises(BackupError, match="is there already"):
            escrow.write_escrow(tmp_path / "root", os.urandom(32), PASSPHRASE)

    @settings(max_examples=50)
    @given(content=st.binary(max_size=200) | st.sampled_from([b"{}", b"[]", b'{"format":1,"salt":"zz","sealed":""}']))
    def test_what_is_none_is_refused(self, tmp_path_factory, content):
        path = tmp_path_factory.mktemp("escrow") / "root"
        path.write_bytes(content)

        with pytest.raises(BackupError, match="holds no root key"):
            escrow.read_escrow(path, PASSPHRASE)


class TestArchiveOfAHome:
    @pytest.fixture
    def home(self, tmp_path):
        home = tmp_path / "home"
        for folder in ("keys", "hub", "users/ada", "postgres/data", "logs", "backup"):
            (home / folder).mkdir(parents=True)
        for name in ("keys/root.key", "keys/keyset.json", "keys/token", "postgres/data/secret", "users/ada/a.ipynb"):
            (home / name).write_text(name)
        return home

    def read(self, home, include=(), root=None):
        with archive(home, include, root) as stream:
            content = stream.read()
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
            return {each.name: tar.extractfile(each).read() for each in tar if each.isfile()}

    def test_the_keyset_and_its_root_are_left_out_with_what_has_another_way(self, home):
        assert self.read(home) == {"home/keys/token": b"keys/token", "home/users/ada/a.ipynb": b"users/ada/a.ipynb"}

    def test_the_keys_with_their_inventory_come_last(self, home, tmp_path):
        (tmp_path / "included").mkdir()
        (tmp_path / "included" / "file").touch()
        with archive(home, (tmp_path / "included",), None) as stream:
            content = stream.read()
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
            assert [each.name for each in tar][-2:] == ["home/keys", "home/keys/token"]

    def test_a_root_key_elsewhere_is_left_out_of_what_is_included(self, home, tmp_path):
        project = tmp_path / "project"
        project.mkdir()
        for name in (".env", "my.key"):
            (project / name).write_text(name)

        found = self.read(home, (project,), project / "my.key")

        assert found["included/0-project/.env"] == b".env"
        assert "included/0-project/my.key" not in found

    def test_a_database_is_whole_with_what_its_log_holds(self, home, tmp_path):
        path = home / "hub" / "jupyterhub.sqlite"
        with closing(sqlite3.connect(path)) as open_one:
            open_one.execute("PRAGMA journal_mode = WAL")
            open_one.execute("CREATE TABLE users (name)")
            open_one.execute("INSERT INTO users VALUES ('ada')")
            open_one.commit()
            found = self.read(home)

        assert not [name for name in found if name.endswith(("-wal", "-shm"))]
        (tmp_path / "copy").write_bytes(found["home/hub/jupyterhub.sqlite"])
        with closing(sqlite3.connect(tmp_path / "copy")) as copy:
            assert copy.execute("SELECT name FROM users").fetchall() == [("ada",)]

    def test_what_only_begins_like_a_database_is_a_file(self, home):
        content = b"SQLite format 3\0 and then none"
        (home / "users" / "ada" / "no.sqlite").write_bytes(content)

        assert self.read(home)["home/users/ada/no.sqlite"] == content

    def test_pipes_are_not_waited_for_and_links_do_not_lead_out(self, home):
        os.mkfifo(home / "users" / "ada" / "pipe")
        (home / "users" / "ada" / "stolen").symlink_to(home / "keys" / "root.key")
        (home / "users" / "ada" / "above").symlink_to("../../keys/root.key")

        assert b"keys/root.key" not in self.read(home).values()

    def test_a_folder_that_becomes_a_link_while_it_is_walked_leads_nowhere(self, home, monkeypatch):
        mine = home / "users" / "ada"
        (mine / "real").mkdir()
        (mine / "link").symlink_to("../../keys")
        real_open = os.open

        def exchanging(path, flags, *others, **options):
            if path == "real":
                (mine / "real").rename(mine / "away")
                (mine / "link").rename(mine / "real")
            return real_open(path, flags, *others, **options)

        monkeypatch.setattr(os, "open", exchanging)
        found = self.read(home)

        assert "home/users/ada/a.ipynb" in found
        assert not [name for name in found if "real/" in name]

    def test_the_root_key_is_left_out_whatever_its_name_is(self, home):
        os.link(home / "keys" / "root.key", home / "users" / "ada" / "another")

        assert b"keys/root.key" not in self.read(home).values()

    def test_only_what_sqlite_has_copied_stands_for_its_log(self, home):
        for name in ("notes", "notes-wal", "project/x", "project-journal/x"):
            (home / "users" / "ada" / name).parent.mkdir(exist_ok=True)
            (home / "users" / "ada" / name).write_text(name)

        found = {name.removeprefix("home/users/ada/") for name in self.read(home)}

        assert {"notes", "notes-wal", "project/x", "project-journal/x"} <= found

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root sees files of others")
    def test_a_database_of_another_user_keeps_its_log(self, home, tmp_path):
        path = home / "users" / "ada" / "mine.sqlite"
        with closing(sqlite3.connect(path)) as open_one:
            open_one.execute("PRAGMA journal_mode = WAL")
            open_one.execute("CREATE TABLE t (n)")
            open_one.commit()
            os.chown(path.parent, 20000, 20000)
            found = self.read(home)

        for name in ("mine.sqlite", "mine.sqlite-wal"):
            (tmp_path / name).write_bytes(found[f"home/users/ada/{name}"])
        with closing(sqlite3.connect(tmp_path / "mine.sqlite")) as copy:
            assert copy.execute("SELECT count(*) FROM t").fetchall() == [(0,)]

    def test_what_could_not_be_restored_is_left_out_and_told_and_the_rest_is_there(self, home, caplog):
        mine = home / "users" / "ada"
        with (mine / "holes").open("wb") as file:
            file.truncate(1 << 43)
        folder = os.open(mine, os.O_RDONLY)
        for _ in range(400):  # beyond what a path may have, and what can be called into each other
            os.mkdir("d" * 20, dir_fd=folder)
            above, folder = folder, os.open("d" * 20, os.O_RDONLY, dir_fd=folder)
            os.close(above)
        os.close(folder)

        found = self.read(home)

        assert found["home/users/ada/a.ipynb"] == b"users/ada/a.ipynb"
        assert "home/users/ada/holes" not in found
        assert max(map(len, found)) <= 2000
        assert "1 files or folders are not in the backup, such as" in caplog.text
        assert "its path is too long" in caplog.text
        assert "more than 1 GiB of holes" in caplog.text
        shutil.rmtree(mine)

    def test_backups_never_hold_themselves(self, home):
        with pytest.raises(BackupError, match="is inside of"):
            check_apart(home / "backups", (home,))
        check_apart(home.parent / "backups", (home,))


def test_a_restored_home_appears_when_all_its_files_are_on_the_disk(tmp_path, monkeypatch):
    place, home = tmp_path / "home.restoring", tmp_path / "home"
    (place / "hub" / "deep").mkdir(parents=True)
    for name in ("token", "hub/hub.sqlite", "hub/deep/empty"):
        (place / name).write_bytes(name.encode())
    (place / "hub" / "link").symlink_to("/dev/zero")
    os.mkfifo(place / "hub" / "pipe")
    synced: set[int] = set()
    seen: list[bool] = []

    def fsync(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        seen.append(home.exists())

    monkeypatch.setattr(os, "fsync", fsync)
    appear(place, home)

    kept = [home, *(each for each in home.rglob("*") if each.name not in {"link", "pipe"})]
    assert {each.stat().st_ino for each in (tmp_path, *kept)} == synced
    assert seen == [False] * len(kept) + [True]  # the name comes last
