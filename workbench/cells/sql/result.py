"""The value of a cell of SQL: its rows, and how they are shown and plotted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Any

from workbench.cells.sql.options import PLOTS
from workbench.cells.sql.options import Plot as PlotOptions
from workbench.errors import QueryRefused
from workbench.querying import Answer, Column

if TYPE_CHECKING:
    import pandas as pd

INCHES = (8.0, 4.5)


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A picture that a notebook shows."""

    figure: Any = field(repr=False)

    def _repr_png_(self) -> bytes:
        picture = BytesIO()
        self.figure.savefig(picture, format="png", bbox_inches="tight")
        return picture.getvalue()


@dataclass(frozen=True, kw_only=True)
class SqlResult:
    """What a statement gave. `frame()` has the rows for pandas, `plot(…)` draws them, iterating gives them as tuples."""

    answer: Answer
    verb: str
    seconds: float
    show: Callable[[SqlResult], None] = field(repr=False, compare=False)

    @property
    def columns(self) -> tuple[Column, ...]:
        """Names and types."""
        return self.answer.columns

    @property
    def rows(self) -> tuple[tuple[Any, ...], ...]:
        """The rows that were fetched; `is_cut` says whether there are more."""
        return self.answer.rows

    @property
    def is_cut(self) -> bool:
        """Whether the statement has more rows than were fetched."""
        return self.answer.is_cut

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    def frame(self) -> pd.DataFrame:
        """The rows that were fetched, as a pandas DataFrame.

        Example:
            >>> _sql.frame().describe()
        """
        from workbench.warehouse.frames import exact_frame

        return exact_frame(self.rows, [column.name for column in self.columns])

    def plot(self, kind: str = "line", *, x: str = "", y: str | tuple[str, ...] = ()) -> Plot:
        """Draw the rows that were fetched.

        Args:
            kind: bar, barh, line, area, scatter, pie, hist or box.
            x: the column along the bottom; by default the first one.
            y: one or several columns of numbers; by default all others that are numbers.

        Raises:
            QueryRefused: when there is no such column, nothing to draw, or no matplotlib.

        Example:
            >>> _sql.plot("bar", x="month", y="flights")
        """
        options = PlotOptions(kind=kind, x=x, y=(y,) if isinstance(y, str) else y)
        return draw(self, options)

    def _ipython_display_(self) -> None:
        self.show(self)


def draw(result: SqlResult, options: PlotOptions) -> Plot:
    """A plot of *result*; see `SqlResult.plot`."""
    x, y = _axes(result, options)
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise QueryRefused(
            "plots need matplotlib, which is not installed here",
            remedy="Install it (it is in the extra `pipelines`), or leave --plot out.",
        ) from None
    frame = result.frame()
    for column in result.columns:
        # Decimals are objects to pandas, which draws no objects.
        if column.is_number:
            frame[column.name] = frame[column.name].astype(float)
    figure = Figure(figsize=INCHES)
    along = {"x": x} if x and options.kind not in ("hist", "box", "pie") else {}
    if options.kind == "pie":
        frame = frame.set_index(x)
    draw_frame: Any = frame.plot
    draw_frame(kind=options.kind, **along, y=y[0] if len(y) == 1 else list(y), ax=figure.subplots())
    return Plot(figure=figure)


def _axes(result: SqlResult, options: PlotOptions) -> tuple[str, tuple[str, ...]]:
    names = [column.name for column in result.columns]
    for name in filter(None, (options.x, *options.y)):
        if name not in names:
            raise QueryRefused(f"there is no column {name} to draw", remedy=f"The result has {', '.join(names)}.")
    if options.kind not in PLOTS:
        raise QueryRefused(f"{options.kind} is no kind of plot", remedy=f"There are {', '.join(PLOTS)}.")
    x = options.x or (names[0] if names else "")
    y = options.y or tuple(each.name for each in result.columns if each.is_number and each.name != x)
    if not result.rows or not y:
        raise QueryRefused("there is nothing to draw", remedy="A plot needs rows, and a column of numbers beside x.")
    if len(set(names)) < len(names):
        raise QueryRefused("two columns have one name", remedy="Give each a name of its own, with AS.")
    return x, y
