"""Who may do what: four rights, each with all that the lesser ones have. Without one, nothing is shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from workbench.errors import WorkbenchError
from workbench.observability.metrics import count_authorization

SERVICE = "pipelines"  #: as the metric of attempts names it


class Right(IntEnum):
    """What somebody may do with a pipeline."""

    NONE = 0
    VIEWER = 1  #: see runs, their values and their outputs
    RUNNER = 2  #: run, cancel, repair
    EDITOR = 3  #: backfills
    OWNER = 4  #: pause and resume the schedule; of everything: sizes of pools, silences of alerts


class Forbidden(WorkbenchError):
    """Somebody may not do what they asked for."""


class NotSignedIn(WorkbenchError):
    """Nobody knows who asks."""


class TooManyRefused(WorkbenchError):
    """So many strangers were refused that the next one has to wait."""


class PipelinePaused(WorkbenchError):
    """Somebody has paused the pipeline, so that it begins no runs by itself."""


class NotFromOurPage(WorkbenchError):
    """A request that changes something came without the token of a page that we made for that person."""


@dataclass(frozen=True, kw_only=True)
class Person:
    """Who asks.

    `session` is the same for as long as somebody stays signed in; tokens of forms are bound to it.
    """

    name: str
    right: Right  #: for every pipeline
    groups: frozenset[str] = frozenset()
    session: bytes = field(default=b"", repr=False)
    is_program: bool = False  #: came with a token in a header, which no other site's page can send

    def right_for(self, owner: str) -> Right:
        """The right for a pipeline whose definition has this `owner`, a name or a group of the hub.

        Whoever the hub lets start nothing does not start anything by being named in a file.
        """
        is_owner = bool(owner) and owner in {self.name, *self.groups}
        return Right.OWNER if is_owner and self.right >= Right.RUNNER else self.right


def right_of_groups(groups: Iterable[str], rights: Mapping[str, str]) -> Right:
    """The greatest right of somebody's groups.

    Args:
        groups: of the hub.
        rights: name of a right by group.
    """
    return max((Right[rights[each].upper()] for each in groups if each in rights), default=Right.NONE)


def demand(has: Right, needs: Right, what: str) -> None:
    """Let those pass who may; either is counted.

    Raises:
        Forbidden: all others.
    """
    count_authorization(SERVICE, is_allowed=has >= needs)
    if has < needs:
        raise Forbidden(
            f"{what} takes the right of {_article(needs)}; you have {_article(has) if has else 'none'}",
            remedy="Ask the owner of the pipeline, or an administrator of the hub for another role.",
        )


def _article(right: Right) -> str:
    name = right.name.lower()
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
