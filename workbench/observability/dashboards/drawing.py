"""A picture as numbers that a template draws: paths, ticks and the words for who does not see them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from workbench.observability.dashboards.history import MINUTE_MS
from workbench.observability.dashboards.pictures import Picture, Unit

WIDTH, HEIGHT = 640, 200  #: of a picture, in units of its own
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 12, 24  #: room around it
COLUMNS = 288  #: five minutes of a day
SHOWN_LINES = 8
GAP_MS = 3 * MINUTE_MS  #: between two points that are not joined
TICKS = 4
Points = Sequence[tuple[int, float]]


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line, with what it says in words."""

    label: str
    number: int  #: from 1: its colour
    path: str  #: of SVG
    last: str  #: empty when there is none now
    least: str
    most: str


@dataclass(frozen=True, kw_only=True)
class Tick:
    """A mark of an axis."""

    at: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What the template needs."""

    picture: Picture
    lines: tuple[Line, ...]
    hidden: int  #: lines that are not drawn: the smaller ones
    rows: tuple[Tick, ...]
    columns: tuple[Tick, ...]
    description: str


def draw(picture: Picture, found: dict[str, list[tuple[int, float]]], since: int, until: int) -> Drawing:
    """Draw lines.

    Args:
        picture: what it is of.
        found: points of each line, in milliseconds since 1970.
        since: left end of the axis.
        until: right end.
    """
    largest_first = sorted(found.items(), key=lambda each: (-max(value for _, value in each[1]), each[0]))
    shown = sorted(largest_first[:SHOWN_LINES])
    top = _round_up(max((value for _, points in shown for _, value in points), default=0.0), picture.unit)
    lines = tuple(
        _line(label, number, points, (since, until, top), picture.unit)
        for number, (label, points) in enumerate(shown, 1)
    )
    said = "; ".join(f"{each.label or 'value'} from {each.least} to {each.most}" for each in lines)
    return Drawing(
        picture=picture,
        lines=lines,
        hidden=len(largest_first) - len(shown),
        rows=tuple(
            Tick(at=round(_y(top * each / TICKS, top), 1), text=text_of(top * each / TICKS, picture.unit))
            for each in range(TICKS + 1)
        ),
        columns=tuple(_times(since, until)),
        description=f"Since {_clock(since)} UTC: {said}." if said else picture.empty,
    )


def text_of(value: float, unit: Unit) -> str:
    """A value for people: `1.2 k`, `350 ms`, `3 h`, `99.5 %`, `1.4 GB`."""
    if unit is Unit.SHARE:
        return f"{round(100 * value, 2):.3g} %"
    if unit is Unit.BYTES:
        return _scaled(value, "B")
    if unit is Unit.SECONDS:
        if abs(value) < 1:
            return f"{round(1000 * value, 1):.3g} ms"
        size, name = next(
            (each for each in ((86400, "d"), (3600, "h"), (60, "min")) if abs(value) >= each[0]), (1, "s")
        )
        return f"{value / size:.3g} {name}"
    return _scaled(value, "/s" if unit is Unit.PER_SECOND else "")


def _scaled(value: float, unit: str) -> str:
    size, name = next((each for each in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if abs(value) >= each[0]), (1, ""))
    return f"{round(value / size, 3):.3g} {name}{unit}".rstrip()


def _line(label: str, number: int, points: Points, frame: tuple[int, int, float], unit: Unit) -> Line:
    since, until, top = frame
    values = [value for _, value in points]
    last = points[-1][1] if until - points[-1][0] <= GAP_MS else None
    path, before = [], None
    for at, value in _thinned(points, since, until):
        letter = "L" if before is not None and at - before <= _gap(since, until) else "M"
        path.append(f"{letter}{_x(at, since, until):.1f} {_y(value, top):.1f}")
        if letter == "M":
            path.append("h.1")  # a point by itself is seen, too
        before = at
    return Line(
        label=label,
        number=number,
        path="".join(path),
        last="" if last is None else text_of(last, unit),
        least=text_of(min(values), unit),
        most=text_of(max(values), unit),
    )


def _thinned(points: Points, since: int, until: int) -> Iterable[tuple[int, float]]:
    """The largest point of each column: what was too much for a minute is seen in the picture of a day."""
    width = (until - since) / COLUMNS
    best: dict[int, tuple[int, float]] = {}
    for at, value in points:
        column = int((at - since) / width)
        if column not in best or value > best[column][1]:
            best[column] = (at, value)
    return best.values()


def _gap(since: int, until: int) -> float:
    return max(GAP_MS, 2.5 * (until - since) / COLUMNS)


def _x(at: int, since: int, until: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (at - since) / (until - since)


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * max(0.0, value) / top


def _round_up(value: float, unit: Unit) -> float:
    """The upper end of an axis: 1, 2 or 5 times a power of ten, of seconds also minutes, hours and days."""
    if value <= 0:
        return 1.0
    size = next((each for each in (86400.0, 3600.0, 60.0) if unit is Unit.SECONDS and value >= each), 1.0)
    power = 10.0 ** math.floor(math.log10(value / size))
    return size * power * next(each for each in (1, 2, 4, 5, 8, 10) if value / size <= each * power * (1 + 1e-9))


def _times(since: int, until: int) -> Iterable[Tick]:
    hours = (until - since) / 3_600_000
    step = MINUTE_MS * next(each for each in (5, 10, 60, 240, 1440) if hours * 60 / each <= 7)
    for at in range(since - since % step + step, until, step):
        yield Tick(at=round(_x(at, since, until), 1), text=_clock(at))


def _clock(at: int) -> str:
    return f"{datetime.fromtimestamp(at / 1000, UTC):%H:%M}"
