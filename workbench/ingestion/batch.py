"""Records on their way: what one poll brings, and the batch that one transaction writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from workbench.loading import Span


@dataclass(frozen=True)
class Batch:
    """Records of several partitions in the order in which they were read."""

    messages: Sequence[Any]  #: confluent_kafka.Message
    values: Sequence[bytes | None]
    partitions: npt.NDArray[np.int32]  #: of each record
    offsets: npt.NDArray[np.int64]  #: of each record
    spans: tuple[Span, ...]
    size_bytes: int = 0  #: of the values
    filtered: pa.Table | None = None  #: `ORIGIN` of the records that the flow's own steps left out


@dataclass(frozen=True)
class BatchLimits:
    """When a batch is complete, whichever comes first; and when a worker is taken for dead."""

    records: int = 25_000
    size_bytes: int = 64_000_000
    age_seconds: float = 0.5
    session_seconds: float = 10.0  #: without a heartbeat, then its partitions go to the others


@dataclass(frozen=True, kw_only=True)
class Commit:
    """What one transaction wrote, in numbers."""

    records: int
    rows: int
    dead: int
    size_bytes: int  #: of the records' values
    seconds: float
    first_timestamp: int | None = None  #: milliseconds since 1970, of the first record
    filtered: int = 0  #: records that the flow's own steps left out


@dataclass(frozen=True)
class Chunk:
    """What one poll brought."""

    messages: list[Any]
    values: list[bytes | None]
    partitions: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]

    @property
    def size_bytes(self) -> int:
        """Of the values."""
        return sum(map(len, filter(None, self.values)))
