"""Two OS users on one machine: what the code of one tries against the other, the hub and the machine is refused.

The attacks run in a kernel of `two-a`, with everything that two-a has; two-b is the victim,
with a notebook, a kernel and a Spark server. What the attacker is told (process ids, ports,
paths) is more than they could find out.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from hub.spawning.listening import listener
from tests.services.process_tree import arguments, processes_of
from tests.services.walled_hub import Kernel, WalledHub, running_hub
from tests.services.workbench import process_arguments, wait_until
from workbench.runtime.ports import any_free

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="makes OS users, which root may"),
    pytest.mark.timeout(300),
]
SPARK = {"WORKBENCH_SPARK_REMOTE": "", "SPARK_DRIVER_MEMORY": "512m"}
SECRET = "only-b-knows-this"  # in the victim's files, variables and memory

# Each ends with a value, which is what the attacker got, or with an error.
FILES = {
    "list the home": "os.listdir(B['home'])",
    "read the notebook": "open(B['notebook']).read()",
    "write into the home": "open(B['home'] + '/planted.py', 'w').write('x')",
    "rename the home": "os.rename(B['home'], B['home'] + '-old')",
    "plant a start-up file": "os.makedirs(B['home'] + '/.ipython/profile_default/startup/x')",
    "chmod the home": "os.chmod(B['home'], 0o777)",
    "list all homes": "seen(name for name in os.listdir(os.path.dirname(B['home'])) if name != 'two-a')",
    "read the runtime folder": "os.listdir(B['runtime'])",
    "read a kernel's connection file": "open(B['connection_file']).read()",
    "connect to a kernel's socket": "[os.chdir(B['runtime']), socket.socket(socket.AF_UNIX).connect(B['socket'])]",
    "read the Spark endpoint": "open(B['endpoint']).read()",
    "find B's file in /tmp": "open('/tmp/b-secret').read()",
    "find B's file in /var/tmp": "open('/var/tmp/b-secret').read()",
    "find B's shared memory": "open('/dev/shm/b-secret').read()",
    "attach B's shared memory": "open_shared_memory('b-secret')",
    "hard link to the notebook": "os.link(B['notebook'], os.path.expanduser('~/linked'))",
    "read through a symlink": "[os.symlink(B['notebook'], '/tmp/link'), open('/tmp/link').read()]",
    "read the hub's database": "open(B['workbench'] + '/hub/jupyterhub.sqlite', 'rb').read(9)",
    "read the cookie secret": "open(B['workbench'] + '/keys/hub-cookie').read()",
    "list the keys": "os.listdir(B['workbench'] + '/keys')",
    "list run": "os.listdir(B['workbench'] + '/run')",
    "list the logs of servers": "os.listdir(B['workbench'] + '/servers/logs')",
    "write the certificates that everybody trusts": "open(B['workbench'] + '/shared/x.pem', 'w')",
    "write the packages that everybody runs": "open(workbench.__file__, 'a')",
    "read root's home": "open('/root/.bashrc').read()",
    "read the password hashes": "open('/etc/shadow').read()",
    "truncate the log of the own server": "[os.ftruncate(open('/proc/%d/fd/1' % os.getppid(), 'r+').fileno(), 0)]",
}
PROCESSES = {
    **{
        f"read /proc/B/{name}": f"[open(f'/proc/{{pid}}/{name}', 'rb').read(64) for pid in B['pids']]"
        for name in ("environ", "cmdline", "maps", "mem", "stack", "status")
    },
    **{
        f"follow /proc/B/{name}": f"[os.listdir(f'/proc/{{pid}}/{name}') for pid in B['pids']]"
        for name in ("cwd", "root", "fd", "task")
    },
    "see any foreign process": "seen(pid for pid in os.listdir('/proc') if pid.isdigit() and os.stat('/proc/' + pid).st_uid != os.getuid())",
    "kill B's processes": "[os.kill(pid, 0) for pid in B['pids']]",
    "trace B's processes": "[trace(pid) for pid in B['pids']]",
    "read B's memory": "[read_memory(pid) for pid in B['pids']]",
    "read the hub's variables": "open('/proc/%d/environ' % B['hub_pid']).read()",
    "kill the hub": "os.kill(B['hub_pid'], 0)",
    "kill process 1": "os.kill(1, 9)",
    "leave by the root of process 1": "os.listdir('/proc/1/root')",
    "enter the first namespace": "call('setns', os.open('/proc/1/ns/mnt', os.O_RDONLY), 0)",
    "make a setuid shell of root": "os.chown(copy_of_shell(), 0, 0)",
    "become root": "os.setuid(0)",
    "become B": "os.setuid(B['uid'])",
    "su": "shell('su ' + B['os_name'] + ' -c id')",
    "passwd": "shell('passwd --delete')",
    "mount": "call('mount', b'tmpfs', b'/mnt', b'tmpfs', 0, None)",
    "uncover what is covered": "call('umount2', B['workbench'].encode(), 2)",
    "uncover it in a user namespace": "shell('unshare --user --map-root-user --mount umount ' + B['workbench'])",
    "change the limits' groups": "open(glob.glob('/sys/fs/cgroup/**/cgroup.procs', recursive=True)[0], 'w').write('0')",
    "raise the core limit": "resource.setrlimit(resource.RLIMIT_CORE, (1, 1))",
}
ROUTES = {
    "B's server without a token": "http(B['server'] + '/api/contents')",
    "B's server with A's token": "http(B['server'] + '/api/contents', A)",
    "B's server with the token of A's server": "http(B['server'] + '/api/contents', os.environ['JUPYTERHUB_API_TOKEN'])",
    "B's server with A's cookie": "http(B['server'] + '/api/contents', cookie='jupyterhub-user-two-b=' + A)",
    "B's kernels through the proxy": "http(B['proxy'] + '/user/two-b/api/kernels', A)",
    "B's terminals through the proxy": "http(B['proxy'] + '/user/two-b/api/terminals', A, 'POST')",
    "B's notebook through the proxy": "http(B['proxy'] + '/user/two-b/files/b.ipynb', A)",
    "B at the hub": "http(B['hub'] + '/users/two-b', A)",
    "a token for B": "http(B['hub'] + '/users/two-b/tokens', A, 'POST')",
    "stop B's server": "http(B['hub'] + '/users/two-b/server', A, 'DELETE')",
    "report activity of B": "http(B['hub'] + '/users/two-b/activity', A, 'POST')",
    "all users": "seen(each for each in json.loads(http(B['hub'] + '/users', A)) if each['name'] != 'two-a')",
    "shut the hub down": "http(B['hub'] + '/shutdown', A, 'POST')",
    "routes of the hub's proxy": "http(B['hub'] + '/proxy', A)",
    "traefik's API": "http(B['traefik'] + '/api/http/routers')",
    "B's Spark without a token": "spark_version(B['spark'], '')",
    "B's Spark with A's token": "spark_version(B['spark'], json.load(open(os.environ['WORKBENCH_SPARK_ENDPOINT_FILE']))['token'])",
}

TOOLS = '''
import ctypes, glob, json, os, resource, shutil, socket, subprocess, urllib.request, workbench
from multiprocessing import shared_memory as memory

def call(name, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
    return name

def trace(pid):
    return call("ptrace", 16, pid, None, None)

def read_memory(pid):
    class Vector(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
    kept = ctypes.create_string_buffer(8)
    here, there = Vector(ctypes.addressof(kept), 8), Vector(0x400000, 8)
    return call("process_vm_readv", pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)

def shell(command):
    done = subprocess.run(command, shell=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise (RuntimeError if done.returncode == 127 else PermissionError)(1, done.stderr)
    return done.stdout

def copy_of_shell():
    return shutil.copy("/bin/sh", "/tmp/sh")

def http(url, token="", method="GET", cookie=""):
    headers = {"Authorization": "token " + token} if token else {"Cookie": cookie}
    request = urllib.request.Request(url, headers=headers, method=method, data=b"{}" if method == "POST" else None)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), Stay)
    with opener.open(request, timeout=20) as answer:
        return answer.read().decode()

class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments):
        return None  # to the login: refused

def spark_version(remote, token):
    from pydantic import SecretStr
    from workbench.sections import SparkSettings
    from workbench.transformation.session import connect
    return connect(SparkSettings.model_construct(remote=remote, token=SecretStr(token), endpoint_file=None)).version

def open_shared_memory(name):
    block = memory.SharedMemory(name)
    try:
        return block.size
    finally:
        block.close()

def seen(found):
    found = list(found)
    if not found:
        raise FileNotFoundError(2, "nothing foreign is seen")
    return found

def attempt(code):
    """What was got, or how it was refused."""
    try:
        return {"got": repr(eval(code))[:200]}
    except urllib.error.HTTPError as error:
        return {"status": error.code}
    except OSError as error:
        return {"errno": error.errno, "error": repr(error)[:200]}
    except Exception as error:
        return {"error": repr(error)[:200]}
'''


REFUSALS = {errno.EPERM, errno.EACCES, errno.ENOENT, errno.ESRCH, errno.EROFS}
REFUSED_WITH = ("SparkError('Spark at sc://localhost", "ValueError('not allowed to raise maximum limit')")

MAKE_A_VICTIM = f"""
import os
from multiprocessing import shared_memory
os.environ["SECRET"] = kept = {SECRET!r}
for path in ("b.ipynb", "/tmp/b-secret", "/var/tmp/b-secret"):
    open(os.path.expanduser("~/" + path) if path[0] != "/" else path, "w").write(kept)
os.chmod("/tmp/b-secret", 0o666)
block = shared_memory.SharedMemory("b-secret", create=True, size=64)
print(block.name)
"""


@dataclass(frozen=True)
class TwoUsers:
    """A hub with both users' servers, a kernel of each, and the victim as the attacker is told of them."""

    hub: WalledHub
    attacker: Kernel
    victim: Kernel
    told: dict[str, Any]

    def attempt(self, code: str, *, by: Kernel | None = None) -> dict[str, Any]:
        printed = (by or self.attacker).run(f"print(json.dumps(attempt({code!r})))", 90)
        return dict(json.loads(printed.splitlines()[-1]))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoUsers]:
    # In module scope the environment is not clean yet: a workbench of the developer's is not asked.
    folder = tmp_path_factory.mktemp("two-users")
    with running_hub(folder, {"analyst": ["two-a", "two-b"]}, WORKBENCH_HUB_SPAWNER="local", **SPARK) as hub:
        hub.start_server("two-b", "two-a")
        with hub.kernel("two-b") as victim, hub.kernel("two-a") as attacker:
            victim.run(MAKE_A_VICTIM)
            endpoint = hub.user_home("two-b") / ".workbench-spark" / "default" / "endpoint.json"
            for each in ("two-a", "two-b"):
                file = hub.user_home(each) / endpoint.relative_to(hub.user_home("two-b"))
                wait_until(file.exists, 200, f"the Spark server of {each}")
            told = tell_about(hub, "two-b", endpoint)
            for kernel, name in ((attacker, "two-a"), (victim, "two-b")):
                kernel.run(f"{TOOLS}\nA, B = {hub.token_of(name)!r}, {told!r}")
            yield TwoUsers(hub, attacker, victim, told)


def tell_about(hub: WalledHub, name: str, endpoint: Path) -> dict[str, Any]:
    account = hub.account(name)
    runtime = hub.home / "servers" / "tmp" / name / "jupyter"
    running = processes_of(account.pw_uid)
    server = next(process for process in running if "hub.spawning.singleuser" in " ".join(arguments(process)))
    port = next(each.laddr.port for each in server.net_connections() if each.status == psutil.CONN_LISTEN)
    return {
        "uid": account.pw_uid,
        "os_name": account.pw_name,
        "home": account.pw_dir,
        "notebook": f"{account.pw_dir}/b.ipynb",
        "runtime": str(runtime),
        "connection_file": str(next(runtime.glob("kernel-*.json"))),
        "socket": next(runtime.glob("kernel-*-ipc-1")).name,  # a whole path would be too long
        "endpoint": str(endpoint),
        "spark": json.loads(endpoint.read_text())["remote"],
        "workbench": str(hub.home),
        "pids": [process.pid for process in running],
        "hub_pid": hub.process.pid,
        "server": f"http://127.0.0.1:{port}/user/{name}",
        "proxy": hub.url,
        "hub": f"http://127.0.0.1:{hub.ports.hub_api}/hub/api",
        "traefik": f"http://127.0.0.1:{hub.ports.proxy_api}",
    }


def is_refused(outcome: dict[str, Any]) -> bool:
    """Whether it failed because it is not allowed or not there; a mistake of the attack itself is no refusal."""
    if "got" in outcome:
        return False
    if "status" in outcome:
        return outcome["status"] in {302, 401, 403, 404}
    return outcome.get("errno") in REFUSALS or outcome["error"].startswith(REFUSED_WITH)


@pytest.mark.parametrize("attack", [*FILES, *PROCESSES, *ROUTES])
def test_what_one_user_tries_against_another_is_refused(both, attack):
    outcome = both.attempt({**FILES, **PROCESSES, **ROUTES}[attack])

    assert is_refused(outcome), outcome
    assert SECRET not in str(outcome)


@pytest.mark.parametrize(
    "deed",
    [
        "list the home",
        "read the notebook",
        "find B's file in /tmp",
        "find B's shared memory",
        "attach B's shared memory",
        "hard link to the notebook",
        "read the Spark endpoint",
        "B's server with A's token",
        "B's kernels through the proxy",
        "B's notebook through the proxy",
        "B's Spark with A's token",
        "B at the hub",
    ],
)
def test_the_owner_may_do_what_is_refused_to_others(both, deed):
    """Else the attacks above would be refused for another reason than that they come from somebody else."""
    outcome = both.attempt({**FILES, **PROCESSES, **ROUTES}[deed], by=both.victim)

    assert "got" in outcome, outcome


def test_a_server_has_no_privileges_and_can_get_none(both):
    status = both.attacker.run("print(open('/proc/self/status').read())")
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)

    assert fields["NoNewPrivs"] == "1"
    assert {fields[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert set(fields["Uid"].split()) == {str(both.hub.account("two-a").pw_uid)}
    assert fields["Groups"].strip() in {"", str(both.hub.account("two-a").pw_gid)}
    assert fields["Umask"] == "0077"


def test_no_token_is_in_a_command_line(both):
    tokens = {*both.hub.tokens.values(), both.hub.token, json.loads(Path(both.told["endpoint"]).read_text())["token"]}
    lines = process_arguments(psutil.Process(both.hub.process.pid).children(recursive=True)).values()

    assert len(lines) > 6
    assert not [line for line in lines for token in tokens if token in line]


def test_spark_runs_functions_as_the_user(both):
    uid = both.victim.run(
        "from pyspark.sql.functions import udf\n"
        "print(spark.range(1).select(udf(lambda _: str(__import__('os').getuid()))('id')).first()[0], spark.range(10).count())"
    )

    assert uid.split()[-2:] == [str(both.hub.account("two-b").pw_uid), "10"]


def test_the_port_of_a_server_is_known_by_its_owner(both):
    port = int(both.told["server"].split(":")[2].split("/")[0])

    assert listener(port) == both.hub.account("two-b").pw_uid
    assert listener(any_free()) is None


@pytest.fixture(scope="module")
def plain_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WalledHub]:
    """Without Spark; the last test here kills it."""
    folder = tmp_path_factory.mktemp("plain")
    with running_hub(folder, {"analyst": ["two-c", "two-d"]}, WORKBENCH_HUB_SPAWNER="local") as hub:
        yield hub


def test_links_that_a_user_plants_are_not_followed_when_their_server_starts(plain_hub, tmp_path):
    hub, precious = plain_hub, tmp_path / "precious"
    precious.write_text("as it was")

    def facts() -> tuple[object, ...]:
        status, keys = precious.stat(), sorted((hub.home / "keys").iterdir())
        return precious.read_text(), status.st_mode, status.st_uid, status.st_mtime_ns, keys

    hub.start_server("two-c")
    with hub.kernel("two-c") as kernel:
        kernel.run(
            "import os, shutil\nos.chdir(os.path.expanduser('~'))\nos.unlink('00-start-here.ipynb')\n"
            f"os.symlink({str(precious)!r}, '00-start-here.ipynb')\n"
            f"shutil.rmtree('.workbench')\nos.symlink({str(hub.home / 'keys')!r}, '.workbench')\n"
            f"shutil.rmtree('.local')\nos.symlink('/etc', '.local')"
        )
    hub.stop_server("two-c")
    before = facts()
    hub.start_server("two-c")

    assert facts() == before
    assert (hub.user_home("two-c") / "00-start-here.ipynb").is_symlink()


def test_everything_of_a_user_ends_with_the_hub(plain_hub):
    hub = plain_hub
    hub.start_server("two-d")
    uid = hub.account("two-d").pw_uid
    with hub.kernel("two-d") as kernel:
        kernel.run("import subprocess\nsubprocess.Popen(['sleep', '1000'], start_new_session=True)")
    others = psutil.Process(hub.process.pid).children()

    hub.process.kill()

    wait_until(lambda: not processes_of(uid), 10, "the processes of two-d to end")
    for traefik in (each for each in others if each.is_running()):
        traefik.kill()
