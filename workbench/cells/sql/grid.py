"""A result in pages. The rows stay in the kernel: the browser has one page, and asks for the next.

The page is an output of its own, in HTML and in text, and is replaced in place: a saved notebook shows it
without a kernel and without a script. The buttons are an output below it, made only where somebody can press them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from workbench.cells.sql.displays import show_bundle, show_widget
from workbench.cells.sql.rendering import page_html, page_text
from workbench.cells.sql.result import SqlResult

PAGE_SIZES = (25, 50, 100)
UNSORTED = "as they came"


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
        show_widget(_controls(grid, handle))


def _controls(grid: Grid, handle: Any) -> Any:
    import ipywidgets as widgets

    narrow = {"layout": widgets.Layout(width="42px")}
    steps = {
        "first": "angle-double-left",
        "previous": "angle-left",
        "next": "angle-right",
        "last": "angle-double-right",
    }
    buttons = {
        name: widgets.Button(icon=icon, tooltip=f"{name.capitalize()} page", **narrow) for name, icon in steps.items()
    }
    place = widgets.Label()
    size = widgets.Dropdown(
        options=[(f"{each} a page", each) for each in PAGE_SIZES], layout=widgets.Layout(width="110px")
    )
    names = [(column.name, number) for number, column in enumerate(grid.result.columns)]
    column = widgets.Dropdown(
        description="Sorted", options=[(UNSORTED, None), *names], layout=widgets.Layout(width="260px")
    )
    downwards = widgets.ToggleButton(icon="sort-amount-desc", tooltip="Largest first", **narrow)

    def refresh(*, update: bool = True) -> None:
        place.value = f"Page {grid.page + 1:,} of {grid.pages:,}"
        buttons["first"].disabled = buttons["previous"].disabled = grid.page == 0
        buttons["next"].disabled = buttons["last"].disabled = grid.page == grid.pages - 1
        if update:
            handle.update(grid.bundle(), raw=True)

    def press(button: Any) -> None:
        targets = {"first": 0, "previous": grid.page - 1, "next": grid.page + 1, "last": grid.pages - 1}
        grid.turn(next(targets[name] for name, each in buttons.items() if each is button))
        refresh()

    def resize(_: Any) -> None:
        grid.resize(size.value)
        refresh()

    def sort(_: Any) -> None:
        grid.sort(column.value, descending=downwards.value)
        refresh()

    for button in buttons.values():
        button.on_click(press)
    size.observe(resize, "value")
    column.observe(sort, "value")
    downwards.observe(sort, "value")
    refresh(update=False)
    return widgets.HBox([*list(buttons.values())[:2], place, *list(buttons.values())[2:], size, column, downwards])
