"""Medians, how sure one can be of them, what follows from a floor, and tables."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

RESAMPLINGS = 10_000


@dataclass(frozen=True)
class Interval:
    """A median with its 95% interval."""

    median: float
    low: float
    high: float

    def to_json(self) -> list[float]:
        """[median, low, high]."""
        return [self.median, self.low, self.high]


def bootstrap(values: Sequence[float]) -> Interval:
    """The median and its 95% bootstrap interval: percentiles of the medians of 10,000 resamplings, always the same.

    With few values it is no wider than what was seen: four give a rough idea, ten a good one. Raises ValueError for
    none.
    """
    if not values:
        raise ValueError("no values to take a median of")
    rng = random.Random(0)
    medians = sorted(median(rng.choices(values, k=len(values))) for _ in range(RESAMPLINGS))
    return Interval(median(values), medians[RESAMPLINGS // 40], medians[-RESAMPLINGS // 40 - 1])


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
