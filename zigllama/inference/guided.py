"""Three ways to choose a token that need more than one row: guidance, contrastive search, beam search.

    guidance       l = u + s (c - u), c and u the log-probabilities after the prompt and after a negative prompt
                   (Sanchez et al., 2023, 2306.17806); then the usual chain
    contrastive    of the k likeliest tokens the one with the most (1 - a) p - a max_j cos(h, h_j): h its hidden state,
                   h_j those of all tokens before it (Su et al., 2022, 2202.06417). The k candidates run in one step
    beam search    the n most probable beginnings go on; the answer is the one of the highest log-probability per token
                   (Graves, 2012, 1211.3711; sum divided by the number of new tokens, the end token included). It ends
                   once n answers have ended and none that goes on is better per token than the worst of these

Bias, penalties, DRY and a processor act before each; the truncating stages and temperature are guidance's alone, since
the other two draw nothing, and are refused beside these (sampling.py). `logprobs` and `explain` tell of the tokens that
were chosen: by the model's own distribution before each, and what was compared there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from zigllama.errors import InvalidArgument
from zigllama.foundation.runtime import F32
from zigllama.inference.advanced_sampling import Kept, TokenLogprobs, apply, processed, shown
from zigllama.inference.candidates import Candidates
from zigllama.inference.generation import TextGenerator
from zigllama.inference.lanes import Lane, ManyLanes, rearrange
from zigllama.inference.penalties import changed
from zigllama.inference.request import Writing


def log_softmax(x: F32) -> F32:
    """x - ln sum e^x, float32, the sum in float64."""
    best = float(x.max())
    total = float(np.exp(x - np.float32(best)).sum(dtype=np.float64))
    row: F32 = x - np.float32(best + math.log(total))
    return row


def combined(conditional: F32, unconditional: F32, scale: float) -> F32:
    """u + scale (c - u) of log-probabilities. -inf where both have it."""
    c, u = log_softmax(conditional), log_softmax(unconditional)
    with np.errstate(invalid="ignore"):
        row: F32 = u + np.float32(scale) * (c - u)
    row[np.isnan(row)] = -np.inf
    return row


class Guidance(ManyLanes):
    """Two lanes: the prompt, and the negative one (`negative`, token ids), which is fed the same answer."""

    def __init__(self, tokens: Sequence[int], generator: TextGenerator, *, negative: Sequence[int], **o: Any) -> None:
        super().__init__(tokens, generator, **o)
        more = len(negative) - len(tokens)
        if more > 0:  # the lane that is longer meets the context's end first
            generator.n_ctx -= more
        lane = Lane(self, negative, asleep=False)
        lane.reserve = min(self.n_ctx, self.reserve + max(0, more))
        self.members = [lane]

    def choose(self, rows: list[F32]) -> None:
        """As ManyLanes."""
        row = combined(rows[0], rows[1], self.generator.sampler.params.guidance_scale)
        self.events.extend(self.generator.take(row, self.tokens))
        if self.generator.finish_reason is not None:
            self._end()
            return
        for lane in self.lanes:
            lane.tokens.append(self.generator.token_ids[-1])


class ContrastiveSearch(ManyLanes):
    """A lane per candidate, top_k of them. Nothing is taken from the cache: all hidden states are needed."""

    wants_hidden = True

    def __init__(self, tokens: Sequence[int], generator: TextGenerator, *, n_rows: int, **o: Any) -> None:
        k = generator.sampler.params.top_k
        if k < 2:
            raise InvalidArgument(f"penalty_alpha with top_k {k}: contrastive search wants at least 2 candidates")
        super().__init__(tokens, generator, **o | {"adopt": False})
        self.reading_most = n_rows
        self.members = [Lane(self, tokens, asleep=True) for _ in range(k - 1)]
        self._context: list[F32] = []  # of the tokens so far, each of length 1
        self._candidates: list[tuple[int, float]] = []
        self._told: Told = None, []  # of the candidates' place

    def wanted(self, n: int) -> int:
        """All rows: the hidden states of all."""
        return n

    def see(self, lane: Any, hidden: F32 | None) -> None:
        """Of the prompt into the context, of candidates to be compared."""
        assert hidden is not None
        rows = unit(hidden)
        if self._candidates:
            lane.state = rows[-1]
        else:
            self._context.extend(rows)

    def choose(self, rows: list[F32]) -> None:
        """As ManyLanes."""
        if not self._candidates:
            if self.generator.max_tokens == 0 or len(self.tokens) >= self.n_ctx:
                self.events.extend(self.generator.end("length"))
                self._end()
                return
            self._propose(rows[0], 0)
            self.wake()
            return
        alpha = self.generator.sampler.params.penalty_alpha
        context = np.stack(self._context)
        sameness = [float((context @ lane.state).max()) for lane in self.lanes[: len(self._candidates)]]
        scores = [(1 - alpha) * p - alpha * s for (_, p), s in zip(self._candidates, sameness, strict=True)]
        at = int(np.argmax(scores))
        self._context.append(self.lanes[at].state)
        token = self._candidates[at][0]
        self._tell(token, scores)
        self.events.extend(self.generator.accept(token, self.tokens[:-1]))
        if self.generator.finish_reason is None and len(self.tokens) >= self.n_ctx:
            self.events.extend(self.generator.end("length"))  # there is no place to try candidates in
        if self.generator.finish_reason is not None:
            self._end()
        else:
            self._propose(rows[at], at)

    def _tell(self, token: int, scores: list[float]) -> None:
        """What `logprobs` and `explain` say of a step."""
        sampler, (row, kept) = self.generator.sampler, self._told
        if row is not None:
            sampler.logprobs.append(sampler.logprobs_of(row, token))
        if kept:
            order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
            best = [self._candidates[i] for i in order]
            sampler.explained.append([*kept, Kept("penalty_alpha", 1, [i for i, _ in best], [p for _, p in best])])

    def _propose(self, row: F32, source: int) -> None:
        """The likeliest tokens after lane `source`, one for each lane."""
        tokens = [*self.tokens[:-1], self._candidates[source][0]] if self._candidates else self.tokens
        all_, self._told = scored(self.generator, row, tokens)
        found, log_sum, k = all_.first(len(self.lanes)), all_.log_sum_exp(), len(self.lanes)
        assert found.ids is not None
        rearrange(self.cache, self.lanes, [source] * len(self.lanes))
        pairs = zip(found.ids[:k].tolist(), found.x[:k].tolist(), strict=True)
        self._candidates = [(i, math.exp(x - log_sum)) for i, x in pairs]
        if len(self._candidates) < k:
            raise InvalidArgument(f"top_k is {k}, only {len(self._candidates)} tokens are possible")
        if self._told[1]:
            ids, p = zip(*self._candidates, strict=True)
            self._told[1].append(Kept("top_k", k, list(ids), list(p)))
        for lane, (token, _) in zip(self.lanes, self._candidates, strict=True):
            lane.tokens = [*tokens, token]


class Beam(NamedTuple):
    """A beginning of an answer: its log-probability, its tokens, and what is told of each of them."""

    score: float = 0.0
    written: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprobs, ...] = ()
    explained: tuple[list[Kept], ...] = ()

    @property
    def rate(self) -> float:
        """Log-probability per token."""
        return self.score / max(1, len(self.written))


class BeamSearch(ManyLanes):
    """A lane per beam. What it writes is known at the end, and comes then; when it is stopped, the best there is."""

    def __init__(self, tokens: Sequence[int], generator: TextGenerator, **o: Any) -> None:
        super().__init__(tokens, generator, **o)
        self.n_beams = generator.sampler.params.num_beams
        self.members = [Lane(self, tokens, asleep=True) for _ in range(self.n_beams - 1)]
        self._beams = [Beam()]
        self._ended: list[Beam] = []  # with the end token; the best first

    def choose(self, rows: list[F32]) -> None:
        """As ManyLanes."""
        most = self.generator.max_tokens
        room = self.n_ctx - self.n_prompt + 1
        most = room if most is None else min(most, room)
        if most == 0:
            self._finish()
            return
        ends = self.generator.end_ids
        found: list[tuple[float, int, int]] = []  # log-probability, beam, token
        wide = max(2, 1 + len(ends)) * self.n_beams
        told = []
        for i, (row, beam) in enumerate(zip(rows, self._beams, strict=True)):
            c, tell = scored(self.generator, row, [*self.tokens[: self.n_prompt], *beam.written])
            told.append(tell)
            log_sum, few = c.log_sum_exp(), c.first(wide)
            assert few.ids is not None
            found += [
                (beam.score + float(x) - log_sum, i, int(t)) for t, x in zip(few.ids[:wide], few.x[:wide], strict=True)
            ]
        found.sort(key=lambda f: (-f[0], f[1], f[2]))
        going: list[tuple[float, int, int]] = []
        for rank, (score, i, token) in enumerate(found[:wide]):
            if token in ends:
                if rank < self.n_beams:
                    self._add(self._longer(i, score, token, told[i], found))
            elif len(going) < self.n_beams:
                going.append((score, i, token))
        if len(going) < self.n_beams:
            raise InvalidArgument(f"num_beams is {self.n_beams}, only {len(going)} tokens are possible")
        self._beams = [self._longer(i, score, token, told[i], going) for score, i, token in going]
        n = len(self._beams[0].written)
        done = len(self._ended) >= self.n_beams and self._ended[-1].rate >= going[0][0] / n
        if n >= most or done:
            self._finish()
            return
        rearrange(self.cache, self.lanes, [i for _, i, _ in going])
        for lane, beam in zip(self.lanes, self._beams, strict=True):
            lane.tokens = [*self.tokens[: self.n_prompt], *beam.written]
        self.wake()

    def _longer(self, i: int, score: float, token: int, told: Told, among: list[tuple[float, int, int]]) -> Beam:
        """Beam i with a token more; `among`: all that go on, or that were found."""
        beam, (row, kept) = self._beams[i], told
        logprobs, explained = beam.logprobs, beam.explained
        if row is not None:
            logprobs = *logprobs, self.generator.sampler.logprobs_of(row, token)
        if kept:
            mine = [(t, math.exp(s - beam.score)) for s, j, t in among if j == i][: self.n_beams]
            explained = *explained, [*kept, Kept("num_beams", len(mine), [t for t, _ in mine], [p for _, p in mine])]
        return Beam(score, (*beam.written, token), logprobs, explained)

    def _add(self, beam: Beam) -> None:
        """An answer that has ended; the n best are kept."""
        self._ended.append(beam)
        self._ended.sort(key=lambda b: -b.rate)
        del self._ended[self.n_beams :]

    def _finish(self, reason: str | None = None) -> None:
        """Those that go on count as they are, unless there are better ones that ended. `reason`: it was stopped."""
        if len(self._ended) < self.n_beams or self.generator.max_tokens is not None or reason:
            for beam in self._beams:
                if beam.written:
                    self._add(beam)
        history = self.tokens[: self.n_prompt]
        best = self._ended[0] if self._ended else Beam()
        self.generator.sampler.logprobs, self.generator.sampler.explained = list(best.logprobs), list(best.explained)
        for token in best.written:
            if reason and token in self.generator.end_ids:
                break  # why it ends is that it was stopped
            self.events.extend(self.generator.accept(token, history))
            history = [*history, token]
            if self.generator.finish_reason is not None:
                break
        if self.generator.finish_reason is None:
            self.events.extend(self.generator.end(reason or "length"))
        self.generator.finish_reason = reason or self.generator.finish_reason
        self._end()

    def stop(self, reason: str) -> None:
        """As Request: what is best so far is the result."""
        self._finish(reason)


def unit(rows: F32) -> F32:
    """Each row divided by its length."""
    made: F32 = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-30)
    return made


Told = tuple[F32 | None, list[Kept]]  # a row whose log-probabilities are wanted, and the stages of its step so far


def scored(generator: TextGenerator, row: F32, tokens: Sequence[int]) -> tuple[Candidates, Told]:
    """A row after a processor, bias and penalties; and what is to be told of its step."""
    sampler = generator.sampler
    p = sampler.params
    if p.logits_processor is not None:
        row = processed(p, tokens, row)
    c = Candidates.of_row(apply(row, changed(row, tokens, p, sampler.breakers), None), sampler.scan)
    return c, (row if p.logprobs or p.top_logprobs else None, [shown("logits", c)] if p.explain else [])


def writing(
    tokens: Sequence[int],
    generator: TextGenerator,
    n_rows: int,
    negative: Sequence[int] | None,
    most: int,
    **options: Any,
) -> Writing:
    """The request that the sampling parameters of `generator` ask for. n_rows: of a step that wants all its logits.

    Raises InvalidArgument where it needs more than `most` sequences.
    """
    p = generator.sampler.params
    for name, chosen in (("penalty_alpha", p.penalty_alpha > 0), ("num_beams", p.num_beams > 1)):
        if chosen and generator.constraint is not None:
            raise InvalidArgument(f"{name} with a grammar: several answers are tried at once, a constraint is of one")
    if p.guidance_scale != 1:
        return _that_fits(Guidance(tokens, generator, negative=negative or tokens[-1:], **options), most)
    if p.penalty_alpha > 0:
        return _that_fits(ContrastiveSearch(tokens, generator, n_rows=n_rows, **options), most)
    if p.num_beams > 1:
        return _that_fits(BeamSearch(tokens, generator, **options), most)
    return Writing(tokens, generator, **options)


def _that_fits(request: ManyLanes, most: int) -> Writing:
    n = len(request.lanes)
    if n > most:
        raise InvalidArgument(f"{n} sequences at once, the model runs {most} (max_batch, n_seq)")
    return request
