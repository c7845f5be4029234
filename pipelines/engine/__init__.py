"""Executes one notebook with parameters: durable, live, and with an end that is said as it was.

>>> async with KernelPool(environment=os.environ) as kernels:
...     outcome = await execute(job, kernels=kernels, cancel=asyncio.Event())

`execute` is in `pipelines.engine.execution` and `KernelPool` in `pipelines.engine.kernels.pool`;
importing this package loads neither Jupyter nor papermill.
"""

from pipelines.engine.job import Checkpoints, Earlier, JobLimits, NotebookJob, Outcome
from pipelines.engine.once import kernel_folders, run_notebook

__all__ = ["Checkpoints", "Earlier", "JobLimits", "NotebookJob", "Outcome", "kernel_folders", "run_notebook"]
