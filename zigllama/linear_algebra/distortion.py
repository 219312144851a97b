"""How far numbers in a format are from the numbers they stand for: the four figures by which formats are compared.

    rmse      sqrt(mean e^2),   e = y - x                      in the units of the values
    relative  rmse / rms,       rms = sqrt(mean x^2)           so that tensors of other sizes can be compared
    largest   max |e|
    cosine    sum x y / sqrt(sum x^2 sum y^2)                  1: only the length may differ
    weighted  sqrt(sum_ij w_j e_ij^2 / sum_ij w_j)             w_j: the importance of column j

A tensor is added in pieces, so that it is never in memory whole. Sums are float64 and taken in one order, whatever the
number of threads.

What it is not: it makes no format and reads none; see number_formats.py.
"""

from __future__ import annotations

import math

import numpy as np

from zigllama.errors import ShapeError
from zigllama.foundation.runtime import F32

PIECE = 1 << 16  # values at a time: as float64 they stay in the cache


class Distortion:
    """Sums over what was added, and the figures they give. Of nothing, all errors are 0 and the cosine is 1."""

    def __init__(self) -> None:
        self.n = 0
        self.largest = 0.0
        self._ee = self._xx = self._yy = self._xy = 0.0
        self._weighted = self._weights = 0.0
        self._has_weights = False

    def add(self, x: F32, y: F32, importance: F32 | None = None) -> None:
        """Rows x (R, C) as they are and y (R, C) as the format has them; importance (C,), not all zero. All finite.

        Raises ShapeError.
        """
        if x.ndim != 2 or x.shape != y.shape or (importance is not None and importance.shape != x.shape[1:]):
            shapes = f"{x.shape} and {y.shape}" + ("" if importance is None else f", importance {importance.shape}")
            raise ShapeError(f"distortion: {shapes}; want twice (rows, cols), and (cols,)")
        self._has_weights |= importance is not None
        step = max(1, PIECE // max(x.shape[1], 1))
        for first in range(0, len(x), step):
            a, b = (v[first : first + step].astype(np.float64) for v in (x, y))
            e = b - a
            self.n += e.size
            self.largest = max(self.largest, float(np.abs(e).max(initial=0)))
            self._xx += float((a * a).sum())
            self._yy += float((b * b).sum())
            self._xy += float((a * b).sum())
            e *= e
            self._ee += float(e.sum())
            if importance is not None:
                w = importance.astype(np.float64)
                self._weighted += float((e * w).sum())
                self._weights += float(w.sum()) * len(e)

    @property
    def rmse(self) -> float:
        """Root of the mean squared error."""
        return math.sqrt(self._ee / self.n) if self.n else 0.0

    @property
    def rms(self) -> float:
        """Root mean square of the values themselves."""
        return math.sqrt(self._xx / self.n) if self.n else 0.0

    @property
    def cosine(self) -> float:
        """Of the two as long vectors; of two zero vectors 1, of one with another 0."""
        if self._ee == 0:
            return 1.0
        length = math.sqrt(self._xx) * math.sqrt(self._yy)
        return self._xy / length if length else 0.0

    @property
    def weighted_rmse(self) -> float | None:
        """The same as `rmse` where each column counts by its importance; None where none was given, 0 where all of it
        is 0."""
        if not self._has_weights:
            return None
        return math.sqrt(self._weighted / self._weights) if self._weights else 0.0
