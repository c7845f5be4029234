"""The data keys of dead letters: of this process, or lent to executors, which have no keyset."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, Self

from workbench.errors import AuditError
from workbench.sections import WarehouseSettings
from workbench.security.audit import Action, AuditLog
from workbench.security.encryption.data_keys import DataKey, open_data_key, writing_data_key
from workbench.security.keyset.opening import Keys
from workbench.settings import Settings
from workbench.warehouse.letters.sealing import CONTEXT, SUBJECT, Sealer, header_in, unseal, unseal_reason

logger = logging.getLogger(__name__)


class Sealers(Protocol):
    """Who gives a `Sealer`."""

    def sealer(self) -> AbstractContextManager[Sealer]:
        """A context of a `Sealer`; what it has encrypted is committed before the context is left."""


class LetterKeys:
    """What encrypts and decrypts the dead letters of one warehouse. Nothing is opened before it is needed."""

    def __init__(self, keys: Keys, holder: str) -> None:
        self.keys, self.holder = keys, holder
        self._sealer: Sealer | None = None
        self._opened: dict[bytes, DataKey] = {}

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those of the warehouse of *settings*, with the keyset of *settings*."""
        return cls(Keys.of(settings.home, settings.keys), holder(settings.warehouse))

    @contextmanager
    def sealer(self) -> Iterator[Sealer]:
        """What encrypts letters. The keyset is made when there is none; no version changes its state meanwhile.

        Raises:
            KeysetError, EncryptionError, RootKeyUnavailable: when the keyset cannot be used: then the letters cannot be written.
        """
        self._ensure_keyset()
        before = self._sealer
        with writing_data_key(
            self.keys, CONTEXT, holder=self.holder, before=before.key if before is not None else None
        ) as key:
            if before is None or key is not before.key:
                before = self._sealer = Sealer(key)
            yield before

    @contextmanager
    def lent(self) -> Iterator[LentKey]:
        """A data key for processes elsewhere, while the context is open. Versions may be promoted meanwhile.

        Raises:
            As `sealer`.
        """
        self._ensure_keyset()
        with writing_data_key(self.keys, CONTEXT, holder=self.holder) as key:
            # Of its own: a rewrap says that the holder needs it no more while executors may still write with it.
            lent = self.keys.inventory.lend(self.holder, key.version)
        try:
            yield LentKey(key)
        finally:
            self.keys.inventory.hold(self.holder, key.version)
            self.keys.inventory.forget([lent])

    def unsealed(self, letter: dict[str, Any]) -> dict[str, Any]:
        """A letter in clear; one that is not encrypted is as it was.

        Raises:
            EncryptionError, KeysetError: when it cannot be decrypted.
        """
        header = header_in(letter["encrypted_with"])
        return letter if header is None else unseal(letter, self._key(header))

    def reason(self, text: str, encrypted_with: str | None) -> str:
        """A reason in clear, of letters that have *encrypted_with*.

        Raises:
            As `unsealed`.
        """
        header = header_in(encrypted_with)
        return text if header is None else unseal_reason(text, self._key(header))

    def _ensure_keyset(self) -> None:
        if self.keys.ensure():
            home = self.keys.file.path.parent.parent
            try:
                AuditLog.of(home).record(Action.KEYSET_CREATED, actor="ingestion", resource="keyset", version="1")
            except AuditError as error:
                # It is there. What comes from Kafka does not wait for room on a disk.
                logger.error("%s", error)  # noqa: TRY400 - it says all

    def _key(self, header: bytes) -> DataKey:
        if header not in self._opened:
            self._opened[header] = open_data_key(self.keys, header, CONTEXT, subject=SUBJECT)
        return self._opened[header]


@dataclass(frozen=True)
class LentKey:
    """A data key where there is no keyset. It travels to executors, as passwords do."""

    key: DataKey

    @contextmanager
    def sealer(self) -> Iterator[Sealer]:
        """What encrypts letters; who lent the key knows for how long."""
        yield self._sealer

    @cached_property
    def _sealer(self) -> Sealer:
        return Sealer(self.key)


def holder(warehouse: WarehouseSettings) -> str:
    """How the inventory of keys names the dead letters of a warehouse."""
    if warehouse.dialect == "duckdb":
        return f"dead letters of {warehouse.file}"
    place = f"{warehouse.host}:{warehouse.port}/{warehouse.database}" if warehouse.host else "the embedded warehouse"
    return f"dead letters of {place}"
