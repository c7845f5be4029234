"""What a line belongs to: a run, a flow, a request; bound once by who knows it, and in every line that is logged meanwhile."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

#: What a line may belong to, in the order in which it stands there.
FIELDS = ("run", "attempt", "pipeline", "step", "flow", "user", "request")
VARIABLE = "WORKBENCH_LOG_CONTEXT"  #: by which kernels and child processes are told
HEADER = "X-Request-ID"
# Of UUID, ULID, W3C trace context and what proxies make. It goes into logs and headers as it is.
WELL_FORMED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
LONGEST_VALUE = 200  #: characters; what is longer is cut

_process: dict[str, str] = {}
_bound: ContextVar[Mapping[str, str]] = ContextVar("workbench_log_fields", default={})  # noqa: B039 - it is replaced, never changed


def log_context() -> dict[str, str]:
    """What a line that is logged now belongs to, in the order of `FIELDS`."""
    found = {**_process, **_bound.get()}
    return {name: found[name] for name in FIELDS if name in found}


@contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Lines of this block belong to *fields*, too: those of tasks and of `asyncio.to_thread` that begin in it included.

    Args:
        fields: some of `FIELDS`; None and empty texts are left out.
    """
    token = _bound.set({**_bound.get(), **_texts(fields)})
    try:
        yield
    finally:
        _bound.reset(token)


def bind_request(request: str) -> None:
    """Lines belong to *request* until another one comes: for whoever has a context of its own for each, as tornado does."""
    _bound.set({**_bound.get(), **_texts({"request": request})})


def bind_process(**fields: object) -> None:
    """All lines of this process belong to *fields*, those of every thread."""
    _process.update(_texts(fields))


def request_id(sent: str | None) -> str:
    """The id that somebody has sent when it is well formed, else a new one. A sender forges no line, and fills none."""
    return sent if sent is not None and WELL_FORMED.fullmatch(sent) else new_request_id()


def new_request_id() -> str:
    """An id of 64 random bits."""
    return secrets.token_hex(8)


def as_variable(**fields: object) -> dict[str, str]:
    """The variable by which another process has its lines belong to *fields*."""
    return {VARIABLE: json.dumps(_texts(fields))}


def read_variable(text: str) -> dict[str, str]:
    """What `as_variable` has written; nothing for an empty text.

    Raises:
        ValueError: when it is something else.
    """
    found = json.loads(text or "{}")
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError("it is no JSON object of texts, as a worker writes it")
    if unknown := sorted(set(found) - set(FIELDS)):
        raise ValueError(f"{unknown[0]!r} is none of {', '.join(FIELDS)}")
    return _texts(found)


def _texts(fields: Mapping[str, object]) -> dict[str, str]:
    assert set(fields) <= set(FIELDS), f"{sorted(set(fields) - set(FIELDS))} are not declared"
    return {name: str(value)[:LONGEST_VALUE] for name, value in fields.items() if value not in (None, "")}
