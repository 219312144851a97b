"""Embeddings of where a row stands: learned, sinusoidal, and of which segment of the text it belongs to.

    learned      a row of a table per position (Gehring et al., 2017, arXiv 1705.03122; GPT-2, BERT)
    sinusoidal   sines and cosines of the position at falling rates (Vaswani et al., 2017, arXiv 1706.03762)
    segment      a row of a small table per kind of row: BERT's first and second sentence (arXiv 1810.04805)

Each gives rows (T, C) to be added to the tokens'. Numbers come from a plane of `step.positions`, 0 the position itself.
Rotations and slopes, which say where a row stands inside of attention, are in embeddings.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from zigllama.errors import InvalidArgument
from zigllama.foundation.runtime import F32, Step
from zigllama.linear_algebra.linear import Weight
from zigllama.neural_primitives.embeddings import lookup


@dataclass(frozen=True)
class _Numbered:
    """Rows of a table by a plane of positions."""

    weight: Weight
    plane: int = 0
    offset: int = 0

    def __call__(self, step: Step) -> Any:
        """The rows of step.positions[plane] + offset -> (T, C), in the step's runtime. Raises ShapeError,
        InvalidArgument for a number outside the table."""
        return lookup(self.weight, step, plane=self.plane, offset=self.offset)

    def lookup(self, numbers: Any) -> F32:
        """The rows of a list of numbers, `offset` added -> (T, C) float32, in NumPy. Raises ShapeError."""
        step = Step.of_rows(len(numbers))
        step.positions = np.asarray(numbers, np.int32).reshape(1, -1)
        rows: F32 = lookup.ref(self.weight, step, offset=self.offset)
        return rows


@dataclass(frozen=True)
class LearnedPositions(_Numbered):
    """A row per position: `LearnedPositions(weight)(step)`, W (P, C). `offset` is added to a position (OPT: 2)."""

    @classmethod
    def from_array(cls, table: Any, offset: int = 0) -> LearnedPositions:
        """From a float (P, C) array. Raises ShapeError."""
        return cls(Weight.from_array(table, "position embedding"), 0, offset)


@dataclass(frozen=True)
class SegmentEmbedding(_Numbered):
    """A row per segment: `SegmentEmbedding(weight)(step)`, W (S, C); step.positions[1] has each row's segment."""

    plane: int = 1

    @classmethod
    def from_array(cls, table: Any) -> SegmentEmbedding:
        """From a float (S, C) array. Raises ShapeError."""
        return cls(Weight.from_array(table, "segment embedding"))


def sinusoidal_table(n: int, dim: int, base: float = 10000.0) -> F32:
    """The first n positions' rows: channel 2i is sin(p / base^(2i/dim)), channel 2i+1 the cosine.   -> (n, dim) float32

    A shift by k positions is a rotation of each pair by an angle that k alone decides: a linear map, which a product
    can learn. Computed in double. Raises InvalidArgument.
    """
    if n < 0 or dim < 2 or dim % 2 or not (np.isfinite(base) and base > 0):
        raise InvalidArgument(f"sinusoidal_table: {n} positions of {dim} channels, base {base}; channels come in pairs")
    angle = np.arange(n)[:, None] * float(base) ** (-np.arange(0, dim, 2) / dim)
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(n, dim).astype(np.float32)


@dataclass(frozen=True)
class SinusoidalPositions(_Numbered):
    """Sines and cosines as rows of a table made once: `SinusoidalPositions.of(n, dim)(step)`."""

    @classmethod
    def of(cls, n: int, dim: int, base: float = 10000.0) -> SinusoidalPositions:
        """For positions 0 .. n-1. Raises InvalidArgument."""
        return cls(Weight.from_array(sinusoidal_table(n, dim, base), "sinusoidal positions"))
