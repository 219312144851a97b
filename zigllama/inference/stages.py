"""Stages: each narrows or reshapes the candidates that the one before left. Compose them as you like.

    top_n_sigma   x >= max - n sigma                         Tang et al. 2024 (2411.07641)
    top_k         the k largest                              Fan, Lewis & Dauphin 2018 (1805.04833)
    tail_free     until the sorted curve has flattened       Phénix & Egan 2019, "Tail free sampling" (no paper)
    typical       surprise nearest to the entropy            Meister et al. 2022 (2202.00666), "locally typical"
    top_p         the fewest with mass p                     Holtzman et al. 2019 (1904.09751)
    min_p         p >= min_p max p                           Nguyen et al. 2024 (2407.01082)
    xtc           without the likeliest, now and then        p-e-w 2024, "exclude top choices" (no paper)
    temperature   x / T, T fixed or by the entropy           Ackley et al. 1985; dynamic: kalomaze 2023 (no paper)
    mirostat      top-k or a threshold, steered              Basu et al. 2020 (2007.14966)

A stage is called with `Candidates` and returns candidates: a stage of one's own is any such function. Only Mirostat has
a memory (its mu), which `chosen` updates.

Where llama.cpp has the same stage, this is its behaviour, but: Mirostat here measures surprise by the whole
distribution, as its paper and its authors' program do, not by the candidates that were left; and tail-free keeps one
candidate more ("centred", as its authors' program does).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from zigllama.inference.candidates import MOST, Candidates
from zigllama.inference.sampling import SamplingParams

FITTED = 100  # of how many likeliest candidates Mirostat 1 estimates the exponent


class Stage(Protocol):
    """What a chain is made of."""

    @property
    def name(self) -> str: ...

    def __call__(self, c: Candidates) -> Candidates: ...


@dataclass(frozen=True)
class TopNSigma:
    """Logits at least max - n * sigma; sigma: the standard deviation of the candidates' logits (divisor: their number).

    Temperature does not change what it keeps: x / T scales all three alike.
    """

    n: float
    name = "top_n_sigma"

    def __call__(self, c: Candidates) -> Candidates:
        if c.ids is None:
            best, _, sigma, _ = c.scan.moments(c.x)
        else:
            best, sigma = c.best, float(c.x.astype(np.float64).std())
        return c.above(best - self.n * sigma)


@dataclass(frozen=True)
class TopK:
    """The k largest logits, of equal ones the lower ids."""

    k: int
    name = "top_k"

    def __call__(self, c: Candidates) -> Candidates:
        return c.first(self.k)


@dataclass(frozen=True)
class TailFree:
    """With probabilities sorted, p_0 >= p_1 >= ..., and curvature c_i = |p_i - 2 p_(i+1) + p_(i+2)| divided by the sum
    of all: candidates 0 .. i + 1, i the first at which c_0 + ... + c_i > z. All, where no sum passes z.

    Of a whole vocabulary only the head is sorted where that is enough to know: the curvature of what is below p_m adds
    up to 2 p_m at most, since each |p_i - 2 p_(i+1) + p_(i+2)| is at most the sum of two falls, and falls add up.
    """

    z: float
    name = "tfs_z"

    def __call__(self, c: Candidates) -> Candidates:
        if c.ids is None and c.n_vocab > MOST:
            head = c.first(MOST)
            if len(head) < MOST:  # they are all that is left
                return head.first(self._kept(head.probabilities(), 0.0))
            p = head.weights()
            low, high = self._kept(p, 0.0), self._kept(p, 2.0 * float(p[-2]))
            if low == high < len(p):
                return head.first(low)
        c = c.sorted_all()
        return c.first(self._kept(c.probabilities(), 0.0))

    def _kept(self, p: npt.NDArray[np.float64], beyond: float) -> int:
        """How many of p, if the curvature of what is not in p adds `beyond` to the sum."""
        if len(p) < 3:
            return len(p)
        curve = np.abs(np.diff(p, 2))
        total = float(curve.sum()) + beyond
        over = np.flatnonzero(np.cumsum(curve) > self.z * total)
        return int(over[0]) + 2 if total > 0 and len(over) else len(p)


@dataclass(frozen=True)
class Typical:
    """The fewest candidates whose surprise -ln p is nearest to the entropy and whose probabilities sum to p or more."""

    p: float
    name = "typical_p"

    def __call__(self, c: Candidates) -> Candidates:
        return c.typical(self.p)


@dataclass(frozen=True)
class TopP:
    """The fewest likeliest candidates whose probabilities sum to at least p."""

    p: float
    name = "top_p"

    def __call__(self, c: Candidates) -> Candidates:
        return c.mass(self.p)


@dataclass(frozen=True)
class MinP:
    """Candidates at least p times as probable as the likeliest: x >= max + ln p."""

    p: float
    name = "min_p"

    def __call__(self, c: Candidates) -> Candidates:
        return c.above(c.best + math.log(self.p))


@dataclass(frozen=True)
class XTC:
    """With this probability, takes away all candidates at or above the threshold but the last of them: what is likely
    enough may be said in a less likely way. Nothing happens with fewer than two of them, so never above 0.5. At 0 the
    least likely of all is left."""

    probability: float
    threshold: float
    name = "xtc"

    def __call__(self, c: Candidates) -> Candidates:
        if self.threshold > 0.5 or not self.probability or c.chance(XTC_DRAW) >= self.probability:
            return c
        most = math.floor(1 / self.threshold) + 1 if self.threshold > 0 else len(c)  # so many can be at or above it
        head = c.first(most) if most <= MOST else c.sorted_all()
        p = np.exp(head.x.astype(np.float64) - head.best) / c.total()
        return (c if most <= MOST else head).without(int((p >= self.threshold).sum()) - 1)


@dataclass(frozen=True)
class Temperature:
    """x / T. With a range: T = low + (high - low) * (H / ln n)^exponent, low = max(0, T - range), high = T + range, H
    the entropy of the n candidates: sure distributions are sharpened, vague ones flattened."""

    t: float
    range: float = 0.0
    exponent: float = 1.0
    name = "temperature"

    def __call__(self, c: Candidates) -> Candidates:
        t = self.t
        if self.range > 0:
            n = len(c)
            if n < 2:
                return c
            low, high = max(0.0, t - self.range), t + self.range
            t = low + (high - low) * float(c.entropy() / math.log(n)) ** self.exponent
        return c.scaled(t) if t > COLDEST else c.first(1)


COLDEST = 1e-6  # below it the likeliest is all that is left; logits divided by less would leave the range of float32


@dataclass
class Mirostat:
    """Holds the surprise of what is chosen, -log2 p, near tau: mu, at first 2 tau, loses eta times the error each time.

    version 1   logits are taken to fall like a power s of the rank, estimated from the likeliest 100:
                s = sum t b / sum t^2, t_i = ln((i + 2) / (i + 1)), b_i = ln(p_i / p_(i+1)); with e = s - 1
                k = (e 2^mu / (1 - n^-e))^(1/s); then top-k
    version 2   candidates whose surprise is at most mu, at least one

    `chosen` is told which token came of it.
    """

    version: int
    tau: float
    eta: float
    mu: float = field(default=-1.0)
    surprises: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.mu = 2 * self.tau if self.mu < 0 else self.mu
        self._whole: tuple[Candidates, float] | None = None

    @property
    def name(self) -> str:
        return f"mirostat_{self.version}"

    def __call__(self, c: Candidates) -> Candidates:
        log_sum = c.log_sum_exp()
        self._whole = c, log_sum
        if self.version == 2:
            return c.above(log_sum - self.mu * math.log(2))
        return c.first(self.k(c.first(min(FITTED, c.n_vocab)).x[:FITTED].astype(np.float64), c.n_vocab))

    def k(self, x: npt.NDArray[np.float64], n_vocab: int) -> int:
        """How many to keep, by the largest logits."""
        if len(x) < 2:
            return 1
        b = x[:-1] - x[1:]
        b[~np.isfinite(b)] = 0.0
        i = np.arange(len(b))
        t = np.log((i + 2) / (i + 1))
        s = float((t * b).sum() / (t * t).sum())
        e = s - 1
        if s <= 0:
            return n_vocab  # a flat row: no rank is better than another
        rest = -math.expm1(-e * math.log(n_vocab)) / e if e else math.log(n_vocab)
        log2_k = (self.mu - math.log2(rest)) / s
        return max(1, int(2**log2_k)) if log2_k < 31 else n_vocab

    def chosen(self, token: int) -> None:
        """The token that was drawn from what this stage left."""
        assert self._whole is not None
        c, log_sum = self._whole
        surprise = (log_sum - c.logit_of(token)) / math.log(2)
        self.surprises.append(surprise)
        self.mu -= self.eta * (surprise - self.tau)
        self._whole = None


XTC_DRAW = 1  # which of a position's random numbers a stage takes; 0 is the token's own


def chain(p: SamplingParams) -> list[Stage]:
    """The stages that the keywords ask for, in order. With Mirostat no other truncates."""
    if p.temperature == 0 and not p.dynatemp_range:
        return []
    temperature: list[Stage] = []
    if p.temperature != 1 or p.dynatemp_range:
        temperature = [Temperature(p.temperature, p.dynatemp_range, p.dynatemp_exponent)]
    if p.mirostat_mode:
        return [*temperature, Mirostat(p.mirostat_mode, p.mirostat_tau, p.mirostat_eta)]
    stages: list[tuple[bool, Stage]] = [
        (p.top_n_sigma > 0, TopNSigma(p.top_n_sigma)),
        (p.top_k > 0, TopK(p.top_k)),
        (p.tfs_z < 1, TailFree(p.tfs_z)),
        (p.typical_p < 1, Typical(p.typical_p)),
        (p.top_p < 1, TopP(p.top_p)),
        (p.min_p > 0, MinP(p.min_p)),
        (p.xtc_probability > 0, XTC(p.xtc_probability, p.xtc_threshold)),
    ]
    return [*(stage for on, stage in stages if on), *temperature]
