"""Rate against distortion of number formats: the picture of a report.

    relative RMSE |  o  Q2_K                 a point per format: all tensors together
    (logarithmic) |  |      o Q4_0           its line: from the best tensor to the worst
                  |     . .    .   o Q8_0    dashed: 2^-bits
                  +-----------------------
                     bits per weight

Dashed is what theory allows at best for independent values of one normal distribution: with R bits each, a mean squared
error of 2^-2R of their variance (Shannon). A tensor whose values are distributed otherwise may lie below it. A second
panel has the KL divergence of the logits where the model was run.

What it is not: it measures nothing (quant_report.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zigllama.app import svg
from zigllama.app.quant_rows import TypeSummary

WIDTH, HEIGHT = 520.0, 420.0  # pixels of a panel
LEFT, RIGHT, TOP, BOTTOM = 64.0, 64.0, 56.0, 48.0  # around its plot
RADIUS, LETTER, LINE = 4.5, 6.4, 12.0  # of points; the width and height of words at size 11, about
LOG2 = math.log10(2.0)
GREY, PALE = "#777777", "#e4e4e4"
FAMILIES = (  # names begin or end so, what they are called, colour; the first that fits holds
    ("IQ", "IQ", "#f4a259"),
    ("_K", "K", "#bc4b51"),
    ("T", "ternary", "#5b8e7d"),
    ("Q", "one scale a block", "#2a6f97"),
    ("", "floats", "#6d597a"),
)


@dataclass(frozen=True)
class Point:
    """A format in a panel: where it is, and the ends of its line."""

    name: str
    bits: float
    value: float
    low: float
    high: float
    title: str


@dataclass(frozen=True)
class Axes:
    """Where values lie in the picture: bits along a line, values by their logarithm, decades `low` to `high`."""

    left: float
    first: float
    last: float
    low: int
    high: int

    def x(self, bits: float) -> float:
        """Pixels from the left."""
        return self.left + LEFT + (WIDTH - LEFT - RIGHT) * (bits - self.first) / (self.last - self.first)

    def y(self, value: float) -> float:
        """Pixels from above; what has no logarithm, or lies outside, is at the edge."""
        height = HEIGHT - TOP - BOTTOM
        decades = math.log10(value) if value > 0 else -math.inf
        share = (decades - self.low) / (self.high - self.low)
        return TOP + height * (1 - min(max(share, 0.0), 1.0))


def family(name: str) -> tuple[str, str]:
    """What a format's kin is called, and its colour."""
    found = next(f for f in FAMILIES if name.startswith(f[0]) or (f[0] == "_K" and name.endswith("_K")))
    return found[1], found[2]


def picture(sums: Sequence[TypeSummary], title: str, n_tensors: int, n_tokens: int) -> str:
    """The SVG. At least one format; of `n_tensors` at most; `n_tokens`: of the text that the model was run on."""
    panels = [_panel(0, "relative RMSE", [_by_error(s) for s in sums], bound=True)]
    if any(s.kl is not None for s in sums):
        words = f"mean KL in nats, one tensor at a time, {n_tokens} tokens"
        panels.append(_panel(WIDTH, words, [_by_kl(s) for s in sums if s.kl is not None], bound=False))
    parts = [svg.text(0, 20, title, size=14, weight="bold"), *(part for panel in panels for part in panel)]
    x = LEFT
    for kin, colour in dict.fromkeys(family(s.type) for s in sums):
        parts += [svg.rectangle(x, HEIGHT + 2, 10, 10, colour), svg.text(x + 15, HEIGHT + 11, kin, size=11)]
        x += 30 + LETTER * len(kin)
    partial = [f"{s.type} {s.n_tensors}" for s in sums if s.n_tensors < n_tensors]
    if partial:
        parts.append(svg.text(LEFT, HEIGHT + 30, f"not of all tensors: {', '.join(partial)}", size=11))
    return svg.document(WIDTH * len(panels), HEIGHT + 44, parts)


def _by_error(s: TypeSummary) -> Point:
    title = f"{s.type}, {s.n_tensors} tensors: {s.bits_per_weight:.4g} bits, relative RMSE {s.relative_rmse:.4g}"
    return Point(s.type, s.bits_per_weight, s.relative_rmse, s.lowest, s.highest, title)


def _by_kl(s: TypeSummary) -> Point:
    assert s.kl is not None and s.kl_lowest is not None and s.kl_highest is not None
    title = f"{s.type}, {s.n_tensors} tensors: {s.bits_per_weight:.4g} bits, mean KL {s.kl:.4g}"
    return Point(s.type, s.bits_per_weight, s.kl, s.kl_lowest, s.kl_highest, title)


def _axes(left: float, points: Sequence[Point]) -> Axes:
    """Whole bits and whole decades around all points, and at least one of each."""
    first, last = math.floor(min(p.bits for p in points)), math.ceil(max(p.bits for p in points))
    values = [v for p in points for v in (p.value, p.low, p.high) if 0 < v < math.inf] or [1.0]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return Axes(left, first, max(last, first + 1), low, max(high, low + 1))


def _panel(left: float, title: str, points: Sequence[Point], *, bound: bool) -> list[str]:
    axes = _axes(left, points)
    parts = [svg.text(left + LEFT, TOP - 12, title, weight="bold")]
    parts += _grid(axes)
    if bound:
        parts += _bound(axes)
    taken = [_around(axes.x(p.bits), axes.y(p.value)) for p in points]
    for p in sorted(points, key=lambda p: (axes.y(p.value), p.bits, p.name)):
        x, y, colour = axes.x(p.bits), axes.y(p.value), family(p.name)[1]
        parts.append(svg.line([(x, axes.y(p.low)), (x, axes.y(p.high))], colour, width=1.5))
        parts.append(svg.circle(x, y, RADIUS, colour, p.title))
        words = p.name + ("" if p.value > 0 else " (0)") + (" (infinite)" if p.value == math.inf else "")
        parts.append(svg.text(*_place(taken, x, y, words), words, size=11))
    return parts


Box = tuple[float, float, float, float]  # left, top, right, bottom


def _around(x: float, y: float) -> Box:
    return x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS


def _place(taken: list[Box], x: float, y: float, words: str) -> tuple[float, float]:
    """Where the words for the point (x, y) begin: beside it, or as near as keeps them off what is taken; then their
    place is taken too. Where nothing near is free, beside it."""
    width = LETTER * len(words)
    right, left = x + RADIUS + 3, x - RADIUS - 3 - width
    places = [(begin, y + 4 + LINE * n) for n in (0, 1, -1, 2, -2) for begin in (right, left)]
    boxes = [(begin, base - LINE + 2, begin + width, base + 2) for begin, base in places]
    free = (i for i, box in enumerate(boxes) if not any(_meet(box, other) for other in taken))
    chosen = next(free, 0)
    taken.append(boxes[chosen])
    return places[chosen]


def _meet(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _grid(axes: Axes) -> list[str]:
    parts, right, bottom = [], axes.x(axes.last), HEIGHT - BOTTOM
    step = max(1, math.ceil((axes.last - axes.first) / 12))
    for bits in range(int(axes.first), int(axes.last) + 1, step):
        x = axes.x(bits)
        parts += [
            svg.line([(x, TOP), (x, bottom)], PALE),
            svg.text(x, bottom + 16, str(bits), anchor="middle", size=11),
        ]
    step = max(1, math.ceil((axes.high - axes.low) / 12))
    for decade in range(axes.low, axes.high + 1, step):
        y = axes.y(10.0**decade)
        words = f"{10.0**decade:g}"
        parts += [svg.line([(axes.x(axes.first), y), (right, y)], PALE)]
        parts += [svg.text(axes.x(axes.first) - 6, y + 4, words, anchor="end", size=11)]
    middle = (axes.x(axes.first) + right) / 2
    return [*parts, svg.text(middle, bottom + 34, "bits per weight", anchor="middle")]


def _bound(axes: Axes) -> list[str]:
    """2^-bits, a straight line here, as far as it lies within the panel."""
    first, last = (max(axes.first, -axes.high / LOG2), min(axes.last, -axes.low / LOG2))
    points = [(axes.x(bits), axes.y(2.0**-bits)) for bits in (first, last)]
    return [svg.line(points, GREY, dashed=True)] if first < last else []
