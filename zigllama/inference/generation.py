"""Generation: read the prompt, then one token after another, until something says stop.

What it is not: it knows no model. It takes an engine that turns a step into logits, and a sequence in the cache.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zigllama.errors import ContextOverflow, InvalidArgument
from zigllama.foundation.runtime import F32
from zigllama.inference.engine import CHUNK, Engine
from zigllama.inference.kv_cache import CachedSequence
from zigllama.inference.sampling import Sampler, SamplingParams
from zigllama.models.tokenizer import StreamDecoder, Tokenizer


@dataclass(frozen=True)
class Event:
    """A piece of a stream: whole UTF-8, "" where a character is not finished or a stop string may have begun."""

    text: str
    token_id: int


@dataclass
class Result:
    """What was generated, and how.

    finish_reason   "stop" (end token or stop string), "length" (max_tokens, or the context is full)
    usage           prompt_tokens, cached_tokens, completion_tokens
    timings         prefill_s, decode_s, prefill_tps, decode_tps (seconds; tokens per second)
    truncated       whether the prompt was cut: never, unless asked for
    fingerprint     what the bits depend on: ISA variant, cache type, how float weights are computed, BLAS library
    """

    text: str
    token_ids: list[int]
    finish_reason: str
    usage: dict[str, int]
    timings: dict[str, float]
    truncated: bool
    fingerprint: str
    sampling: SamplingParams = field(repr=False)
    seed: int = 0


def prefill(engine: Engine, sequence: CachedSequence, tokens: Sequence[int]) -> F32:
    """Read tokens into a sequence, in chunks; the logits (V,) of the last, valid until the next run.

    Raises ContextOverflow before anything is read, InvalidArgument when there is nothing to read.
    """
    if not tokens:
        raise InvalidArgument("the prompt has no tokens: there is nothing to continue")
    if sequence.length + len(tokens) > engine.cache.n_ctx:
        raise ContextOverflow(sequence.length + len(tokens), engine.cache.n_ctx)
    start = sequence.length
    try:
        for i in range(0, len(tokens), CHUNK):
            logits = _step(engine, sequence, tokens[i : i + CHUNK])
    except BaseException:  # also Ctrl-C between chunks: the sequence is as it was, or empty where a window moved on
        engine.cache.truncate(sequence, start)
        raise
    return logits


def _step(engine: Engine, sequence: CachedSequence, tokens: Sequence[int]) -> F32:
    """One run; its last row's logits. Raises NonFinite."""
    with engine.lock:
        step = engine.cache.extend(sequence, tokens)
        logits: F32 = engine.run(step)[0]
        if not np.isfinite(logits.max()):  # NaN and +inf reach the maximum
            raise engine.blame(step)
        return logits


class Stopper:
    """Finds stop strings in a stream: text that may be the beginning of one is held back."""

    def __init__(self, stop: Sequence[str]) -> None:
        self.stop = [s for s in stop if s]
        self.held = ""
        self.found = False

    def push(self, text: str) -> str:
        """Text that is certain not to belong to a stop string; `found` is set when one is complete."""
        self.held += text
        ends = [(at, s) for s in self.stop if (at := self.held.find(s)) >= 0]
        if ends:
            self.found = True
            out, self.held = self.held[: min(at for at, _ in ends)], ""
            return out
        keep = max((_overlap(self.held, s) for s in self.stop), default=0)
        out, self.held = self.held[: len(self.held) - keep], self.held[len(self.held) - keep :]
        return out

    def flush(self) -> str:
        """What was held back, when the stream ends without a stop string."""
        out, self.held = self.held, ""
        return out


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` begin `stop`."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)


@dataclass
class TextGenerator:
    """Generates from an engine: `for event in generator.stream(sequence, prompt)`, then `.result`.

    max_tokens   None: until the context is full
    ignore_eos   go on past end tokens
    """

    engine: Engine
    tokenizer: Tokenizer
    params: SamplingParams
    max_tokens: int | None = None
    stop: Sequence[str] = ()
    ignore_eos: bool = False
    fingerprint: str = ""
    result: Result | None = None

    def stream(
        self, sequence: CachedSequence, prompt: Sequence[int], cached: int = 0
    ) -> Generator[Event, None, Result]:
        """Read `prompt` into the sequence and generate. Closing the generator stops after the present token."""
        if self.max_tokens is not None and self.max_tokens < 0:
            raise InvalidArgument(f"max_tokens is {self.max_tokens}, want >= 0 or None")
        sampler, decoder, stopper = Sampler(self.params), StreamDecoder(self.tokenizer), Stopper(self.stop)
        ids: list[int] = []
        pieces: list[str] = []
        reason = "cancelled"
        clock = time.perf_counter
        started = clock()
        limit = self.engine.cache.n_ctx if self.max_tokens is None else self.max_tokens
        first = started
        try:
            logits = prefill(self.engine, sequence, prompt)
            first = clock()
            while True:
                if len(ids) >= limit:
                    reason = "length"
                    break
                token = sampler(logits, sequence.tokens, sequence.length)
                if token in self.tokenizer.end_ids and not self.ignore_eos:
                    reason = "stop"
                    break
                ids.append(token)
                text = stopper.push(decoder.push(token))
                pieces.append(text)
                yield Event(text, token)
                if stopper.found:
                    reason = "stop"
                    break
                if sequence.length >= self.engine.cache.n_ctx:
                    reason = "length"
                    break
                if len(ids) < limit:
                    logits = _step(self.engine, sequence, [token])
            if not stopper.found:
                rest = stopper.push(decoder.flush())
                rest += "" if stopper.found else stopper.flush()
                if rest:
                    pieces.append(rest)
                    yield Event(rest, -1)
        finally:
            ended = clock()
            self.result = self._result(
                pieces, ids, reason, len(prompt), cached, first - started, ended - first, sampler
            )
        return self.result

    def _result(
        self, pieces: list[str], ids: list[int], reason: str, n: int, cached: int, read: float, wrote: float, s: Sampler
    ) -> Result:
        rate = {
            "prefill_tps": n / read if read > 0 else 0.0,
            "decode_tps": (len(ids) - 1) / wrote if wrote > 0 else 0.0,
        }
        return Result(
            text="".join(pieces),
            token_ids=ids,
            finish_reason=reason,
            usage={"prompt_tokens": n + cached, "cached_tokens": cached, "completion_tokens": len(ids)},
            timings={"prefill_s": read, "decode_s": wrote, **rate},
            truncated=False,
            fingerprint=self.fingerprint,
            sampling=self.params,
            seed=s.seed,
        )


__all__ = ["Event", "Result", "Stopper", "TextGenerator", "prefill"]


def drain(stream: Generator[Event, None, Any]) -> None:
    """Run a stream to its end."""
    for _ in stream:
        pass
