"""`AdvancedSampler`: from a row of logits to one token, by a chain of stages.

    logits                         float32 (V,)
      mask                         what a grammar allows: on the tape before top-k, and here where the row is read whole
      processor                    a Python function on the row itself
      bias, penalties, DRY         single tokens (penalties.py)
      top-n-sigma, top-k, tail-free, typical, top-p, min-p, XTC      or Mirostat (stages.py)
      temperature                  fixed, or by the entropy
      draw                         one number of a counter-based generator (Salmon et al., 2011) at (seed, position)

The order is llama.cpp's. A draw depends on (seed, position) alone, not on what else runs: the same request gives the
same tokens in any company. Temperature 0 is greedy: the largest logit, of equal ones the lower id.

When top-k is the first stage the row is not looked at here: the tape's last op has found its BEST largest logits, and
the changes of single tokens are worked into these. Exact stages over a whole vocabulary are passes of the C library
(row_scan.py), with nothing sorted.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from zigllama.errors import InvalidArgument, NonFinite
from zigllama.foundation.runtime import F32
from zigllama.inference.candidates import Candidates, ordered
from zigllama.inference.penalties import Breakers, Changes, changed, penalises
from zigllama.inference.row_scan import RowScan
from zigllama.inference.sampling import Best, SamplingParams
from zigllama.inference.stages import Mirostat, Stage, TopK, chain
from zigllama.neural_primitives.softmax import allowed

SHOWN = 10  # candidates of a stage that `explain` names
Mask = npt.NDArray[np.uint32] | None  # bit i of word i // 32: token i is allowed


class Kept(NamedTuple):
    """What a stage left: how many candidates, and of the first SHOWN their ids and probabilities then."""

    stage: str
    n: int
    ids: list[int]
    probabilities: list[float]


class TokenLogprobs(NamedTuple):
    """A token's log-probability (natural) by the model's own distribution, and those of the likeliest tokens."""

    token_id: int
    logprob: float
    top: dict[int, float]


class AdvancedSampler:
    """Chooses tokens for one sequence, by `stages` (None: those that `params` ask for, see stages.chain).

    scan       who passes over whole rows: the C library with a context, NumPy without
    breakers   where DRY begins anew, see penalties.breaker_tokens

    `seed`: that of `params`, or the random one that was drawn. `explained` and `logprobs` hold an entry per token where
    `params` ask for them.
    """

    def __init__(
        self,
        params: SamplingParams,
        stages: Sequence[Stage] | None = None,
        *,
        scan: RowScan | None = None,
        breakers: Breakers | None = None,
    ) -> None:
        self.params = params
        self.seed = int.from_bytes(os.urandom(8), "little") if params.seed is None else params.seed
        self.stages = chain(params) if stages is None else list(stages)
        self.scan = scan or RowScan()
        self.breakers: Breakers = breakers or {}
        self.explained: list[list[Kept]] = []
        self.logprobs: list[TokenLogprobs] = []
        self._chooses_best = params.temperature == 0 and not params.dynatemp_range and stages is None

    @property
    def greedy(self) -> bool:
        """Whether it takes the largest logit as it is, whatever was written before, and is asked for no more."""
        p = self.params
        changes = penalises(p) or p.dry_multiplier or p.logit_bias or p.logits_processor
        return self._chooses_best and not (changes or p.logprobs or p.top_logprobs or p.explain)

    def uniform(self, position: int, which: int = 0) -> float:
        """Random number `which` of a position, in [0, 1): Philox of (seed, position)."""
        key = np.array([self.seed, position], np.uint64)  # a list of such numbers would become one of floats
        generator = np.random.Generator(np.random.Philox(key=key))
        return float(generator.random(which + 1)[which])

    def __call__(self, logits: F32, history: Sequence[int], position: int, best: Best = None, mask: Mask = None) -> int:
        """logits (V,) and the tokens so far -> the token at `position`. `logits` stay as they are, but for what a
        processor does to them.

        best   values and ids of the largest logits (with the mask applied), as the tape's `top_k` gives them. The
               token is the same with them and without; with them the whole vocabulary need not be looked at
        mask   what a grammar allows

        Raises NonFinite for a row of which nothing, or no number, is left; InvalidArgument for a processor that returns
        another shape.
        """
        p = self.params
        if p.logits_processor is not None:
            logits, best = processed(p, history, logits), None
        if self._chooses_best and not p.explain:
            token = self._largest(logits, history, best, mask)
        else:
            token = self._chosen(self.candidates(logits, history, best, mask), position)
        if p.logprobs or p.top_logprobs:
            self.logprobs.append(self.logprobs_of(logits, token, best if mask is None else None))
        return token

    def candidates(self, logits: F32, history: Sequence[int], best: Best = None, mask: Mask = None) -> Candidates:
        """What the stages begin with: the whole row after bias and penalties, or as much of it as top-k will want."""
        changes = changed(logits, history, self.params, self.breakers)
        first = self.stages[0] if self.stages else None
        if best is not None and isinstance(first, TopK) and not self.params.explain:  # which shows where it began
            found = among_best(best, changes, len(logits), first.k, mask)
            if found is not None:
                return Candidates(*found, len(logits), self.scan)
        row = apply(logits, changes, mask)
        return Candidates.of_row(row, self.scan)

    def _largest(self, logits: F32, history: Sequence[int], best: Best, mask: Mask) -> int:
        changes = changed(logits, history, self.params, self.breakers)
        found = None if best is None else among_best(best, changes, len(logits), 1, mask)
        if found is not None:
            return int(found[0][0])
        token = int(np.argmax(row := apply(logits, changes, mask)))
        _want_finite(float(row[token]))
        return token

    def _chosen(self, c: Candidates, position: int) -> int:
        """Through the stages, and the draw."""
        _want_finite(float(c.x.max()) if len(c.x) else math.nan)
        c.chance = lambda which: self.uniform(position, which)
        kept: list[Kept] | None = [] if self.params.explain else None
        if kept is not None:
            kept.append(shown("logits", c))
        for stage in self.stages:
            c = stage(c)
            if kept is not None:
                kept.append(shown(stage.name, c))
        token = int(c.first(1).ids[0]) if self._chooses_best else c.pick(self.uniform(position))  # type: ignore[index]
        for stage in self.stages:
            if isinstance(stage, Mirostat):
                stage.chosen(token)
        if kept is not None:
            self.explained.append(kept)
        return token

    def logprobs_of(self, logits: F32, token: int, best: Best = None) -> TokenLogprobs:
        """A token's, and the likeliest ones', by the row as the model gave it (after a processor, before all else)."""
        n = min(self.params.top_logprobs, len(logits))
        sums = self.scan.weights(np.ascontiguousarray(logits))
        log_sum = sums.best + math.log(sums.total)
        top: dict[int, float] = {}
        if n:
            if best is not None and len(best[1]) >= n:
                values, ids = best[0][:n], best[1][:n]
            else:
                ids, values = self.scan.largest(np.ascontiguousarray(logits), n)
            top = {int(i): float(v) - log_sum for i, v in zip(ids, values, strict=True)}
        return TokenLogprobs(token, float(logits[token]) - log_sum, top)


def processed(p: SamplingParams, history: Sequence[int], logits: F32) -> F32:
    """The row after the processor, which sees the engine's own memory. Raises InvalidArgument for another shape."""
    assert p.logits_processor is not None
    row = logits
    if not row.flags.writeable:
        row = row.copy()
    made = p.logits_processor(history, row)
    if made is None:
        return row
    made = np.asarray(made, np.float32)
    if made.shape != logits.shape:
        raise InvalidArgument(f"logits_processor returned shape {made.shape}, want {logits.shape} or None")
    return made


def apply(logits: F32, changes: Changes, mask: Mask) -> F32:
    """A copy of the row with changes and mask."""
    row = logits.copy()
    if changes is not None:
        row[changes[0]] = changes[1]
    if mask is not None:
        row[~allowed(mask, len(row))] = -math.inf
    return row


def among_best(
    best: tuple[F32, npt.NDArray[np.int32]], changes: Changes, n_vocab: int, k: int, mask: Mask = None
) -> tuple[npt.NDArray[np.int64], F32] | None:
    """Ids and values of the k largest of the changed logits, from the best of the unchanged ones; None where those are
    too few to be sure.

    Of the k largest, those that were not changed are among the k + (number of changes) best as they were.
    """
    values, ids = best[0], best[1].astype(np.int64)
    n_changes = 0 if changes is None else len(changes[0])
    if len(ids) < n_vocab and k + n_changes > len(ids):
        return None
    if changes is not None:
        others = ~np.isin(ids, changes[0])
        which, what = changes
        if mask is not None:
            what = np.where(mask[which >> 5] >> (which & 31).astype(np.uint32) & 1, what, np.float32(-math.inf))
        ids, values = ordered(np.concatenate([ids[others], which]), np.concatenate([values[others], what]))
    ids, values = ids[:k], values[:k]
    _want_finite(float(values[0]))
    n = int(np.searchsorted(-values, math.inf, side="left"))
    return ids[:n], values[:n]


def _want_finite(best: float) -> None:
    if not math.isfinite(best):
        raise NonFinite("sampling", None)


def shown(stage: str, c: Candidates) -> Kept:
    """A stage's outcome, as `explain` tells it."""
    n, log_sum = len(c), c.log_sum_exp()
    head = c.first(min(SHOWN, n))
    assert head.ids is not None
    return Kept(stage, n, [int(i) for i in head.ids[:SHOWN]], np.exp(head.x[:SHOWN] - log_sum).tolist())


def explain_text(kept: Sequence[Kept], names: Mapping[int, str] | None = None) -> str:
    """One step of `explained` as lines: a stage, how many it left, and the first of them with their probabilities."""
    lines = []
    for k in kept:
        shown = ", ".join(
            f"{names[i]!r} {p:.3f}" if names and i in names else f"{i} {p:.3f}"
            for i, p in zip(k.ids, k.probabilities, strict=True)
        )
        lines.append(f"{k.stage:12} {k.n:7}  {shown}")
    return "\n".join(lines)
