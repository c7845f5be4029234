"""One claimed step from its claim to its outcome, which counts only when the claim still holds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from pipelines.lineage.telling import Told
from pipelines.runner.assignment import Assignment, Result, told
from pipelines.runner.folders import log_of, tables_of
from pipelines.runner.running import Runner, discard, unforeseen
from pipelines.states import State
from pipelines.store.claims.beating import Stop
from pipelines.store.claims.writing import find_reusable, finish, point_output, record_events
from pipelines.store.database import Store
from pipelines.store.outbox import post
from pipelines.store.pages.runs import read_run
from pipelines.store.records import Claim, Event, Outcome
from pipelines.store.runs.making import read_definition
from pipelines.worker.assigning import assign, code_hash, content_hash, defined, log_fields, results_before, step_hash
from pipelines.worker.resuming import forget_checkpoints, resuming_events, with_checkpoints
from pipelines.worker.roles.environment import process_environment, secret_environment
from pipelines.worker.surroundings import Surroundings
from workbench.errors import AuditError, ClaimLost, StoreUnavailable, WarehouseUnavailable, WorkbenchError
from workbench.logs.context import bound
from workbench.observability.metrics import count_cache

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 0.5
CACHE = "step"  #: as metrics call it
T = TypeVar("T")


@dataclass(frozen=True)
class _Prepared:
    """What is known of an attempt before it runs."""

    assignment: Assignment
    code: str | None = None  #: hash of it, of a step that may be reused
    hash: str | None = None  #: of such a step with its values
    reused: tuple[int, str] | None = None  #: the attempt that is, and its output
    lineage: Told | None = None  #: what others are told of it


@dataclass
class Attempt:
    """One claim that is worked on. `run` is cancelled when the claim is lost."""

    claim: Claim
    store: Store
    surroundings: Surroundings
    cancel: asyncio.Event = field(default_factory=asyncio.Event)
    why: Stop | None = None

    def stop(self, why: Stop) -> None:
        """End what runs, for this reason; what was put out until then is kept."""
        if self.why is None:
            self.why = why
            self.cancel.set()

    async def run(self, runner: Runner) -> None:
        """Run the step and write its outcome; return when nothing of it runs any more."""
        with bound(**log_fields(self.claim)):
            logger.info("the step begins")
            await self._work(runner)

    async def _work(self, runner: Runner) -> None:
        result = None
        try:
            prepared = await self._prepared()
            if isinstance(prepared, Outcome):
                outcome, tells = prepared, self.surroundings.lineage
                lineage = None if tells is None else tells.of(self.claim)
            else:
                lineage = prepared.lineage
                if prepared.reused is None:
                    result = await self._run(runner, prepared.assignment)
                    outcome = self._outcome(result, await asyncio.to_thread(self._known, prepared, result))
                else:
                    outcome = _reused(*prepared.reused, prepared.hash)
            await self._finish(outcome, lineage)
            logger.info("the step has ended %s", outcome.state)
            if isinstance(prepared, _Prepared) and result is not None and result.state is State.SUCCEEDED:
                await asyncio.to_thread(forget_checkpoints, prepared.assignment, self.surroundings.keys)
        except ClaimLost as error:
            logger.warning("%s", error.message)
            if result is not None:
                discard(result, self.surroundings.keys)

    async def _prepared(self) -> _Prepared | Outcome:
        """What is to run, or how it ended before it could."""
        try:
            return await self._patiently(self._prepare)
        except ClaimLost:
            raise
        except WorkbenchError as error:
            return Outcome(state=State.FAILED, error=told(error.message, error.remedy))
        except Exception as error:
            # Without an outcome it would be told that the worker does not beat.
            logger.exception("the step could not be begun")
            return Outcome(
                state=State.INFRASTRUCTURE_ERROR,
                error=told(
                    f"the step could not be begun: {type(error).__name__}: {error}",
                    "The worker's log says where; repair the run when that is mended.",
                ),
            )

    async def _run(self, runner: Runner, assignment: Assignment) -> Result:
        if not self.claim.run_as:
            return await runner.run(assignment, self.cancel)
        try:
            async with self.surroundings.roles.acting(self.claim, assignment) as acting:
                # Processes that wait have the worker's environment, and so its passwords.
                own = Runner(environment=process_environment(self.surroundings.environment), waiting=0)
                async with own:
                    return await own.run(acting, self.cancel)
        except (WarehouseUnavailable, AuditError) as error:
            return Result(state=State.INFRASTRUCTURE_ERROR, error=told(error.message, error.remedy))
        except WorkbenchError as error:
            return Result(state=State.FAILED, error=told(error.message, error.remedy))
        except Exception as error:  # noqa: BLE001 - it is logged, and is no fault of the step
            return unforeseen(error, assignment)

    def _prepare(self, store: Store) -> _Prepared:
        claim = self.claim
        with store.transaction() as connection:
            definition = defined(claim, read_definition(connection, claim.definition_sha256))
        around = self.surroundings
        references = around.references
        around.roles.rule.demand(claim.pipeline, claim.run_as or "")
        if claim.run_as:
            references = replace(references, environment=secret_environment(references.environment))
        assignment = assign(claim, definition, home=around.home, project=around.project, references=references)
        assignment = replace(assignment, keys=around.keys)
        step = definition.steps[claim.step]
        pinned = claim.notebook_hashes.get(claim.step, "")
        content = content_hash(assignment, around.project)
        events = [Event("changed", {"pinned": pinned, "runs": content})] if content != pinned else []
        code = code_hash(assignment, content) if step.cache else None
        if step.cache and code is None:
            logger.warning("the project has more modules than are looked at: the step is not cached")
        lineage = None
        if around.lineage is not None:
            tables = tables_of(assignment.folder)
            lineage = around.lineage.of(claim, assignment.kind, assignment.file, tables)
            assignment = replace(assignment, environment={**assignment.environment, **lineage.environment})
        with store.transaction() as connection:
            record_events(connection, claim, events)
            point_output(connection, claim, str(log_of(assignment.folder, encrypted=around.keys is not None)))
            post(connection, [lineage.begun()] if lineage is not None else [])
            before = results_before(read_run(connection, claim.run_id, events=0).steps, step, claim.run_id)
            assignment = with_checkpoints(connection, claim, assignment, step=step, before=before, home=around.home)
            if code is None:
                return _Prepared(assignment, lineage=lineage)
            known = step_hash(assignment, claim, code, before)
            reused = find_reusable(connection, known)
        is_there = reused is not None and Path(reused[1]).is_file()
        count_cache(CACHE, is_hit=is_there)
        return _Prepared(assignment, code, known, reused if is_there else None, lineage)

    def _known(self, prepared: _Prepared, result: Result) -> str | None:
        """The hash under which the result may be found: none when other code than that of before may have made it."""
        # What a checkpoint brings was made by the code of an earlier attempt.
        if prepared.hash is None or result.state is not State.SUCCEEDED or result.resumed_from is not None:
            return None
        assignment = prepared.assignment
        try:
            code = code_hash(assignment, content_hash(assignment, self.surroundings.project))
        except Exception as error:  # noqa: BLE001 - no failure may lose a success
            # The step has succeeded, whatever became of its file.
            logger.warning("the code of the step cannot be looked at any more: %s", error)
            code = None
        if code == prepared.code:
            return prepared.hash
        # Nobody knows which of both has run.
        logger.warning("the code of the step or a package has changed while it ran: its result is not used again")
        return None

    def _outcome(self, result: Result, known: str | None) -> Outcome:
        outcome = Outcome(
            state=result.state,
            cell=result.cell,
            error=result.error or None,
            last_lines=result.last_lines,
            signal=result.signal,
            peak_memory_bytes=result.peak_memory_bytes,
            output_path=None if result.output is None else str(result.output),
            step_hash=known if result.state is State.SUCCEEDED else None,
            resumed_from=result.resumed_from,
            events=resuming_events(result),
        )
        if result.state is State.CANCELLED and self.why is not None:
            return replace(outcome, state=self.why.state, error=self.why.reason)
        return outcome

    async def _finish(self, outcome: Outcome, lineage: Told | None) -> None:
        if lineage is not None:
            try:
                outcome = replace(outcome, messages=[lineage.ended(outcome.state, outcome.error or "")])
            except Exception:
                logger.exception("nobody is told of the end of the step")

        def write(store: Store) -> None:
            with store.transaction() as connection:
                finish(connection, self.claim, outcome)

        await self._patiently(write)

    async def _patiently(self, call: Callable[[Store], T]) -> T:
        """Do something with the store, again until it answers; the heart ends the wait when the claim is lost."""
        while True:
            try:
                return await asyncio.to_thread(call, self.store)
            except StoreUnavailable as error:
                logger.warning("run %s, step %s: %s", self.claim.run_id, self.claim.step, error)
                await asyncio.sleep(AGAIN_SECONDS)


def _reused(attempt_id: int, output: str, known: str | None) -> Outcome:
    return Outcome(
        state=State.SUCCEEDED,
        output_path=output,
        step_hash=known,
        reused_from=attempt_id,
        events=[Event("reused", {"attempt": attempt_id})],
    )
