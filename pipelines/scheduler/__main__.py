"""`python -m pipelines.scheduler`: what `workbench up` starts, without the imports of the whole command."""

from __future__ import annotations

from pipelines.definition import Project
from pipelines.processes.beginning import begin_process
from pipelines.scheduler.process import SchedulerOptions, run_scheduler
from workbench.settings import Settings

if __name__ == "__main__":
    begin_process("pipelines-scheduler")
    run_scheduler(Settings.load(), SchedulerOptions(project=Project.installed()))
