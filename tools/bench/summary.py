"""What follows from a median, its interval (zigllama/app/comparison.py) and a floor; tables."""

from __future__ import annotations

from collections.abc import Sequence

from zigllama.app.comparison import Interval as Interval
from zigllama.app.comparison import bootstrap as bootstrap


def verdict(value: Interval, floor: float, *, lower_is_better: bool = False) -> str:
    """ "met" where the median reaches the floor, "missed" where the whole interval is on the wrong side of it, else
    "open"."""
    if lower_is_better:
        return "met" if value.median <= floor else "missed" if value.low > floor else "open"
    return "met" if value.median >= floor else "missed" if value.high < floor else "open"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join([line(head), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows)])
