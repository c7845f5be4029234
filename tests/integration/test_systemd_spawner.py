"""A server as a unit, up to the command line of systemd-run: systemd itself does not run where these tests do.

`systemd-run` and `systemctl` are stand-ins that note what they are asked; the OS user is real.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import systemdspawner.systemd
from jupyterhub.spawner import SpawnException
from traitlets.config import Config

from hub.spawning import os_users, systemd
from hub.spawning.clusters import set_systemd
from hub.spawning.systemd import UnitSpawner
from tests.services.hub_user import hub_user
from tests.services.workbench import wait_until
from workbench.settings import Settings

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("useradd"), reason="makes OS users: needs root")

RUN = """\
import json, os, pathlib, re, signal, socket, sys
here = pathlib.Path(__file__).parent
(here / "asked.json").write_text(json.dumps(sys.argv[1:]))
value = dict(each.lstrip("-").split("=", 1) for each in sys.argv if re.match("--[ug]id=", each))
file = next(each for each in sys.argv if "EnvironmentFile=" in each).rpartition("=")[2]
port = int(re.search(r"SERVICE_URL=.*:(\\d+)/", pathlib.Path(file).read_text())[1])
read, write = os.pipe()
if pid := os.fork():
    os.read(read, 1)
    (here / "pid").write_text(str(pid))
    sys.exit()
os.setsid()
if not (here / "somebody-else").exists():
    os.setgid(int(value["gid"])), os.setuid(int(value["uid"]))
server = socket.create_server(("127.0.0.1", port))
os.write(write, b"1")
signal.pause()
"""
CTL = """\
import os, pathlib, signal, sys
pid = pathlib.Path(__file__).parent / "pid"
if sys.argv[1] == "--version":
    print("systemd 252 (252)")
elif sys.argv[1] == "stop":
    os.kill(int(pid.read_text()), signal.SIGKILL)
    pid.unlink()
else:
    sys.exit(sys.argv[1] == "is-failed" or not pid.exists())
"""


class World:
    """A hub on a machine with systemd, as far as the spawner can tell."""

    def __init__(self, folder: Path, config: Config) -> None:
        self.folder, self.config = folder, config

    def start(self, role: str = "analyst", args: list[str] | None = None) -> list[str]:
        """Start the server of a user, stop it, and return what systemd-run was asked."""
        self.config.UnitSpawner.args = args or []
        with hub_user(self.config, "gh-octo", role, spawner_class=UnitSpawner) as user:
            spawner = user.spawners[""]
            asyncio.run(self._start_and_stop(spawner))
            return json.loads((self.folder / "asked.json").read_text())

    async def _start_and_stop(self, spawner: Any) -> None:
        spawner.run_pre_spawn_hook()
        assert await spawner.start() == ("127.0.0.1", spawner.port)
        assert await spawner.poll() is None
        await spawner.stop()
        assert await spawner.poll() == 1


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    for name, text in {"systemd-run": RUN, "systemctl": CTL}.items():
        (tmp_path / name).write_text(f"#!{sys.executable} -I\n{text}")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WORKBENCH_HUB_MEMORY_LIMITS", "analyst=1g")
    monkeypatch.setenv("WORKBENCH_HUB_CPU_LIMITS", "analyst=1.5")
    monkeypatch.setenv("WORKBENCH_HUB_PROCESS_LIMITS", "analyst=200")
    monkeypatch.setattr(systemdspawner.systemd, "RUN_ROOT", str(tmp_path))
    monkeypatch.setattr(systemd, "BOOTED", tmp_path)
    monkeypatch.setattr(systemd, "CLOSED", ())
    systemdspawner.systemd.get_systemd_version.cache_clear()
    c = Config()
    set_systemd(c, Settings.load())
    yield World(tmp_path, c)
    account = os_users.find("gh-octo", user_home(tmp_path))
    if account:
        # It is refused while a process of theirs that was killed is still there.
        userdel = ["userdel", account.pw_name]
        wait_until(lambda: subprocess.run(userdel, check=False).returncode == 0, 20, "the user to be removed")


def user_home(folder: Path) -> Path:
    return (folder / "home").resolve() / "users-demo" / "gh-octo"


def properties(asked: list[str]) -> dict[str, str]:
    return dict(each.removeprefix("--property=").split("=", 1) for each in asked if each.startswith("--property="))


def test_a_server_is_a_unit_of_its_own_os_user(world):
    asked = world.start()

    account = os_users.find("gh-octo", user_home(world.folder))
    assert {f"--uid={account.pw_uid}", f"--gid={account.pw_gid}", "--slice=workbench-users.slice"} <= set(asked)
    assert asked[asked.index("--unit") + 1] == "workbench-user-1"
    assert asked[asked.index("--working-directory") + 1] == account.pw_dir
    assert asked[-2:] == ["-m", "hub.spawning.singleuser"]


def test_every_property_of_the_wall_is_asked_for(world):
    asked = properties(world.start())

    assert systemd.PROPERTIES.items() <= asked.items()
    assert {"NoNewPrivileges": "yes", "PrivateTmp": "yes", "PrivateDevices": "yes"}.items() <= asked.items()
    assert asked["BindPaths"] == str(user_home(world.folder))


def test_limits_follow_the_role(world):
    limited, unlimited = properties(world.start("analyst")), properties(world.start("engineer"))

    assert limited["MemoryMax"] == str(2**30)
    assert (limited["CPUQuota"], limited["TasksMax"], limited["MemorySwapMax"]) == ("150%", "200", "0")
    assert not {"MemoryMax", "CPUQuota", "TasksMax", "MemorySwapMax"} & set(unlimited)


def test_no_secret_is_on_the_command_line(world):
    asked = world.start()

    file = Path(properties(asked)["EnvironmentFile"])
    assert file.stat().st_mode & 0o777 == 0o400
    text = file.read_text()
    token = next(line.partition("=")[2] for line in text.splitlines() if line.startswith("JUPYTERHUB_API_TOKEN="))
    assert token not in " ".join(asked)
    assert f"WORKBENCH_HOME={user_home(world.folder)}/.workbench" in text


def test_braces_of_an_argument_are_left_alone(world):
    argument = "--ServerApp.tornado_settings={'headers': {}}"

    assert world.start(args=[argument])[-1] == argument


def test_a_port_that_somebody_else_took_is_refused(world):
    (world.folder / "somebody-else").touch()

    with pytest.raises(SpawnException, match="took the port"):
        world.start()

    assert not (world.folder / "pid").exists()


def test_a_locked_user_gets_no_unit(world):
    name = os_users.ensure("gh-octo", user_home(world.folder)).pw_name
    os_users.lock(name)

    with pytest.raises(SpawnException, match="is locked"):
        world.start()

    assert not (world.folder / "asked.json").exists()


def test_a_viewer_gets_no_unit(world):
    with pytest.raises(SpawnException, match="viewers start no server"):
        world.start("viewer")
