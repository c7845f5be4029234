"""`python -m pipelines.monitor`: what `workbench up` starts, without the imports of the whole command."""

from __future__ import annotations

from pipelines.definition import Project
from pipelines.monitor.process import MonitorOptions, run_monitor
from pipelines.processes.beginning import begin_process
from workbench.settings import Settings

if __name__ == "__main__":
    begin_process("monitor")
    run_monitor(Settings.load(), MonitorOptions(project=Project.installed()))
