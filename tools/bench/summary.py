"""Medians, ratios of figures taken in turn, and how sure one can be of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from statistics import median


def paired_ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Median of the ratios of each round, and a 95% bootstrap interval: percentiles of 10,000 resamplings.

    Figures of one round were taken side by side, so that what the machine does to both cancels.  With few rounds the
    interval is no wider than the ratios seen: four rounds give a rough idea, ten a good one.
    """
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    rng = random.Random(0)
    medians = sorted(median(rng.choices(ratios, k=len(ratios))) for _ in range(10_000))
    return median(ratios), medians[250], medians[9749]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table with aligned columns."""
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    return "\n".join([line(head), "|" + "|".join("-" * (width + 2) for width in widths) + "|", *map(line, rows)])
