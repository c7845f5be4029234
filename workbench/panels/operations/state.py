"""What the panel of Spark shows, as values."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.transformation.progress import Operation


@dataclass(frozen=True, kw_only=True)
class SparkState:
    """Where Spark runs, and the operations of this kernel, the newest first."""

    facts: tuple[tuple[str, str], ...] = ()  #: names and values
    operations: tuple[Operation, ...] = ()

    @property
    def running(self) -> tuple[Operation, ...]:
        """Those that have not ended."""
        return tuple(each for each in self.operations if each.is_running)
