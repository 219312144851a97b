"""RoPE beyond the context a model was trained with: how the rates of its pairs of channels are slowed down.

Pair i of `dim` channels turns by base^(-2i/dim) radians per position, so its wave is 2 pi base^(2i/dim) positions
long. In a context s times longer the long waves reach angles that training never showed, the short ones only turn more
often:

    linear     every rate / s: nothing new, but neighbours come to look alike (Chen et al., 2023, arXiv 2306.15595)
    NTK        a larger base: the first pair keeps its rate, the last one is divided by s (bloc97, 2023; Code Llama,
               Roziere et al., 2023, arXiv 2308.12950, trains on with base 1,000,000)
    YaRN       pairs that turn more than 32 times within the trained context keep their rates, those that turn less
               than once are divided by s, a ramp lies between; and cos and sin grow by 0.1 ln(s) + 1, which sharpens
               attention (Peng et al., 2023, arXiv 2309.00071)
    Llama 3    the same thought with a ramp over the wave's length (Dubey et al., 2024, arXiv 2407.21783); files hold
               the result, one divisor per pair
    LongRoPE   a divisor per pair found by search, one set for short contexts and one for long ones (Ding et al., 2024,
               arXiv 2402.13753); cos and sin grow by sqrt(1 + ln(s) / ln(trained context))

What it is not: the rotation (embeddings.py). All is computed in double and rounded once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from zigllama.errors import InvalidArgument

F64 = npt.NDArray[np.float64]


def rope_rates(rope_dim: int, base: float) -> F64:
    """base^(-2i / rope_dim) for i < rope_dim / 2, -> (rope_dim / 2,) double. Raises InvalidArgument."""
    if rope_dim < 2 or rope_dim % 2:
        raise InvalidArgument(f"rope_frequencies: rope_dim is {rope_dim}, want an even number >= 2")
    if not (math.isfinite(base) and base > 0):
        raise InvalidArgument(f"rope_frequencies: base {base} must be finite and > 0")
    return np.asarray(float(base) ** (-np.arange(0, rope_dim, 2) / rope_dim))


def ntk_base(rope_dim: int, base: float, factor: float) -> float:
    """base * factor^(dim / (dim - 2)): with this base the last pair's rate is divided by `factor`, the first one's
    by 1. Raises InvalidArgument, also for a base that no float64 holds."""
    if rope_dim < 4 or not factor > 0 or not base > 0:
        raise InvalidArgument(f"ntk_base: rope_dim {rope_dim} must be > 2, base {base} and factor {factor} > 0")
    try:
        larger: float = float(base) * float(factor) ** (rope_dim / (rope_dim - 2))
    except OverflowError:
        larger = math.inf
    if not (math.isfinite(larger) and larger > 0):
        raise InvalidArgument(f"ntk_base: {base} by a factor of {factor} is a base of {larger}, want finite and > 0")
    return larger


@dataclass(frozen=True)
class Yarn:
    """YaRN: `factor` s, `n_ctx_orig` the trained context, and how often a pair turns within it to be kept as it is
    (`beta_fast`) or divided by s (`beta_slow`). Raises InvalidArgument."""

    factor: float
    n_ctx_orig: int
    beta_fast: float = 32.0
    beta_slow: float = 1.0

    def __post_init__(self) -> None:
        numbers = (self.factor, self.n_ctx_orig, self.beta_fast, self.beta_slow)
        if not all(math.isfinite(x) and x > 0 for x in numbers):
            raise InvalidArgument(f"YaRN: factor, context and betas {numbers} must be finite and > 0")

    @property
    def scale(self) -> float:
        """What cos and sin are multiplied with: 0.1 ln(s) + 1, and 1 where nothing is stretched."""
        return 0.1 * math.log(self.factor) + 1.0 if self.factor > 1 else 1.0

    def rates(self, rope_dim: int, base: float) -> F64:
        """rate * (1 - ramp) + rate / s * ramp, -> (rope_dim / 2,). Raises InvalidArgument.

        Pair i turns L base^(-2i/dim) / 2 pi times within L = n_ctx_orig positions; turning r times is the pair
        i(r) = dim ln(L / (2 pi r)) / (2 ln(base)). The ramp rises from 0 at floor(i(beta_fast)) to 1 at
        ceil(i(beta_slow)), both kept within the pairs that there are (the upper one, as the authors have it, within
        dim - 1).
        """
        rates = rope_rates(rope_dim, base)
        if base == 1:
            raise InvalidArgument("YaRN: all pairs turn alike with base 1")

        def pair(turns: float) -> float:
            return rope_dim * math.log(self.n_ctx_orig / (turns * 2 * math.pi)) / (2 * math.log(base))

        low, high = max(math.floor(pair(self.beta_fast)), 0), min(math.ceil(pair(self.beta_slow)), rope_dim - 1)
        ramp = np.clip((np.arange(rope_dim // 2) - low) / (high - low if high != low else 0.001), 0.0, 1.0)
        return np.asarray(rates * (1 - ramp) + rates / self.factor * ramp)


def llama3_divisors(rope_dim: int, base: float, factor: float, low: float, high: float, n_ctx_orig: int) -> F64:
    """What Llama 3.1 divides each rate by, -> (rope_dim / 2,), from 1 to `factor`. Raises InvalidArgument.

    With t = n_ctx_orig / wavelength, how often a pair turns within the trained context: 1 where t > high, `factor`
    where t < low, and 1 / ((1 - m) / factor + m) with m = (t - low) / (high - low) between.
    """
    if not (factor > 0 and high > low and n_ctx_orig > 0):
        raise InvalidArgument(f"Llama 3 scaling: factor {factor}, from {low} to {high} turns of {n_ctx_orig} positions")
    turns = n_ctx_orig * rope_rates(rope_dim, base) / (2 * math.pi)
    m = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return np.asarray(1.0 / ((1.0 - m) / factor + m))


def longrope_scale(factor: float, n_ctx_orig: int) -> float:
    """sqrt(1 + ln(factor) / ln(n_ctx_orig)), what LongRoPE multiplies cos and sin with; 1 up to factor 1. Raises
    InvalidArgument."""
    if not (math.isfinite(factor) and n_ctx_orig > 1):
        raise InvalidArgument(f"LongRoPE: factor {factor} must be finite, the trained context {n_ctx_orig} > 1")
    return math.sqrt(1 + math.log(factor) / math.log(n_ctx_orig)) if factor > 1 else 1.0
