"""A user who takes more than their role may have is stopped; the others notice nothing. OS users are locked and ended."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hub.spawning import limits, os_users
from tests.services.process_tree import processes_of
from tests.services.walled_hub import remove_os_user, running_hub
from workbench.errors import WorkbenchError

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="makes OS users, which root may"),
    pytest.mark.timeout(240),
]
LIMITS = {
    "WORKBENCH_HUB_SPAWNER": "local",
    "WORKBENCH_HUB_MEMORY_LIMITS": "analyst=600m",
    "WORKBENCH_HUB_PROCESS_LIMITS": "analyst=120",
    "WORKBENCH_HUB_CPU_LIMITS": "analyst=1",
    "WORKBENCH_HUB_SERVER_LIMIT": "2",
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    roles = {"analyst": ["limit-a", "limit-b", "limit-c"], "viewer": ["limit-v"]}
    with running_hub(tmp_path_factory.mktemp("limits"), roles, **LIMITS) as hub:
        hub.start_server("limit-a", "limit-b")
        yield hub


@pytest.mark.skipif("memory" not in limits.find_hierarchies(), reason="no control groups for memory here")
def test_who_takes_too_much_memory_loses_the_kernel_and_nobody_else_does(hub):
    with hub.kernel("limit-b") as other:
        other.run("kept = 42")
        with hub.kernel("limit-a") as greedy, pytest.raises(ConnectionError, match="the kernel died"):
            greedy.run("block = bytearray(2_000_000_000)")

        assert other.run("print(kept)") == "42\n"
    assert hub.server("limit-b")["ready"]


def test_a_flood_of_processes_ends_at_the_limit(hub):
    flood = (
        "import subprocess\nstarted = []\ntry:\n    for _ in range(200):\n"
        "        started.append(subprocess.Popen(['sleep', '100']))\nexcept OSError as error:\n    print('refused', error.errno)\n"
        "print(len(started))\nfor each in started:\n    each.kill()\n    each.wait()"
    )
    with hub.kernel("limit-a") as kernel:
        refused, started = kernel.run(flood).splitlines()

    assert refused == "refused 11"
    assert 10 < int(started) < 120


def test_a_server_knows_its_limits(hub):
    with hub.kernel("limit-b") as kernel:
        printed = kernel.run("import os\nprint(os.environ['MEM_LIMIT'], os.environ['CPU_LIMIT'])")

    assert printed == f"{600 << 20} 1.0\n"


@pytest.mark.parametrize(
    ("name", "status", "says"),
    [("limit-v", 403, "viewers start no server"), ("limit-c", 429, "2 servers run, and 2 may")],
)
def test_who_may_start_no_server_is_told_why(hub, name, status, says):
    answer = hub.api(f"/users/{name}/server", "POST")

    assert answer.status_code == status
    assert says in answer.json()["message"]


def test_nothing_is_left_when_a_server_has_stopped(hub):
    name, uid = hub.account("limit-b").pw_name, hub.account("limit-b").pw_uid
    groups = [folder / f"workbench-{name}" for folder in limits.find_hierarchies().values()]
    assert all(group.is_dir() for group in groups)

    hub.stop_server("limit-b")

    assert not [group for group in groups if group.exists()]
    assert list((hub.home / "servers" / "tmp").glob("limit-b*")) == []
    assert not processes_of(uid)


@pytest.fixture
def account(tmp_path):
    home = tmp_path / "users" / "limit-d"
    yield os_users.ensure("limit-d", home)
    remove_os_user("limit-d", home)


def test_an_os_user_is_made_once_and_is_nobody_elses(account):
    home = Path(account.pw_dir)

    assert os_users.ensure("limit-d", home) == account
    assert (home.stat().st_uid, home.stat().st_mode & 0o777) == (account.pw_uid, 0o700)
    assert account.pw_shell.endswith(("nologin", "false"))

    subprocess.run(["usermod", "--comment", "Somebody Else", account.pw_name], check=True)
    with pytest.raises(WorkbenchError, match="did not make"):
        os_users.ensure("limit-d", home)
    subprocess.run(["usermod", "--comment", account.pw_gecos, account.pw_name], check=True)


def test_a_home_that_belongs_to_somebody_else_is_not_given_away(account):
    home = Path(account.pw_dir)
    os.chown(home, 0, 0)

    with pytest.raises(WorkbenchError, match="belongs to uid 0"):
        os_users.ensure("limit-d", home)

    assert home.stat().st_uid == 0


def test_locking_can_be_repeated_and_taken_back(account):
    assert not os_users.is_locked(account.pw_name)
    for change, locked in (
        (os_users.lock, True),
        (os_users.lock, True),
        (os_users.unlock, False),
        (os_users.unlock, False),
    ):
        change(account.pw_name)
        assert os_users.is_locked(account.pw_name) is locked


def test_processes_that_do_not_end_are_killed(account):
    ids = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    stubborn = subprocess.Popen(
        ["sh", "-c", "trap '' TERM; echo ready; sleep 100; sleep 100"], stdout=subprocess.PIPE, **ids
    )
    assert stubborn.stdout is not None
    assert stubborn.stdout.readline() == b"ready\n"

    assert os_users.end_processes(account.pw_name, seconds=0.5) >= 2

    assert stubborn.wait(5) == -9
    stubborn.stdout.close()
    assert os_users.end_processes(account.pw_name) == 0
