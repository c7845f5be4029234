"""The directive `diagram`: boxes and arrows, written as YAML, drawn as SVG within the page when it is built.

    boxes:
      hub: {at: [1, 0], text: hub, under: who may enter, code: hub}
    arrows:
      - {from: browser, to: hub, text: https}

`at` is column and row of a grid, in fractions too; `wide` is a number of columns. `code` names the file or folder that is
what the box says; a test looks whether it is there. A dashed box is `elsewhere: true`.
"""

import html
from dataclasses import dataclass
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

COLUMN, ROW = 220, 100  #: from box to box, in pixels
WIDTH, HEIGHT = 150, 50
STYLE = (
    "font-family: var(--font-stack, sans-serif); font-size: 13px; fill: var(--color-foreground-primary, #222);"
    " max-width: 100%; height: auto"
)
BACKGROUND = "var(--color-background-primary, #fff)"
LINE = "var(--color-foreground-muted, #666)"


@dataclass(frozen=True)
class Box:
    """One box, by its middle."""

    x: float
    y: float
    width: float
    fields: dict[str, Any]

    @classmethod
    def of(cls, fields: dict[str, Any]) -> "Box":
        column, row = fields["at"]
        wide = fields.get("wide", 1)
        width = WIDTH + COLUMN * (wide - 1)
        return cls(column * COLUMN + width / 2 + 10, row * ROW + HEIGHT / 2 + 10, width, fields)

    def edge(self, x: float, y: float) -> tuple[float, float]:
        """Where the way from the middle to a point leaves the box."""
        across, down = x - self.x, y - self.y
        sides = [self.width / 2 / abs(across)] if across else []
        sides += [HEIGHT / 2 / abs(down)] if down else []
        part = min(sides, default=0)
        return self.x + across * part, self.y + down * part

    def svg(self) -> str:
        dashes = ' stroke-dasharray="5 4"' if self.fields.get("elsewhere") else ""
        under = self.fields.get("under", "")
        text = f'<text x="{self.x}" y="{self.y - (3 if under else -4)}" text-anchor="middle" font-weight="600">{html.escape(str(self.fields["text"]))}</text>'
        if under:
            text += (
                f'<text x="{self.x}" y="{self.y + 14}" text-anchor="middle" font-size="11">{html.escape(under)}</text>'
            )
        return (
            f'<rect x="{self.x - self.width / 2}" y="{self.y - HEIGHT / 2}" width="{self.width}" height="{HEIGHT}" rx="6"'
            f' fill="var(--color-background-secondary, #f7f7f7)" stroke="{LINE}"{dashes}/>{text}'
        )


def _arrow(arrow: dict[str, Any], boxes: dict[str, Box]) -> str:
    one, other = boxes[arrow["from"]], boxes[arrow["to"]]
    # Between boxes that overlap in a direction the arrow is straight, at the middle of the narrower one.
    x = one.x if one.width < other.width else other.x
    is_below = abs(one.x - other.x) < (one.width + other.width) / 2 - 20 and one.y != other.y
    start, end = ((x, one.y), (x, other.y)) if is_below else ((one.x, one.y), (other.x, other.y))
    if is_below:
        down = HEIGHT / 2 if other.y > one.y else -HEIGHT / 2
        (x1, y1), (x2, y2) = (x, start[1] + down), (x, end[1] - down)
    else:
        (x1, y1), (x2, y2) = one.edge(*end), other.edge(*start)
    both = ' marker-start="url(#head)"' if arrow.get("both") else ""
    line = (
        f'<line x1="{x1:.0f}" y1="{y1:.0f}" x2="{x2:.0f}" y2="{y2:.0f}" stroke="{LINE}" marker-end="url(#head)"{both}/>'
    )
    label = html.escape(arrow.get("text", ""))
    at = arrow.get("place", 0.5)
    return line + (
        f'<text x="{x1 + (x2 - x1) * at:.0f}" y="{y1 + (y2 - y1) * at + 4:.0f}" text-anchor="middle" font-size="11"'
        f' stroke="{BACKGROUND}" stroke-width="5" paint-order="stroke">{label}</text>'
    )


def draw(text: str, label: str) -> str:
    """The picture as SVG."""
    described = yaml.safe_load(text)
    boxes = {name: Box.of(fields) for name, fields in described["boxes"].items()}
    width = max(box.x + box.width / 2 for box in boxes.values()) + 10
    height = max(box.y for box in boxes.values()) + HEIGHT / 2 + 10
    head = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto-start-reverse">'
        f'<path d="M0 0L8 4L0 8z" fill="{LINE}"/></marker></defs>'
    )
    parts = [_arrow(each, boxes) for each in described.get("arrows", ())] + [box.svg() for box in boxes.values()]
    return (
        f'<svg role="img" aria-label="{html.escape(label, quote=True)}" viewBox="0 0 {width:.0f} {height:.0f}"'
        f' width="{width:.0f}" style="{STYLE}">{head}{"".join(parts)}</svg>'
    )


class Diagram(SphinxDirective):
    """Its argument says in words what the picture shows."""

    has_content = True
    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        label = self.arguments[0]
        figure = nodes.figure("", nodes.raw("", draw("\n".join(self.content), label), format="html"))
        figure += nodes.caption("", label)
        return [figure]


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("diagram", Diagram)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
