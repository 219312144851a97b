"""Two ways to run, compared by figures taken in turn: A B, B A, A B, ... with a probe of the machine beside each.

    probe  A  probe  B  probe      one pair; the next one begins with B

On a shared machine a time taken alone says little: the same build can take a tenth longer a minute later. Two runs side
by side see the same neighbours, and what is left is in the spread of their ratios. So the figure is the median of the
pairs' ratios, and what is said of it rests on its bootstrap interval (Efron, 1979): slower is only what is slower, by
more than a threshold, at the interval's near end. A pair whose probes differ by more than TOLERANCE is dropped: the
machine changed in between.

What this is not: it runs nothing by itself, and knows no model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

RESAMPLINGS = 10_000
TOLERANCE = 1.10
PATIENCE = 3  # times the pairs wanted that are tried at most
FEWEST = 5  # pairs on which a judgement can rest: of fewer the interval is no wider than what was seen

Probe = Callable[[], float]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Interval:
    """A median with its 95% interval."""

    median: float
    low: float
    high: float

    def to_json(self) -> list[float]:
        """[median, low, high]."""
        return [self.median, self.low, self.high]


@lru_cache(maxsize=8)
def _draws(n: int, seed: int) -> npt.NDArray[np.intp]:
    """RESAMPLINGS times n draws with replacement from n, always the same."""
    return np.random.default_rng([n, seed]).integers(n, size=(RESAMPLINGS, n))


def _interval(middle: float, resampled: npt.NDArray[np.float64]) -> Interval:
    ordered = np.sort(resampled)
    return Interval(middle, float(ordered[RESAMPLINGS // 40]), float(ordered[-RESAMPLINGS // 40 - 1]))


def bootstrap(values: Sequence[float]) -> Interval:
    """The median and its 95% bootstrap interval: percentiles of the medians of 10,000 resamplings, always the same.

    With few values it is no wider than what was seen: four give a rough idea, ten a good one. Raises ValueError for
    none.
    """
    if not values:
        raise ValueError("no values to take a median of")
    resampled = np.median(np.asarray(values, np.float64)[_draws(len(values), 0)], axis=1)
    return _interval(median(values), resampled)


def bootstrap_ratio(above: Sequence[float], below: Sequence[float]) -> Interval:
    """median(above) / median(below) of two samples that are not paired, each resampled by itself. Raises ValueError."""
    if not above or not below:
        raise ValueError("no values to take a median of")
    tops = np.median(np.asarray(above, np.float64)[_draws(len(above), 1)], axis=1)
    bottoms = np.median(np.asarray(below, np.float64)[_draws(len(below), 2)], axis=1)
    return _interval(median(above) / median(below), tops / bottoms)


@dataclass(frozen=True)
class Figure:
    """Tokens per second, and what the probe gave just before and after."""

    speed: float
    before: float
    after: float

    @property
    def probe(self) -> float:
        """The mean of the two."""
        return (self.before + self.after) / 2


@dataclass(frozen=True)
class Pair:
    """Two figures taken one after the other."""

    ours: Figure
    theirs: Figure

    @property
    def ratio(self) -> float:
        """Ours by theirs, as speeds; as times it is theirs by ours."""
        return self.ours.speed / self.theirs.speed

    @property
    def drift(self) -> float:
        """By how much its three probes differ: the largest by the smallest."""
        probes = (self.ours.before, self.ours.after, self.theirs.before, self.theirs.after)
        return max(probes) / min(probes)

    def to_json(self) -> list[float]:
        """[ours, theirs, probe beside ours, probe beside theirs]."""
        return [self.ours.speed, self.theirs.speed, self.ours.probe, self.theirs.probe]


class Turns:
    """Measures with a probe between any two runs. A run gives tokens per second."""

    def __init__(self, probe: Probe, say: Say) -> None:
        self._probe, self._say = probe, say
        self._last = 0.0

    def begin(self) -> None:
        """The probe before the first run."""
        self._last = self._probe()

    def take(self, run: Callable[[], float]) -> Figure:
        """One run. The probe after it is the one before the next."""
        before, speed = self._last, run()
        self._last = self._probe()
        return Figure(speed, before, self._last)

    def in_turn(
        self,
        ours: Callable[[], float],
        theirs: Callable[[], float],
        n: int,
        *,
        drop: bool,
        name: str,
        tries: int | None = None,
    ) -> tuple[list[Pair], list[Pair]]:
        """Pairs that are kept, n of them unless `tries` (PATIENCE n) are over, and, with `drop`, those whose probes
        differ too much."""
        kept: list[Pair] = []
        dropped: list[Pair] = []
        for turn in range(PATIENCE * n if tries is None else tries):
            if len(kept) == n:
                break
            if turn % 2:
                second = self.take(theirs)
                pair = Pair(self.take(ours), second)
            else:
                pair = Pair(self.take(ours), self.take(theirs))
            fine = not drop or pair.drift <= TOLERANCE
            (kept if fine else dropped).append(pair)
            self._say(
                f"{pair.ours.speed:8.1f} to {pair.theirs.speed:8.1f} ({name}): {pair.ratio:.3f} beside "
                f"{pair.ours.probe:.1f} and {pair.theirs.probe:.1f}{'' if fine else ', dropped'}"
            )
        return kept, dropped


@dataclass(frozen=True)
class Verdict:
    """B's time by A's, and what follows: `regressed`, `improved`, or neither; `undecided` with too few pairs."""

    ratio: Interval
    n: int
    threshold: float

    @property
    def undecided(self) -> bool:
        """Whether there is too little to judge by."""
        return self.n < FEWEST

    @property
    def regressed(self) -> bool:
        """B is slower by more than the threshold, at the near end of the interval."""
        return not self.undecided and self.ratio.low > 1 + self.threshold

    @property
    def improved(self) -> bool:
        """B is faster by more than the threshold, at the near end of the interval."""
        return not self.undecided and self.ratio.high < 1 / (1 + self.threshold)

    def __str__(self) -> str:
        r, what = self.ratio, "no regression"
        if self.undecided:
            what = f"undecided: {self.n} pairs, {FEWEST} are needed; the machine was too restless"
        elif self.regressed:
            what = f"REGRESSED by more than {self.threshold:.0%}"
        elif self.improved:
            what = f"improved by more than {self.threshold:.0%}"
        return f"time of B by A {r.median:.3f} (95%: {r.low:.3f} to {r.high:.3f}, {self.n} figures): {what}"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "ratio": self.ratio.to_json(),
            "n": self.n,
            "threshold": self.threshold,
            "regressed": self.regressed,
            "improved": self.improved,
            "undecided": self.undecided,
        }


def judge_pairs(pairs: Sequence[Pair], threshold: float) -> Verdict:
    """Of pairs of A (ours) and B (theirs) taken in turn."""
    ratio = bootstrap([p.ratio for p in pairs]) if pairs else Interval(1.0, 0.0, float("inf"))
    return Verdict(ratio, len(pairs), threshold)


def judge_apart(a: Sequence[Figure], b: Sequence[Figure], threshold: float) -> Verdict:
    """Of figures taken at different times: each speed by the probe beside it, which stands for the machine."""
    ratio = bootstrap_ratio([f.speed / f.probe for f in a], [f.speed / f.probe for f in b])
    return Verdict(ratio, min(len(a), len(b)), threshold)
