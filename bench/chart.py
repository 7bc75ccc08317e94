"""A chart of ratios, drawn as SVG. It has a background of its own, so that it can be read wherever
it is shown, and follows the reader's choice between light and dark."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, TOP, ROW = 860, 62, 38
LEFT, RIGHT = 380, 780  # where the axis begins and ends; what is longer has room for its number
LOWEST, HIGHEST = 0.1, 10_000.0
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328; }
.small { font-size: 11px; fill: #59636e; }
.head { font-size: 16px; font-weight: 600; }
.back { fill: #ffffff; }
.faster { fill: #2a78d6; } .slower { fill: #c4620a; }
.grid { stroke: #d1d9e0; } .one { stroke: #1f2328; }
.span { stroke: #1f2328; stroke-width: 1.5; } .least { stroke: #1f2328; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .small { fill: #9198a1; }
.back { fill: #0d1117; }
.faster { fill: #4493f8; } .slower { fill: #e0823d; }
.grid { stroke: #2d333b; } .one, .span, .least { stroke: #e6edf3; }
}
"""


@dataclass(frozen=True)
class Bar:
    """One ratio: above 1 is faster than the other side."""

    work: str
    against: str
    value: float
    quartiles: tuple[float, float]
    least: float | None  # what was set out to be reached
    text: str  # the ratio, as it is written elsewhere


def place(value: float) -> float:
    """Where a ratio is on the axis, which is logarithmic."""
    inside = min(max(value, LOWEST), HIGHEST)
    share = math.log(inside / LOWEST) / math.log(HIGHEST / LOWEST)
    return round(LEFT + share * (RIGHT - LEFT), 1)


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}"/>'


def words(x: float, y: float, text: str, more: str = "") -> str:
    return f'<text x="{x}" y="{y}"{more}>\n{escape(text)}</text>'


def axis(bottom: int) -> Iterator[str]:
    value = LOWEST
    while value <= HIGHEST:
        x = place(value)
        yield line("one" if value == 1 else "grid", x, TOP, x, bottom)
        middle = ' class="small" text-anchor="middle"'
        yield words(x, TOP - 6, f"{value:,g} x", middle)
        value *= 10


def drawn(bar: Bar, y: int) -> Iterator[str]:
    """The bar and its words, in a row that begins at `y`."""
    end = ' text-anchor="end"'
    yield words(LEFT - 12, y + 16, bar.work, end)
    yield words(LEFT - 12, y + 30, bar.against, ' class="small"' + end)
    first, last = sorted((place(1), place(bar.value)))
    kind = "faster" if bar.value >= 1 else "slower"
    size = f'width="{max(last - first, 1):.1f}" height="14"'
    yield f'<rect class="{kind}" x="{first}" y="{y + 12}" {size} rx="2"/>'
    low, high = map(place, bar.quartiles)
    yield line("span", low, y + 19, high, y + 19)
    if bar.least is not None:
        x = place(bar.least)
        yield line("least", x, y + 8, x, y + 30)
    right = max(last, high, place(bar.least or LOWEST))
    yield words(right + 8, y + 23, bar.text)


def svg(title: str, bars: Sequence[Bar]) -> str:
    bottom = TOP + ROW * len(bars)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 12}"',
        f' width="{WIDTH}" height="{bottom + 12}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="back" width="{WIDTH}" height="{bottom + 12}"/>',
        words(16, 26, title, ' class="head"'),
        *axis(bottom),
    ]
    for number, bar in enumerate(bars):
        parts += drawn(bar, TOP + ROW * number)
    return "\n".join([*parts, "</svg>"]) + "\n"
