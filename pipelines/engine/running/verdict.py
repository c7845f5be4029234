"""How an execution ended, as it is found out piece by piece."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipelines.engine.checkpoints.resuming import Keeper
from pipelines.engine.job import NotebookJob, Outcome
from pipelines.engine.kernels.process import Ending
from pipelines.engine.record.redaction import Redactor
from pipelines.states import State

MAKE_ROOM = "Make room on that disk and run it again; what was put out until then is in the log."
DIED = "The last lines and the peak of memory tell more; a process of the notebook's may have ended or crashed it."
JOIN = "Let its last cell wait for the threads and executors that it has started, or give the notebook more time."
AFTER_LAST = "after its last cell"
NO_MEMORY = "Let the notebook read less at once, or give it more memory."


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What `Outcome` says, but for what belongs to the job."""

    state: State
    message: str = ""
    remedy: str = ""
    cell: int | None = None
    execution_count: int | None = None
    error_name: str = ""
    error_value: str = ""
    limit: str = ""
    signal: str = ""
    exit_code: int | None = None
    is_out_of_memory: bool = False
    peak_memory_bytes: int | None = None
    resumed_from: int | None = None
    resumed_cell: int | None = None
    not_resumed: str = ""

    def as_content(self) -> dict[str, Any]:
        """What the last event says: all but the cell, which it has itself, and what there is nothing to say of."""
        said = {name: value for name, value in asdict(self).items() if value not in {"", None} and value is not False}
        said.pop("cell", None)
        return {"message": "", **said}

    def cleaned(self, redactor: Redactor) -> Verdict:
        """The same without secrets, which an error may quote."""
        return replace(
            self,
            message=redactor.redacted(self.message),
            remedy=redactor.redacted(self.remedy),
            error_name=redactor.redacted(self.error_name),
            error_value=redactor.redacted(self.error_value),
        )

    def with_resumption(self, keeper: Keeper | None) -> Verdict:
        """The same with where it began."""
        if keeper is None or keeper.resumption is None:
            return replace(self, not_resumed="" if keeper is None else keeper.why_not)
        found = keeper.resumption
        return replace(self, resumed_from=found.earlier.number, resumed_cell=found.saved.cell)

    def with_ending(self, ending: Ending, *, is_out_of_memory: bool) -> Verdict:
        """The same with what is known of the kernel's process."""
        memory = replace(self, peak_memory_bytes=ending.peak_memory_bytes)
        if self.state is not State.KERNEL_DIED:
            return memory
        how = f"was killed by {ending.signal}" if ending.signal else f"ended with code {ending.code}"
        if ending.code is None:
            how = "was lost with its guard"
        where = f" {AFTER_LAST}" if self.cell is None else f" in {self.place}"
        why = ", likely for want of memory" if is_out_of_memory else ""
        peak = ending.peak_memory_bytes
        used = "" if peak is None else f"; its memory peaked at {peak / 1e6:,.0f} MB"
        return replace(
            memory,
            message=f"the kernel {how}{where}{why}{used}",
            remedy=NO_MEMORY if is_out_of_memory else DIED,
            signal=ending.signal,
            exit_code=None if ending.signal else ending.code,
            is_out_of_memory=is_out_of_memory,
        )

    @property
    def place(self) -> str:
        """The cell as people find it: by the number that it shows, or by its place when it shows none."""
        if self.execution_count is not None:
            return f"cell [{self.execution_count}]"
        return f"cell {self.cell + 1} of the notebook" if self.cell is not None else "no cell"

    def as_outcome(self, job: NotebookJob, *, has_output: bool, last_lines: tuple[str, ...], seconds: float) -> Outcome:
        """For the caller."""
        output = job.output if has_output else None
        return Outcome(**_fields(self), log=job.log, output=output, last_lines=last_lines, seconds=seconds)


def _fields(verdict: Verdict) -> Mapping[str, Any]:
    return {name: getattr(verdict, name) for name in verdict.__dataclass_fields__}
