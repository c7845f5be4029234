"""A thread that asks one source again and again, as long as somebody wants to know."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipelines.definition.triggers import Trigger
from pipelines.store.records import Json
from workbench.errors import WorkbenchError

logger = logging.getLogger(__name__)

EVERY_SECONDS = 2.0  # between two rounds
WANTED_SECONDS = 30.0  # who has not asked for so long does not want to know any more
TOLD_SECONDS = 600.0  # between two lines of the log about the same trouble
END_SECONDS = 1.0


@dataclass(frozen=True)
class Key:
    """The row of a schedule as it stood when the question was asked."""

    pipeline: str
    schedule: str
    cursor: datetime


@dataclass(frozen=True)
class Question:
    """What is to be found out for a trigger."""

    rule: Trigger
    position: Json
    is_running: bool = False  #: whether the last run that the trigger has started had not ended before it was asked


@dataclass(frozen=True)
class Answer:
    """What was found, and what had been asked."""

    question: Question
    found: Any


Questions = Mapping[Key, Question]
Source = Callable[[Questions], tuple[Mapping[Key, Any], Mapping[Key, WorkbenchError]]]  #: answers, and refusals


class Asker:
    """Asks one source; a round begins at most every `EVERY_SECONDS`.

    Args:
        name: of the source, for the log and the thread.
        opening: makes the source; entered in the thread when there is something to ask, and left
            when the source has failed.
    """

    def __init__(self, name: str, opening: Callable[[], AbstractContextManager[Source]]) -> None:
        self._name, self._opening = name, opening
        self._lock = threading.Lock()
        self._wanted: dict[Key, tuple[Question, float]] = {}
        self._answers: Mapping[Key, Answer] = {}
        self._ending = threading.Event()
        self._troubles: dict[str, tuple[str, float]] = {}  # by what they are about: what was told of it, and when
        self._thread = threading.Thread(target=self._run, name=f"ask {name}", daemon=True)
        self._thread.start()

    def ask(self, key: Key, question: Question) -> Answer | None:
        """The last answer for this row; None while there is none. Returns at once."""
        with self._lock:
            self._wanted[key] = question, time.monotonic()
            return self._answers.get(key)

    def end(self) -> None:
        """Ask no more; a round that is under way may still take a moment."""
        self._ending.set()
        self._thread.join(END_SECONDS)

    def _run(self) -> None:
        while not self._ending.is_set():
            if not self._questions():
                self._ending.wait(EVERY_SECONDS)
                continue
            try:
                with self._opening() as source:
                    self._rounds(source)
            except WorkbenchError as error:
                self._tell(self._name, str(error))
            except Exception as error:  # noqa: BLE001 - the thread goes on, and the log says what was wrong
                self._tell(self._name, f"{type(error).__name__}: {error}", exception=error)
            self._ending.wait(EVERY_SECONDS)

    def _rounds(self, source: Source) -> None:
        while not self._ending.is_set() and (questions := self._questions()):
            answers, refused = source(questions)
            self._troubles.pop(self._name, None)
            with self._lock:
                self._answers = {key: Answer(questions[key], found) for key, found in answers.items()}
            for key in questions:
                if key in refused:
                    self._tell(f"{key.pipeline}, trigger {key.schedule}", str(refused[key]))
                else:
                    self._troubles.pop(f"{key.pipeline}, trigger {key.schedule}", None)
            self._ending.wait(EVERY_SECONDS)

    def _questions(self) -> Questions:
        limit = time.monotonic() - WANTED_SECONDS
        with self._lock:
            self._wanted = {key: each for key, each in self._wanted.items() if each[1] > limit}
            newest = {(key.pipeline, key.schedule): key for key in self._wanted}
            # The row has moved on since an older question.
            return {key: self._wanted[key][0] for key in newest.values()}

    def _tell(self, about: str, text: str, exception: Exception | None = None) -> None:
        told, at = self._troubles.get(about, ("", 0.0))
        if told == text and time.monotonic() - at < TOLD_SECONDS:
            return
        self._troubles[about] = text, time.monotonic()
        logger.warning("%s: %s", about, text, exc_info=exception)
