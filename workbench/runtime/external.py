"""Servers that somebody else runs: nobody here starts them, and whether they answer is asked all the same."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace

from workbench.errors import WorkbenchError
from workbench.runtime.state import ComponentStatus, State

logger = logging.getLogger(__name__)

CHECK_SECONDS = 30.0


class ExternalServer(threading.Thread):
    """Asks one server now and then, in a thread of its own.

    Args:
        name: as `workbench status` shows it.
        address: where it is.
        check: raises WorkbenchError when the server does not let us in or does not answer.
        note: called when the answer has changed.
    """

    def __init__(
        self,
        name: str,
        address: str,
        check: Callable[[], object],
        note: Callable[[], None],
    ) -> None:
        super().__init__(name=f"ask-{name}", daemon=True)
        # Whoever is told of it here has asked it once.
        self.status = ComponentStatus(name=name, state=State.EXTERNAL, address=address, ready=True)
        self._check, self._note = check, note
        self._stopping = threading.Event()

    def run(self) -> None:
        """Called by `start`."""
        while not self._stopping.wait(CHECK_SECONDS):
            reason = self._ask()
            status = replace(self.status, ready=not reason, reason=reason)
            if status != self.status:
                self.status = status
                self._note()

    def request_stop(self) -> None:
        """Ask no more; who is waiting for an answer is not waited for."""
        self._stopping.set()

    def _ask(self) -> str:
        try:
            self._check()
        except WorkbenchError as error:
            return error.message
        except Exception as error:
            # An answer that nobody thought of is none, and the next question is asked all the same.
            logger.exception("asking %s failed", self.status.name)
            return f"asking it failed: {type(error).__name__}"
        return ""
