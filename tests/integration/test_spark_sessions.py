"""A user's own Spark server, as JupyterLab starts it: progress, interrupt, its end in the midst of things, its UI."""

from __future__ import annotations

import _thread
import json
import os
import signal
import stat
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

import workbench
from tests.services.workbench import wait_until
from workbench.embedded.lab import UserSpark
from workbench.embedded.spark_ui import SparkUI, new_key
from workbench.embedded.spark_ui_proxy import sign
from workbench.errors import SparkRestarted
from workbench.runtime.ports import any_free
from workbench.sections import SparkSettings
from workbench.settings import Settings
from workbench.transformation.progress import RECORDER, Operation, Outcome
from workbench.transformation.session import connect

pytestmark = [
    pytest.mark.filterwarnings(
        # `connect` says the last one too, but pytest begins each test with filters of its own.
        *("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:.RETRIES_EXCEEDED"),
    ),
    pytest.mark.timeout(400),
]
READY_SECONDS = 180
BOUND_SECONDS = 60.0  # until whoever waits is told that the server has ended: 15 s, and its own work before
INTERRUPTED_SECONDS = 10.0  # what a person would call broken; benchmarks/spark.py measures it


@dataclass
class OwnSpark:
    """A server with what a test does to it."""

    server: UserSpark
    folder: Path
    ui: SparkUI
    told: list[str] = field(default_factory=list)
    made_ready: list[str] = field(default_factory=list)  #: ids of the sessions

    @property
    def endpoint(self) -> Path:
        return self.folder / "endpoint.json"

    @property
    def settings(self) -> SparkSettings:
        return SparkSettings().model_copy(update={"endpoint_file": self.endpoint})

    def pid(self) -> int:
        status = json.loads((self.folder / "run" / "state.json").read_text())
        return int(status["components"][0]["pid"])

    def kill(self) -> None:
        os.kill(self.pid(), signal.SIGKILL)

    def kill_in(self, operation: str) -> threading.Thread:
        """Kill it as soon as a task of the operation whose code holds *operation* runs."""

        def wait_and_kill() -> None:
            wait_until(lambda: any(each.tasks_running for each in running(operation)), 60, "tasks to run")
            self.kill()

        thread = threading.Thread(target=wait_and_kill)
        thread.start()
        return thread


def running(what: str) -> list[Operation]:
    return [each for each in RECORDER.operations() if each.is_running and what in each.what]


@pytest.fixture(scope="module")
def own(workbench_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnSpark]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKBENCH_HOME", str(workbench_home))
        settings = Settings.load(embedded=False)
    folder = tmp_path_factory.mktemp("spark")
    ui = SparkUI(port=any_free(), key=new_key())
    server = UserSpark(settings, folder, ui)
    server.start()
    try:
        spark = OwnSpark(server, folder, ui)
        wait_until(spark.endpoint.exists, READY_SECONDS, "Spark to be ready")
        yield spark
    finally:
        server.stop()


@pytest.fixture(scope="module")
def session(own: OwnSpark) -> Iterator[Any]:
    found = connect(
        own.settings, tell=own.told.append, ready=lambda each: own.made_ready.append(each.client._session_id)
    )
    yield found
    found.stop()


@pytest.fixture
def spark(own: OwnSpark, session: Any) -> Any:
    own.told.clear()
    return session


def slow(spark: Any, rows: int = 400_000_000) -> Any:
    hashed = spark.range(0, rows, 1, 40).selectExpr("id % 1000 AS key", "sha2(cast(id AS string), 256) AS hash")
    return hashed.groupBy("key").count()


def last() -> Operation:
    return RECORDER.operations()[-1]


def test_a_query_of_several_stages_is_recorded_as_it_goes(spark):
    seen: list[Operation] = []
    query = threading.Thread(target=lambda: slow(spark, 60_000_000).orderBy("key").collect())
    query.start()
    while query.is_alive():
        seen += [each for each in RECORDER.operations() if each.is_running]
        query.join(0.05)

    assert len({each.tasks_done for each in seen}) > 2
    assert any(each.tasks_running for each in seen)
    assert (last().outcome, last().rows) == (Outcome.DONE, 1000)
    assert len(last().stages) >= 2
    assert last().tasks_done == last().tasks >= 41


def test_an_interrupt_stops_the_operation_on_the_server_and_the_next_works(spark, own):
    def interrupt() -> None:
        wait_until(lambda: any(each.tasks_running for each in running("slow(spark)")), 60, "tasks to run")
        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        slow(spark).collect()
    thread.join()
    wait_until(lambda: active_tasks(own) == 0, INTERRUPTED_SECONDS, "Spark to stop its tasks")

    assert last().outcome is Outcome.CANCELLED
    assert spark.range(5).count() == 5


def test_an_interrupt_does_not_wait_for_a_server_that_hangs_and_the_session_goes_on(spark, own):
    server = psutil.Process(own.pid())

    def interrupt() -> None:
        wait_until(lambda: any(each.tasks_running for each in running("slow(spark)")), 60, "tasks to run")
        server.suspend()
        _thread.interrupt_main()

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            slow(spark).collect()
    finally:
        thread.join()
        server.resume()

    assert last().outcome is Outcome.CANCELLED
    wait_until(lambda: active_tasks(own) == 0, INTERRUPTED_SECONDS, "Spark to stop its tasks")
    assert spark.range(5).count() == 5


def test_what_cancels_an_operation_can_be_called_from_another_thread(spark):
    cancels: list[Callable[[], object]] = []
    RECORDER.listen(listener := lambda operation, cancel: operation.is_running and cancels.append(cancel))

    def cancel() -> None:
        wait_until(lambda: any(each.tasks_running for each in running("slow(spark)")), 60, "tasks to run")
        cancels[-1]()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(Exception, match="OPERATION_CANCELED") as caught:
        slow(spark).collect()
    thread.join()
    RECORDER.forget(listener)

    assert last().outcome is Outcome.CANCELLED
    assert "Spark has stopped the operation" in caught.value.__notes__[0]


def test_a_handler_that_fails_breaks_no_query(spark):
    def fails(*_: object, **__: object) -> None:
        if __.get("done") is not True:
            raise RuntimeError("of a handler")

    spark.registerProgressHandler(fails)
    RECORDER.listen(fails)
    try:
        assert slow(spark, 20_000_000).count() == 1000
    finally:
        RECORDER.forget(fails)
        spark.removeProgressHandler(fails)


def test_a_function_that_raises_shows_the_line_of_its_author(spark):
    from pyspark.sql import functions as F

    @F.udf("double")
    def inverse(n):
        return 1 / n

    with pytest.raises(Exception, match="ZeroDivisionError") as caught:
        spark.range(2).select(inverse("id")).collect()

    assert "Your function raised ZeroDivisionError" in caught.value.__notes__[0]
    assert "return 1 / n" in caught.value.__notes__[0]


def ask(own: OwnSpark, path: str, token: str = "") -> tuple[int, Any]:
    request = urllib.request.Request(f"http://127.0.0.1:{own.ui.port}{path}")
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code, b""


def active_tasks(own: OwnSpark) -> int:
    _, body = ask(own, "/api/v1/applications", sign(own.ui))
    application = json.loads(body)[0]["id"]
    _, body = ask(own, f"/api/v1/applications/{application}/executors", sign(own.ui))
    return sum(each["activeTasks"] for each in json.loads(body))


def test_the_ui_answers_only_those_who_hold_its_key(own, session):
    stranger = sign(SparkUI(port=own.ui.port, key=new_key()))
    properties = own.folder / "spark.properties"

    assert ask(own, "/jobs/", sign(own.ui))[0] == 200
    for path in ("/jobs/", "/api/v1/applications", "/environment/"):
        assert ask(own, path)[0] == 403
        assert ask(own, path, stranger)[0] == 403
    assert own.ui.key not in ask(own, "/environment/", sign(own.ui))[1].decode()
    assert own.ui.key in properties.read_text()
    assert stat.S_IMODE(properties.stat().st_mode) == 0o600
    assert own.ui.key not in repr(own.ui)


def test_a_read_in_flight_is_run_again_on_the_server_that_comes(spark, own):
    frame = spark.range(100).selectExpr("id % 7 AS k")
    frame.createOrReplaceTempView("mine")
    assert connect(own.settings) is spark, "who asks for it again takes nothing away from it"
    killer = own.kill_in("slow(spark)")

    rows = slow(spark).collect()
    killer.join()

    assert len(rows) == 1000
    told = "\n".join(own.told)
    assert (told.count("is run again"), told.count("are gone")) == (1, 1), told
    assert [each.outcome for each in RECORDER.operations()[-2:]] == [Outcome.LOST, Outcome.DONE]
    assert own.made_ready[-1] == spark.client._session_id
    assert len(own.made_ready) == len(set(own.made_ready)) == 2
    assert frame.count() == 100
    with pytest.raises(Exception, match="mine") as caught:
        spark.table("mine").count()
    assert "temporary views" in caught.value.__notes__[0]


def test_a_session_of_another_server_is_not_taken(spark, own, settings):
    other = workbench.spark()
    try:
        assert other is not spark
        assert connect(own.settings) is spark
        assert workbench.spark() is other
    finally:
        other.stop()
    assert spark.range(3).count() == 3


def test_what_may_write_is_reported_and_the_next_goes_to_the_new_server(spark, own, tmp_path):
    killer = own.kill_in("slow(spark)")

    began = time.monotonic()
    with pytest.raises(SparkRestarted, match="may or may not have been done"):
        slow(spark).write.parquet(str(tmp_path / "written"))
    killer.join()
    took = time.monotonic() - began
    frame = spark.range(3)
    frame.write.parquet(str(tmp_path / "next"))

    assert spark.read.parquet(str(tmp_path / "next")).count() == 3
    assert took < BOUND_SECONDS
    assert sum("are gone" in each for each in own.told) == 1
