"""A real hub with the real culler: idle servers are stopped, servers with work are not, whatever the work is."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import workbench
from tests.services.browser import send
from tests.services.idle_hub import IdleHub, IdleServer, running_idle_hub
from tests.services.workbench import ROOT, wait_until
from workbench.embedded.activity import runs_operation, thread_names
from workbench.runtime.activity import FOLDER_VARIABLE, marks_folder

IDLE_SECONDS = 16
STOP_SECONDS = 60  # to look, to report, to cull, to stop; on a busy machine
WORK_SECONDS = IDLE_SECONDS + 12  # the culler looks, and servers report, each few seconds
LISTS = ("api/sessions", "api/kernels", "api/terminals", "api/contents", "workbench/activity")
WAIT = "import pathlib, time\nwhile not pathlib.Path({flag!r}).exists():\n    time.sleep(0.1)\n"


@pytest.fixture(scope="module")
def hub(tmp_path_factory) -> Iterator[IdleHub]:
    with running_idle_hub(tmp_path_factory.mktemp("culling"), idle_seconds=IDLE_SECONDS, warning_seconds=0) as running:
        yield running


def an_idle_server_is_stopped_and_not_before_its_time(hub, folder):
    since = time.monotonic()
    server = hub.start_server("idle")

    wait_for_stop(server)

    assert time.monotonic() - since > IDLE_SECONDS / 2
    assert "Culling server idle" in hub.log


def a_cell_that_prints_nothing_keeps_its_server(hub, folder):
    home = hub.home / "users" / "cell"
    home.mkdir(parents=True)
    (home / ".env").write_text("WORKBENCH_HUB_IDLE_SECONDS=never\n")  # what the owner writes there changes nothing
    server = hub.start_server("cell")
    kernel = start_kernel(server)
    flag = folder / "end"
    with open_socket(server, f"api/kernels/{kernel}/channels") as socket:
        socket.send(execute_request(WAIT.format(flag=str(flag))))
        wait_kept(server, lambda: state_of(server, kernel) == "busy", "the cell to run")

    stays(server)

    flag.touch()
    ended = time.monotonic()
    wait_for_stop(server)
    assert time.monotonic() - ended > IDLE_SECONDS / 2, "the idle time begins when the cell ends"


def a_command_in_a_terminal_keeps_its_server(hub, folder):
    server = hub.start_server("terminal")
    name = server.call("POST", "api/terminals").json()["name"]
    flag, begun = folder / "end", folder / "begun"
    script = folder / "work.sh"
    script.write_text(f"touch {begun}\nwhile [ ! -e {flag} ]; do sleep 0.2; done\n")
    with open_socket(server, f"terminals/websocket/{name}") as socket:
        socket.send(json.dumps(["stdin", f"sh {script}\r"]))
        wait_kept(server, begun.exists, "the command to run")

    stays(server)

    flag.touch()
    wait_for_stop(server)


def a_mark_keeps_its_server_until_its_process_is_killed(hub, folder):
    server = hub.start_server("mark")
    runtime = server.process().environ()[FOLDER_VARIABLE]
    code = (
        f"from workbench.runtime.activity import mark_busy\nwith mark_busy('nightly run'):\n    {marked_work(folder)}"
    )
    run = subprocess.Popen([sys.executable, "-c", code], env={FOLDER_VARIABLE: runtime, "PYTHONPATH": str(ROOT)})
    try:
        marks = marks_folder(Path(runtime))
        wait_kept(server, lambda: list(marks.glob("nightly-run.*.json")), "the mark")
        stays(server)
    finally:
        run.kill()
        run.wait()

    assert list(marks.glob("*.json")), "the mark of the killed run is left behind"
    wait_for_stop(server)


def an_open_tab_that_asks_for_lists_does_not_keep_its_server(hub, folder):
    server = hub.start_server("tab")
    kernel = start_kernel(server)
    end = threading.Event()
    answers: list[int] = []

    def poll() -> None:
        while not end.wait(0.5):
            answers.extend(server.call("GET", path).status_code for path in LISTS)

    with open_socket(server, f"api/kernels/{kernel}/channels"):
        tab = threading.Thread(target=poll)
        tab.start()
        try:
            wait_for_stop(server)
        finally:
            end.set()
            tab.join()
    assert answers.count(200) > IDLE_SECONDS


LIVES = (
    an_idle_server_is_stopped_and_not_before_its_time,
    a_cell_that_prints_nothing_keeps_its_server,
    a_command_in_a_terminal_keeps_its_server,
    a_mark_keeps_its_server_until_its_process_is_killed,
    an_open_tab_that_asks_for_lists_does_not_keep_its_server,
)


@pytest.fixture(scope="module")
def lives(hub, tmp_path_factory) -> Iterator[dict[str, Future[None]]]:
    """What servers go through, all at once: each of them waits for longer than an idle server lives."""
    with ThreadPoolExecutor(len(LIVES)) as pool:
        yield {each.__name__: pool.submit(each, hub, tmp_path_factory.mktemp("life")) for each in LIVES}


@pytest.mark.parametrize("life", [each.__name__ for each in LIVES])
def test_of_a_server(lives, life):
    lives[life].result()


def test_whoever_asks_for_it_keeps_the_server(hub):
    server = hub.start_server("kept")
    before = server.call("GET", "workbench/activity").json()
    wait_until(
        lambda: server.call("GET", "workbench/activity").json()["stops_at"] == before["stops_at"], 5, "a second answer"
    )

    after = server.call("POST", "workbench/activity").json()

    assert after["stops_at"] > before["stops_at"]
    wait_until(lambda: activity_at_hub(hub, "kept") >= after["last_activity"][:19], STOP_SECONDS, "the hub to know")


def test_the_culler_sees_and_stops_servers_and_may_do_no_more(hub):
    culler = hub.child("hub.culling")
    token = culler.environ()["JUPYTERHUB_API_TOKEN"]
    hub.start_server("watched")

    assert token not in " ".join(culler.cmdline())
    listed = ask(hub, token, "GET", "users?state=ready").json()
    assert "watched" in [each["name"] for each in listed]
    assert all("last_activity" not in each and "groups" not in each for each in listed)
    refused = [
        *(("GET", "users/watched/tokens"), ("POST", "users/watched/tokens"), ("POST", "users/other/server")),
        *(("DELETE", "users/watched"), ("POST", "users/someone"), ("POST", "shutdown"), ("GET", "groups")),
    ]
    for method, path in refused:
        assert ask(hub, token, method, path).status_code in {403, 404}, (method, path)
    assert send("GET", f"{hub.url}/user/watched/api/status", headers=header(token)).status_code == 403


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_spark_operation_and_a_stream_show_while_they_run(shared_workbench, settings):
    pid = int(shared_workbench.component("spark")["pid"])

    def is_at_work() -> bool:
        return runs_operation(thread_names(pid))

    spark = workbench.spark()
    try:
        wait_until(lambda: not is_at_work(), STOP_SECONDS, "Spark to be idle")
        slow = threading.Thread(target=lambda: spark.range(1).mapInArrow(slowly, "id long").collect())
        slow.start()
        wait_until(is_at_work, STOP_SECONDS, "the operation to show")
        slow.join()
        wait_until(lambda: not is_at_work(), STOP_SECONDS, "the operation to be over")

        stream = spark.readStream.format("rate").load().writeStream.format("noop").start()
        wait_until(is_at_work, STOP_SECONDS, "the stream to show, though no cell runs")
        stream.stop()
        wait_until(lambda: not is_at_work(), STOP_SECONDS, "the stream to be over")
    finally:
        spark.stop()


def slowly(batches):
    time.sleep(3)
    yield from batches


def stays(server: IdleServer) -> None:
    """The server runs on, for longer than an idle one would."""
    deadline = time.monotonic() + WORK_SECONDS
    while time.monotonic() < deadline:
        assert server.is_running(), "it was stopped in the midst of work"
        time.sleep(1)


def wait_kept(server: IdleServer, condition: Callable[[], object], what: str) -> None:
    """Wait for work to begin, and keep the server meanwhile: on a busy machine that takes longer than an idle one has."""

    def begun() -> object:
        assert server.call("POST", "workbench/activity").is_success
        return condition()

    wait_until(begun, STOP_SECONDS, what, every_seconds=0.5)


def wait_for_stop(server: IdleServer) -> None:
    wait_until(lambda: not server.is_running(), IDLE_SECONDS + STOP_SECONDS, "the server to be stopped")


def start_kernel(server: IdleServer) -> str:
    return str(server.call("POST", "api/kernels", json={"name": "python3"}).json()["id"])


def state_of(server: IdleServer, kernel: str) -> str:
    return str(server.call("GET", f"api/kernels/{kernel}").json()["execution_state"])


def marked_work(folder: Path) -> str:
    return f"import pathlib, time\n    while not pathlib.Path({str(folder / 'end')!r}).exists(): time.sleep(0.1)"


@contextmanager
def open_socket(server: IdleServer, path: str) -> Iterator:
    socket = server.connect(path)
    try:
        yield socket
    finally:
        socket.close()


def execute_request(code: str) -> str:
    header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "username": "", "session": "t", "version": "5"}
    content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    return json.dumps({**message, "buffers": []})


def activity_at_hub(hub: IdleHub, user: str) -> str:
    return str(hub.api("GET", f"users/{user}").json()["servers"][""]["last_activity"])


def ask(hub: IdleHub, token: str, method: str, path: str) -> httpx.Response:
    return send(method, f"{hub.url}/hub/api/{path}", headers=header(token), timeout=30)


def header(token: str) -> dict[str, str]:
    return {"Authorization": f"token {token}"}
