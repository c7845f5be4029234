"""A step that is a function, a file of SQL or a flow: in a child process of its own, which is killed as a tree."""

from __future__ import annotations

import asyncio
import codecs
import json
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from pipelines.engine.record.events import Event, Kind
from pipelines.engine.record.keeping import new_sealer
from pipelines.engine.record.log import EventLog
from pipelines.engine.record.publishing import publish_notebook
from pipelines.engine.record.recorder import Recorder
from pipelines.engine.record.redaction import Redactor
from pipelines.planning.bindings import write_bindings
from pipelines.runner.assignment import Assignment, Result
from pipelines.runner.calls import call_notebook
from pipelines.runner.children import LEFT_SECONDS, Child, ChildPool, Ending
from pipelines.runner.folders import log_of, output_of
from pipelines.states import State

CELL = 0  #: the only one
CHUNK_BYTES = 65_536
RESULT = "result.json"
STREAMS = ("stdout", "stderr")


async def run_process(assignment: Assignment, *, children: ChildPool, cancel: asyncio.Event) -> Result:
    """Run it in a child process.

    When this coroutine is cancelled itself, the process is ended, the log has no end, and no output appears.

    Raises:
        WorkbenchError: when a secret cannot be kept out of outputs; nothing has run.
        KeysetError, EncryptionError: when log or output cannot be encrypted.
        OSError: when the log or the output cannot be written, or no process can be started.
    """
    redactor = Redactor({**assignment.secrets, **assignment.hidden})
    encrypted = assignment.keys is not None
    path = log_of(assignment.folder, encrypted=encrypted)
    sealer = await asyncio.to_thread(new_sealer, path, assignment.keys)
    async with EventLog(path, sealer) as log:
        recorder = Recorder(log, redactor, assignment.limits, lambda _: None)
        recorder.start(redactor.cleaned(call_notebook(assignment)))
        recorder.start_cell(CELL)
        result = _cleaned(await _run(assignment, recorder, children, cancel), redactor)
        recorder.end_cell(CELL, status="ok" if result.state is State.SUCCEEDED else "error", execution_count=1)
        recorder.end(result.cell, _content(result))
        result = replace(result, last_lines=recorder.last_lines)
    end = Event(at=time.time(), kind=Kind.ENDED, cell=result.cell, content=_content(result))
    output = output_of(assignment.folder, encrypted=encrypted)
    await asyncio.to_thread(publish_notebook, path, output, end=end, keys=assignment.keys)
    return replace(result, output=output)


@dataclass
class _Why:
    """Why a process was ended before its time; nothing when it ended by itself."""

    state: State | None = None
    message: str = ""


async def _run(assignment: Assignment, recorder: Recorder, children: ChildPool, cancel: asyncio.Event) -> Result:
    child, why = await children.take(), _Why()
    try:
        async with asyncio.TaskGroup() as reading:
            streams = [reading.create_task(_record(child.stream(each), each, recorder)) for each in STREAMS]
            await child.send(_order(assignment))
            await _wait(child, assignment.limits.run_seconds, cancel, why)
            ending = await child.stop(assignment.limits.grace_seconds)
            await _end_reading(child, streams)
    except* OSError as errors:
        # A log that cannot be written, of whichever reader found it first.
        raise errors.exceptions[0] from None
    finally:
        await child.stop(0)
    return _judged(assignment, ending, why, recorder)


async def _wait(child: Child, seconds: float | None, cancel: asyncio.Event, why: _Why) -> None:
    """Return when the process has ended, or is to be."""
    cancelled = asyncio.create_task(cancel.wait())
    try:
        done, _ = await asyncio.wait({child.ended, cancelled}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        cancelled.cancel()
    if child.ended in done:
        return
    if cancelled in done:
        why.state, why.message = State.CANCELLED, "it was cancelled"
    else:
        why.state, why.message = State.TIMED_OUT, f"it took longer than {seconds:g} s"


async def _record(stream: asyncio.StreamReader, name: str, recorder: Recorder) -> None:
    """Log what comes, as it comes; a character that is cut in two waits for its other half."""
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    while chunk := await stream.read(CHUNK_BYTES):
        if text := decoder.decode(chunk):
            recorder.take(CELL, "stream", {"name": name, "text": text})


async def _end_reading(child: Child, streams: Sequence[asyncio.Task[None]]) -> None:
    """Read what has come; who has outlived a guard that was killed may hold a stream for as long as it lives."""
    await asyncio.wait(streams, timeout=LEFT_SECONDS)
    for each in streams:
        each.cancel()
    child.leave_streams()


def _judged(assignment: Assignment, ending: Ending, why: _Why, recorder: Recorder) -> Result:
    found: Mapping[str, Any] = {}
    with suppress(OSError, ValueError):
        path = assignment.folder / RESULT
        found = json.loads(path.read_bytes())
        path.unlink()
    is_done = found.get("state") == State.SUCCEEDED
    # An interrupt that finds Python waiting for threads at its end cuts them off, and the code is 0 all the same.
    if is_done and why.state is None and ending.code == 0:
        if found["text"]:
            recorder.take(CELL, "execute_result", {"data": {"text/plain": found["text"]}, "execution_count": 1})
        return Result(state=State.SUCCEEDED, peak_memory_bytes=ending.peak_memory_bytes)
    ended = Result(state=State.KERNEL_DIED, cell=CELL, peak_memory_bytes=ending.peak_memory_bytes)
    if why.state is not None:
        return replace(ended, state=why.state, error=why.message)
    if found and not is_done:
        recorder.take(CELL, "error", {key: found[key] for key in ("ename", "evalue", "traceback")})
        return replace(ended, state=State.FAILED, error=f"{found['ename']}: {found['evalue']}")
    when = "after it was done, and before it had ended by itself" if is_done else "before it was done"
    if ending.code is not None and ending.code < 0:
        number = signal.Signals(-ending.code)
        peak = f"its memory peaked at {(ending.peak_memory_bytes or 0) / 1e6:,.0f} MB"
        return replace(ended, signal=number, error=f"the process was killed by {number.name} {when}; {peak}")
    return replace(ended, error=f"the process ended with code {ending.code} {when}")


def _order(assignment: Assignment) -> bytes:
    """What the child reads: the only way in which it is given secrets."""
    bindings = assignment.bindings
    order = {
        "kind": assignment.kind,
        "target": assignment.target,
        "file": None if assignment.file is None else str(assignment.file),
        "roots": [str(each) for each in assignment.roots],
        "environment": dict(assignment.environment),
        "bindings": write_bindings(bindings.parameters, bindings.values),
        "secrets": {name: each.get_secret_value() for name, each in assignment.secrets.items()},
        "hidden": {name: each.get_secret_value() for name, each in assignment.hidden.items()},
        "result": str(assignment.folder / RESULT),
    }
    return json.dumps(order).encode()


def _cleaned(result: Result, redactor: Redactor) -> Result:
    return replace(result, error=redactor.redacted(result.error))


def _content(result: Result) -> dict[str, Any]:
    return {"state": result.state, "message": result.error}
