"""Markers by folder, a clean environment for every test, and the servers that tests share."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import psutil
import pytest

from tests.services.failure_logs import last_lines
from tests.services.keycloak import running_keycloak
from tests.services.keycloak_realm import Realm
from tests.services.leftovers import end_with_this_process
from tests.services.workbench import RunningWorkbench, make_home, run, running_workbench
from workbench import masking
from workbench.sections import variables
from workbench.settings import Settings

# The first example of a test may import a driver: no deadline for one example.
hypothesis.settings.register_profile("workbench", deadline=None)
hypothesis.settings.load_profile("workbench")

# Two processes share the suite, a file at a time: the longest files come first, and the end is short ones.
TIERS = ("failover", "integration", "e2e", "security", "contracts", "unit", "performance", "conformance")


WATCHER = pytest.StashKey[object]()


def pytest_configure(config: pytest.Config) -> None:
    # Each Java lives for a minute or two: the optimizing compiler takes a fifth of its processor time, and gives none back.
    os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")
    config.stash[WATCHER] = end_with_this_process()
    for tier in TIERS:
        config.addinivalue_line("markers", f"{tier}: in tests/{tier}")
    config.addinivalue_line("markers", "alone: takes all processors, and is about time; nothing runs beside it")


def pytest_sessionstart(session: pytest.Session) -> None:
    # pytest adds its handlers to loggers that pass nothing on, and those of pyspark have whatever is added write JSON.
    plugin: Any = session.config.pluginmanager.get_plugin("logging-plugin")
    for handler in (plugin.caplog_handler, plugin.report_handler):
        handler.setFormatter = lambda _: None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker(getattr(pytest.mark, _tier(item)))
    items.sort(key=lambda item: TIERS.index(_tier(item)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """What failed has the ends of logs that were written to meanwhile, beside what the test has printed."""
    report = yield
    if report.failed:
        base = item.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]
        for path, lines in last_lines(base, call.start):
            report.sections.append((f"the end of {path.relative_to(base)}", lines))
    return report


def _tier(item: pytest.Item) -> str:
    return item.path.relative_to(Path(__file__).parent).parts[0]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the developer's shell and no `.env` reaches a test."""
    for name in [*variables(), "WORKBENCH_HOME"]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    # What the settings of one test hold for a secret is a word of another's logs.
    monkeypatch.setattr(masking, "_MASKS", masking.Masks())


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    """Files of a test begin with a mode that others can read, whatever a command that ran in this process has set."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(autouse=True)
def usual_logging() -> Iterator[None]:
    """Neither the level nor the masks that a command of one test has begun its logs with are those of another."""
    ours, factory = logging.getLogger("workbench"), logging.getLogRecordFactory()
    level = ours.level
    yield
    ours.setLevel(level)
    logging.setLogRecordFactory(factory)


@pytest.fixture(scope="session")
def workbench_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """WORKBENCH_HOME of the workbench that the session shares."""
    if running := os.environ.get("TEST_WORKBENCH_HOME"):
        yield Path(running)
        return
    home = make_home(tmp_path_factory.mktemp("session"))
    yield home
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def shared_workbench(workbench_home: Path) -> Iterator[RunningWorkbench]:
    """One `workbench up` for the whole session: broker, warehouse, Spark, hub.

    TEST_WORKBENCH_HOME names one that runs already, for who runs a few tests again and again.
    """
    if "TEST_WORKBENCH_HOME" in os.environ:
        pid = json.loads(run("status", "--json", home=workbench_home).stdout)["pid"]
        yield RunningWorkbench(workbench_home, psutil.Process(pid))
        return
    with running_workbench(workbench_home) as workbench:
        yield workbench


@pytest.fixture(scope="session")
def keycloak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Realm]:
    """One Keycloak for the whole session: it takes half a minute to start, on a busy machine more."""
    with running_keycloak(tmp_path_factory.mktemp("keycloak") / "server") as realm:
        yield realm


@pytest.fixture
def settings(shared_workbench: RunningWorkbench, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings that lead to the shared workbench, as a notebook would load them."""
    monkeypatch.setenv("WORKBENCH_HOME", str(shared_workbench.home))
    return Settings.load()


def needs(condition: bool, what: str) -> None:
    """Skip on a laptop that lacks *what*; fail in CI, which has it."""
    if not condition:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{what} is not there")
