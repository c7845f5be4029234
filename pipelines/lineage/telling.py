"""What is told of one attempt, from what a worker or a reaper knows of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pipelines.lineage.datasets import Datasets, datasets_of, told_datasets
from pipelines.lineage.messages import Subject, begun, ended
from pipelines.states import State
from pipelines.store.records import Claim, LostAttempt, Message
from workbench.settings import Settings

TABLES_FILE = "WORKBENCH_PIPELINES_TABLES_FILE"


@dataclass(frozen=True)
class Told:
    """An attempt of which others are told."""

    subject: Subject
    datasets: Datasets  #: known before it runs
    settings: Settings = field(repr=False)
    tables: Path | None = None  #: where functions of `workbench` tell more, while it runs

    @property
    def environment(self) -> dict[str, str]:
        """What a step is given so that they do."""
        return {} if self.tables is None else {TABLES_FILE: str(self.tables)}

    def begun(self) -> Message:
        """That it runs now."""
        return begun(self.subject, self.datasets)

    def ended(self, state: State, error: str) -> Message:
        """That it has ended so. What was told while it ran is read, once."""
        more = Datasets() if self.tables is None else told_datasets(self.tables, self.settings)
        return ended(self.subject, self.datasets.and_those(more), state, error)


@dataclass(frozen=True)
class Lineage:
    """Tells of attempts."""

    settings: Settings = field(repr=False)

    @classmethod
    def wanted(cls, settings: Settings) -> Lineage | None:
        """One when the settings want somebody to be told."""
        return cls(settings) if settings.pipelines.tells_lineage else None

    def of(self, claim: Claim, kind: str = "", file: Path | None = None, tables: Path | None = None) -> Told:
        """What is told of a claim.

        Args:
            claim: of the attempt.
            kind: of its step.
            file: that the step runs.
            tables: where the step is to tell which tables it touches.
        """
        subject = self._subject(claim, kind)
        return Told(subject, datasets_of(kind, file, self.settings), self.settings, tables)

    def lost(self, attempt: LostAttempt) -> tuple[Message, ...]:
        """That the worker of an attempt is gone. Which tables it has touched is not known."""
        return (ended(self._subject(attempt), Datasets(), State.LOST, attempt.reason),)

    def _subject(self, attempt: Claim | LostAttempt, kind: str = "") -> Subject:
        return Subject(
            namespace=self.settings.pipelines.lineage_namespace,
            pipeline=attempt.pipeline,
            run_key=attempt.run_key,
            step=attempt.step,
            attempt_id=attempt.attempt_id,
            instant=attempt.instant,
            kind=kind,
        )


def lost_by(lineage: Lineage | None) -> Callable[[LostAttempt], tuple[Message, ...]]:
    """What whoever reaps tells of attempts that are lost."""
    return lineage.lost if lineage is not None else lambda _: ()
