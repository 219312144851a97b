"""Passes over one row of logits: the twins, and who runs them.

    weights    exp(x - best) as masses, their sum, the mean of x under the distribution
    moments    best, mean and standard deviation of the logits
    cut        in falling order of some key, where does the mass reach an amount? Top-p, typical, a count, the draw
    keep       what is at or above a threshold; the rest becomes -inf
    gather     the ids of what is left
    largest    top-k

A mass is a whole number of 2^-40: sums of whole numbers are exact, so a kept set does not depend on the order in which
a processor adds. `RowScan(context)` runs the C library's kernels, `RowScan(None)` the functions here, which are the
definition.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from zigllama.foundation.runtime import F32, EagerRuntime, Step
from zigllama.neural_primitives.softmax import top_k, top_k_ids

ONE_BITS = 40  # ckernels/include/zl_api.h: ZL_MASS_ONE_BITS
I32 = npt.NDArray[np.int32]


def weights(x: F32) -> tuple[F32, float, float, float]:
    """x (V,) -> (exp(x - best) 2^40 float32, sum exp(x - best), best, sum p x with p = exp(x - best) / sum)."""
    best = float(x.max())
    d = x - np.float32(best)
    e = np.exp(d)
    total = float(e.sum(dtype=np.float64))
    first = float((e.astype(np.float64) * np.maximum(d, -1000.0)).sum())
    return e * np.float32(1 << ONE_BITS), total, best, best + first / total


def moments(x: F32) -> tuple[float, float, float, int]:
    """(best, mean, standard deviation with the number as divisor, number) of the elements above -inf."""
    there = x[x > -np.inf].astype(np.float64)
    return float(there.max()), float(there.mean()), float(there.std()), len(there)


def cut(key: F32, w: F32 | None, kind: str, amount: float) -> tuple[float, int]:
    """(the least key kept, the last id of those equal to it): keys falling, equal ones by id, mass floor(w) each.

    kind    "mass": the fewest whose mass is at least amount x all; "draw": up to the one at `amount` of the way;
            "count": the `amount` best, with w None
    """
    ids = np.flatnonzero(key > -np.inf)
    order = ids[np.lexsort((ids, -key[ids]))]
    mass = np.ones(len(order), np.int64) if w is None else w[order].astype(np.int64)
    so_far = np.cumsum(mass)
    total = int(so_far[-1]) if len(so_far) else 0
    if total < 1:
        return -math.inf, len(key) - 1
    wanted = amount if kind == "count" else amount * total
    target = total if wanted >= total else math.floor(wanted) + 1 if kind == "draw" else math.ceil(wanted)
    at = int(order[np.searchsorted(so_far, min(max(target, 1), total))])
    return float(key[at]), at


def keep(x: F32, least: float, last: int) -> tuple[F32, int]:
    """(x where it is above `least`, or equal with an id up to `last`; else -inf; how many are left)."""
    over = ((x > least) | ((x == least) & (np.arange(len(x)) <= last))) & (x > -np.inf)
    return np.where(over, x, np.float32(-np.inf)), int(over.sum())


def gather(x: F32, room: int) -> I32:
    """The ids of the elements above -inf, ascending, `room` of them at most."""
    return np.flatnonzero(x > -np.inf)[:room].astype(np.int32)


class RowScan:
    """The passes, by the C library or, without a context, by their twins. Not while the context runs something else."""

    def __init__(self, context: Any = None) -> None:
        self.context = context
        self._native: Any = None
        if context is not None:
            from zigllama.foundation import native_rows

            self._native = native_rows

    def weights(self, x: F32) -> tuple[F32, float, float, float]:
        """See `row_scan.weights`. Raises InvalidArgument where the best is no finite number."""
        made: tuple[F32, float, float, float] = self._native.weights(self.context, x) if self._native else weights(x)
        return made

    def moments(self, x: F32) -> tuple[float, float, float, int]:
        """See `row_scan.moments`. Raises as `weights`."""
        made: tuple[float, float, float, int] = self._native.moments(self.context, x) if self._native else moments(x)
        return made

    def cut(self, key: F32, w: F32 | None, kind: str, amount: float) -> tuple[float, int]:
        """See `row_scan.cut`."""
        if self._native is None:
            return cut(key, w, kind, amount)
        found: tuple[float, int] = self._native.cut(self.context, key, w, kind, amount)
        return found

    def keep(self, x: F32, least: float, last: int) -> tuple[F32, int]:
        """See `row_scan.keep`."""
        made: tuple[F32, int] = (
            self._native.keep(self.context, x, least, last) if self._native else keep(x, least, last)
        )
        return made

    def gather(self, x: F32, room: int) -> I32:
        """See `row_scan.gather`."""
        found: I32 = self._native.gather(self.context, x, room) if self._native else gather(x, room)
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
