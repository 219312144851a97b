"""Perplexity over windows of a text, and how far a model is from a reference, by llama-perplexity's definitions.

    text      | window 0            | window 1            | (a rest that fills no window is left out)
    window    | B . . . . . x x x x |           n_ctx tokens; B: BOS in place of the first, where the model wants one
                            ^ scored: those after the middle one, so that each has n_ctx / 2 tokens or more before it

    PPL = exp(mean of -ln p)        +/- PPL * s, s the standard error of that mean
    KL  = sum_i p_base[i] (ln p_base[i] - ln p[i])          per scored token, over tokens of ln p_base > -16
    dp  = p(token) - p_base(token)

What it is not: a file format (logits_file.py) or a report (the verb). All figures are made from one number per scored
token; no window's logits are ever in memory together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zigllama.errors import InvalidArgument, LogitsFileError
from zigllama.foundation.runtime import F32, I32
from zigllama.inference.logits_file import LogitsReader, Row
from zigllama.inference.scoring import F64, exp, log_sum_exp, surprise, surprises

if TYPE_CHECKING:
    from zigllama.inference.model import Model

NEGLIGIBLE = np.float32(-16.0)  # ln p of the reference at and below which a token does not count in KL
QUANTILES = (1.0, 0.999, 0.99, 0.95, 0.9, 0.75, 0.5, 0.25, 0.1, 0.05, 0.01, 0.001, 0.0)


class Mean(NamedTuple):
    """A mean and its standard error, 0 for a single value."""

    value: float
    error: float

    def times(self, factor: float) -> Mean:
        return Mean(self.value * factor, self.error * factor)

    def exponential(self) -> Mean:
        """e^mean, the error carried along to first order."""
        value = exp(self.value)
        return Mean(value, value * self.error)


def mean(x: F64) -> Mean:
    """Of values (n,), n >= 1.   error = sqrt((mean(x^2) - mean(x)^2) / (n - 1))"""
    return Mean(float(x.mean()), float(x.std() / math.sqrt(len(x) - 1)) if len(x) > 1 else 0.0)


class RunningMean:
    """`mean` of values that come in parts; each part is read once, and only count, mean and spread are kept.

    Of two sets (n, m, s) and (k, p, t), m and p the means, s and t the sums of (x - mean)^2:

        mean = m + (p - m) k / (n + k)        spread = s + t + (p - m)^2 n k / (n + k)

    Unlike sums of x and x^2 this does not cancel where values are close together (Chan, Golub and LeVeque, 1979). The
    same as `mean` of all but for rounding.
    """

    def __init__(self) -> None:
        self.n, self.value, self.spread = 0, 0.0, 0.0

    def add(self, x: F64) -> Mean:
        """The mean of all values up to and with these (k,), k >= 1."""
        before, own = self.n, float(x.mean())
        away, self.n = own - self.value, before + len(x)
        self.value += away * len(x) / self.n
        self.spread += float(((x - own) ** 2).sum()) + away * away * before * len(x) / self.n
        return Mean(self.value, math.sqrt(self.spread / self.n / (self.n - 1)) if self.n > 1 else 0.0)


def cut(ids: Sequence[int], n_ctx: int, chunks: int = -1) -> I32:
    """The windows (n, n_ctx) of a text's tokens, `chunks` at most; -1: all.

    Raises InvalidArgument for windows too short to score anything, and for a text shorter than two windows.
    """
    if n_ctx < 3:
        raise InvalidArgument(f"windows of {n_ctx} tokens: the second half of fewer than 3 has nothing to score")
    if chunks < 1 and chunks != -1:
        raise InvalidArgument(f"{chunks} windows, want at least 1, or -1 for all")
    if len(ids) < 2 * n_ctx:
        raise InvalidArgument(f"the text has {len(ids)} tokens; windows of {n_ctx} take at least two, {2 * n_ctx}")
    n = len(ids) // n_ctx
    n = n if chunks == -1 else min(n, chunks)
    return np.array(ids[: n * n_ctx], np.int32).reshape(n, n_ctx)


def text_ids(model: Model, text: str, *, parse_special: bool = False) -> list[int]:
    """The tokens of a text as it is cut into windows: with BOS where the model wants one, without an end-of-text token,
    which would be read as if the text held it."""
    ids = model.tokenizer.encode(text, parse_special=parse_special)
    return ids[:-1] if model.tokenizer.add_eos else ids


def with_bos(model: Model, window: I32) -> list[int]:
    """A window's tokens, BOS in place of the first where the model wants one."""
    ids: list[int] = window.tolist()
    tokenizer = model.tokenizer
    if tokenizer.add_bos and tokenizer.bos_id is not None:
        ids[0] = tokenizer.bos_id
    return ids


def window_surprises(model: Model, window: I32, each: Callable[[F32, int], float] = surprise) -> F64:
    """-ln p (or what `each` says) of a window's scored tokens, float64 (n_ctx - 1 - n_ctx // 2).

    Raises InvalidArgument for an id outside the vocabulary, ContextOverflow, NonFinite.
    """
    ids = with_bos(model, window)
    return surprises(model, ids, len(ids) // 2, each)


@dataclass
class Divergence:
    """Per scored token, float64 (n,) each: -ln p of the model and of the reference, KL, and whether both find the same
    token likeliest (1.0 or 0.0)."""

    surprise: F64
    base: F64
    kl: F64
    same_top: F64

    @property
    def delta_p(self) -> F64:
        """p - p_base of the text's own token."""
        out: F64 = np.exp(-self.surprise) - np.exp(-self.base)
        return out

    @property
    def correlation(self) -> float:
        """Of the two -ln p, nan where one of them never changes."""
        x, y = self.surprise - self.surprise.mean(), self.base - self.base.mean()
        scale = math.sqrt(float(x @ x) * float(y @ y))
        return float(x @ y) / scale if scale else math.nan

    @property
    def rms_delta_p(self) -> Mean:
        """Root of the mean of delta_p^2, the error carried along to first order."""
        square = mean(self.delta_p**2)
        root = math.sqrt(square.value)
        return Mean(root, square.error / (2 * root) if root else 0.0)

    @staticmethod
    def joined(parts: Sequence[Divergence]) -> Divergence:
        """Of several windows together."""
        names = ("surprise", "base", "kl", "same_top")
        return Divergence(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def quantiles(x: F64) -> dict[str, float]:
    """Of values (n,), by share: "1" is the largest, "0.5" the median, "0" the smallest; linear between values."""
    return {f"{q:g}": float(np.quantile(x, q)) for q in QUANTILES}


def compare_row(row: F32, target: int, base: Row) -> tuple[float, float, float, float]:
    """Of one token, by its row of logits (V,) and the reference's: the fields of Divergence."""
    total = log_sum_exp(row)
    reference = base.log_probs()
    counts = reference > NEGLIGIBLE
    log_p = reference[counts].astype(np.float64)
    kl = float((np.exp(log_p) * (log_p - (row[counts] - total))).sum())
    same = float(row.argmax() == base.code.argmax())
    return total - float(row[target]), -float(reference[target]), kl, same


def divergences(model: Model, base: LogitsReader, chunks: int = -1) -> Iterator[Divergence]:
    """Window by window of a file of saved logits, `chunks` at most.

    Raises LogitsFileError where the reference has another vocabulary, Truncated, and as `window_surprises`.
    """
    if base.n_vocab != model.spec.n_vocab:
        vocabularies = f"{base.n_vocab} tokens, the model's {model.spec.n_vocab}"
        raise LogitsFileError(base.path, f"its vocabulary has {vocabularies}")
    for i, window in enumerate(base.windows[: None if chunks == -1 else chunks]):
        rows = base.rows(i)
        found: list[tuple[float, ...]] = []

        def each(row: F32, target: int, rows: Iterator[Row] = rows, found: list[tuple[float, ...]] = found) -> float:
            found.append(compare_row(row, target, next(rows)))
            return found[-1][0]

        window_surprises(model, window, each)
        yield Divergence(*np.array(found).T)
