"""Passes over one row of logits: the twins, and who runs them.

    weights    exp(x - best) as masses, their sum, the mean of x under the distribution
    moments    best, mean and standard deviation of the logits
    near       -|x - middle|: the keys of typical sampling
    cut        in falling order of some key, where does the mass reach an amount? Top-p, typical, a count, the draw
    keep       what is at or above a threshold; the rest becomes -inf
    gather     the ids of that
    largest    top-k

A mass is a whole number of 2^-40: sums of whole numbers are exact, so a kept set does not depend on the order in which
a processor adds. `RowScan(context)` runs the C library's kernels, `RowScan(None)` the functions here, which are the
definition.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from zigllama.errors import InvalidArgument
from zigllama.foundation.runtime import F32, EagerRuntime, Step
from zigllama.neural_primitives.softmax import top_k, top_k_ids

ONE_BITS = 40  # ckernels/include/zl_api.h: ZL_MASS_ONE_BITS
SPAN = 28.5  # ckernels/kernels/rows_scan.h: ZL_SPAN, below which a mass rounds to nought
I32 = npt.NDArray[np.int32]


class Weights(NamedTuple):
    """w: the masses of a row; mass: their sum; total: that as a number, sum exp(x - best); mean: sum p x."""

    w: F32
    mass: int
    total: float
    best: float
    mean: float


def _best(x: F32) -> float:
    best = float(x.max())
    if not math.isfinite(best):
        raise InvalidArgument(f"the largest of {len(x)} logits is {best}, want a finite number")
    return best


def weights(x: F32) -> Weights:
    """x (V,) -> exp(x - best) 2^40 in whole units, and what they sum up to. Raises InvalidArgument for a row that holds
    a NaN, or of which the best is infinite."""
    best = _best(x)
    d = np.maximum(x - np.float32(best), np.float32(-SPAN))
    w: F32 = np.rint(np.exp(d) * np.float32(1 << ONE_BITS))
    mass = int(w.astype(np.int64).sum())
    first = float((w.astype(np.float64) * d).sum())
    return Weights(w, mass, mass / (1 << ONE_BITS), best, best + first / mass)


def moments(x: F32) -> tuple[float, float, float, int]:
    """(best, mean, standard deviation with the number as divisor, number) of the elements above -inf. Raises as
    `weights`."""
    best = _best(x)
    there = x[x > -np.inf].astype(np.float64)
    return best, float(there.mean()), float(there.std()), len(there)


def near(x: F32, middle: float) -> F32:
    """-|x - middle|; what is -inf stays so."""
    made: F32 = -np.abs(x - np.float32(middle))
    return made


def cut(key: F32, w: F32 | None, kind: str, amount: float, mass: int = 0) -> tuple[float, int]:
    """(the least key kept, the last id of those equal to it): keys falling, equal ones by id; w whole numbers, `mass`
    their sum.

    kind    "mass": the fewest whose mass is at least amount x all; "draw": up to the one at `amount` of the way;
            "count": the `amount` best, with w None

    Raises InvalidArgument where the mass that is wanted is not there, since it stands at keys of -inf or NaN.
    """
    _best(key[~np.isnan(key)] if np.isnan(key).any() else key)
    ids = np.flatnonzero(key > -np.inf)
    order = ids[np.lexsort((ids, -key[ids]))]
    so_far = np.cumsum(np.ones(len(order), np.int64) if w is None else w[order].astype(np.int64))
    there = int(so_far[-1])
    total = there if w is None else mass
    if total < 1:
        return -math.inf, len(key) - 1
    wanted = amount if kind == "count" else amount * total
    target = total if wanted >= total else math.floor(wanted) + 1 if kind == "draw" else math.ceil(wanted)
    target = min(max(target, 1), total)
    if target > there:
        raise InvalidArgument(f"a mass of {target} of {total} is wanted, keys above -inf have {there}")
    at = int(order[np.searchsorted(so_far, target)])
    return float(key[at]), at


def keep(x: F32, least: float, last: int) -> tuple[F32, int]:
    """(x where it is above `least`, or equal with an id up to `last`; else -inf; how many are left)."""
    over = ((x > least) | ((x == least) & (np.arange(len(x)) <= last))) & (x > -np.inf)
    return np.where(over, x, np.float32(-np.inf)), int(over.sum())


def gather(x: F32, least: float, last: int, room: int) -> tuple[I32, int]:
    """(the ids of what `keep` keeps, ascending, `room` of them at most; how many there are, room + 1 for more)."""
    ids = np.flatnonzero(keep(x, least, last)[0] > -np.inf)
    return ids[:room].astype(np.int32), min(len(ids), room + 1)


class RowScan:
    """The passes, by the C library or, without a context, by their twins. Not while the context runs something else."""

    def __init__(self, context: Any = None) -> None:
        self.context = context
        self._native: Any = None
        if context is not None:
            from zigllama.foundation import native_rows

            self._native = native_rows

    def weights(self, x: F32) -> Weights:
        """See `row_scan.weights`."""
        return Weights(*self._native.weights(self.context, x)) if self._native else weights(x)

    def moments(self, x: F32) -> tuple[float, float, float, int]:
        """See `row_scan.moments`."""
        made: tuple[float, float, float, int] = self._native.moments(self.context, x) if self._native else moments(x)
        return made

    def near(self, x: F32, middle: float) -> F32:
        """See `row_scan.near`."""
        made: F32 = self._native.near(self.context, x, middle) if self._native else near(x, middle)
        return made

    def cut(self, key: F32, w: F32 | None, kind: str, amount: float, mass: int = 0) -> tuple[float, int]:
        """See `row_scan.cut`."""
        if self._native is None:
            return cut(key, w, kind, amount, mass)
        found: tuple[float, int] = self._native.cut(self.context, key, w, kind, amount, mass)
        return found

    def keep(self, x: F32, least: float, last: int) -> tuple[F32, int]:
        """See `row_scan.keep`."""
        made: tuple[F32, int] = (
            self._native.keep(self.context, x, least, last) if self._native else keep(x, least, last)
        )
        return made

    def gather(self, x: F32, least: float, last: int, room: int) -> tuple[I32, int]:
        """See `row_scan.gather`."""
        if self._native is None:
            return gather(x, least, last, room)
        found: tuple[I32, int] = self._native.gather(self.context, x, least, last, room)
        return found

    def largest(self, x: F32, k: int) -> tuple[I32, F32]:
        """Ids and values of the k largest, best first, equal ones by id."""
        if self.context is None:
            values, ids = top_k.ref(x[None], Step.of_rows(1), k=k)
        else:
            runtime = EagerRuntime(self.context, Step.of_rows(1))
            found = top_k(runtime.rows(x[None]), runtime.step, k=k)
            values, ids = found[0].array, top_k_ids(found[1])
        return ids[0], values[0]
