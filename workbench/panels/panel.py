"""What all panels share: a state that is read again and again, a view that shows it, and buttons that do not block."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Generic, Protocol, TypeVar

from workbench.cells.hearing import answer_anywhere
from workbench.errors import WorkbenchError
from workbench.panels.parts import Picture, in_words, said_html
from workbench.panels.refreshing import Refresher

logger = logging.getLogger(__name__)
S = TypeVar("S")
Shown_contra = TypeVar("Shown_contra", contravariant=True)
Changes = Mapping[str, Any]  #: fields of a state, by name
FIRST_SECONDS = 1.0  #: that a cell waits for the first reading, so that the picture that is kept shows it
UNEXPECTED = "Something went wrong that nobody has foreseen"


class View(Protocol[Shown_contra]):
    """Shows a state. Keeps nothing that the state has."""

    widget: Any

    def show(self, state: Shown_contra) -> None:
        """Show it, from any thread."""

    def picture(self, state: Shown_contra) -> Picture:
        """The same as a notebook keeps it."""


class Panel(Generic[S]):
    """A state, read every second beside the kernel, and its view.

    Args:
        state: to begin with; a frozen dataclass.
        read: fields of the state as they are now.
        seconds: between two readings.
        end: called once, when the panel is closed.
    """

    def __init__(
        self, state: S, read: Callable[[], Changes], *, seconds: float = 1.0, end: Callable[[], object] = lambda: None
    ) -> None:
        self.state = state
        self._read = read
        self._lock = threading.RLock()
        self.view: Any = None  #: a `View[S]` with its controls
        self._said: Any = None
        self._box: Any = None
        self._refresher = Refresher(self.refresh, seconds, end)
        self._is_closed = self._is_failing = False
        self._has_read = threading.Event()

    def show_with(self, view: View[S]) -> None:
        """Give it its view; once."""
        import ipywidgets

        self.view = view
        self._said = ipywidgets.HTML(said_html(""))
        self._box = ipywidgets.VBox([self._said, view.widget])
        # A panel is of most use while a cell runs.
        answer_anywhere(self._box)
        view.show(self.state)

    @property
    def widget(self) -> Any:
        """All of it, for layouts of one's own."""
        return self._box

    @property
    def is_open(self) -> bool:
        """Whether it still reads."""
        return not self._is_closed

    @property
    def message(self) -> str:
        """What stands above it, as HTML."""
        return str(self._said.value)

    def start(self) -> None:
        """Begin to read again and again, until it is closed."""
        if not self._is_closed and not self._refresher.is_running:
            self._refresher.start()

    def refresh(self) -> None:
        """Read the state now, and show it. What fails is told."""
        failed = ""
        try:
            self.change(**self._read())
        except WorkbenchError as error:
            failed = in_words(error)
        except Exception as error:  # noqa: BLE001 - it is told, and the next reading may be right
            failed = _unforeseen(error)
        if failed or self._is_failing:
            self.say(failed, "alert" if failed else "status")
        self._is_failing = bool(failed)
        self._has_read.set()

    def change(self, **changes: Any) -> None:
        """Change fields of the state, and show it if that changed anything."""
        with self._lock:
            if self._is_closed:
                return
            state = replace(self.state, **changes)  # type: ignore[type-var]
            if state == self.state:
                return
            self.state = state
            if self.view is not None:
                self.view.show(state)

    def act(self, call: Callable[[], str]) -> None:
        """Do what a button says, beside the kernel, and tell what came of it.

        Args:
            call: returns a sentence; what it raises is told in words.
        """
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._act, call), name="workbench-panel-act", daemon=True).start()

    def act_on(self, chosen: Any, what: str, call: Callable[[Any], str]) -> None:
        """`act` on what a dropdown has; nothing is done, and that is told, when there nothing is chosen.

        Args:
            chosen: its value.
            what: it chooses, such as `a run`.
            call: is given the value.
        """
        if chosen is None:
            self.say(f"Choose {what} first.", "alert")
        else:
            self.act(lambda: call(chosen))

    def say(self, text: str, kind: str = "status") -> None:
        """Put a sentence above the panel, which screen readers speak."""
        html = said_html(text, kind)
        if self._said is not None and not self._is_closed and html != self._said.value:
            self._said.value = html

    def close(self) -> None:
        """Read no more, and take the widgets away. It may be called again."""
        with self._lock:
            if self._is_closed:
                return
            self.say("This panel is closed.")
            self._is_closed = True
        self._refresher.stop()
        if self._box is not None:
            _close(self._box)

    def picture(self) -> Picture:
        """What a notebook keeps of it."""
        found: Picture = self.view.picture(self.state)
        return found

    def _act(self, call: Callable[[], str]) -> None:
        self.say("…")
        try:
            self.say(call())
        except WorkbenchError as error:
            self.say(in_words(error), "alert")
        except Exception as error:  # noqa: BLE001 - no traceback helps a person who has pressed a button
            self.say(_unforeseen(error), "alert")
        self._refresher.wake()

    def _ipython_display_(self) -> None:
        from workbench.cells.sql.displays import show_bundle, show_widget

        if self._is_closed or not is_watched():
            self.refresh()
            show_bundle(self.picture().bundle())
            self.close()
            return
        self.start()
        show_widget(self._box)
        self._has_read.wait(FIRST_SECONDS)
        show_bundle(self.picture().bundle(folded=True))


def is_watched() -> bool:
    """Whether somebody looks at what this cell puts out: runs of notebooks take no input, JupyterLab does."""
    from IPython.core.getipython import get_ipython

    kernel = getattr(get_ipython(), "kernel", None)
    return kernel is not None and bool(kernel.get_parent().get("content", {}).get("allow_stdin"))


def _unforeseen(error: Exception) -> str:
    # Not louder: a kernel would print it below a cell, every second.
    logger.debug("a panel met an error that is none of ours", exc_info=error)
    return f"{UNEXPECTED}: {type(error).__name__}."


def _close(widget: Any) -> None:
    for each in getattr(widget, "children", ()):
        _close(each)
    widget.close()
