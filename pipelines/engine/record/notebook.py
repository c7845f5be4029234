"""The output notebook, as a function of the log: of one that ended and of one that was cut off."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.engine.record.events import Event, Kind, read_events
from pipelines.states import State
from workbench.security.keyset.opening import Keys

# Ends that leave no traceback, or one that does not say it: KeyboardInterrupt.
TOLD_IN_THE_CELL = {
    State.KERNEL_DIED: "KernelDied",
    State.TIMED_OUT: "TimedOut",
    State.CANCELLED: "Cancelled",
    State.LOST: "Lost",
    State.INFRASTRUCTURE_ERROR: "InfrastructureError",
}
CUT_OFF = "the process that executed the notebook ended without a word"


def read_notebook(log: Path, *, end: Event | None = None, keys: Keys | None = None) -> dict[str, Any]:
    """The notebook of the log at *log*, in the form of nbformat 4.

    Args:
        log: of an execution that has ended, or was ended.
        end: the end of one whose log has none. None is that it was lost.
        keys: of a log that is encrypted.

    Raises:
        ValueError: when not even the first event is there.
        OSError: when the log cannot be read.
        KeysetError, EncryptionError: when it is encrypted and cannot be decrypted, or was changed.
    """
    return build_notebook(read_events(log, keys), end=end)


def build_notebook(events: Iterable[Event], *, end: Event | None = None) -> dict[str, Any]:
    """The notebook of *events*; see `read_notebook`.

    Raises:
        ValueError: when there is no event.
    """
    stream = iter(events)
    first = next(stream, None)
    if first is None or first.kind is not Kind.STARTED:
        raise ValueError("the log has no beginning")
    building = _Building(first)
    for event in stream:
        building.add(event)
    return building.finish(end)


def is_executed(cell: Mapping[str, Any]) -> bool:
    """Whether a cell is sent to the kernel; the tag that spares one is nbclient's."""
    return cell["cell_type"] == "code" and bool(cell["source"].strip()) and "skip-execution" not in tags(cell)


def tags(cell: Mapping[str, Any]) -> Sequence[str]:
    """The tags of a cell, as the check of the definition reads them: of what is no list of texts, the texts."""
    found = cell["metadata"].get("tags")
    return tuple(each for each in found if isinstance(each, str)) if isinstance(found, list | tuple) else ()


class _Building:
    """A notebook to which events are added, one after the other."""

    def __init__(self, first: Event) -> None:
        self._notebook: dict[str, Any] = copy.deepcopy(dict(first.content["notebook"]))
        self._cells: list[dict[str, Any]] = self._notebook["cells"]
        self._displays: dict[str, list[dict[str, Any]]] = {}
        self._clears_next: set[int] = set()
        self._running: dict[int, float] = {}
        self._last_at = first.at
        self._end: Event | None = None
        self._about = self._notebook["metadata"].setdefault("papermill", {})
        self._about.update(start_time=_written(first.at), end_time=None, duration=None, exception=None)
        self._started_at = first.at
        for cell in self._cells:
            pending = {"status": "pending", "exception": None, "start_time": None, "end_time": None, "duration": None}
            cell["metadata"]["papermill"] = pending
            if cell["cell_type"] == "code":
                cell.update(outputs=[], execution_count=None)

    def add(self, event: Event) -> None:
        self._last_at = event.at
        if event.cell is None or event.kind is Kind.ENDED:
            self._end = event if event.kind is Kind.ENDED else self._end
            return
        cell = self._cells[event.cell]
        match event.kind:
            case Kind.CARRIED:
                _carry(cell, event.content)
            case Kind.CELL_STARTED:
                self._running[event.cell] = event.at
                cell["metadata"]["papermill"].update(status="running", exception=False, start_time=_written(event.at))
            case Kind.OUTPUT:
                self._clear_if_due(event.cell)
                self._put_out(cell, event.content)
            case Kind.CLEARED:
                self._clears_next.add(event.cell)
                if not event.content["wait"]:
                    self._clear_if_due(event.cell)
            case Kind.UPDATED:
                for output in self._displays.get(event.content["display_id"], ()):
                    output.update(data=event.content["data"], metadata=event.content["metadata"])
            case Kind.CELL_ENDED:
                self._end_cell(event.cell, event)

    def finish(self, missing: Event | None) -> dict[str, Any]:
        end = (
            self._end
            or missing
            or Event(
                at=self._last_at,
                kind=Kind.ENDED,
                cell=next(iter(self._running), None),
                content={"state": State.LOST, "message": CUT_OFF},
            )
        )
        state = State(end.content["state"])
        self._about["exception"] = None if state is State.SUCCEEDED else True
        self._about.update(end_time=_written(end.at), duration=round(end.at - self._started_at, 6))
        self._notebook["metadata"]["workbench"] = dict(end.content)
        if state is State.SUCCEEDED:
            self._complete_others()
        elif end.cell is not None:
            self._mark_failed(end, state)
        for output in (each for cell in self._cells for each in cell.get("outputs", ())):
            if output["output_type"] == "stream":
                output["text"] = "".join(output["text"])
        return self._notebook

    def _put_out(self, cell: dict[str, Any], content: Mapping[str, Any]) -> None:
        outputs = cell["outputs"]
        output = {key: value for key, value in content.items() if key != "display_id"}
        if output["output_type"] == "stream":
            last = outputs[-1] if outputs else {}
            if last.get("output_type") == "stream" and last["name"] == output["name"]:
                last["text"].append(output["text"])
                return
            output["text"] = [output["text"]]  # pieces, joined at the end
        outputs.append(output)
        if display_id := content.get("display_id"):
            self._displays.setdefault(display_id, []).append(output)

    def _clear_if_due(self, index: int) -> None:
        if index in self._clears_next:
            self._clears_next.discard(index)
            self._cells[index]["outputs"] = []

    def _end_cell(self, index: int, event: Event) -> None:
        cell, content = self._cells[index], event.content
        started = self._running.pop(index, event.at)
        cell["execution_count"] = content["execution_count"]
        is_ok = content["status"] == "ok"
        cell["metadata"]["papermill"].update(
            status="completed" if is_ok else "failed",
            exception=not is_ok,
            end_time=_written(event.at),
            duration=round(event.at - started, 6),
        )
        if left_out := content.get("left_out_bytes"):
            note = f"\n[{left_out:,} bytes of further output were left out]\n"
            self._put_out(cell, {"output_type": "stream", "name": "stderr", "text": note})

    def _complete_others(self) -> None:
        """What has nothing to execute is complete with the notebook; a cell behind `sys.exit(0)` stays pending."""
        for cell in self._cells:
            if not is_executed(cell):
                cell["metadata"]["papermill"]["status"] = "completed"

    def _mark_failed(self, end: Event, state: State) -> None:
        assert end.cell is not None
        cell = self._cells[end.cell]
        cell["metadata"]["papermill"].update(status="failed", exception=True)
        if name := TOLD_IN_THE_CELL.get(state):
            message = str(end.content["message"])
            self._put_out(
                cell, {"output_type": "error", "ename": name, "evalue": message, "traceback": [f"{name}: {message}"]}
            )


def _carry(cell: dict[str, Any], content: Mapping[str, Any]) -> None:
    """Show what a cell put out in the attempt that executed it, and that this one did not."""
    note = f"[not executed in this attempt, but in attempt {content['attempt']}: {content['notebook']}]\n"
    said = {"output_type": "stream", "name": "stderr", "text": note}
    cell["outputs"], cell["execution_count"] = [said, *content["outputs"]], content["execution_count"]
    cell["metadata"]["papermill"]["status"] = "skipped"
    cell["metadata"]["workbench"] = {"executed_in": {"attempt": content["attempt"], "notebook": content["notebook"]}}


def _written(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()
