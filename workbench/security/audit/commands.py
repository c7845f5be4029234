"""How a command of the command line says that it is audited, or why it need not be.

>>> @audited(Action.TOPICS_CHANGED, "topics")
... def apply() -> None: ...

The decorator looks up WORKBENCH_HOME when the command runs. Who types a command writes a log of
their own: a hub user with an OS user of their own has a WORKBENCH_HOME, too.
"""

from __future__ import annotations

import functools
import inspect
import logging
import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from workbench.errors import AuditError
from workbench.security.audit.actions import MEANINGS, Action, Outcome
from workbench.security.audit.event import Event
from workbench.security.audit.log import AuditLog

P = ParamSpec("P")
R = TypeVar("R")
ATTRIBUTE = "auditing"  #: of a command: an `Auditing`

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Auditing:
    """What is recorded of a command; without an action nothing is, and `reason` says why."""

    action: Action | None
    reason: str = ""


def audited(
    action: Action, resource: str, *, after: Callable[[Path], object] = lambda _home: None
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Record that a command begins, and how it ends. When that cannot be written, it is not run if its action fails closed.

    Args:
        action: what it does.
        resource: what it is done to; `{name}` stands for the parameter of that name.
        after: called with WORKBENCH_HOME once the end is recorded.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> R:
            home = _find_home()
            try:
                with recording(home, action, resource.format(**_values(signature, args, kwargs))):
                    return function(*args, **kwargs)
            finally:
                after(home)

        setattr(run, ATTRIBUTE, Auditing(action))
        return run

    return decorate


@contextmanager
def recording(home: Path, action: Action, resource: str) -> Iterator[dict[str, object]]:
    """Record that something begins, and how it ends with the details that are put into what this gives.

    >>> with recording(settings.home, Action.KEYSET_ROTATED, "keyset") as details:
    ...     details["version"] = rotate()

    Raises:
        AuditError: when that cannot be written and the action fails closed; nothing is done then.
    """
    trail = _Trail(AuditLog.of(home), action, resource)
    trail.record(Outcome.BEGUN)
    details: dict[str, object] = {}
    try:
        yield details
    except BaseException as error:
        outcome = _outcome(error)
        named = {"error": type(error).__name__} if outcome is Outcome.FAILED else {}
        trail.record(outcome, **{**details, **named})
        raise
    trail.record(Outcome.SUCCESS, **details)


def audits_itself(action: Action) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Say that a command, or what it asks to do its work, writes the event with that action."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        setattr(function, ATTRIBUTE, Auditing(action))
        return function

    return decorate


def _values(signature: inspect.Signature, args: Any, kwargs: Any) -> dict[str, Any]:
    bound = signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.arguments


def not_audited(reason: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Say why nothing is recorded of a command."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        setattr(function, ATTRIBUTE, Auditing(None, reason))
        return function

    return decorate


def operator() -> str:
    """Who types, as the audit log names them."""
    # Not by the environment, which whoever types may set.
    try:
        return f"operator:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"operator:{os.getuid()}"


@dataclass(frozen=True)
class _Trail:
    log: AuditLog
    action: Action
    resource: str

    def record(self, outcome: Outcome, **details: object) -> None:
        event = Event.of(self.action, actor=operator(), resource=self.resource, outcome=outcome, **details)
        try:
            self.log.append(event)
        except AuditError as error:
            if MEANINGS[self.action].fails_closed and outcome is Outcome.BEGUN:
                raise
            logger.warning("%s", error)


def _outcome(error: BaseException) -> Outcome:
    # typer's own way to end with a code; 0 is no failure.
    code: Any = getattr(error, "exit_code", None) if type(error).__name__ == "Exit" else 1
    return Outcome.SUCCESS if code == 0 else Outcome.FAILED


def _find_home() -> Path:
    from workbench.settings import find_home

    return find_home()
