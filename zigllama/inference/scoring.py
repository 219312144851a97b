"""How likely a model finds a text: the log probability of each token given those before it.

    log p(t | before) = logits[t] - logsumexp(logits)
    perplexity        = exp(-mean log p)          1: every token was certain; V: no better than guessing

The sum is taken row by row in float64, so that its bits depend on neither the rows that came along nor the threads, and
logits of many rows over a large vocabulary are never in memory together.

What it is not: the windows and the figures of `zigllama perplexity`; those are in perplexity.py.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zigllama.errors import InvalidArgument
from zigllama.foundation.runtime import F32

if TYPE_CHECKING:
    from zigllama.inference.model import Model

F64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """token_ids (T); logprobs (T - 1), float32, natural log: logprobs[i] is that of token_ids[i + 1]."""

    token_ids: list[int]
    logprobs: F32

    @property
    def perplexity(self) -> float:
        """exp of the mean of -logprobs; inf where a token was impossible or the mean is beyond float64."""
        return exp(-float(np.mean(self.logprobs, dtype=np.float64)))


def exp(x: float) -> float:
    """e^x, inf where that is beyond float64."""
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def log_sum_exp(row: npt.NDArray[Any]) -> float:
    """ln sum_i e^row[i] of finite or -inf values (V,), in float64, with the maximum taken out first."""
    top = float(row.max())
    shifted = row.astype(np.float64)
    shifted -= top
    np.exp(shifted, out=shifted)
    return top + math.log(float(shifted.sum()))


def surprise(row: F32, target: int) -> float:
    """-ln p of a token by its row of logits (V,)."""
    return log_sum_exp(row) - float(row[target])


def divergence(base: F32, row: F32) -> float:
    """KL divergence in nats of a row of logits (V,) from a base's: what it costs to believe `row` instead.

        sum_i p_i (ln p_i - ln q_i) = sum_i p_i (b_i - r_i) + lse(r) - lse(b),    p, q = softmax of b, r

    All tokens count; exactly 0 for equal rows, and never below it, where rounding alone would lead.
    """
    b = base.astype(np.float64)
    top = float(base.max())
    weights = np.exp(b - top)
    total = float(weights.sum())
    gap = float((weights * (b - row)).sum()) / total
    return max(0.0, gap + (log_sum_exp(row) - (top + math.log(total))))


def surprises(model: Model, ids: Sequence[int], first: int = 0, each: Callable[[F32, int], float] = surprise) -> F64:
    """What `each(row, target)` says, by default -ln p, of every token after position `first`: float64 (T - 1 - first).

    Token i is the target of row i - 1; the last token is not run. Raises as `Model.logits`.
    """
    out = np.empty(len(ids) - 1 - first, np.float64)

    def see(at: int, rows: F32) -> None:
        for i, row in enumerate(rows, at):
            out[i - first] = each(row, ids[i + 1])

    model.scan_logits(ids[:-1], see, first)
    return out


def score(model: Model, ids: Sequence[int]) -> Score:
    """See `Model.score`."""
    if len(ids) < 2:
        raise InvalidArgument(f"{len(ids)} tokens: a score is of the tokens after the first, so it takes at least 2")
    return Score(list(ids), (-surprises(model, ids)).astype(np.float32))
