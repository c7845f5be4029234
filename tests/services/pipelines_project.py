"""A project of pipelines in a folder of its own, with a store on a real PostgreSQL and workers that may be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from pipelines.definition import Project, read_pipeline
from pipelines.engine.checkpoints.saved import STATE, read_saved
from pipelines.engine.record.events import Kind, read_events
from pipelines.engine.record.keeping import read_file, read_lines
from pipelines.planning.pins import Pins
from pipelines.planning.registering import ensure_registered
from pipelines.planning.runs import Plan, Start
from pipelines.store.database import Store
from pipelines.store.pages.runs import RunPage, read_run
from pipelines.store.records import Trigger
from pipelines.store.runs.making import make_runs
from pipelines.store.runs.stopping import repair, stop
from tests.services.canaries import files_below
from tests.services.failure_logs import logs
from tests.services.jumping_clock import VARIABLE, JumpingClock
from tests.services.keysets import open_keys
from tests.services.pipelines_store import new_store
from tests.services.postgres_server import OwnPostgres, running_postgres
from tests.services.process_tree import kill, process_tree
from tests.services.workbench import ROOT, environment, wait_until
from workbench.security.encryption.files import read_encrypted
from workbench.security.keyset.opening import Keys

KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
ENDED_SECONDS = 120


@dataclass
class Site:
    """Files, a store, and what runs them."""

    folder: Path
    server: OwnPostgres
    store: Store
    database: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def project(self) -> Project:
        return Project((self.folder / "project",))

    def file(self, path: str, text: str) -> Path:
        found = self.folder / "project" / path
        found.parent.mkdir(parents=True, exist_ok=True)
        found.write_text(text, encoding="utf-8")
        return found

    def module(self, name: str, source: str) -> Path:
        return self.file(f"{name}.py", source)

    def notebook(self, name: str, *sources: str, tags: list[str] | None = None) -> Path:
        """A notebook of cells; *tags* are those of the first."""
        made = [
            {
                "cell_type": "code",
                "id": f"c{number}",
                "metadata": {"tags": tags} if tags and not number else {},
                "source": source,
                "outputs": [],
                "execution_count": None,
            }
            for number, source in enumerate(sources)
        ]
        content = {"nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": KERNEL}, "cells": made}
        return self.file(f"notebooks/{name}.ipynb", json.dumps(content))

    def pipeline(self, name: str, **fields: Any) -> Path:
        return self.file(f"pipelines/jobs/{name}.yaml", yaml.safe_dump(fields, sort_keys=False))

    def start_run(self, name: str, **given: Any) -> int:
        """A run by hand; returns its number."""
        pipeline = read_pipeline(self.project.jobs / f"{name}.yaml", self.project)
        plan = Plan(pipeline, Pins(None, "lock"))
        start = Start(trigger=Trigger.MANUAL, instant=datetime.now(UTC), event_id=uuid.uuid4().hex)
        run = plan.run(start, given)
        with self.store.transaction() as connection:
            assert ensure_registered(connection, pipeline) == pipeline.definition.sha256
            return make_runs(connection, [run])[run.key]

    def run(self, name: str, **given: Any) -> Run:
        """A run by hand, when it has ended."""
        return self.ended(self.start_run(name, **given))

    def ended(self, run_id: int, seconds: float = ENDED_SECONDS) -> Run:
        """The run, when it has ended."""
        wait_until(lambda: self.look(run_id).page.run["ended_at"], seconds, f"run {run_id} to end")
        return self.look(run_id)

    def repaired(self, run: Run, **options: Any) -> Run:
        """The run, when it was repaired and has ended again."""
        run_id = run.page.run["id"]
        with self.store.transaction() as connection:
            repair(connection, run_id, by="test", **options)
        return self.ended(run_id)

    def cancel(self, run_id: int) -> None:
        with self.store.transaction() as connection:
            stop(connection, run_id, "test")

    def wait_for_output(self, run_id: int, text: str) -> None:
        """Wait until a step that runs has printed *text*."""

        def is_there() -> bool:
            paths = [each["output_path"] for each in self.look(run_id).page.attempts if each["output_path"]]
            events = (event for each in paths if Path(each).exists() for event in read_events(Path(each), self.keys))
            return any(event.kind is Kind.OUTPUT and text in event.content.get("text", "") for event in events)

        wait_until(is_there, ENDED_SECONDS, f"run {run_id} to print {text}")

    def published(self, run_id: int) -> list[Path]:
        """The notebooks of a run that are there."""
        folder = self.home / "pipelines" / "runs" / str(run_id)
        return [each for each in files_below(folder) if each.name.startswith("output.ipynb")]

    def everything(self, run_id: int) -> str:
        """All that is kept of a run, in files and in the store, and what processes have logged."""
        texts = []
        for each in logs(self.folder):
            with suppress(FileNotFoundError):  # a process that lives has removed it meanwhile
                texts.append(each.read_text(errors="replace"))
        for each in files_below(self.home / "pipelines" / "runs" / str(run_id)):
            with suppress(FileNotFoundError):
                texts.append(kept(each))
        tables = self.ask("SELECT tablename FROM pg_tables WHERE schemaname = 'pipelines'")
        for (table,) in tables:
            texts += [str(row) for row in self.ask(f"SELECT t::text FROM pipelines.{table} t")]
        return "\n".join(texts)

    @property
    def keys(self) -> Keys:
        """As the processes of this home have them."""
        return open_keys(self.home)

    def look(self, run_id: int) -> Run:
        with self.store.transaction() as connection:
            return Run(read_run(connection, run_id))

    def ask(self, query: str) -> list[tuple[object, ...]]:
        with self.store.transaction() as connection:
            found = connection.exec_driver_sql(query)
            return [tuple(row) for row in found] if found.returns_rows else []

    def settings(self) -> dict[str, str]:
        """Variables that lead a process to this database, for the store and as the warehouse."""
        variables = self.server.variables()
        return {**variables, "DW_DATABASE": self.database}

    def start(self, module: str, **extra: str) -> subprocess.Popen[bytes]:
        """`python -m` in a process of its own, on this project."""
        log = (self.folder / f"{module}.log").open("ab")
        code = f"from tests.services.pipelines_project import main; main({module!r}, {str(self.folder)!r})"
        with log:
            process = subprocess.Popen(
                [sys.executable, "-c", code],
                env=environment(self.home, **{**self.settings(), "PYTHONPATH": str(ROOT), **extra}),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
            )  # fmt: skip
        self.processes.append(process)
        return process

    @contextmanager
    def worker(self, **extra: str) -> Iterator[subprocess.Popen[bytes]]:
        """A worker, ended as `kill` does."""
        process = self.start("pipelines.worker", **extra)
        try:
            yield process
        finally:
            self.end(process)

    def end(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(40)

    def log(self, module: str) -> str:
        return (self.folder / f"{module}.log").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Run:
    """A run as it stands."""

    page: RunPage

    @property
    def states(self) -> dict[str, str]:
        return {each["name"]: each["state"] for each in self.page.steps}

    def output(self, step: str) -> Path:
        return Path(next(each["output_path"] for each in self.page.steps if each["name"] == step))

    def attempts(self, step: str) -> list[dict[str, Any]]:
        return [each for each in self.page.attempts if each["step"] == step]


def kept(path: Path) -> str:
    """What a file of an attempt says, decrypted."""
    home = next(each for each in path.parents if each.name == "pipelines").parent
    if path.name.startswith("log."):
        return "".join(line.decode() for line, _ in read_lines(path, open_keys(home)))
    if path.name == STATE and (saved := read_saved(path.parents[2])):  # of a checkpoint
        return read_encrypted(open_keys(home), path, saved.context).decode("utf-8", "replace")
    return read_file(path, open_keys(home)).decode("utf-8", "replace")


def cells(path: Path) -> str:
    """All texts that the cells of a notebook have put out."""
    found = []
    for cell in json.loads(kept(path))["cells"]:
        for output in cell.get("outputs", ()):
            found += [output.get("text", ""), output.get("data", {}).get("text/plain", "")]
            found += output.get("traceback", [])
    return "\n".join("".join(each) for each in found)


def stepped(site: Site, name: str, last: str) -> Path:
    """A notebook with a checkpoint before *last*; returns the file with a line for each time it was executed up to there."""
    executed = site.folder / f"{name}-executed"
    heavy = f"# checkpoint: kept\nprint('x', file=open({str(executed)!r}, 'a'))\nkept = ['carried']\nprint('heavy')"
    site.notebook(name, "import os, time, pathlib", heavy, f"print(kept, flush=True)\n{last}", tags=["setup"])
    path = site.folder / "project" / "notebooks" / f"{name}.ipynb"
    content = json.loads(path.read_text())
    content["cells"][1]["metadata"]["tags"] = ["checkpoint"]
    path.write_text(json.dumps(content))
    return executed


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    """A project, and a server for its store; whatever still runs is killed at the end."""
    with running_postgres(folder / "server") as server, new_store(server) as store:
        (folder / "home").mkdir(mode=0o700)
        (folder / "project" / "pipelines" / "jobs").mkdir(parents=True)
        site = Site(folder, server, store, _database(store))
        try:
            yield site
        finally:
            kill(process_tree(*(each.pid for each in site.processes if each.poll() is None)))
            for each in site.processes:
                each.wait(10)


def _database(store: Store) -> str:
    with store.transaction() as connection:
        return str(connection.exec_driver_sql("SELECT current_database()").scalar_one())


def main(module: str, folder: str) -> None:
    """What a process of a site does: that of the product, on the site's project."""
    from pipelines.processes.beginning import begin_process
    from workbench.settings import Settings

    begin_process(module.replace(".", "-"))
    if file := os.environ.get(VARIABLE):
        JumpingClock(Path(file)).install()

    project = Project((Path(folder) / "project",))
    if module == "pipelines.service":
        from tests.services.pipelines_service import main as serve

        serve(folder)
        return
    if module == "pipelines.monitor":
        from pipelines.monitor.process import MonitorOptions, run_monitor

        run_monitor(Settings.load(), MonitorOptions(project=project, scrape_seconds=0.5))
        return
    if module == "pipelines.worker":
        from pipelines.runner.flows import process as flow_process
        from pipelines.worker.process import WorkerOptions, run_worker

        flow_process.STOP_SECONDS = float(os.environ.get("FLOW_STOP_SECONDS", flow_process.STOP_SECONDS))
        run_worker(Settings.load(), WorkerOptions(slots=int(os.environ.get("SLOTS", "2")), project=project))
        return
    from pipelines.scheduler.process import SchedulerOptions, run_scheduler

    run_scheduler(Settings.load(), SchedulerOptions(project=project))
