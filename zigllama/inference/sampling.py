"""Sampling: from a row of logits to one token.

    penalties -> logit bias -> top-k -> top-p -> min-p -> temperature -> draw

Each stage narrows or reshapes what the one before left. The order is the field's common one; temperature comes last, so
that it changes how the kept candidates are weighed and not which ones are kept. Temperature 0 is greedy: the largest
logit, of equal ones the lower id.

A draw is a function of (seed, position) alone (a counter-based generator, Salmon et al., 2011): it does not depend on
what else runs.

    top-k   Fan, Lewis & Dauphin 2018 (1805.04833)      top-p   Holtzman et al. 2019 (1904.09751)
    min-p   Nguyen et al. 2024 (2407.01082)             repeat penalty   Keskar et al. 2019 (1909.05858)
"""

from __future__ import annotations

import difflib
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

from zigllama.errors import InvalidArgument
from zigllama.foundation.runtime import F32


@dataclass(frozen=True)
class SamplingParams:
    """How tokens are chosen, and the one table of defaults. Raises InvalidArgument for a value out of range.

    temperature         0 is greedy
    top_k               keep the k largest logits; 0 = all
    top_p               keep the fewest candidates whose probabilities sum to at least p; 1 = all
    min_p               keep candidates at least min_p times as probable as the best; 0 = all
    repeat_penalty      divide positive logits of recent tokens by it, multiply negative ones; 1 = off
    repeat_last_n       how many recent tokens the penalties look at; -1 = all
    frequency_penalty   taken off a recent token's logit per occurrence; 0 = off
    presence_penalty    taken off once; 0 = off
    logit_bias          token id -> what is added to its logit
    seed                None: chosen at random, and reported in the result
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    seed: int | None = None

    def __post_init__(self) -> None:
        def want(ok: bool, name: str, what: str) -> None:
            if not ok:
                raise InvalidArgument(f"{name} is {getattr(self, name)}, want {what}")

        want(math.isfinite(self.temperature) and self.temperature >= 0, "temperature", "a finite number >= 0")
        want(self.top_k >= 0, "top_k", ">= 0")
        want(0 < self.top_p <= 1, "top_p", "above 0, at most 1")
        want(0 <= self.min_p <= 1, "min_p", "0 to 1")
        want(math.isfinite(self.repeat_penalty) and self.repeat_penalty > 0, "repeat_penalty", "a finite number > 0")
        want(self.repeat_last_n >= -1, "repeat_last_n", ">= -1")
        want(math.isfinite(self.frequency_penalty), "frequency_penalty", "a finite number")
        want(math.isfinite(self.presence_penalty), "presence_penalty", "a finite number")
        want(self.seed is None or 0 <= self.seed < 1 << 64, "seed", "0 to 2^64 - 1, or None")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The keywords, in order."""
        return tuple(f.name for f in fields(cls))


def nearest_keyword(name: str, known: Sequence[str]) -> TypeError:
    """The TypeError for an unknown keyword, with the nearest known one in its message."""
    near = difflib.get_close_matches(name, known, 1)
    return TypeError(f"unknown keyword {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


OTHERS = ("max_tokens", "stop", "ignore_eos", "stream", "lookup", "deadline", "reuse")  # keywords beside these


class Sampler:
    """Chooses tokens for one sequence. `params.seed` None is replaced by a random seed, kept in `seed`."""

    def __init__(self, params: SamplingParams) -> None:
        self.params = params
        self.seed = int.from_bytes(os.urandom(8), "little") >> 1 if params.seed is None else params.seed

    def __call__(self, logits: F32, history: Sequence[int], position: int) -> int:
        """logits (V,) and the tokens so far -> the token at `position`. Does not change `logits`."""
        p = self.params
        x = _penalised(logits, history, p)
        if p.temperature == 0:
            return int(np.argmax(x))
        ids = kept(x, p)
        w = np.exp((x[ids].astype(np.float64) - float(x[ids[0]])) / p.temperature)
        u = np.random.Generator(np.random.Philox(key=[self.seed, position])).random()
        total = np.cumsum(w)
        return int(ids[min(int(np.searchsorted(total, u * total[-1], side="right")), len(ids) - 1)])


def kept(x: F32, p: SamplingParams) -> npt.NDArray[np.int64]:
    """Ids that top-k, top-p and min-p leave, by falling logit (equal ones by id). Never empty."""
    n = len(x)
    if 0 < p.top_k < n:
        edge = np.partition(x, n - p.top_k)[n - p.top_k]
        ids = np.flatnonzero(x >= edge)  # ties at the edge are cut after sorting, lower ids first
        ids = ids[np.argsort(-x[ids], kind="stable")][: p.top_k]
    else:
        ids = np.argsort(-x, kind="stable")
    if p.top_p < 1 or p.min_p > 0:
        w = np.exp(x[ids].astype(np.float64) - float(x[ids[0]]))
        n_keep = len(ids)
        if p.top_p < 1:
            n_keep = int(np.searchsorted(np.cumsum(w), p.top_p * w.sum())) + 1
        if p.min_p > 0:
            n_keep = min(n_keep, int((w >= p.min_p).sum()))
        ids = ids[: max(1, n_keep)]
    return ids


def _penalised(logits: F32, history: Sequence[int], p: SamplingParams) -> F32:
    """The logits after penalties and bias: a copy if there are any, else the same array."""
    recent: Sequence[int] = ()
    if p.repeat_penalty != 1 or p.frequency_penalty or p.presence_penalty:
        recent = history[-p.repeat_last_n :] if p.repeat_last_n > 0 else history if p.repeat_last_n < 0 else ()
    if not recent and not p.logit_bias:
        return logits
    x = logits.copy()
    if recent:
        counts = Counter(recent)
        ids = np.fromiter(counts, np.int64, len(counts))
        n = np.fromiter(counts.values(), np.float32, len(counts))
        values = x[ids]
        values = np.where(values > 0, values / np.float32(p.repeat_penalty), values * np.float32(p.repeat_penalty))
        x[ids] = values - n * np.float32(p.frequency_penalty) - np.float32(p.presence_penalty)
    for token, bias in p.logit_bias.items():
        if not 0 <= token < len(x):
            raise InvalidArgument(f"logit_bias names token {token}, the vocabulary has {len(x)}")
        x[token] += bias
    return x


def split_keywords(keywords: Mapping[str, Any]) -> SamplingParams:
    """SamplingParams of keywords; None means the default. Raises TypeError for an unknown one."""
    known = SamplingParams.names()
    for name in keywords:
        if name not in known:
            raise nearest_keyword(name, (*known, *OTHERS))
    return SamplingParams(**{k: v for k, v in keywords.items() if v is not None})
