"""Candidates: what is left of a row of logits while the stages of a sampler narrow it.

Two forms, the same set:

    sorted   ids and logits, best first, equal ones by id. A few, as top-k leaves them; stages are a line of NumPy each
    whole    a row of the whole vocabulary, by id; what was taken away is -inf. Stages are passes of the C library over
             it (row_scan.py): nothing is sorted, however large the vocabulary is

A whole row of which at most MOST candidates are left becomes sorted. Vocabularies up to MOST are sorted from the start.
Logits are float32; probabilities are float64 where they are sorted, and exp in float32 with exact sums where not.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from zigllama.foundation.runtime import F32
from zigllama.inference.row_scan import RowScan, Weights

Ids = npt.NDArray[Any]
MOST = 4096


def ordered(ids: Ids, x: F32) -> tuple[Ids, F32]:
    """By falling logit, equal ones by id."""
    order = np.lexsort((ids, -x))
    return ids[order], x[order]


class Candidates:
    """`ids` None: a whole row, and `x` belongs to it. Make it with `of_row` or `of_best`."""

    __slots__ = ("_weights", "chance", "ids", "n_vocab", "scan", "x")

    def __init__(self, ids: Ids | None, x: F32, n_vocab: int, scan: RowScan) -> None:
        self.ids, self.x, self.n_vocab, self.scan = ids, x, n_vocab, scan
        self._weights: Weights | None = None
        self.chance: Any = None  # a draw in [0, 1) that a stage may ask for

    @classmethod
    def of_row(cls, x: F32, scan: RowScan) -> Candidates:
        """All of a row that is the caller's to give away."""
        n = len(x)
        if n > MOST:  # NaN stays, for whoever looks at the largest
            return cls(None, x, n, scan)
        ids = np.flatnonzero(x != -math.inf)
        return cls(*ordered(ids, x[ids]), n, scan)

    def __len__(self) -> int:
        return len(self.x) if self.ids is not None else int((self.x > -math.inf).sum())

    # --- what a stage may ask ---

    @property
    def best(self) -> float:
        """The largest logit."""
        return float(self.x[0]) if self.ids is not None else self._scanned.best

    @property
    def _scanned(self) -> Weights:
        """Masses of a whole row, and their sums."""
        if self._weights is None:
            self._weights = self.scan.weights(self.x)
        return self._weights

    def weights(self) -> npt.NDArray[np.float64]:
        """exp(x - best) of sorted candidates, float64."""
        return np.exp(self.x.astype(np.float64) - float(self.x[0]))

    def probabilities(self) -> npt.NDArray[np.float64]:
        """Of sorted candidates."""
        w = self.weights()
        p: npt.NDArray[np.float64] = w / w.sum()
        return p

    def total(self) -> float:
        """sum e^(x - best)."""
        return self._scanned.total if self.ids is None else float(self.weights().sum())

    def log_sum_exp(self) -> float:
        """ln sum e^x."""
        return self.best + math.log(self.total())

    def mean_logit(self) -> float:
        """sum p x: the surprise of a candidate less the entropy is mean - x."""
        if self.ids is None:
            return self._scanned.mean
        p = self.probabilities()
        seen = p > 0
        return float((p[seen] * self.x[seen]).sum())

    def entropy(self) -> float:
        """- sum p ln p, in nats."""
        return max(0.0, self.log_sum_exp() - self.mean_logit())

    # --- what a stage may do ---

    def first(self, n: int) -> Candidates:
        """The n best, at least one."""
        n = max(1, n)
        if self.ids is not None:
            return self if n >= len(self.x) else self._like(self.ids[:n], self.x[:n])
        if min(n, self.n_vocab) <= MOST:
            ids, x = self.scan.largest(self.x, min(n, self.n_vocab))
            there = int(np.searchsorted(-x, math.inf, side="left"))  # what was taken away is no candidate
            return self._like(ids[:there], x[:there])
        return self if n >= self.n_vocab else self._from(*self.scan.cut(self.x, None, "count", n))

    def above(self, least: float) -> Candidates:
        """Those whose logit is at least `least`, and the best in any case."""
        if self.ids is not None:
            return self.first(int(np.searchsorted(-self.x, -least, side="right")))
        return self._from(np.float32(min(_at_least(least), self.best)), self.n_vocab)

    def mass(self, p: float) -> Candidates:
        """The fewest best whose probabilities sum to at least p."""
        if self.ids is not None:
            w = self.weights()
            return self.first(int(np.searchsorted(np.cumsum(w), p * w.sum())) + 1)
        return self._from(*self.scan.cut(self.x, self._scanned.w, "mass", p, self._scanned.mass))

    def typical(self, p: float) -> Candidates:
        """The fewest whose surprise is nearest to the entropy and whose probabilities sum to at least p."""
        mean = self.mean_logit()
        if self.ids is not None:
            w = self.weights()
            order = np.argsort(np.abs(mean - self.x.astype(np.float64)), kind="stable")
            n = int(np.searchsorted(np.cumsum(w[order]), p * w.sum())) + 1
            keep = np.sort(order[:n])
            return self._like(self.ids[keep], self.x[keep])
        near = self.scan.near(self.x, mean)
        least, last = self.scan.cut(near, self._scanned.w, "mass", p, self._scanned.mass)
        return self._kept(near, least, last)

    def without(self, n: int) -> Candidates:
        """All but the n best."""
        if n <= 0:
            return self
        if self.ids is not None:
            return self._like(self.ids[n:], self.x[n:])
        ids, _ = self.scan.largest(self.x, n)
        x = self.x.copy()
        x[ids] = -math.inf
        return self._like(None, x)

    def scaled(self, temperature: float) -> Candidates:
        """x / temperature."""
        x = self.x / np.float32(temperature)
        return self._like(self.ids, x)

    def sorted_all(self) -> Candidates:
        """Sorted, however many there are."""
        if self.ids is not None:
            return self
        ids = np.flatnonzero(self.x > -math.inf)
        return self._like(*ordered(ids, self.x[ids]))

    def pick(self, u: float) -> int:
        """The token at u of the way, 0 <= u < 1, through the candidates' mass in falling order."""
        if self.ids is not None:
            total = np.cumsum(self.weights())
            return int(self.ids[min(int(np.searchsorted(total, u * total[-1], side="right")), len(self.x) - 1)])
        return self.scan.cut(self.x, self._scanned.w, "draw", u, self._scanned.mass)[1]

    def logit_of(self, token: int) -> float:
        """A candidate's logit."""
        return float(self.x[token if self.ids is None else int(np.flatnonzero(self.ids == token)[0])])

    # --- forms ---

    def _like(self, ids: Ids | None, x: F32) -> Candidates:
        made = Candidates(ids, x, self.n_vocab, self.scan)
        made.chance = self.chance
        return made

    def _from(self, least: Any, last: int) -> Candidates:
        """Of a whole row the logits above `least`, and of those equal to it the ids up to `last`."""
        return self._kept(self.x, least, last)

    def _kept(self, key: F32, least: Any, last: int) -> Candidates:
        """The same by other keys than the logits: a list where few are left, else a row."""
        ids, n = self.scan.gather(key, least, last, MOST)
        if n <= MOST:
            return self._like(*ordered(ids, self.x[ids]))
        kept, _ = self.scan.keep(key, least, last)
        return self._like(None, kept if key is self.x else np.where(kept > -math.inf, self.x, np.float32(-math.inf)))


def _at_least(least: float) -> float:
    """The smallest float32 that is not below `least`."""
    low = np.float32(least)
    return float(low if low >= least else np.nextafter(low, np.float32(math.inf)))
