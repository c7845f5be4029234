"""What follows for a run from how its steps stand, without a database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipelines.states import State

GOOD = frozenset({State.SUCCEEDED, State.SKIPPED})
# Of several ends the run has the one that says most about what to do.
WORST_FIRST = (
    State.FAILED,
    State.KERNEL_DIED,
    State.TIMED_OUT,
    State.INFRASTRUCTURE_ERROR,
    State.LOST,
    State.CANCELLED,
)


@dataclass(frozen=True)
class Step:
    """How a step stands."""

    name: str
    after: Sequence[str]
    state: State
    is_in_queue: bool = False  #: it may be claimed, or is


@dataclass(frozen=True)
class Moves:
    """What is to be done next with steps that only wait."""

    ready: frozenset[str] = frozenset()
    ended: Mapping[str, tuple[State, str]] = field(default_factory=dict)  #: state and reason by step


def next_moves(steps: Iterable[Step], stop: str | None) -> Moves:
    """Which steps may run now, and which never will.

    Args:
        steps: all of the run.
        stop: why the run is to be stopped, if it is: nothing that waits begins then.
    """
    waiting = {step.name: step for step in steps if step.state is State.QUEUED and not step.is_in_queue}
    states = {step.name: step.state for step in steps}
    if stop is not None:
        return Moves(ended=dict.fromkeys(waiting, (State.CANCELLED, stop)))
    ended: dict[str, tuple[State, str]] = {}
    while found := {name: end for name, step in waiting.items() if (end := _end(step, states))}:
        ended |= found
        for name, (state, _) in found.items():
            states[name] = state
            del waiting[name]
    ready = (name for name, step in waiting.items() if all(states[each] is State.SUCCEEDED for each in step.after))
    return Moves(frozenset(ready), ended)


def run_end(states: Iterable[State], stop: State | None) -> State | None:
    """How a run of such steps ended; None while one of them has not."""
    found = set(states)
    if not all(state.is_end for state in found):
        return None
    if found <= GOOD:
        return State.SUCCEEDED if State.SUCCEEDED in found else State.SKIPPED
    if stop is not None:
        return stop
    return next(state for state in WORST_FIRST if state in found)


def with_followers(chosen: Iterable[str], steps: Iterable[Step]) -> set[str]:
    """The chosen steps and all that follows from them."""
    found, steps = set(chosen), list(steps)
    while more := {step.name for step in steps if step.name not in found and not found.isdisjoint(step.after)}:
        found |= more
    return found


def _end(step: Step, states: Mapping[str, State]) -> tuple[State, str] | None:
    """How a waiting step ends because of those that it waits for; None while it may still run.

    What did not succeed cancels it at once. What was skipped skips it when all others have ended,
    so that the end does not depend on who was first.
    """
    before = {name: states[name] for name in step.after}
    bad = next((name for name, state in before.items() if state.is_end and state not in GOOD), None)
    if bad is not None:
        return State.CANCELLED, f"{bad} ended {before[bad]}"
    skipped = next((name for name, state in before.items() if state is State.SKIPPED), None)
    if skipped is not None and all(state.is_end for state in before.values()):
        return State.SKIPPED, f"{skipped} ended skipped"
    return None
