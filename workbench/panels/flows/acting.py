"""What can be done from the panel of ingestion; the same that `workbench dlq` and `workbench pipelines flows` do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from workbench.errors import WorkbenchError
from workbench.ingestion.definition import Flow
from workbench.inspection import read_dead_letters, replay_flow_dead_letters
from workbench.panels.flows.watching import FlowsWatch
from workbench.panels.service import Pipelines
from workbench.security.audit import Action
from workbench.security.audit.commands import audited, audits_itself
from workbench.settings import Settings

MOST_LETTERS = 100
Coordinates = tuple[int, int]


class FlowActions:
    """Each returns a sentence that says what was done, and raises a WorkbenchError when it was not.

    Args:
        settings: the clusters and the warehouse.
        flows: those that have a file, by name.
        pipelines: the page that starts and stops them; it asks for rights, and records.
        change: takes fields of the panel's state.
        watch: reads anew what was changed.
    """

    def __init__(
        self,
        settings: Settings,
        flows: Mapping[str, Flow],
        pipelines: Pipelines,
        change: Callable[..., object],
        watch: FlowsWatch,
    ) -> None:
        self._settings, self._flows, self._pipelines = settings, flows, pipelines
        self._change, self._watch = change, watch

    @audits_itself(Action.FLOW_STARTED)
    def start(self, name: str) -> str:
        """Let workers keep a flow running."""
        changed = self._steer("start_flow", name)
        return f"{name} is to run." if changed else f"{name} runs already."

    @audits_itself(Action.FLOW_STOPPED)
    def stop(self, name: str) -> str:
        """Let nobody run it any more."""
        changed = self._steer("stop_flow", name)
        return f"{name} is to stop." if changed else f"{name} is to stop, or has stopped, already."

    @audits_itself(Action.FLOW_RESTARTED)
    def restart(self, name: str) -> str:
        """End its process and start another."""
        self._steer("restart_flow", name)
        return f"{name} is to be started anew."

    def show_letters(self, name: str) -> str:
        """Put the dead letters of a flow into the state."""
        letters = _read(self._settings, self._flow(name))
        self._change(letters_of=name, letters=letters)
        if not letters:
            return f"{name} has no dead letters."
        more = " These are the first; replay or delete them to see others." if len(letters) == MOST_LETTERS else ""
        return f"{len(letters)} dead {'letter' if len(letters) == 1 else 'letters'} of {name}.{more}"

    def replay(self, name: str, at: Coordinates | None = None) -> str:
        """Decode the dead letters of a flow again, or the one *at* a place, and move what fits."""
        done = _replay(self._settings, self._flow(name), at)
        self._watch.forget()
        self._change(letters_of=name, letters=_read(self._settings, self._flow(name)))
        return f"{done.moved:,} moved into the table, {done.left:,} left."

    def _steer(self, operation: str, name: str) -> bool:
        answer: Mapping[str, Any] = self._pipelines.ask(operation, flow=name)
        self._watch.forget()
        return bool(answer.get("changed"))

    def _flow(self, name: str) -> Flow:
        if name not in self._flows:
            raise WorkbenchError(
                f"the file of the flow {name} is gone", remedy="Stop it, or put the file back into pipelines/flows/."
            )
        return self._flows[name]


@audited(Action.DEAD_LETTERS_READ, "flow:{flow.name}")
def _read(settings: Settings, flow: Flow) -> Any:
    return read_dead_letters(settings, flow, MOST_LETTERS, None)


@audited(Action.DEAD_LETTERS_CHANGED, "flow:{flow.name}")
def _replay(settings: Settings, flow: Flow, at: Coordinates | None) -> Any:
    return replay_flow_dead_letters(settings, flow, lambda _: None, at)
