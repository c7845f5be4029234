"""Reads how flows stand, every second: one query of the warehouse, one request to each cluster, and now and then the rest."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from workbench.flows import open_connection
from workbench.ingestion.cluster.watermarks import EndOffsets
from workbench.ingestion.definition import Flow
from workbench.inspection import count_dead_letters
from workbench.panels.flows.state import FlowState
from workbench.panels.service import Pipelines, Row
from workbench.panels.sometimes import Sometimes
from workbench.settings import Settings
from workbench.warehouse.dialects import make_warehouse
from workbench.warehouse.ledger import read_positions

if TYPE_CHECKING:
    from workbench.loading import Warehouse

STATES_SECONDS = 2.0  #: between two questions to the page of pipelines
LETTERS_SECONDS = 15.0  #: between two counts of dead letters
RATE_SECONDS = 5.0  #: over which a rate is taken: flows commit in batches
FILE_SECONDS = 5.0  #: between two readings of a warehouse that is one file
Positions = Mapping[tuple[str, str], Mapping[int, tuple[int, float]]]
Ends = Mapping[str, Mapping[int, int]]


class FlowsWatch:
    """How flows stand.

    Args:
        settings: the clusters and the warehouse.
        flows: those that have a file.
        pipelines: the page that knows which of them run.
    """

    def __init__(self, settings: Settings, flows: Sequence[Flow], pipelines: Pipelines) -> None:
        self._settings, self._flows, self._pipelines = settings, tuple(flows), pipelines
        self._open = ExitStack()
        self._warehouse: Warehouse | None = None
        self._past: dict[str, deque[tuple[float, int]]] = {each.name: deque() for each in flows}
        self._states = Sometimes(self._read_states, STATES_SECONDS, {})
        pause = FILE_SECONDS if settings.warehouse.dialect == "duckdb" else 0.0
        self._positions = Sometimes(self._read_positions, pause, None)
        self._letters = {
            each.name: Sometimes(partial(self._count_letters, each), LETTERS_SECONDS, None) for each in flows
        }
        clusters = {each.cluster: [one.topic for one in flows if one.cluster == each.cluster] for each in flows}
        self._asked: dict[str, EndOffsets] = {}
        self._ends = {
            name: Sometimes(partial(self._read_ends, name, topics), 0.0, {}) for name, topics in clusters.items()
        }

    def read(self) -> dict[str, Any]:
        """Fields of `IngestionState`; what could not be read is told among the problems."""
        problems: list[str] = []
        states: Mapping[str, Row] = self._states.get(problems)
        positions: Positions | None = self._positions.get(problems)
        ends: Mapping[str, Ends] = {name: each.get(problems) for name, each in self._ends.items()}
        found = [
            self._flow(each, states.get(each.name, {}), positions, ends[each.cluster], problems) for each in self._flows
        ]
        known = {each.name for each in self._flows}
        found += [_with_row(FlowState(name=name), row) for name, row in states.items() if name not in known]
        return {"flows": tuple(found), "problems": tuple(problems)}

    def forget(self) -> None:
        """Read all of it the next time: somebody has changed something."""
        for each in (self._states, *self._letters.values()):
            each.forget()

    def close(self) -> None:
        """Let go of connections."""
        self._open.close()
        self._asked.clear()  # a notebook keeps each panel that it has shown, and a client of Kafka ends with its last reference
        self._pipelines.close()

    def _flow(self, flow: Flow, row: Row, positions: Positions | None, ends: Ends, problems: list[str]) -> FlowState:
        state = FlowState(
            name=flow.name, topic=flow.topic, table=flow.into, dead=self._letters[flow.name].get(problems)
        )
        mine = (positions or {}).get((flow.into, flow.topic))
        if mine:
            next_offsets = {partition: offset for partition, (offset, _) in mine.items()}
            state = replace(
                state,
                rate=self._rate(flow.name, sum(next_offsets.values())),
                commit_age_seconds=float(int(min(age for _, age in mine.values()))),
            )
            if flow.topic in ends:
                there = ends[flow.topic]
                behind = sum(max(there.get(n, offset) - offset, 0) for n, offset in next_offsets.items())
                state = replace(state, behind=behind)
        return _with_row(state, row)

    def _rate(self, name: str, position: int) -> float | None:
        past, now = self._past[name], self._positions.read_at
        if not past or past[-1][0] < now:
            past.append((now, position))
        while len(past) > 2 and past[1][0] <= now - RATE_SECONDS:
            past.popleft()
        (began, first), seconds = past[0], past[-1][0] - past[0][0]
        return None if began == now else max(position - first, 0) / seconds

    def _read_states(self) -> Mapping[str, Row]:
        return {str(each["name"]): each for each in self._pipelines.ask("list_flows")["flows"]}

    def _count_letters(self, flow: Flow) -> int:
        return sum(each.letters for each in count_dead_letters(self._settings, flow))

    def _read_ends(self, cluster: str, topics: Sequence[str]) -> Ends:
        if cluster not in self._asked:
            flow = next(each for each in self._flows if each.cluster == cluster)
            self._asked[cluster] = EndOffsets(open_connection(self._settings, flow), topics)
        return self._asked[cluster].read()

    def _read_positions(self) -> Positions | None:
        nobody = Flow(name="", topic="", into="workbench.offsets")
        if self._settings.warehouse.dialect == "duckdb":  # a file that is held open is nobody else's
            with make_warehouse(self._settings.warehouse, nobody.target) as warehouse:
                return self._ledger(warehouse)
        if self._warehouse is None:
            self._warehouse = self._open.enter_context(make_warehouse(self._settings.warehouse, nobody.target))
        return self._ledger(self._warehouse)

    @staticmethod
    def _ledger(warehouse: Warehouse) -> Positions:
        with warehouse.transaction() as connection:
            return read_positions(connection)


def _with_row(state: FlowState, row: Row) -> FlowState:
    since = row.get("since")
    return replace(
        state,
        state=str(row.get("state", "")),
        since=datetime.fromisoformat(since) if isinstance(since, str) else None,
        reason=str(row.get("reason") or ""),
    )
