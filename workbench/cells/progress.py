"""Progress of Spark under the cell that asked for it.

In JupyterLab it is a widget while the cell runs and one line of text after. Where nobody looks on,
as under papermill, it is that line alone. A thread draws, four times a second: the query only
leaves notes of how far it is.
"""

from __future__ import annotations

import contextvars
import logging
import threading
import time
from collections.abc import Callable
from html import escape
from typing import TYPE_CHECKING, Any

from workbench.cells.hearing import answer_anywhere
from workbench.cells.progress_view import progress_html
from workbench.transformation.progress import Operation, Recorder, summary_line

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

logger = logging.getLogger(__name__)
QUIET_SECONDS = 0.3  # what is quicker shows nothing
INTERVAL_SECONDS = 0.25
BUILDING_SECONDS = 4.0  # that a front-end may take to load what shows widgets, and to build a view
Cancel = Callable[[], object]


class CellProgress:
    """Follows the cells of one shell. A listener of a recorder; `attach` and `detach` are repeatable."""

    def __init__(self, shell: InteractiveShell, recorder: Recorder, ui_path: str = "") -> None:
        self._shell = shell
        self._recorder = recorder
        self._ui_path = ui_path
        self._cell: _Cell | None = None
        self._lock = threading.Lock()
        self._open: list[_Cell] = []
        self._ticker: threading.Thread | None = None

    def attach(self) -> None:
        """Begin to follow."""
        self._recorder.listen(self)
        self._shell.events.register("pre_run_cell", self._on_begin)
        self._shell.events.register("post_run_cell", self._on_end)

    def detach(self) -> None:
        """Stop following."""
        self._recorder.forget(self)
        for event, function in (("pre_run_cell", self._on_begin), ("post_run_cell", self._on_end)):
            if function in self._shell.events.callbacks[event]:
                self._shell.events.unregister(event, function)

    def __call__(self, operation: Operation, cancel: Cancel) -> None:
        """Called by the recorder when an operation begins and when it has ended."""
        cell = self._cell
        if cell is None or not operation.is_running:
            return
        cell.add(operation, cancel)
        with self._lock:
            if cell not in self._open:
                self._open.append(cell)
            if self._ticker is None or not self._ticker.is_alive():
                self._ticker = threading.Thread(target=self._tick, name="spark-progress", daemon=True)
                self._ticker.start()

    def _on_begin(self, *_: object) -> None:
        # Lab names the cell with its request; others, papermill among them, do not.
        kernel = getattr(self._shell, "kernel", None)
        metadata = kernel.get_parent().get("metadata", {}) if kernel is not None else {}
        self._cell = None if kernel is None else _Cell(self._recorder, self._ui_path, is_watched="cellId" in metadata)

    def _on_end(self, *_: object) -> None:
        if cell := self._cell:
            # Here, and not by the thread: what comes after the cell's answer is nobody's output.
            cell.end()

    def _tick(self) -> None:
        rests = threading.Event()
        while True:
            rests.wait(INTERVAL_SECONDS)
            with self._lock:
                self._open = [cell for cell in self._open if not cell.is_folded]
                if not self._open:
                    self._ticker = None
                    return
                cells = list(self._open)
            for cell in cells:
                cell.draw()


class _Cell:
    """One run of a cell: its operations, and what is shown of them."""

    def __init__(self, recorder: Recorder, ui_path: str, *, is_watched: bool) -> None:
        self.is_folded = False
        self._recorder = recorder
        self._ui_path = ui_path
        self._is_watched = is_watched
        self._has_ended = False
        self._cancels: dict[str, Cancel] = {}
        self._view: _View | None = None
        self._drawing = threading.RLock()
        # What a thread shows belongs to this cell, whatever runs by then.
        self._context = contextvars.copy_context()

    def add(self, operation: Operation, cancel: Cancel) -> None:
        """An operation of this cell begins."""
        self._cancels[operation.id] = cancel

    def draw(self) -> None:
        """Show how it stands. Nothing that fails here reaches the cell."""
        try:
            with self._drawing:
                self._context.copy().run(self._draw)
        except Exception:
            logger.debug("progress could not be shown", exc_info=True)
            self.is_folded = True

    def end(self) -> None:
        """The cell has run."""
        self._has_ended = True
        self.draw()

    def cancel(self) -> None:
        """Cancel what runs. Called in a thread of its own, because the cell keeps the first one busy."""
        for operation in self._operations():
            if operation.is_running:
                self._cancels[operation.id]()

    def _operations(self) -> list[Operation]:
        found = (self._recorder.find(each) for each in list(self._cancels))
        return [each for each in found if each is not None]

    def _draw(self) -> None:
        if self.is_folded:
            return
        operations = self._operations()
        is_running = any(each.is_running for each in operations)
        is_long = any(each.seconds >= QUIET_SECONDS for each in operations)
        if self._has_ended and not is_running:
            self.is_folded = True
            if is_long:
                self._fold(summary_line(operations))
        elif self._is_watched and is_long:
            if self._view is None:
                self._view = _View(self._ui_path, self.cancel)
            self._view.show(progress_html(operations, self._recorder.executors))

    def _fold(self, line: str) -> None:
        if self._view:
            self._view.fold(line)
        else:
            from IPython.display import publish_display_data

            publish_display_data({"text/plain": line})  # type: ignore[no-untyped-call]


class _View:
    """The widget, and the line that takes its place."""

    def __init__(self, ui_path: str, cancel: Cancel) -> None:
        import ipywidgets
        from IPython.display import display

        self._html = ipywidgets.HTML()
        self._button = ipywidgets.Button(
            description="Cancel", icon="stop", tooltip="Stop what Spark does for this cell", layout={"width": "100px"}
        )
        self._button.on_click(lambda _: self._cancel(cancel))
        answer_anywhere(self._button)
        controls: list[Any] = [self._button]
        if ui_path:
            link = f'<a href="{ui_path}" target="_blank" rel="noopener" style="text-decoration:underline">Spark UI</a>'
            controls.append(ipywidgets.HTML(link))
        self._row = ipywidgets.HBox(controls, layout={"align_items": "center"})
        self._box = ipywidgets.VBox([self._html, self._row])
        self._shown = ""
        self._since = time.monotonic()
        self._handle = display(self._box, display_id=True)  # type: ignore[no-untyped-call]

    def show(self, html: str) -> None:
        if html != self._shown:
            self._shown = self._html.value = html

    def fold(self, line: str) -> None:
        """Show the line at once, and make it the output of the cell as soon as the view may go."""
        self._html.value = f"<code>{escape(line)}</code>"
        self._row.layout.display = "none"
        # A front-end that still builds a view stumbles over its end.
        wait_seconds = max(0.0, self._since + BUILDING_SECONDS - time.monotonic())
        later = threading.Timer(wait_seconds, contextvars.copy_context().run, (self._replace, line))
        later.daemon = True
        later.start()

    def _replace(self, line: str) -> None:
        if self._handle is not None:
            self._handle.update({"text/plain": line}, raw=True)
        for widget in (self._box, self._row, *self._row.children, self._html):
            widget.close()

    def _cancel(self, cancel: Cancel) -> None:
        self._button.description = "Cancelling"
        cancel()
