"""`python -m pipelines.worker`: what `workbench up` starts, without the imports of the whole command."""

from __future__ import annotations

import logging
import os

from pipelines.definition import Project
from pipelines.worker.process import WorkerOptions, default_slots, run_worker
from workbench.masking import mask_logs
from workbench.settings import Settings

if __name__ == "__main__":
    os.umask(0o077)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    mask_logs()
    logging.getLogger("alembic").setLevel(logging.WARNING)
    run_worker(Settings.load(), WorkerOptions(slots=default_slots(), project=Project.installed()))
