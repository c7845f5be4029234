"""Three threads: one reads, one decodes, the caller's writes.

Between them is room for one batch, so that memory is bounded and a slow warehouse slows the
reading down. Batches are committed in the order in which they were read.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty, Full, Queue
from typing import TypeVar

from workbench.ingestion.batch import Batch
from workbench.ingestion.committing import Decoding, commit
from workbench.ingestion.decoding import Decoder
from workbench.ingestion.decoding.guarded import decode_guarded
from workbench.ingestion.loads import LoadBuilder
from workbench.ingestion.source import Source
from workbench.ingestion.stalled import Stalled
from workbench.loading import Load, Warehouse

T = TypeVar("T")

LOOK_SECONDS = 0.2  # between two looks whether another thread has failed
PATIENCE_SECONDS = 5.0  # until a reader that cannot hand over pauses its partitions
SETTLE_SECONDS = 20.0
COLLECTED_OBJECTS = 500_000


@contextmanager
def rare_collections() -> Iterator[None]:
    """Look for cycles of garbage rarely: records come by the ten thousand, live for a second and have none.

    A quarter of the CPU time of a flow went into looking at them again and again.
    """
    before = gc.get_threshold()
    gc.set_threshold(COLLECTED_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


class Pipeline:
    """Runs one reader, one decoder and one writer until the reader is done or one of them fails.

    Args:
        decoder: of the values.
        loads: makes of each batch what is written.
        warehouse: where it is written.
        outage_seconds: how long the warehouse may be away before that is an error.
        committed: called after each commit with the load, its batch and the seconds that it took.
    """

    def __init__(
        self,
        decoder: Decoder,
        loads: LoadBuilder,
        warehouse: Warehouse,
        *,
        outage_seconds: float,
        committed: Callable[[Load, Batch, float], object],
    ) -> None:
        self._decoder = decoder
        self._loads = loads
        self._warehouse = warehouse
        self._outage_seconds = outage_seconds
        self._committed = committed
        self._batches: Queue[Batch | None] = Queue(1)
        self._decoded: Queue[Decoding | None] = Queue(1)
        self._stopped = threading.Event()
        self._settled = threading.Condition()
        self._in_flight = 0
        self._failure: BaseException | None = None

    def run(self, open_source: Callable[[], Source], read: Callable[[Source], None]) -> None:
        """Read with *read* until it returns, and commit everything that it offers.

        Raises:
            WorkbenchError: the first error of any of the three.
        """
        threads = [
            threading.Thread(target=self._guarded(lambda: self._read(open_source, read)), name="read", daemon=True),
            threading.Thread(target=self._guarded(self._decode), name="decode", daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            with rare_collections():
                while (work := self._take(self._decoded)) is not None:
                    self._commit(work)
        finally:
            self._stop()
            for thread in threads:
                thread.join()
        if self._failure is not None:
            raise self._failure

    @property
    def stopped(self) -> bool:
        """Whether the reader should return."""
        return self._stopped.is_set()

    def offer(self, source: Source) -> bool:
        """Hand over what *source* has read; whether that took so long that its partitions were paused."""
        batch = source.cut()
        if batch is None:
            return False
        self._put(batch, lambda waited: source.wait() if waited > PATIENCE_SECONDS else None)
        return source.go_on()

    def settle(self, batch: Batch | None) -> None:
        """Hand over *batch* and wait until all is committed, for 20 s at most."""
        deadline = time.monotonic() + SETTLE_SECONDS

        def look(_: float) -> None:
            if time.monotonic() > deadline:
                raise Stalled(f"what was read could not be handed over within {SETTLE_SECONDS:.0f} s")

        if batch is not None:
            self._put(batch, look)
        with self._settled:
            self._settled.wait_for(lambda: not self._in_flight or self.stopped, max(deadline - time.monotonic(), 0))

    def _read(self, open_source: Callable[[], Source], read: Callable[[Source], None]) -> None:
        with open_source() as source:
            read(source)
            self.offer(source)
            with self._settled:  # the last offsets are told to Kafka when they are committed
                self._settled.wait_for(lambda: not self._in_flight or self.stopped)
        self._hand_on(self._batches, None)

    def _decode(self) -> None:
        while (batch := self._take(self._batches)) is not None:
            decoded = decode_guarded(self._decoder, batch.values)
            self._hand_on(self._decoded, Decoding(batch, decoded, self._loads.build(batch, decoded)))
        self._hand_on(self._decoded, None)

    def _commit(self, work: Decoding) -> None:
        """Write one load, however often that takes; rows that the table refuses become dead letters."""
        started = time.monotonic()
        load = commit(work, self._warehouse, self._loads, outage_seconds=self._outage_seconds, wait=self._stopped.wait)
        if load is None:
            return
        self._committed(load, work.batch, time.monotonic() - started)
        with self._settled:
            self._in_flight -= 1
            self._settled.notify_all()

    def _put(self, batch: Batch, waiting: Callable[[float], object]) -> None:
        with self._settled:
            self._in_flight += 1
        self._hand_on(self._batches, batch, waiting)

    def _hand_on(self, queue: Queue[T], item: T, waiting: Callable[[float], object] = lambda _: None) -> None:
        started = time.monotonic()
        while not self.stopped:
            try:
                queue.put(item, timeout=LOOK_SECONDS)
                return
            except Full:
                waiting(time.monotonic() - started)

    def _take(self, queue: Queue[T | None]) -> T | None:
        """The next item; None at the end, or when a thread has failed."""
        while not self.stopped:
            try:
                return queue.get(timeout=LOOK_SECONDS)
            except Empty:
                continue
        return None

    def _guarded(self, work: Callable[[], None]) -> Callable[[], None]:
        def call() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - raised again by the thread that called `run`
                self._failure = self._failure or error
                self._stop()

        return call

    def _stop(self) -> None:
        self._stopped.set()
        with self._settled:
            self._settled.notify_all()
