"""Runs attempts of every kind, several at once, with kernels and child processes that wait for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from pipelines.engine.kernels.pool import KernelPool, PoolLimits
from pipelines.engine.record.redaction import Redactor
from pipelines.planning.pins import installed_hash
from pipelines.runner.assignment import Assignment, Result, told
from pipelines.runner.children import ChildPool
from pipelines.runner.notebooks import run_notebook
from pipelines.runner.processes import run_process
from pipelines.states import State
from workbench.errors import EncryptionError, KeysetError, WorkbenchError
from workbench.masking import masked, remember
from workbench.security.keyset.opening import Keys
from workbench.security.secrets import private_folder

logger = logging.getLogger(__name__)


class Runner:
    """An asynchronous context manager: at its end no kernel and no child process is left.

    Args:
        environment: of kernels and child processes.
        waiting: how many fresh kernels, and how many child processes, wait once one was needed.
    """

    def __init__(self, *, environment: Mapping[str, str], waiting: int = 1) -> None:
        self._environment, self._waiting = environment, waiting
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        limits = PoolLimits(kernels=self._waiting)
        # A kernel that waits has imported packages that may have been installed anew since.
        kernels = KernelPool(limits, environment=self._environment, current=installed_hash)
        self._kernels = await self._stack.enter_async_context(kernels)
        self._children = await self._stack.enter_async_context(ChildPool(self._waiting, environment=self._environment))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def run(self, assignment: Assignment, cancel: asyncio.Event) -> Result:
        """Run one attempt; return when nothing of it runs any more and its output is on the disk.

        When this coroutine is cancelled itself, what runs is ended, and no output appears.

        Args:
            assignment: whose folder is not there yet.
            cancel: set by whoever wants it to end; what was put out until then is kept.
        """
        try:
            private_folder(assignment.folder)
            if assignment.kind == "notebook":
                return await run_notebook(assignment, kernels=self._kernels, cancel=cancel)
            return await run_process(assignment, children=self._children, cancel=cancel)
        except (KeysetError, EncryptionError) as error:
            # Who keeps the root key may answer the next time.
            return Result(state=State.INFRASTRUCTURE_ERROR, error=told(error.message, error.remedy))
        except WorkbenchError as error:
            # Nothing has run, and nothing would be better at a second time.
            return Result(state=State.FAILED, error=told(error.message, error.remedy))
        except OSError as error:
            return Result(state=State.INFRASTRUCTURE_ERROR, error=f"{error.filename or assignment.folder}: {error}")
        except Exception as error:  # noqa: BLE001 - it is logged, and is no fault of the step
            return unforeseen(error, assignment)


def unforeseen(error: Exception, assignment: Assignment) -> Result:
    """What becomes of an attempt over an error of ours. Without a result it would be told that the worker does not beat."""
    hidden = {**assignment.secrets, **assignment.hidden}
    for each in hidden.values():
        remember(each.get_secret_value())
    logger.error("the step could not be run to its end", exc_info=error)
    cause = error
    while isinstance(cause, ExceptionGroup):
        cause = cause.exceptions[0]
    said = masked(Redactor(hidden).redacted(f"{type(cause).__name__}: {cause}"))
    return Result(
        state=State.INFRASTRUCTURE_ERROR,
        error=told(
            f"the step could not be run to its end: {said}",
            "The worker's log says where; repair the run when that is mended.",
        ),
    )


def discard(result: Result, keys: Keys | None) -> None:
    """Take the output of an attempt away that does not count; its log stays, for who wants to know."""
    if result.output is not None:
        result.output.unlink(missing_ok=True)
        if keys is not None:
            try:
                keys.inventory.forget_path(result.output)
            except KeysetError as error:
                # `workbench keys rewrap` will name what is missing.
                logger.warning("%s", error)
