"""`python -m pipelines.worker`: what `workbench up` starts, without the imports of the whole command."""

from __future__ import annotations

from pipelines.definition import Project
from pipelines.processes.beginning import begin_process
from pipelines.worker.process import WorkerOptions, default_slots, run_worker
from workbench.settings import Settings

if __name__ == "__main__":
    begin_process("pipelines-worker")
    run_worker(Settings.load(), WorkerOptions(slots=default_slots(), project=Project.installed()))
