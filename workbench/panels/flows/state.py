"""What the panel of ingestion shows, as values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from workbench.warehouse.letters.looking import Letter


@dataclass(frozen=True, kw_only=True)
class FlowState:
    """A flow as it stands. None, and an empty text, is what nobody could tell."""

    name: str
    topic: str = ""
    table: str = ""
    state: str = ""  #: as the page of pipelines has it: running, stopped, waiting …
    since: datetime | None = None
    reason: str = ""  #: why its process ended the last time
    behind: int | None = None  #: offsets of the topic that the warehouse lacks
    rate: float | None = None  #: records a second, over the last five seconds
    commit_age_seconds: float | None = None
    dead: int | None = None  #: dead letters


@dataclass(frozen=True, kw_only=True)
class IngestionState:
    """All flows; the dead letters of one of them, when somebody has asked for those."""

    flows: tuple[FlowState, ...] = ()
    problems: tuple[str, ...] = ()  #: what could not be read, in words
    letters_of: str = ""  #: the flow whose letters these are
    letters: tuple[Letter, ...] = ()

    def letter(self, at: tuple[int, int] | None) -> Letter | None:
        """The dead letter at a partition and an offset."""
        return next((each for each in self.letters if (each.partition, each.offset) == at), None)
