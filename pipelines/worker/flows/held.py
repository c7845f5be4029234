"""One flow that a worker has: its process, and what the store is told of it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from pipelines.definition.targets.flow import flow_hash
from pipelines.runner.flows.files import FlowFiles
from pipelines.runner.flows.process import FlowProcess
from pipelines.runner.flows.rules import Cause, Ending, Started, Wanted, cause_to_end, judge
from pipelines.states import FlowState
from pipelines.store.database import Store
from pipelines.store.flows.holding import (
    FlowClaim,
    FlowEnd,
    Order,
    write_end,
    write_reason,
    write_running,
    write_started,
)
from pipelines.worker.surroundings import Surroundings

logger = logging.getLogger(__name__)


@dataclass
class HeldFlow:
    """From when it was taken until it is let go."""

    claim: FlowClaim
    surroundings: Surroundings
    process: FlowProcess | None = None
    started: Started | None = None
    cause: Cause | None = None  #: why its process was told to end
    file_failed_with: str | None = None
    _is_up: bool = False
    _failures: int = 0
    _ending: Ending | None = None

    def __post_init__(self) -> None:
        self._failures = self.claim.failures

    @property
    def files(self) -> FlowFiles:
        """Where its log is."""
        return FlowFiles(self.surroundings.home, self.claim.name)

    def begin(self, store: Store, generation: int) -> None:
        """Start a process.

        Raises:
            ClaimLost: when another worker has it; nothing was started.
            StoreError: when the store does not answer; nothing was started.
        """
        file = flow_hash(self.surroundings.project, self.claim.name)
        with store.transaction() as connection:
            write_started(connection, self.claim, file)
        self.started, self.cause, self._is_up, self._ending = Started(generation, file), None, False, None
        process = FlowProcess(self.files, self.surroundings.project, self.surroundings.environment)
        try:
            process.start()
        except OSError as error:
            process.release()
            self._ending = Ending(None, 0.0, f"its process could not be started: {error}")
            return
        self.process = process

    def end(self, cause: Cause) -> None:
        """Tell the process to end. Safe to call twice, and from any thread."""
        process = self.process
        if process is not None and self.cause is None:
            self.cause = cause
            process.release()

    def is_over(self) -> bool:
        """Whether nothing of it runs any more; sees to what is left of it then."""
        if self.process is None:
            return True
        if not self.process.has_ended:
            return False
        self.process.ending()
        return True

    def advance(self, store: Store, order: Order, *, is_leaving: bool, chance: float) -> bool:
        """Do what follows from what is wanted and how it stands; True when it is let go.

        Raises:
            ClaimLost: when another worker has it.
            StoreError: when the store does not answer; the next call does the same.
        """
        if self.started is None and order.is_wanted and not is_leaving:
            # It was taken, and the store did not answer when it was to be started.
            self.begin(store, order.generation)
            return False
        file = flow_hash(self.surroundings.project, self.claim.name)
        wanted = Wanted(order.is_wanted, order.generation, file, order.asked_by)
        if self.started is not None and self.process is not None and not self.process.has_ended:
            self._look_after(store, self.process, self.started, wanted, is_leaving=is_leaving)
            return False
        if self._ending is None:
            self._ending = self.process.ending() if self.process else Ending(None, 0.0)
        return self._after(store, self._ending, wanted, is_leaving=is_leaving, chance=chance)

    def _look_after(
        self, store: Store, process: FlowProcess, started: Started, wanted: Wanted, *, is_leaving: bool
    ) -> None:
        self.files.cut_log(self.surroundings.logs)
        cause = cause_to_end(started, wanted, is_leaving=is_leaving)
        if cause is not None:
            self.end(cause)
        elif not self._is_up and process.is_up:
            with store.transaction() as connection:
                write_running(connection, self.claim)
            self._is_up = True

    def _after(self, store: Store, ending: Ending, wanted: Wanted, *, is_leaving: bool, chance: float) -> bool:
        known: dict[str, Any] = {"worker": self.claim.worker, "failures": self._failures, "chance": chance}
        found = judge(ending, self.cause, wanted, **known)
        if is_leaving and (self.started is None or found.state is FlowState.STARTING):
            found = judge(ending, Cause.LEAVE, wanted, **known)
        lines = self.files.last_lines()
        logger.log(_level(found.state), "flow %s has ended and is %s: %s", self.claim.name, found.state, found.reason)
        if found.state is FlowState.STARTING:
            with store.transaction() as connection:
                write_reason(connection, self.claim, found.reason, lines)
            self.process, self.started, self._failures = None, None, 0
            self.begin(store, wanted.generation)
            return False
        end = FlowEnd(
            state=found.state, generation=wanted.generation, reason=found.reason, last_lines=lines,
            delay_seconds=found.delay_seconds, failures=found.failures,
        )  # fmt: skip
        with store.transaction() as connection:
            write_end(connection, self.claim, end)
        if found.state is FlowState.FAILED and self.started is not None:
            self.file_failed_with = self.started.file_sha256
        return True


def _level(state: FlowState) -> int:
    return logging.INFO if state in {FlowState.STOPPED, FlowState.STARTING} else logging.WARNING
