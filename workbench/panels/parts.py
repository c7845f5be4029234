"""The pieces of panels: tables and sentences as HTML and as text, and controls that say what they are.

Whatever a value holds, it is shown and does nothing. Colours are JupyterLab's own, with others for where there is
no JupyterLab; nothing is fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any

from workbench.errors import WorkbenchError

LONGEST = 200  # characters of a cell; the whole is shown on hover
LONGEST_HOVER = 4000
CELL = "padding:2px 10px 2px 0;vertical-align:top"
MUTED = "color:var(--jp-ui-font-color2,#616161)"
KINDS = {
    "status": "color:var(--jp-ui-font-color1,#212121)",
    "alert": "color:var(--jp-error-color1,#c62828)",
}
DASH = "-"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """What a notebook keeps of a panel: it is shown without a kernel and without a script."""

    html: str
    text: str

    def bundle(self, *, folded: bool = False) -> dict[str, str]:
        """By MIME type; *folded* where the widget beside it shows the same."""
        summary = f'<summary style="{MUTED}">As it was at {clock(datetime.now(UTC))}</summary>'
        return {
            "text/html": f"<details>{summary}{self.html}</details>" if folded else self.html,
            "text/plain": self.text,
        }


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table: `numbers` are the columns that stand right."""

    caption: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()
    nothing: str = "There is nothing."
    longest: int = LONGEST  #: characters of a cell

    def html(self) -> str:
        """As HTML; its heads are heads for screen readers too."""
        if not self.rows:
            return f"<div><b>{escape(self.caption)}</b><br>{escape(self.nothing)}</div>"
        head = "".join(
            f'<th scope="col" style="{self._style(n)};white-space:nowrap">{escape(each)}</th>'
            for n, each in enumerate(self.heads)
        )
        body = "".join(f"<tr>{''.join(self._cell(n, each) for n, each in enumerate(row))}</tr>" for row in self.rows)
        caption = f'<caption style="text-align:left;font-weight:bold;caption-side:top">{escape(self.caption)}</caption>'
        return f'<div style="overflow-x:auto"><table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'

    def text(self) -> str:
        """In characters of one width."""
        if not self.rows:
            return f"{self.caption}\n{self.nothing}"
        table = [self.heads, *(tuple(_short(each.replace("\n", "↵"), 60) for each in row) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = (
            "  ".join(
                each.rjust(width) if n in self.numbers else each.ljust(width)
                for n, (each, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in table
        )
        return "\n".join([self.caption, *lines])

    def _style(self, column: int) -> str:
        side = "right;font-variant-numeric:tabular-nums" if column in self.numbers else "left"
        return f"{CELL};text-align:{side}"

    def _cell(self, column: int, text: str) -> str:
        whole = f' title="{escape(text[:LONGEST_HOVER])}"' if len(text) > self.longest else ""
        return f'<td style="{self._style(column)}"{whole}>{escape(_short(text, self.longest))}</td>'


def picture_of(*parts: Grid | str) -> Picture:
    """A picture of tables and sentences, one below the other."""
    html = "".join(said_html(each) if isinstance(each, str) else each.html() for each in parts if each)
    text = "\n\n".join(each if isinstance(each, str) else each.text() for each in parts if each)
    # Not to be typeset as formulas: of MathJax 2 and 3.
    return Picture(html=f'<div class="workbench-panel tex2jax_ignore mathjax_ignore">{html}</div>', text=text)


def said_html(text: str, kind: str = "status") -> str:
    """A sentence that screen readers speak when it changes; *kind* is status or alert."""
    live = "assertive" if kind == "alert" else "polite"
    return f'<div role="{kind}" aria-live="{live}" style="{KINDS[kind]};white-space:pre-wrap">{escape(text)}</div>'


def in_words(error: WorkbenchError) -> str:
    """What happened, and what to do about it."""
    problems = getattr(error, "problems", None)
    told = " ".join(map(str, problems)) if problems and not error.remedy else error.message
    return " ".join(filter(None, [told if told.endswith((".", "!", "?")) else f"{told}.", error.remedy]))


def clock(time: datetime | None) -> str:
    """A time of this day or another, in UTC."""
    if time is None:
        return DASH
    shown = time.astimezone(UTC)
    day = "" if shown.date() == datetime.now(UTC).date() else f"{shown:%Y-%m-%d} "
    return f"{day}{shown:%H:%M:%S} UTC"


def count(number: float | None, unit: str = "") -> str:
    """A number with commas; a dash when nobody knows it."""
    if number is None:
        return DASH
    shown = f"{number:,.1f}" if 0 < number < 10 and number != int(number) else f"{number:,.0f}"
    return f"{shown}{unit}"


def button(text: str, tooltip: str, press: Callable[[], object], *, style: str = "") -> Any:
    """A button that says what it does; it can be reached with the keyboard. No icon: its glyph would be part of the name."""
    import ipywidgets

    made = ipywidgets.Button(description=text, tooltip=tooltip, button_style=style, tabbable=True)
    made.layout.width = "auto"
    made.on_click(lambda _: press())
    return made


def dropdown(label: str, tooltip: str, width: str = "320px") -> Any:
    """A choice among few; its label belongs to it for screen readers too."""
    import ipywidgets

    return ipywidgets.Dropdown(
        description=label,
        tooltip=tooltip,
        options=[],
        tabbable=True,
        layout={"width": width},
        style={"description_width": "initial"},
    )


def offer(choice: Any, options: Sequence[Any], *, anew: bool = False) -> None:
    """Change what can be chosen, and keep what is chosen as long as it is there.

    The first of the first options is chosen by itself. What is gone later is nothing: a button must not act on another
    one than was seen. With *anew* these are first options again.
    """
    new = tuple(options)
    if tuple(choice.options) == new:
        return
    kept, is_first = choice.value, anew or not getattr(choice, "was_offered", False)
    values = [each[1] if isinstance(each, tuple) else each for each in new]
    choice.options = new
    choice.value = kept if kept in values else (values[0] if values and is_first else None)
    choice.was_offered = bool(values) or not is_first


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"
