"""One batch into the warehouse, however often that takes."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from workbench.errors import RowsRefused, WarehouseUnavailable
from workbench.ingestion.batch import Batch
from workbench.ingestion.decoding import Decoded
from workbench.ingestion.loads import LoadBuilder, refuse, refused_records
from workbench.loading import Load, Warehouse

logger = logging.getLogger(__name__)

FIRST_WAIT_SECONDS = 0.2
LONGEST_WAIT_SECONDS = 10.0


@dataclass(frozen=True)
class Decoding:
    """A batch with what is to be written of it."""

    batch: Batch
    decoded: Decoded
    load: Load


def commit(
    work: Decoding,
    warehouse: Warehouse,
    loads: LoadBuilder,
    *,
    outage_seconds: float,
    wait: Callable[[float], bool],
) -> Load | None:
    """Write one load; records that the table refuses become dead letters, outages are waited for.

    Args:
        work: what to write.
        warehouse: where.
        loads: builds the load anew, without what was refused.
        outage_seconds: how long the warehouse may be away.
        wait: waits for so many seconds; returns True when it is not worth going on.

    Returns:
        What was written; None when `wait` said that it is not worth going on.

    Raises:
        WarehouseError: as `Warehouse.commit` says.
    """
    load, decoded, seconds, outage = work.load, work.decoded, FIRST_WAIT_SECONDS, 0.0
    while True:
        begun = time.monotonic()
        try:
            warehouse.commit(load)
        except RowsRefused as error:
            refused = refused_records(load, error)
            if not refused:
                raise
            decoded = refuse(decoded, work.batch, refused)
            load = loads.build(work.batch, decoded)
        except WarehouseUnavailable as error:
            # Nothing is known of the transaction; the same load is not written twice.
            outage = outage or begun
            if time.monotonic() - outage > outage_seconds:
                raise
            logger.warning("%s; trying again in %.1f s", error.message, seconds)
            if wait(seconds * random.uniform(0.5, 1.0)):  # noqa: S311 - spreads retries
                return None
            seconds = min(seconds * 2, LONGEST_WAIT_SECONDS)
        else:
            return load
