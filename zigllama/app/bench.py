"""Speed as llama-bench defines it: tests, what is timed in them, and the figures that come out.

    pp512            512 random tokens are read into an empty cache; logits of the last are computed
    tg128            128 random tokens one by one from an empty cache, logits of each; nothing is sampled
    pp512+tg128      both, one after the other, timed together
    ... @ d2048      after 2,048 tokens that are read before the clock starts

and as llama-batched-bench does: B sequences read a prompt each, then decode together, a token of each per step.

Each test has a warm-up that does not count. Steps go through the very engine and cache that `generate` uses, in chunks
of the same size; what is left out is what llama-bench leaves out: the tokenizer, sampling, the scheduler, prefixes kept
in the cache, prompt lookup. The first token is random too (llama-bench takes BOS): no speed depends on it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np

from zigllama.errors import InvalidArgument
from zigllama.foundation.runtime import F32
from zigllama.inference.engine import CHUNK
from zigllama.inference.kv_cache import CachedSequence
from zigllama.inference.model import Model


@dataclass(frozen=True)
class Test:
    """Read `n_prompt` tokens, then decode `n_gen`, both after `n_depth` tokens that are not timed."""

    n_prompt: int
    n_gen: int
    n_depth: int = 0

    def __post_init__(self) -> None:
        if min(self.n_prompt, self.n_gen, self.n_depth) < 0 or not self.n_prompt + self.n_gen:
            raise InvalidArgument(f"a test of {self.n_prompt} + {self.n_gen} tokens at depth {self.n_depth}")

    @property
    def name(self) -> str:
        """llama-bench's name of it."""
        parts = [f"{kind}{n}" for kind, n in (("pp", self.n_prompt), ("tg", self.n_gen)) if n]
        return "+".join(parts) + (f" @ d{self.n_depth}" if self.n_depth else "")

    @property
    def n_ctx(self) -> int:
        """Positions it needs, without the one that the warm-up writes."""
        return self.n_prompt + self.n_gen + self.n_depth


@dataclass(frozen=True)
class BatchTest:
    """`n_seq` sequences: each reads `n_prompt` tokens (or one does for all: `shared`), then each decodes `n_gen`."""

    n_prompt: int
    n_gen: int
    n_seq: int
    shared: bool = False

    def __post_init__(self) -> None:
        if min(self.n_prompt, self.n_gen, self.n_seq) < 1 or self.n_seq > CHUNK:
            batch = f"a batch of {self.n_seq} sequences of {self.n_prompt} + {self.n_gen} tokens"
            raise InvalidArgument(f"{batch}; 1 to {CHUNK} sequences of at least 1 + 1 are possible")

    @property
    def n_read(self) -> int:
        """Prompt tokens that are run."""
        return self.n_prompt * (1 if self.shared else self.n_seq)

    @property
    def n_kv(self) -> int:
        """Positions that are filled in the end."""
        return self.n_read + self.n_seq * self.n_gen

    @property
    def n_ctx(self) -> int:
        """Positions per sequence."""
        return self.n_prompt + self.n_gen


class Runner:
    """Random tokens through a model's engine, `rows` at most in a step. Raises InvalidArgument for rows beyond CHUNK.

    The model must be idle: the runner holds the engine for as long as a measurement takes.
    """

    def __init__(self, model: Model, rows: int = CHUNK, seed: int = 0) -> None:
        if not 1 <= rows <= CHUNK:
            raise InvalidArgument(f"{rows} rows in a step, want 1 to {CHUNK}")
        self.engine, self.cache, self.rows = model.engine, model.engine.cache, rows
        self._n_vocab, self._random = model.info.n_vocab, np.random.default_rng(seed)

    def tokens(self, *shape: int) -> Any:
        """Random ids as (nested) lists."""
        return self._random.integers(self._n_vocab, size=shape).tolist()

    def read(self, sequences: Sequence[CachedSequence], n: int) -> F32:
        """n tokens at the end of each; the logits (R, V) of the last ones, as far as they were in the last step.

        A step is filled with one sequence's tokens before the next one's. Rows that end no prompt have no logits.
        """
        due = [n] * len(sequences)
        logits = np.empty((0, self._n_vocab), np.float32)
        while any(due):
            room, turns, ends = self.rows, [], []
            for i, sequence in enumerate(sequences):
                if count := min(room, due[i]):
                    turns.append((sequence, self.tokens(count)))
                    room, due[i] = room - count, due[i] - count
                    ends.append(not due[i])
            step = self.cache.step(turns)
            step.out_rows = step.out_rows[np.array(ends)]
            logits = self.engine.run(step)
        return logits

    def write(self, sequences: Sequence[CachedSequence], n: int) -> F32:
        """n steps of one token of each sequence, each with all its logits; the last step's (B, V)."""
        logits = np.empty((0, self._n_vocab), np.float32)
        for row in self.tokens(n, len(sequences)):
            logits = self.engine.run(self.cache.step([(s, [t]) for s, t in zip(sequences, row, strict=True)]))
        return logits

    @contextmanager
    def sequences(self, n: int) -> Iterator[list[CachedSequence]]:
        """n empty sequences; what they hold is given back."""
        made: list[CachedSequence] = []
        with self.engine.lock:
            try:
                for _ in range(n):
                    made.append(self.cache.add())
                yield made
            finally:
                for sequence in made:
                    self.cache.remove(sequence)

    def _check(self, sequence: CachedSequence, logits: F32) -> None:
        """Raises NonFinite: what is no number is no measurement."""
        if not np.isfinite(logits).all():
            token = sequence.tokens[-1]
            self.cache.truncate(sequence, sequence.length - 1)
            raise self.engine.blame(self.cache.extend(sequence, [token]))

    def measure(self, test: Test, repetitions: int = 5, *, warmup: bool = True) -> list[int]:
        """Nanoseconds of each repetition. Raises NonFinite, and what the engine raises."""
        times = []
        with self.sequences(1) as (sequence,):
            if warmup and test.n_prompt:
                self._check(sequence, self.read([sequence], test.n_prompt))
            if warmup and test.n_gen:
                self._check(sequence, self.write([sequence], 1))
            for i in range(repetitions):
                have = self.cache.truncate(sequence, test.n_depth if i else 0)
                self.read([sequence], test.n_depth - have)
                start = time.perf_counter_ns()
                logits = self.read([sequence], test.n_prompt)
                if test.n_gen:
                    logits = self.write([sequence], test.n_gen)
                times.append(time.perf_counter_ns() - start)
                self._check(sequence, logits)
        return times

    def measure_batch(
        self, test: BatchTest, repetitions: int = 1, *, warmup: bool = True
    ) -> tuple[list[int], list[int]]:
        """Nanoseconds of reading and of decoding, per repetition. Raises as `measure`."""
        reading, writing = [], []
        for i in range(repetitions + warmup):
            with self.sequences(1 if test.shared else test.n_seq) as sequences:
                begin = time.perf_counter_ns()
                self.read(sequences, test.n_prompt)
                middle = time.perf_counter_ns()
                while len(sequences) < test.n_seq:  # they belong to `sequences`, which removes them
                    sequences.append(self.cache.fork(sequences[0]))
                start = time.perf_counter_ns()
                logits = self.write(sequences, test.n_gen)
                end = time.perf_counter_ns()
                for sequence, row in zip(sequences, logits, strict=True):
                    self._check(sequence, row)
            if i >= warmup:
                reading.append(middle - begin)
                writing.append(end - start)
        return reading, writing


def tokens_per_second(n: int, times: Sequence[int]) -> list[float]:
    """Of each repetition.   n tokens, nanoseconds"""
    return [1e9 * n / t for t in times]


def mean_and_deviation(samples: Sequence[float]) -> tuple[float, float]:
    """The mean and the samples' standard deviation (of n - 1), 0 for a single one."""
    return fmean(samples), stdev(samples) if len(samples) > 1 else 0.0


def figures(test: Test, times: Sequence[int]) -> dict[str, Any]:
    """A test's result by llama-bench's names: nanoseconds, tokens per second (prompt and decoded together)."""
    rates = tokens_per_second(test.n_prompt + test.n_gen, times)
    (avg_ns, stddev_ns), (avg_ts, stddev_ts) = mean_and_deviation(times), mean_and_deviation(rates)
    return {
        "n_prompt": test.n_prompt,
        "n_gen": test.n_gen,
        "n_depth": test.n_depth,
        "avg_ns": round(avg_ns),
        "stddev_ns": round(stddev_ns),
        "avg_ts": avg_ts,
        "stddev_ts": stddev_ts,
        "samples_ns": list(times),
        "samples_ts": rates,
    }


def batch_figures(test: BatchTest, reading: Sequence[int], writing: Sequence[int]) -> dict[str, Any]:
    """A batch's result by llama-batched-bench's names: seconds, tokens per second of all sequences together.

    Of several repetitions times are means, and speeds tokens per mean time; the samples are nanoseconds.
    """
    t_pp, t_tg = fmean(reading) / 1e9, fmean(writing) / 1e9
    return {
        "is_pp_shared": test.shared,
        "pp": test.n_prompt,
        "tg": test.n_gen,
        "pl": test.n_seq,
        "n_kv": test.n_kv,
        "t_pp": t_pp,
        "speed_pp": test.n_read / t_pp,
        "t_tg": t_tg,
        "speed_tg": test.n_seq * test.n_gen / t_tg,
        "t": t_pp + t_tg,
        "speed": test.n_kv / (t_pp + t_tg),
        "samples_pp_ns": list(reading),
        "samples_tg_ns": list(writing),
    }
