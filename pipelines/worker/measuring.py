"""The metrics of a worker: operations of Spark of its steps, which tell it of them, and its caches."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from pipelines.engine.kernels import pool
from pipelines.runner import children
from pipelines.worker import attempts
from workbench.observability.metrics import begin_cache, begin_spark, count_spark
from workbench.observability.operations import STEP, VARIABLE, receiving
from workbench.runtime.kernels import new_runtime_folder
from workbench.runtime.metrics import serving_metrics

logger = logging.getLogger(__name__)

JOB = "worker"
SOCKET = "spark"


@contextmanager
def measuring(home: Path) -> Iterator[Mapping[str, str]]:
    """Measure while the context is open; gives what the environment of steps has to have. Work does not depend on it."""
    for cache in (attempts.CACHE, pool.CACHE, children.CACHE):
        begin_cache(cache)
    begin_spark(STEP)
    with ExitStack() as stack:
        stack.enter_context(serving_metrics(home, JOB))
        environment = {}
        try:
            folder = new_runtime_folder()
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            address = folder / SOCKET
            stack.enter_context(receiving(address, partial(count_spark, STEP)))
            environment[VARIABLE] = str(address)
        except OSError as error:
            logger.warning("operations of Spark are not counted: %s", error)
        yield environment
