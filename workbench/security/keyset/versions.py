"""The versions of a key and how they change. Values only: nothing is read or written.

    pending ──promote──► primary ──promote of the next──► decrypt-only ──retire──► disabled ──destroy──► destroyed

Rotation has two phases, so that everybody who reads can have a version before anybody encrypts with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Self

from workbench.errors import KeyDisabled, KeysetError, UnknownKeyVersion
from workbench.security.messages import KEY_BYTES

ID_BYTES = 16


class KeyState(StrEnum):
    """What a version may be used for."""

    PENDING = "pending"  #: decrypts; becomes the primary by `promote`
    PRIMARY = "primary"  #: encrypts and decrypts; there is exactly one
    DECRYPT_ONLY = "decrypt-only"
    DISABLED = "disabled"  #: for nothing, until it is enabled again
    DESTROYED = "destroyed"  #: its bytes are gone


READS = (KeyState.PENDING, KeyState.PRIMARY, KeyState.DECRYPT_ONLY)


@dataclass(frozen=True, kw_only=True)
class KeyVersion:
    """One version."""

    number: int  #: from 1
    state: KeyState
    created: datetime
    changed: datetime  #: when it got its state
    key: bytes = field(repr=False)  #: 32 bytes; none once it is destroyed

    def to(self, state: KeyState) -> Self:
        """The version in another state, from now on."""
        key = b"" if state is KeyState.DESTROYED else self.key
        return replace(self, state=state, changed=_now(), key=key)


@dataclass(frozen=True, kw_only=True)
class Keyset:
    """All versions. Each change makes another keyset."""

    id: bytes  #: 16 random bytes; what is encrypted says which keyset it needs
    inventory: str  #: of the inventory that belongs to it
    versions: tuple[KeyVersion, ...]

    @classmethod
    def new(cls) -> Self:
        """A keyset with one version, which is the primary."""
        first = _fresh(1, KeyState.PRIMARY)
        return cls(id=os.urandom(ID_BYTES), inventory=os.urandom(ID_BYTES).hex(), versions=(first,))

    @property
    def primary(self) -> KeyVersion:
        """The version that encrypts."""
        return next(each for each in self.versions if each.state is KeyState.PRIMARY)

    def version(self, number: int) -> KeyVersion:
        """The version of that number, whatever its state.

        Raises:
            UnknownKeyVersion: when there is none.
        """
        for each in self.versions:
            if each.number == number:
                return each
        raise UnknownKeyVersion(
            f"the keyset has no version {number}; it has 1 to {len(self.versions)}",
            remedy="Give a number of `workbench keys list`, or restore the newest backup of the keyset.",
        )

    def reading_key(self, number: int) -> bytes:
        """The key that decrypts what was encrypted with version *number*.

        Raises:
            UnknownKeyVersion: when there is no such version.
            KeyDisabled: when it may not be used.
        """
        found = self.version(number)
        if found.state in READS:
            return found.key
        if found.state is KeyState.DESTROYED:
            raise KeyDisabled(f"version {number} of the keyset is destroyed", remedy="Restore the data from elsewhere.")
        raise KeyDisabled(
            f"version {number} of the keyset is disabled", remedy=f"`workbench keys retire {number} --undo` enables it."
        )

    def rotated(self) -> Self:
        """With a new version, pending.

        Raises:
            KeysetError: when one is pending already.
        """
        if pending := self._pending():
            raise KeysetError(
                f"version {pending.number} is pending already",
                remedy="`workbench keys promote` makes it the primary; then rotate again.",
            )
        return replace(self, versions=(*self.versions, _fresh(len(self.versions) + 1, KeyState.PENDING)))

    def promoted(self) -> Self:
        """With the pending version as the primary, and the primary decrypting only.

        Raises:
            KeysetError: when none is pending.
        """
        pending = self._pending()
        if not pending:
            raise KeysetError("no version is pending", remedy="`workbench keys rotate` makes one.")
        return self._with(self.primary.to(KeyState.DECRYPT_ONLY), pending.to(KeyState.PRIMARY))

    def retired(self, number: int, *, destroy: bool = False) -> Self:
        """With version *number* disabled, or destroyed. The caller has made sure that nobody needs it.

        Raises:
            KeysetError: when it is the primary, or is so already.
            UnknownKeyVersion: when there is no such version.
        """
        found = self.version(number)
        if found.state is KeyState.PRIMARY:
            raise KeysetError(
                f"version {number} is the primary: it encrypts",
                remedy="Rotate, promote and rewrap first; then it is needed no more.",
            )
        state = KeyState.DESTROYED if destroy else KeyState.DISABLED
        if found.state in {state, KeyState.DESTROYED}:
            raise KeysetError(f"version {number} is {found.state} already", remedy="See `workbench keys list`.")
        return self._with(found.to(state))

    def enabled(self, number: int) -> Self:
        """With the disabled version *number* decrypting again.

        Raises:
            KeysetError: when it is not disabled.
            UnknownKeyVersion: when there is no such version.
        """
        found = self.version(number)
        if found.state is not KeyState.DISABLED:
            raise KeysetError(
                f"version {number} is {found.state}, not disabled", remedy="Only what `retire` has disabled comes back."
            )
        return self._with(found.to(KeyState.DECRYPT_ONLY))

    def _pending(self) -> KeyVersion | None:
        return next((each for each in self.versions if each.state is KeyState.PENDING), None)

    def _with(self, *changed: KeyVersion) -> Self:
        new = {each.number: each for each in changed}
        return replace(self, versions=tuple(new.get(each.number, each) for each in self.versions))


Change = Callable[[Keyset], Keyset]


def _fresh(number: int, state: KeyState) -> KeyVersion:
    now = _now()
    return KeyVersion(number=number, state=state, created=now, changed=now, key=os.urandom(KEY_BYTES))


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
