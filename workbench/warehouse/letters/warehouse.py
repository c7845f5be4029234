"""A warehouse whose dead letters are encrypted on the way in and decrypted on the way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Self

import pyarrow as pa

from workbench.loading import Claim, Load, Progress, Warehouse
from workbench.sections import WarehouseSettings
from workbench.warehouse.dialects import CAPABILITIES
from workbench.warehouse.letters.keys import LetterKeys, Sealers
from workbench.warehouse.letters.sealing import as_table

if TYPE_CHECKING:
    import sqlalchemy


class SealingWarehouse:
    """Any warehouse (`workbench.loading.Warehouse`), with letters encrypted before they are written.

    Versions of the keyset stay as they are until the letters are committed: what `workbench keys
    rewrap` does not see is written with the new primary.
    """

    def __init__(self, warehouse: Warehouse, sealers: Sealers | None) -> None:
        self._inner = warehouse
        self._sealers = sealers

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._inner.__exit__(kind, error, trace)

    def prepare(self, rows: pa.Schema) -> pa.Schema:
        """See `workbench.loading.Warehouse`."""
        return self._inner.prepare(rows)

    def claim(self, cluster_id: str, topic_id: str, first_offsets: Mapping[int, int]) -> tuple[Claim, ...]:
        """See `workbench.loading.Warehouse`."""
        return self._inner.claim(cluster_id, topic_id, first_offsets)

    def progress(self) -> Sequence[Progress]:
        """See `workbench.loading.Warehouse`."""
        return self._inner.progress()

    def coordinates(self, *, dead: bool) -> Iterator[pa.RecordBatch]:
        """See `workbench.loading.Warehouse`."""
        return self._inner.coordinates(dead=dead)

    def filtered(self) -> Iterator[pa.RecordBatch]:
        """See `workbench.loading.Warehouse`."""
        return self._inner.filtered()

    def transaction(self) -> AbstractContextManager[sqlalchemy.Connection]:
        """See `workbench.loading.Warehouse`."""
        return self._inner.transaction()

    def commit(self, load: Load) -> None:
        """Write all of *load* in one transaction; see `workbench.loading.Warehouse`.

        Raises:
            KeysetError, EncryptionError: when its letters cannot be encrypted; nothing is written then.
        """
        with ExitStack() as until_committed:
            self._inner.commit(self._sealed(load, until_committed))

    def replay(self, after: tuple[int, int], limit: int, load: Callable[[pa.Table], Load]) -> tuple[int, int] | None:
        """Take dead letters and write what is made of them; see `workbench.loading.Warehouse`.

        Raises:
            KeysetError, EncryptionError: when a letter cannot be decrypted; nothing has changed then.
        """
        with ExitStack() as until_committed:
            return self._inner.replay(
                after, limit, lambda letters: self._sealed(load(self._unsealed(letters)), until_committed)
            )

    def _sealed(self, load: Load, until_committed: ExitStack) -> Load:
        if self._sealers is None or not load.dead_letters.num_rows:
            return load
        sealer = until_committed.enter_context(self._sealers.sealer())
        return replace(load, dead_letters=sealer.seal(load.dead_letters))

    def _unsealed(self, letters: pa.Table) -> pa.Table:
        return letters


class SealedWarehouse(SealingWarehouse):
    """The same where the keyset is, so that letters are decrypted, too."""

    def __init__(self, warehouse: Warehouse, keys: LetterKeys, *, seals: bool) -> None:
        super().__init__(warehouse, keys if seals else None)
        self._keys = keys

    def _unsealed(self, letters: pa.Table) -> pa.Table:
        if letters["encrypted_with"].null_count == letters.num_rows:
            return letters
        return as_table([self._keys.unsealed(each) for each in letters.to_pylist()], letters.schema)


def seals_letters(settings: WarehouseSettings) -> bool:
    """Whether dead letters are to be encrypted: not where the whole warehouse is."""
    return settings.encrypt_dead_letters and not CAPABILITIES[settings.dialect].encrypted_at_rest
