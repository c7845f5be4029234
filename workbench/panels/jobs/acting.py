"""What the panel of pipelines reads and does: operations of the page of pipelines, under the rights of whoever presses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from workbench.panels.jobs.state import PipelineState, RunForm, RunState
from workbench.panels.service import Pipelines, Row
from workbench.panels.sometimes import Sometimes
from workbench.security.audit import Action
from workbench.security.audit.commands import audits_itself, not_audited

LIST_SECONDS = 5.0  #: between two readings of all pipelines
SHOWN_RUNS = 10


class PipelinesWatch:
    """How pipelines stand, and the runs of one of them.

    Args:
        pipelines: the page.
    """

    def __init__(self, pipelines: Pipelines) -> None:
        self._pipelines = pipelines
        self._list = Sometimes(self._read_list, LIST_SECONDS, ())
        self._runs = Sometimes(self._read_runs, 0.0, ())
        self.chosen = ""  #: the pipeline whose runs are read

    def read(self) -> dict[str, Any]:
        """Fields of `PipelinesState`."""
        problems: list[str] = []
        found = {"pipelines": self._list.get(problems), "runs": self._runs.get(problems) if self.chosen else ()}
        return {**found, "problems": tuple(problems)}

    def forget(self) -> None:
        """Read all of it the next time: somebody has changed something."""
        self._list.forget()
        self._runs.forget()

    def _read_list(self) -> tuple[PipelineState, ...]:
        return tuple(
            PipelineState(
                name=str(each["name"]),
                owner=str(each.get("owner") or ""),
                paused=bool(each.get("paused")),
                next_at=_time(each.get("next_at")),
                last=tuple(str(run["state"]) for run in each.get("runs", ())),
            )
            for each in self._pipelines.ask("list_pipelines")["pipelines"]
        )

    def _read_runs(self) -> tuple[RunState, ...]:
        found = self._pipelines.ask("show_matrix", pipeline=self.chosen, limit=SHOWN_RUNS)["runs"]
        return tuple(_run(each) for each in found)


class PipelinesActions:
    """Each returns a sentence that says what was done, and raises a WorkbenchError when it was not.

    Args:
        pipelines: the page; it asks for rights, and records.
        change: takes fields of the panel's state.
        watch: reads anew what was changed.
    """

    def __init__(self, pipelines: Pipelines, change: Callable[..., object], watch: PipelinesWatch) -> None:
        self._pipelines, self._change, self._watch = pipelines, change, watch

    @not_audited("It only looks; the page asks for the right to.")
    def choose(self, pipeline: str) -> str:
        """Show the form and the runs of a pipeline."""
        self._watch.chosen = pipeline
        self._watch.forget()
        self._change(form=None, runs=(), preview=())
        found = self._pipelines.ask("show_form", pipeline=pipeline)
        schema = found["schema"]
        form = RunForm(
            pipeline=pipeline,
            schema=schema["properties"],
            required=tuple(schema["required"]),
            partitions=found["partitions"],
        )
        if self._watch.chosen != pipeline:
            return f"{self._watch.chosen} was chosen meanwhile."
        self._change(form=form)
        return f"{pipeline} takes {len(form.schema)} {'value' if len(form.schema) == 1 else 'values'}."

    @audits_itself(Action.RUN_STARTED)
    def run(self, pipeline: str, values: Mapping[str, Any]) -> str:
        """Run a pipeline now."""
        run = self._pipelines.ask("start_run", pipeline=pipeline, parameters=dict(values))["run"]
        self._watch.forget()
        return f"Run {run} of {pipeline} is to begin."

    @audits_itself(Action.RUN_CANCELLED)
    def cancel(self, run: int) -> str:
        """Cancel a run."""
        cancelled = self._pipelines.ask("cancel_run", run=run)["cancelled"]
        self._watch.forget()
        return f"Run {run} is being cancelled." if cancelled else f"Run {run} has ended already."

    @audits_itself(Action.RUN_REPAIRED)
    def repair(self, run: int) -> str:
        """Run again what did not succeed."""
        steps = self._pipelines.ask("repair_run", run=run)["steps"]
        self._watch.forget()
        return f"Run {run} runs again: {', '.join(steps)}."

    @not_audited("It only looks; the page asks for the right to.")
    def preview(self, pipeline: str, since: str, until: str) -> str:
        """Show what a backfill would run."""
        found = self._pipelines.ask("preview_backfill", pipeline=pipeline, **_range(since, until))["partitions"]
        rows = tuple((str(each["partition"]), _stands(each)) for each in found)
        if self._watch.chosen == pipeline:
            self._change(preview=rows)
        runs = sum(bool(each["runs"]) for each in found)
        return f"{runs} of {len(rows)} partitions would run."

    @audits_itself(Action.BACKFILL_STARTED)
    def backfill(self, pipeline: str, since: str, until: str, values: Mapping[str, Any] = MappingProxyType({})) -> str:
        """Run a pipeline for each partition of a range that has not succeeded, with the same *values* each time."""
        parameters = {"parameters": dict(values)} if values else {}
        done = self._pipelines.ask("start_backfill", pipeline=pipeline, **_range(since, until), **parameters)
        self._watch.forget()
        self._change(preview=())
        return f"Backfill {done['backfill']}: {done['runs']} of {done['partitions']} partitions are to run."


def _stands(row: Row) -> str:
    state = str(row["state"] or "never run")
    return f"{state}, would run" if row["runs"] else state


def _range(since: str, until: str) -> dict[str, str]:
    return {name: text for name, text in (("since", since.strip()), ("until", until.strip())) if text}


def _run(row: Row) -> RunState:
    return RunState(
        id=int(row["id"]),
        state=str(row["state"]),
        trigger=str(row.get("trigger") or ""),
        requested_by=str(row.get("requested_by") or ""),
        began=_time(row.get("created_at")),
        ended=_time(row.get("ended_at")),
        steps=tuple((str(name), str(state)) for name, state in row.get("steps", {}).items()),
    )


def _time(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None
