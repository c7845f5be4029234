"""A result in pages. The rows stay in the kernel: the browser has one page, and asks for the next.

The page is an output of its own, in HTML and in text, and is replaced in place: a saved notebook shows it
without a kernel and without a script. The buttons are an output below it, made only where somebody can press them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from workbench.cells.sql.displays import show_bundle, show_widget
from workbench.cells.sql.rendering import page_html, page_text
from workbench.cells.sql.result import SqlResult

PAGE_SIZES = (25, 50, 100)
UNSORTED = "as they came"
TURNS = {  # the buttons that turn pages, in their order, with their icons
    "first": "angle-double-left",
    "previous": "angle-left",
    "next": "angle-right",
    "last": "angle-double-right",
}


@dataclass(kw_only=True)
class Grid:
    """Which page of a result is shown, and in which order."""

    result: SqlResult
    size: int = PAGE_SIZES[0]
    page: int = 0
    order: list[int] = field(default_factory=list)  #: numbers of rows, as they are shown

    def __post_init__(self) -> None:
        self.order = list(range(len(self.result)))

    @property
    def pages(self) -> int:
        """How many pages there are; one, when there are no rows."""
        return max(1, -(-len(self.result) // self.size))

    def turn(self, page: int) -> None:
        """Go to a page, counted from 0, or to the nearest that is there."""
        self.page = min(max(page, 0), self.pages - 1)

    def resize(self, size: int) -> None:
        """Change how many rows a page has; its first row stays in view."""
        first = self.page * self.size
        self.size = size
        self.turn(first // size)

    def sort(self, column: int | None, *, descending: bool = False) -> None:
        """Order the rows that were fetched by a column, null last; None is the order in which they came."""
        self.page = 0
        self.order = list(range(len(self.result)))
        if column is None:
            return
        rows = self.result.rows
        present = [row for row in self.order if rows[row][column] is not None]
        try:
            present.sort(key=lambda row: rows[row][column], reverse=descending)
        except TypeError:  # JSON and its like have no order
            present.sort(key=lambda row: str(rows[row][column]), reverse=descending)
        self.order = present + [row for row in self.order if rows[row][column] is None]

    def bundle(self) -> dict[str, str]:
        """The page as a notebook keeps it, by MIME type."""
        first = self.page * self.size
        rows = [self.result.rows[number] for number in self.order[first : first + self.size]]
        caption = self.caption()
        return {
            "text/html": page_html(self.result.columns, rows, caption, first + 1),
            "text/plain": page_text(self.result.columns, rows, caption),
        }

    def caption(self) -> str:
        """Which rows these are, of how many, and how long they took."""
        count, first = len(self.result), self.page * self.size
        took = f"{self.result.seconds:.2f} s"
        if self.result.is_cut:
            more = "there are more: --limit fetches more of them, --into NAME all"
            return f"Rows {first + 1:,} to {min(first + self.size, count):,} of the first {count:,}; {more}. {took}"
        if count <= self.size:
            return f"{count:,} {'row' if count == 1 else 'rows'}. {took}"
        return f"Rows {first + 1:,} to {min(first + self.size, count):,} of {count:,}. {took}"


def show_grid(result: SqlResult, *, watched: bool) -> None:
    """Display a result; with buttons, when somebody watches and there is something to turn or to sort."""
    grid = Grid(result=result)
    handle = show_bundle(grid.bundle())
    if watched and len(result) > 1:
        show_widget(Controls(grid, handle).widget)


class Controls:
    """The buttons below a page: they turn, resize and sort it, in its place.

    Args:
        grid: what they change.
        handle: of the output that shows its page.
    """

    def __init__(self, grid: Grid, handle: Any) -> None:
        import ipywidgets

        self._grid, self._handle = grid, handle
        narrow = ipywidgets.Layout(width="42px")
        self._turns = {
            name: ipywidgets.Button(icon=icon, tooltip=f"{name.capitalize()} page", layout=narrow)
            for name, icon in TURNS.items()
        }
        self._place = ipywidgets.Label()
        sizes = [(f"{each} a page", each) for each in PAGE_SIZES]
        self._size = ipywidgets.Dropdown(options=sizes, layout=ipywidgets.Layout(width="110px"))
        columns = [(column.name, number) for number, column in enumerate(grid.result.columns)]
        self._column = ipywidgets.Dropdown(
            description="Sorted", options=[(UNSORTED, None), *columns], layout=ipywidgets.Layout(width="260px")
        )
        self._downwards = ipywidgets.ToggleButton(icon="sort-amount-desc", tooltip="Largest first", layout=narrow)
        self._listen()
        self._tell_place()

    @property
    def widget(self) -> Any:
        """All of them, in a row."""
        import ipywidgets

        first, previous, following, last = self._turns.values()
        return ipywidgets.HBox(
            [first, previous, self._place, following, last, self._size, self._column, self._downwards]
        )

    def _listen(self) -> None:
        for name, button in self._turns.items():
            button.on_click(partial(self._turn, name))
        self._size.observe(self._resize, "value")
        self._column.observe(self._sort, "value")
        self._downwards.observe(self._sort, "value")

    def _turn(self, name: str, _: Any) -> None:
        grid = self._grid
        targets = {"first": 0, "previous": grid.page - 1, "next": grid.page + 1, "last": grid.pages - 1}
        grid.turn(targets[name])
        self._refresh()

    def _resize(self, _: Any) -> None:
        self._grid.resize(self._size.value)
        self._refresh()

    def _sort(self, _: Any) -> None:
        self._grid.sort(self._column.value, descending=self._downwards.value)
        self._refresh()

    def _refresh(self) -> None:
        self._tell_place()
        self._handle.update(self._grid.bundle(), raw=True)

    def _tell_place(self) -> None:
        page, pages = self._grid.page, self._grid.pages
        self._place.value = f"Page {page + 1:,} of {pages:,}"
        self._turns["first"].disabled = self._turns["previous"].disabled = page == 0
        self._turns["next"].disabled = self._turns["last"].disabled = page == pages - 1
