"""Spawning without a hub: names, limits, admission, control groups, archives, and what root does in a user's home."""

from __future__ import annotations

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyterhub.spawner import SpawnException
from traitlets.config import Config

from hub.components import contribute
from hub.departure import archive_home, close_account, remove_unfinished_archives
from hub.spawning import admission, configuration, limits, os_users
from hub.spawning.configuration import set_spawner
from hub.spawning.environment import (
    FIRST_NOTEBOOK,
    RUNTIME_VARIABLE,
    prepare_home,
    remove_runtime,
    separate_environment,
)
from hub.spawning.listening import SEVERAL, listener, parse_listeners
from hub.spawning.local import OsUserSpawner
from hub.spawning.walls import PROGRAM, Wall
from tests.services.workbench import ROOT
from workbench.cli.doctor import _env_file
from workbench.errors import WorkbenchError
from workbench.runtime.ports import any_free
from workbench.sections import HubSettings
from workbench.settings import Settings

VERSION_1 = """\
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0
tmpfs /tmp tmpfs rw,relatime 0 0
"""


@given(st.from_regex(os_users.HUB_NAME, fullmatch=True), st.integers(0, 99))
def test_os_names_are_what_linux_allows(name, number):
    found = os_users.os_name(name, Path(f"/wb/{number}/{name}"))

    assert len(found) <= 32
    assert found.startswith("wb-")
    assert set(found) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_long_names_that_begin_alike_are_two_os_users():
    names = ["g-" + "a" * 29 + last for last in "12"]

    assert len({os_users.os_name(name, Path("/users") / name) for name in names}) == 2


def test_a_demo_account_is_another_os_user_than_a_real_one():
    assert os_users.os_name("gh-ada", Path("/w/users/gh-ada")) != os_users.os_name(
        "gh-ada", Path("/w/users-demo/gh-ada")
    )


@pytest.mark.parametrize("name", ["", "../x", "-rf", "Root", "a:b", "a" * 33, "a\n"])
def test_names_that_are_no_hub_names_are_refused(name):
    with pytest.raises(WorkbenchError, match="is no name for an OS user"):
        os_users.os_name(name, Path("/users/x"))


@pytest.mark.parametrize(("size", "expected"), [("1k", 1024), ("512m", 536870912), ("4G", 4294967296)])
def test_sizes_are_powers_of_1024(size, expected):
    assert limits.bytes_of(size) == expected


def test_each_role_has_its_own_limits(monkeypatch):
    monkeypatch.setenv("WORKBENCH_HUB_MEMORY_LIMITS", "analyst=2g,engineer=8g")
    monkeypatch.setenv("WORKBENCH_HUB_CPU_LIMITS", "analyst=1.5")
    monkeypatch.setenv("WORKBENCH_HUB_PROCESS_LIMITS", "analyst=512")
    hub = HubSettings()

    assert limits.read_limits(hub, "analyst") == limits.ServerLimits(memory_bytes=2**31, processors=1.5, processes=512)
    assert limits.read_limits(hub, "engineer").by_controller == {"memory": 2**33}
    assert limits.read_limits(hub, "viewer").by_controller == {}


def test_groups_of_version_1_are_made_below_our_own():
    found = limits.parse_hierarchies(VERSION_1, "4:memory:/no/such/group\n1:cpu,cpuacct:/\n0::/\n")

    assert found == {"memory": Path("/sys/fs/cgroup/memory"), "cpu": Path("/sys/fs/cgroup/cpu,cpuacct")}


def test_groups_of_version_2_are_made_below_our_own(tmp_path):
    ours = tmp_path / "system.slice" / "workbench.service"
    ours.mkdir(parents=True)
    (ours / "cgroup.controllers").write_text("cpu io memory pids\n")

    found = limits.parse_hierarchies(f"cgroup2 {tmp_path} cgroup2 rw 0 0\n", "0::/system.slice/workbench.service\n")

    assert found == dict.fromkeys(limits.CONTROLLERS, ours)


def test_no_two_servers_share_a_group_or_a_temporary_folder():
    assert limits.safe_name("gh-a", "b") != limits.safe_name("gh-a-b", "")
    assert limits.safe_name("gh-a", "x_y") != limits.safe_name("gh-a", "x.y") != limits.safe_name("gh-a", "x y")
    assert "/" not in limits.safe_name("../x", "..")


def test_a_name_that_is_safe_stays_as_it_is():
    assert limits.safe_name("gh-a", "") == "gh-a"
    assert limits.safe_name("gh-a", "b-2") == "gh-a.b-2"


NAMES = st.text("aA._", min_size=1, max_size=2) | st.text(min_size=1, max_size=200)


@given(NAMES, NAMES | st.just(""), NAMES, NAMES | st.just(""))
def test_names_of_groups_and_logs_are_file_names_and_no_two_pairs_have_the_same(user, server, other_user, other_server):
    name, other = limits.safe_name(user, server), limits.safe_name(other_user, other_server)

    assert re.fullmatch(r"[a-z0-9._-]+", name)
    assert len(name) <= limits.NAME_LENGTH
    assert name not in {".", ".."}
    assert (name == other) == ((user, server) == (other_user, other_server))


@pytest.mark.parametrize(
    ("refuse", "reason", "says"),
    [
        (lambda: admission.refuse_viewers("viewer"), "viewer", "Ask an administrator"),
        (lambda: admission.refuse_one_too_many(3, 3), "server_limit", "3 servers run"),
        (lambda: admission.refuse_without_memory(512 << 20, 100 << 20), "memory", "100 MB of memory left"),
    ],
)
def test_who_may_not_start_a_server_is_told_what_to_do(refuse, reason, says):
    with pytest.raises(SpawnException) as caught:
        refuse()

    assert caught.value.reason == reason
    assert says in caught.value.message


def test_others_are_admitted():
    admission.refuse_viewers("analyst")
    admission.refuse_one_too_many(0, 1000)
    admission.refuse_one_too_many(3, 2)
    admission.refuse_without_memory(512 << 20, 512 << 20)


def simple_spawner(folder: Path) -> SimpleNamespace:
    user = SimpleNamespace(id=1, name="ada")
    return SimpleNamespace(user=user, home_dir_template=str(folder / "users" / "{username}"), environment={})


def test_the_home_is_private_and_has_the_lessons(tmp_path):
    spawner = simple_spawner(tmp_path)

    prepare_home(spawner)

    home = tmp_path / "users" / "ada"
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert [each.name for each in sorted(home.iterdir())][:2] == [FIRST_NOTEBOOK, "10-ingest.ipynb"]
    assert {stat.S_IMODE(each.stat().st_mode) for each in home.iterdir()} == {0o600}
    remove_runtime(spawner)
    assert not Path(spawner.environment[RUNTIME_VARIABLE]).exists()


@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_in_place_of_the_first_notebook_is_not_followed(tmp_path, is_there):
    target = tmp_path / "precious"
    if is_there:
        target.write_text("as it was")
    home = tmp_path / "users" / "ada"
    home.mkdir(parents=True)
    (home / FIRST_NOTEBOOK).symlink_to(target)
    spawner = simple_spawner(tmp_path)

    prepare_home(spawner)
    remove_runtime(spawner)

    assert target.exists() is is_there
    assert not is_there or target.read_text() == "as it was"


def test_a_separate_user_is_told_where_the_servers_are_and_gets_a_copy_of_the_certificate(tmp_path, monkeypatch):
    home = tmp_path / "home"
    authority = home / "keys" / "kafka" / "authority.pem"
    authority.parent.mkdir(parents=True)
    authority.write_text("certificate")
    (home / "run").mkdir()
    lines = {
        "KAFKA_BROKERS": "localhost:9",
        "WORKBENCH_KAFKA_CA_FILE": authority,
        "WORKBENCH_SPARK_REMOTE": "sc://localhost:2",
    }
    (home / "run" / "embedded.env").write_text("".join(f"{name}='{value}'\n" for name, value in lines.items()))
    monkeypatch.setenv("WORKBENCH_HOME", str(home))

    environment = separate_environment(Settings.load(), home / "shared")

    copy = Path(environment["WORKBENCH_KAFKA_CA_FILE"])
    assert environment["KAFKA_BROKERS"] == "localhost:9"
    assert copy.is_relative_to(home / "shared")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o644
    assert "WORKBENCH_SPARK_REMOTE" not in environment  # the server of jobs; each user has one of their own


def test_the_file_of_duckdb_and_its_key_are_not_shared(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    monkeypatch.setenv("WORKBENCH_WAREHOUSE_DIALECT", "duckdb")

    environment = separate_environment(Settings.load(), tmp_path / "shared")

    assert environment["WORKBENCH_WAREHOUSE_DIALECT"] == "duckdb"
    assert not [value for value in environment.values() if "duckdb-key" in value or value.endswith(".duckdb")]


def test_a_process_of_an_earlier_hub_is_never_signalled():
    spawner = OsUserSpawner()

    spawner.load_state({"pid": 1})

    assert spawner.pid == 0


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "::"])
def test_the_listener_of_a_port_is_known(address):
    with socket.create_server((address, 0), family=family(address), dualstack_ipv6=address == "::") as server:
        assert listener(server.getsockname()[1]) == os.geteuid()
    assert listener(any_free()) is None


@pytest.mark.parametrize("address", ["127.0.0.2", "::1"])
def test_a_listener_that_a_connection_to_127_0_0_1_does_not_reach_is_none(address):
    # Not any port: one that is free here may be another program's on 127.0.0.1.
    with socket.create_server((address, any_free()), family=family(address)) as server:
        assert listener(server.getsockname()[1]) is None


def family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@pytest.mark.skipif(os.geteuid() != 0, reason="listens as another user, which root may")
def test_sockets_of_two_users_on_one_port_are_nobodys():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"""
import os, socket
os.setuid({os_users.LAST_UID + 1})  # the interpreter itself may be where others cannot read it
server = socket.create_server(("::", {port}), family=socket.AF_INET6)
print(flush=True)
input()
"""
        other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        with other:
            assert other.stdout
            assert other.stdout.readline() == b"\n"
            assert listener(port) == SEVERAL


TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 1 1 0
   1: 0200007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1002        0 2 1 0
   2: 00000000:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1003        0 3 1 0
   3: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000  1004        0 4 1 0
"""
TCP6 = """\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  2001        0 1 1 0
   1: 0000000000000000FFFF00000100007F:1F91 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  2002        0 2 1 0
   2: 00000000000000000000000001000000:1F91 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  2003        0 3 1 0
"""


@pytest.mark.skipif(sys.byteorder != "little", reason="the tables above are those of such a machine")
@pytest.mark.parametrize(
    ("table", "port", "uids"), [(TCP, 8080, [1001]), (TCP, 8081, [1003]), (TCP6, 8080, [2001]), (TCP6, 8081, [2002])]
)
def test_only_sockets_that_are_reached_count(table, port, uids):
    assert list(parse_listeners(table, port)) == uids


def test_the_command_line_of_a_wall_hides_the_workbench_and_shows_the_home(tmp_path):
    import json
    import pwd

    hidden = tmp_path / "home"
    account = pwd.struct_passwd(("wb-x", "x", 20001, 20001, "", str(hidden / "users" / "x"), ""))

    command = Wall(hidden, ()).command(account, hidden / "tmp" / "x", processes=7)
    plan = json.loads(next(each for each in command if each.startswith("{")))

    assert str(hidden) in plan["covers"]
    assert [each[1] for each in plan["binds"] if each[2]] == [account.pw_dir, "/tmp", "/var/tmp"]
    assert {"--no-new-privs", "--clear-groups", "--bounding-set=-all", "--reuid=20001"} <= set(plan["drop"])
    assert plan["processes"] == 7


def test_an_archive_keeps_links_as_links_and_what_others_own(tmp_path):
    home = tmp_path / "users" / "ada"
    (home / "work").mkdir(parents=True)
    (home / "work" / "a.txt").write_text("a")
    (home / "link").symlink_to("/etc/passwd")
    archive = tmp_path / "archives" / "ada.tar.gz"
    if os.geteuid() == 0:
        (home / "foreign").write_text("somebody else's")
        os.chown(home / "foreign", 65534, 65534)

    os_users.archive_home(home, archive)

    with tarfile.open(archive) as tar:
        assert tar.getmember("ada/link").issym()
        foreign = ["ada/foreign"] if os.geteuid() == 0 else []
        assert sorted(tar.getnames()) == sorted(["ada", "ada/link", "ada/work", "ada/work/a.txt", *foreign])
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    assert not home.exists()


def test_a_home_stays_when_its_archive_cannot_be_written(tmp_path):
    home = tmp_path / "ada"
    home.mkdir()
    archive = tmp_path / "ada.tar.gz"
    archive.write_text("an earlier one")

    with pytest.raises(WorkbenchError, match="is there already"):
        os_users.archive_home(home, archive)

    assert home.is_dir()
    assert archive.read_text() == "an earlier one"


def test_a_home_that_is_archived_and_cannot_be_removed_is_told_so(tmp_path, monkeypatch):
    home = tmp_path / "users" / "gh-ada"
    home.mkdir(parents=True)

    def refuse(path: Path) -> None:
        raise PermissionError(1, "Operation not permitted", str(path))

    monkeypatch.setattr(os_users.shutil, "rmtree", refuse)

    with pytest.raises(WorkbenchError, match=r"is archived to .*, but could not be removed") as told:
        archive_home(tmp_path, home)

    assert "rm --recursive" in told.value.remedy
    assert len(list((tmp_path / "archive").glob("gh-ada-*.tar.gz"))) == 1


KILLED = """
import os, sys, tarfile
from pathlib import Path
from hub.departure import archive_home

def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), 9)

tarfile.TarFile.add = die
archive_home(Path(sys.argv[1]), Path(sys.argv[1], "users", "gh-ada"))
"""


@pytest.fixture
def killed(tmp_path):
    """A WORKBENCH_HOME whose hub was killed in the midst of an archive."""
    (tmp_path / "users" / "gh-ada").mkdir(parents=True)
    (tmp_path / "users" / "gh-ada" / "work.txt").write_text("kept")
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL
    (part,) = (tmp_path / "archive").iterdir()
    assert part.match(".gh-ada-*.tar.gz.part")
    # Of an earlier day: the next archive has another name.
    part.rename(part.with_name(".gh-ada-20250101T000000Z.tar.gz.part"))
    return tmp_path


def test_what_a_killed_hub_left_of_an_archive_is_gone_after_the_next(killed):
    archive = archive_home(killed, killed / "users" / "gh-ada")

    assert list((killed / "archive").iterdir()) == [archive]
    with tarfile.open(archive) as tar:
        assert "gh-ada/work.txt" in tar.getnames()


def test_what_a_killed_hub_left_of_an_archive_is_gone_after_its_next_start(killed):
    whole = killed / "archive" / "gh-eve-20250101T000000Z.tar.gz"
    whole.write_text("an archive")

    remove_unfinished_archives(killed)

    assert list((killed / "archive").iterdir()) == [whole]
    assert (killed / "users" / "gh-ada" / "work.txt").read_text() == "kept"


@pytest.mark.parametrize("spawner", ["simple", "local", "systemd"])
def test_off_boarding_ends_servers_of_a_time_when_the_spawner_was_simple(tmp_path, monkeypatch, spawner):
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))
    monkeypatch.setenv("WORKBENCH_HUB_SPAWNER", spawner)
    settings = Settings.load()
    of = {"JUPYTERHUB_USER": "gh-ada", "WORKBENCH_HOME": str(tmp_path)}
    others = [{**of, "JUPYTERHUB_USER": "gh-grace"}, {**of, "WORKBENCH_HOME": str(tmp_path / "other")}]
    server, *rest = [
        subprocess.Popen(["sleep", "60"], env={"PATH": os.environ["PATH"], **marks}) for marks in (of, *others)
    ]
    try:
        steps = close_account(settings, "gh-ada")

        assert steps == ["1 processes ended"]
        assert server.wait(5) == -signal.SIGTERM
        assert [each.poll() for each in rest] == [None, None]
    finally:
        for each in (server, *rest):
            each.kill()
            each.wait()


@pytest.mark.parametrize("spawner", ["local", "systemd"])
def test_where_people_are_kept_apart_the_secrets_of_the_settings_are_not_for_all(tmp_path, monkeypatch, spawner):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WORKBENCH_HUB_SPAWNER", spawner)
    Path(".env").write_text("DW_PASSWORD=secret\n")
    settings = Settings.load()
    for mode in (0o644, 0o640, 0o602):
        Path(".env").chmod(mode)
        with pytest.raises(WorkbenchError, match=f"has the mode {mode:04o}") as refused:
            set_spawner(Config(), settings)
        assert refused.value.remedy == f"chmod 600 {tmp_path / '.env'}"
        # The hub's process has another working folder: what `workbench up` itself does counts.
        with pytest.raises(WorkbenchError, match=f"has the mode {mode:04o}"):
            contribute(settings)
    monkeypatch.setattr(configuration, "_setter", lambda settings: lambda c, settings: None)
    Path(".env").chmod(0o600)

    set_spawner(Config(), settings)
    assert contribute(settings).components


def test_the_doctor_looks_at_the_file_of_the_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(".env").touch(mode=0o644)

    with pytest.raises(WorkbenchError, match="others can read") as found:
        _env_file(Path(".env"))

    assert found.value.remedy == f"chmod 600 {tmp_path / '.env'}"
    Path(".env").chmod(0o600)
    assert "is private" in _env_file(Path(".env"))


def test_what_is_to_be_made_readable_does_not_hold_the_settings():
    assert all((ROOT / name).is_dir() for name in PROGRAM)
    assert {"hub", "workbench"} <= set(PROGRAM)
