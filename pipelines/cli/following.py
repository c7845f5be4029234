"""Follows a run on a terminal: how its steps stand, and what they print, as they print it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from pipelines.engine.record.events import Event, Kind, parse_event
from pipelines.engine.record.keeping import read_lines
from pipelines.processes.naming import is_here
from pipelines.runner.folders import log_beside
from pipelines.states import State
from pipelines.store.database import Store
from pipelines.store.pages.runs import RunPage, last_event, read_run
from workbench.errors import EncryptionError, KeysetError, StoreUnavailable
from workbench.security.keyset.opening import Keys

LOOK_SECONDS = 0.2
WORDS = {
    "repair": "is repaired",
    "stop": "is being ended",
    "retry": "is tried again",
    "reused": "is reused",
    "changed": "has changed meanwhile",
    "resumed": "went on from a checkpoint",
    "late": "is late",
    "slow": "takes longer than expected",
    "overdue": "is overdue",
    "not_resumed": "began with its first cell",
}


@dataclass(frozen=True)
class Seen:
    """What of a run was there before: it is not shown."""

    event: int = 0  #: the id of the last event
    attempts: frozenset[int] = frozenset()  #: their ids


def seen_of_run(store: Store, run_id: int) -> Seen:
    """All that there is of a run now.

    Raises:
        NoSuchRun: when there is none.
    """
    with store.transaction() as connection:
        page = read_run(connection, run_id, events=0)
        return Seen(last_event(connection, run_id), frozenset(each["id"] for each in page.attempts))


def follow_run(
    store: Store,
    run_id: int,
    *,
    keys: Keys,
    with_output: bool,
    is_quiet: bool = False,
    seen: Seen | None = None,
) -> None:
    """Return when the run has ended. A store that does not answer for a while is waited for.

    Args:
        store: where the run is.
        run_id: of the run.
        keys: that decrypt its logs.
        with_output: show what steps print; their logs have to be on this machine.
        is_quiet: show nothing.
        seen: show only what came after it.

    Raises:
        NoSuchRun: when there is none.
    """
    seen = seen or Seen()
    view = _View(keys, with_output=with_output and not is_quiet, is_quiet=is_quiet, without=seen.attempts)
    after = seen.event
    while True:
        try:
            with store.transaction() as connection:
                page = read_run(connection, run_id, after_event=after)
        except StoreUnavailable as error:
            view.say(error.message)
            time.sleep(1.0)
            continue
        view.show(page)
        after = max((each["id"] for each in page.events), default=after)
        if page.run["ended_at"] is not None:
            return
        time.sleep(LOOK_SECONDS)


@contextmanager
def shown_log(path: Path, *, keys: Keys) -> Iterator[None]:
    """Print what a log says while the context is open, and all of it at its end."""
    tail, ended = Tail(path, keys), threading.Event()

    def show() -> None:
        for text in tail.new_text():
            sys.stdout.write(text)
        sys.stdout.flush()

    def follow() -> None:
        while not ended.wait(LOOK_SECONDS):
            show()

    thread = threading.Thread(target=follow, name="show-log", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        show()


class _View:
    """What is on the terminal."""

    def __init__(self, keys: Keys, *, with_output: bool, is_quiet: bool, without: frozenset[int]) -> None:
        self._keys = keys
        self._console = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
        self._with_output, self._is_quiet, self._without = with_output, is_quiet, without
        self._tails: dict[int, Tail] = {}

    def say(self, text: str) -> None:
        """One line of ours."""
        if not self._is_quiet:
            self._console.print(f"── {text}", style="dim")

    def show(self, page: RunPage) -> None:
        """What is new."""
        if self._with_output:
            self._show_output(page)
        for event in page.events:
            self.say(_told(event))

    def _show_output(self, page: RunPage) -> None:
        for attempt in page.attempts:
            if attempt["id"] not in {*self._without, *self._tails} and attempt["output_path"]:
                log = log_beside(Path(attempt["output_path"]))
                self._tails[attempt["id"]] = Tail(log, self._keys)
                self.say(f"{attempt['step']}, attempt {attempt['number']}, on worker {attempt['worker']}")
                # On this machine it comes with the first event.
                if not is_here(str(attempt["worker"])):
                    self.say(f"its log is on that worker's machine: {log}")
        for tail in self._tails.values():
            for text in tail.new_text():
                sys.stdout.write(text)
        sys.stdout.flush()


class Tail:
    """What one log has that was not read yet."""

    def __init__(self, path: Path, keys: Keys) -> None:
        self._path, self._keys, self._position = path, keys, 0

    def new_text(self) -> list[str]:
        """What was put out since the last time."""
        found = []
        try:
            for line, behind in read_lines(self._path, self._keys, self._position):
                self._position = behind
                found.append(_text(parse_event(line)))
        except OSError:
            return found
        except (KeysetError, EncryptionError) as error:
            # Once: the state of the run goes on being told.
            self._position = sys.maxsize
            found.append(f"{error}\n")
        return found


def _text(event: Event) -> str:
    content = event.content
    if event.kind is not Kind.OUTPUT:
        return ""
    if content["output_type"] == "stream":
        return str(content["text"])
    if content["output_type"] == "error":
        return "\n".join([*content["traceback"], ""])
    return f"{_joined(content['data'].get('text/plain', ''))}\n"


def _joined(text: Any) -> str:
    return text if isinstance(text, str) else "".join(text)


def _told(event: dict[str, Any]) -> str:
    what = f"step {event['step']}" if event["step"] else "the run"
    body = event["body"] or {}
    word = WORDS.get(event["kind"], "") or _state(body) or event["kind"]
    reason = f": {body['reason']}" if isinstance(body, dict) and body.get("reason") else ""
    return f"{what} {word}{reason}"


def _state(body: Any) -> str:
    state = body.get("state") if isinstance(body, dict) else None
    return {State.QUEUED: "waits", State.RUNNING: "runs"}.get(state, str(state)) if state else ""
