"""One row for each hop and each store: what was proved of it, and what it lacks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from workbench.errors import WorkbenchError
from workbench.masking import masked

Check = Callable[[], str]  #: says what it has proved, or raises NotProtected


class Kind(StrEnum):
    """What a row is about."""

    HOP = "hop"  #: between two processes
    STORE = "store"  #: on a disk


class State(StrEnum):
    """What has come out."""

    PROTECTED = "protected"
    NOT_PROTECTED = "not protected"
    NOT_IN_USE = "not in use"


class NotProtected(WorkbenchError):
    """A check has found something open.

    Args:
        message: what is open, and to whom.
        remedy: what closes it.
        promised: whether the workbench promises that it is closed; what is not promised is told and is no fault.
    """

    def __init__(self, message: str, *, remedy: str, promised: bool = True) -> None:
        self.promised = promised
        super().__init__(message, remedy=remedy)


@dataclass(frozen=True, kw_only=True)
class Lack:
    """Something open."""

    why: str
    remedy: str
    promised: bool


@dataclass(frozen=True, kw_only=True)
class Row:
    """What is known of one hop or store."""

    kind: Kind
    subject: str
    state: State
    proved: tuple[str, ...] = ()
    lacks: tuple[Lack, ...] = ()

    @property
    def is_broken(self) -> bool:
        """Whether something does not hold that the workbench promises."""
        return any(each.promised for each in self.lacks)

    def as_fields(self) -> dict[str, Any]:
        """The row for JSON."""
        lacks = [{"why": each.why, "remedy": each.remedy, "promised": each.promised} for each in self.lacks]
        return {
            "kind": self.kind.value,
            "subject": self.subject,
            "state": self.state.value,
            "is_broken": self.is_broken,
            "proved": list(self.proved),
            "lacks": lacks,
        }


def examine(kind: Kind, subject: str, *checks: Check) -> Row:
    """The row of *subject*, after all checks. What cannot be looked at counts as open: no row says that nobody knows."""
    proved, lacks = [], []
    for check in checks:
        try:
            if said := check():
                proved.append(said)
        except NotProtected as open_:
            lacks.append(Lack(why=open_.message, remedy=open_.remedy, promised=open_.promised))
        except WorkbenchError as error:
            lacks.append(Lack(why=error.message, remedy=error.remedy, promised=True))
        except Exception as error:  # noqa: BLE001 - whatever a driver raises, the row says that it was not proved
            remedy = "Run this command as the user who started the workbench, while it runs."
            why = f"it could not be looked at: {type(error).__name__}: {masked(str(error))}"
            lacks.append(Lack(why=why, remedy=remedy, promised=True))
    state = State.NOT_PROTECTED if lacks else State.PROTECTED
    return Row(kind=kind, subject=subject, state=state, proved=tuple(proved), lacks=tuple(lacks))


def not_in_use(kind: Kind, subject: str, why: str) -> Row:
    """The row of what is not there."""
    return Row(kind=kind, subject=subject, state=State.NOT_IN_USE, proved=(why,))
