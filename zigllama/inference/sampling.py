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
        for token, bias in self.logit_bias.items():  # -inf forbids a token; +inf would leave no probabilities
            if not bias < float(np.finfo(np.float32).max):
                raise InvalidArgument(f"logit_bias of token {token} is {bias}, want a finite number or -inf")
        want(self.seed is None or 0 <= self.seed < 1 << 64, "seed", "0 to 2^64 - 1, or None")

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The keywords, in order."""
        return tuple(f.name for f in fields(cls))


def nearest_keyword(name: str, known: Sequence[str]) -> TypeError:
    """The TypeError for an unknown keyword, with the nearest known one in its message."""
    near = difflib.get_close_matches(name, known, 1)
    return TypeError(f"unknown keyword {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


Best = tuple[F32, npt.NDArray[np.int32]] | None  # values and ids of a row's largest logits, best first
Changes = tuple[npt.NDArray[np.int64], F32] | None  # ids, and what their logits become

CONSTRAINTS = ("grammar", "json_schema", "regex", "ebnf", "gbnf", "cfg", "xsd")  # what an answer must look like
OTHERS = ("max_tokens", "stop", "ignore_eos", "stream", "lookup", "deadline", "reuse", "forced", *CONSTRAINTS)


class Sampler:
    """Chooses tokens for one sequence. `params.seed` None is replaced by a random seed, kept in `seed`."""

    def __init__(self, params: SamplingParams) -> None:
        self.params = params
        self.seed = int.from_bytes(os.urandom(8), "little") >> 1 if params.seed is None else params.seed

    @property
    def greedy(self) -> bool:
        """Whether it takes the largest logit as it is, whatever was written before."""
        p = self.params
        plain = p.repeat_penalty == 1 and not p.frequency_penalty and not p.presence_penalty and not p.logit_bias
        return p.temperature == 0 and plain

    def __call__(self, logits: F32, history: Sequence[int], position: int, best: Best = None) -> int:
        """logits (V,) and the tokens so far -> the token at `position`. Does not change `logits`.

        `best`: values and ids of the largest logits, as `top_k` gives them. The token is the same with them and
        without; with them the whole vocabulary need not be looked at.
        """
        p = self.params
        changes = penalised(logits, history, p)
        found = None if best is None else among_best(best, changes, len(logits), p)
        if found is None:
            if changes is not None:
                logits = logits.copy()
                logits[changes[0]] = changes[1]
            if p.temperature == 0:
                return int(np.argmax(logits))
            found = largest(logits, p.top_k)
        ids, x = found
        if p.temperature == 0:
            return int(ids[0])
        x = x[: kept(x, p)]
        total = np.cumsum(np.exp((x.astype(np.float64) - float(x[0])) / p.temperature))
        u = np.random.Generator(np.random.Philox(key=[self.seed, position])).random()
        return int(ids[min(int(np.searchsorted(total, u * total[-1], side="right")), len(x) - 1)])


def largest(x: F32, k: int) -> tuple[npt.NDArray[Any], F32]:
    """Ids and values of the k largest of x (0: of all), by falling value, equal ones by id."""
    n = len(x)
    if 0 < k < n:
        edge = np.partition(x, n - k)[n - k]
        ids = np.flatnonzero(x >= edge)  # ties at the edge are cut after sorting, lower ids first
        ids = ids[np.argsort(-x[ids], kind="stable")][:k]
    else:
        ids = np.argsort(-x, kind="stable")
    return ids, x[ids]


def among_best(
    best: tuple[F32, npt.NDArray[np.int32]], changes: Changes, n_vocab: int, p: SamplingParams
) -> tuple[npt.NDArray[Any], F32] | None:
    """`largest` of the changed logits, from the best of the unchanged ones; None where those are too few to be sure.

    Of the k largest, those that were not changed are among the k + (number of changes) best as they were.
    """
    values, ids = best
    k = 1 if p.temperature == 0 else p.top_k
    n_changes = 0 if changes is None else len(changes[0])
    if len(ids) < n_vocab and (k == 0 or k + n_changes > len(ids)):
        return None
    if changes is not None:
        others = ~np.isin(ids, changes[0])
        ids = np.concatenate([ids[others], changes[0]])
        values = np.concatenate([values[others], changes[1]])
        order = np.lexsort((ids, -values))
        ids, values = ids[order], values[order]
    return (ids[:k], values[:k]) if k else (ids, values)


def kept(x: F32, p: SamplingParams) -> int:
    """How many of these candidates, by falling logit, top-p and min-p leave. At least one."""
    n = len(x)
    if p.top_p < 1 or p.min_p > 0:
        w = np.exp(x.astype(np.float64) - float(x[0]))
        if p.top_p < 1:
            n = int(np.searchsorted(np.cumsum(w), p.top_p * w.sum())) + 1
        if p.min_p > 0:
            n = min(n, int((w >= p.min_p).sum()))
    return min(max(1, n), len(x))


def penalised(logits: F32, history: Sequence[int], p: SamplingParams) -> Changes:
    """Ids whose logits penalties or bias change, and what they become, float32; None for none."""
    recent: Sequence[int] = ()
    if p.repeat_penalty != 1 or p.frequency_penalty or p.presence_penalty:
        recent = history[-p.repeat_last_n :] if p.repeat_last_n > 0 else history if p.repeat_last_n < 0 else ()
    if not recent and not p.logit_bias:
        return None
    for token in p.logit_bias:
        if not 0 <= token < len(logits):
            raise InvalidArgument(f"logit_bias names token {token}, the vocabulary has {len(logits)}")
    counts = Counter(t for t in recent if t >= 0)  # -1 is a row of an image
    ids = np.array([*counts, *(token for token in p.logit_bias if token not in counts)], np.int64)
    values = logits[ids]
    n = np.fromiter(counts.values(), np.float32, len(counts))
    x = values[: len(counts)]
    x = np.where(x > 0, x / np.float32(p.repeat_penalty), x * np.float32(p.repeat_penalty))
    values[: len(counts)] = x - n * np.float32(p.frequency_penalty) - np.float32(p.presence_penalty)
    values += np.array([p.logit_bias.get(i, 0.0) for i in ids.tolist()], np.float32)
    return ids, values


def split_keywords(keywords: Mapping[str, Any]) -> SamplingParams:
    """SamplingParams of keywords; None means the default. Raises TypeError for an unknown one."""
    known = SamplingParams.names()
    for name in keywords:
        if name not in known:
            raise nearest_keyword(name, (*known, *OTHERS))
    return SamplingParams(**{k: v for k, v in keywords.items() if v is not None})
