"""The panel of the warehouse as widgets, and as a picture."""

from __future__ import annotations

import base64
from html import escape

from workbench.cells.sql.options import PLOTS
from workbench.cells.sql.rendering import page_html, shown
from workbench.cells.sql.result import SqlResult
from workbench.errors import WorkbenchError
from workbench.panels.panel import Panel
from workbench.panels.parts import (
    Grid,
    Picture,
    button,
    clock,
    count,
    dropdown,
    in_words,
    offer,
    picture_of,
    said_html,
)
from workbench.panels.tables.acting import WarehouseActions
from workbench.panels.tables.state import WarehouseState
from workbench.warehouse.looking import TableLook

SHOWN_ROWS = 50
NO_CHART = "no chart"


class WarehouseView:
    """Shows tables; its buttons are functions of `WarehouseActions`.

    Args:
        panel: that it belongs to.
        actions: what its buttons do.
    """

    def __init__(self, panel: Panel[WarehouseState], actions: WarehouseActions) -> None:
        import ipywidgets

        self._panel, self._actions = panel, actions
        self.table = dropdown("Table", "The table to look at", "420px")
        self.look = button("Look", "Columns, rows, freshness and quality of this table", self._look)
        self._facts = ipywidgets.HTML()
        self.sql = ipywidgets.Textarea(
            description="Query", placeholder="SELECT …", tooltip="One query of SQL that changes nothing",
            layout={"width": "760px", "height": "90px"}, style={"description_width": "initial"}, tabbable=True,
        )  # fmt: skip
        self.run = button("Run", "Run the query", self._run)
        self.kind = dropdown("Chart", "How the rows are drawn", "190px")
        self.x = dropdown("along", "The column along the bottom", "230px")
        self.y = dropdown("of", "The column of numbers that is drawn", "230px")
        self._rows, self._chart = ipywidgets.HTML(), ipywidgets.HTML()
        offer(self.kind, [NO_CHART, *PLOTS])
        for each in (self.kind, self.x, self.y):
            each.observe(lambda _: self._draw(), "value")
        wrap = {"flex_flow": "row wrap"}
        self.widget = ipywidgets.VBox(
            [
                ipywidgets.HBox([self.table, self.look], layout=wrap),
                self._facts,
                self.sql,
                ipywidgets.HBox([self.run, self.kind, self.x, self.y], layout=wrap),
                self._chart,
                self._rows,
            ]
        )
        self._result: SqlResult | None = None

    def show(self, state: WarehouseState) -> None:
        """See `View`."""
        offer(self.table, state.tables)
        self.look.disabled = not state.tables
        facts = picture_of(*_look_parts(state), *state.problems).html
        if facts != self._facts.value:
            self._facts.value = facts
        if state.result is not self._result:
            self._result = state.result
            self._show_result(state.result)

    def picture(self, state: WarehouseState) -> Picture:
        """See `View`."""
        parts = _look_parts(state) or [tables_grid(state)]
        if state.result is not None:
            parts.append(rows_grid(state.result))
        return picture_of(*parts, *state.problems)

    def _show_result(self, result: SqlResult | None) -> None:
        if result is None:
            return
        shown_rows = result.rows[:SHOWN_ROWS]
        self._rows.value = page_html(result.columns, shown_rows, f"{len(shown_rows):,} of {len(result):,} rows")
        offer(self.x, [each.name for each in result.columns], anew=True)
        # The first column is along the bottom: it is the last that one would draw.
        ordered = [*result.columns[1:], *result.columns[:1]]
        offer(self.y, [each.name for each in ordered if each.is_number], anew=True)
        self._draw()

    def _draw(self) -> None:
        if self._result is None or self.kind.value in {None, NO_CHART}:
            self._chart.value = ""
            return
        self._chart.value = chart_html(self._result, self.kind.value, self.x.value or "", self.y.value or "")

    def _look(self) -> None:
        self._panel.act_on(self.table.value, "a table", self._actions.look)

    def _run(self) -> None:
        text = self.sql.value
        self._panel.act(lambda: self._actions.ask(text))


def chart_html(result: SqlResult, kind: str, x: str, y: str) -> str:
    """A chart as a picture with a text for those who do not see it; in words, why there is none."""
    try:
        picture = result.plot(kind, x=x, y=y or ())._repr_png_()
    except WorkbenchError as error:
        return said_html(in_words(error), "alert")
    except (TypeError, ValueError) as error:  # what pandas does not draw
        return said_html(f"{kind} of {y} along {x} cannot be drawn: {error}", "alert")
    text = escape(f"{kind} chart of {y} along {x}, {len(result):,} rows", quote=True)
    return f'<img alt="{text}" style="max-width:100%" src="data:image/png;base64,{base64.b64encode(picture).decode()}">'


def tables_grid(state: WarehouseState) -> Grid:
    """All tables."""
    return Grid(
        caption="Tables",
        heads=("table",),
        rows=tuple((each,) for each in state.tables),
        nothing="This account sees no tables.",
    )


def rows_grid(result: SqlResult) -> Grid:
    """The first rows of a query."""
    return Grid(
        caption=f"{len(result):,} rows",
        heads=tuple(each.name for each in result.columns),
        rows=tuple(tuple(shown(value) for value in row) for row in result.rows[:SHOWN_ROWS]),
        numbers=frozenset(n for n, each in enumerate(result.columns) if each.is_number),
    )


def _look_parts(state: WarehouseState) -> list[Grid | str]:
    look = state.look
    return [] if look is None else [_columns(look), _sample(look), *_checks(look)]


def _columns(look: TableLook) -> Grid:
    rows = f"{'about ' if look.is_estimate else ''}{count(look.rows)} rows"
    fresh = [f"last commit from {topic} at {clock(time)}" for topic, time in look.written.items()]
    otherwise = "who writes it is not known" if look.untold else "no flow writes it"
    return Grid(
        caption=" · ".join([look.name, rows, *(fresh or [otherwise])]),
        heads=("column", "type"),
        rows=tuple((each.name, each.type) for each in look.sample.columns),
    )


def _sample(look: TableLook) -> Grid:
    return Grid(
        caption="Some of its rows",
        heads=tuple(each.name for each in look.sample.columns),
        rows=tuple(tuple(shown(value) for value in row) for row in look.sample.rows),
        numbers=frozenset(n for n, each in enumerate(look.sample.columns) if each.is_number),
        nothing="It has no rows.",
    )


def _checks(look: TableLook) -> list[Grid | str]:
    if not look.checks:
        return ["Whether its quality was checked is not known." if look.untold else "Its quality was never checked."]
    rows: tuple[tuple[str, ...], ...] = tuple(
        (
            str(each["expectation"]),
            "passed" if each["passed"] else f"failed ({each['severity']})",
            f"{each['rows_failed']:,} of {each['rows_checked']:,}",
            str(each["explanation"]),
        )
        for each in look.checks
    )
    heads = ("expectation", "outcome", "rows failed", "explanation")
    return [Grid(caption=f"Quality, checked {clock(look.checks[0]['checked_at'])}", heads=heads, rows=rows)]
