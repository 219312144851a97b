"""Texts as rows of channels: `m.embed` (one row per text) and `m.hidden` (one per token), of encoders and decoders.

    rows    (T, C)   the stream after the last layer, normalised as the model does before it would make logits
    pooled  (C,)     mean: the average of all rows      cls: the first row      last: the last row
    result  (C,)     pooled / |pooled|, unless it is not wanted

Texts go through the model together: the rows of a step belong to as many texts as fit (`CHUNK` rows), one after the
other, each of its own length. Nothing is padded to the longest: a pad row costs what any other row does, and what it
holds has to be masked out of every sum. Each text gets the bits it gets alone, since the order of every sum depends on
a row and its own text only; so how texts are put together is nobody's concern.

An encoder's rows see the whole text, so that one must fit into a step; a decoder's longer ones are read in chunks.
Keys and values live in a cache of this object's own for as long as the text is read, and none is kept: what an encoder
made of a beginning depends on the end.

What it is not: it serves no requests of others meanwhile (batching.py): a call holds the engine step by step.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zigllama.errors import BadMetadata, ContextOverflow, InvalidArgument, NonFinite, UnknownName
from zigllama.foundation.runtime import F32, I32, EagerRuntime, Step
from zigllama.foundation.tape import TapeProgram, record
from zigllama.inference.engine import CHUNK, Engine
from zigllama.inference.kv_cache import CachedSequence, ModelKVCache
from zigllama.neural_primitives.arithmetic import gather
from zigllama.neural_primitives.fusion import FUSIONS

POOLINGS = ("none", "mean", "cls", "last")  # by the number in a file's `pooling_type`
N_TEXTS = 64  # most texts of a step
LEAST_NORM = 1e-12  # what a row of zeros is divided by

log = logging.getLogger(__name__)


def pooling_of(metadata: Mapping[str, Any]) -> str:
    """What a file says about pooling, "mean" where it says nothing. Raises BadMetadata for a kind that is not known."""
    key = f"{metadata.get('general.architecture')}.pooling_type"
    value = metadata.get(key, 1)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < len(POOLINGS):
        raise BadMetadata(key, f"{value!r} is none of " + ", ".join(f"{i} ({name})" for i, name in enumerate(POOLINGS)))
    return POOLINGS[value]


@dataclass
class _Text:
    """A text on its way: where it stands in the list, its tokens, and what was made of it."""

    number: int
    ids: Sequence[int]
    segments: Sequence[int] | None
    sequence: CachedSequence
    parts: list[F32] = field(default_factory=list)


class Embedder:
    """Runs texts through the layers of a model. One per model, made when first asked for.

    engine   of the model: its decoder (or encoder), context and lock
    n_ctx    most tokens of a text
    """

    def __init__(self, engine: Engine, n_ctx: int) -> None:
        self.engine, self.n_ctx = engine, n_ctx
        self.causal: bool = engine.decoder.spec.causal
        self.most = CHUNK if self.causal else max(CHUNK, n_ctx)  # rows of a step
        self.cache = ModelKVCache.within_memory(
            engine.decoder.cache_spec(), n_ctx, n_seq=N_TEXTS, type_name=engine.cache.type_name, chunk=self.most, keep=0
        )
        self._program: TapeProgram | None = None
        self._native_step: Any = None

    def _forward(self, step: Step) -> Any:
        return gather(self.engine.decoder.hidden(step, self.cache), step)

    def _run(self, step: Step) -> F32:
        """Rows (R, C) of step.out_rows, valid until the next run."""
        engine = self.engine
        if engine.context is None:
            rows: F32 = self._forward(step)
        elif engine.mode == "eager":
            rows = self._forward(EagerRuntime(engine.context, step).bind()).array
        else:
            if self._program is None:
                self._program = TapeProgram(record(self._forward, FUSIONS), engine.context, self.most)
            if self._native_step is None:
                self._native_step = engine.context.make_step(step)
            else:
                self._native_step.update(step)
            self._program.run(self._native_step)
            rows = self._program.result(0, step.n_out)
        if not np.isfinite(rows).all():
            raise NonFinite("the last norm", None)
        return rows

    def rows(
        self,
        texts: Sequence[Sequence[int]],
        wanted: str = "all",
        segments: Sequence[Sequence[int] | None] | None = None,
    ) -> Iterator[tuple[int, F32]]:
        """(number of the text, its rows) as texts are done: all rows (T, C), or with `wanted` "cls" or "last" that one
        as (1, C). Raises InvalidArgument for a text without tokens, ContextOverflow, NonFinite, ClosedError."""
        for ids in texts:
            if not ids:
                raise InvalidArgument("a text has no tokens: there is nothing to embed")
            if len(ids) > self.n_ctx:
                raise ContextOverflow(len(ids), self.n_ctx)
        waiting = list(range(len(texts)))[::-1]
        running: list[_Text] = []
        engine = self.engine
        try:
            while waiting or running:
                engine.check_process()
                done: list[tuple[int, F32]] = []
                with engine.lock:  # per step, so that others get their turn
                    engine.check()
                    turns = self._fill(running, waiting, texts, segments)
                    step, kept = self._step(turns, wanted)
                    made, at = self._run(step), 0
                    for (text, _), n in zip(turns, kept, strict=True):
                        text.parts.append(np.array(made[at : at + n]))
                        at += n
                        if text.sequence.length == len(text.ids):
                            running.remove(text)
                            self.cache.remove(text.sequence)
                            rows = np.concatenate(text.parts) if len(text.parts) > 1 else text.parts[0]
                            done.append((text.number, rows if wanted == "all" else _one(rows, wanted)))
                yield from done
        finally:
            if running and not engine.forked:  # a child has no use for the lock, which may be held for ever there
                with engine.lock:
                    for text in running:
                        self.cache.remove(text.sequence)

    def _fill(
        self,
        running: list[_Text],
        waiting: list[int],
        texts: Sequence[Sequence[int]],
        segments: Sequence[Sequence[int] | None] | None,
    ) -> list[tuple[_Text, Sequence[int]]]:
        """Whose tokens the next step has: those that were begun, and the next texts as far as there is room."""
        turns: list[tuple[_Text, Sequence[int]]] = []
        room = self.most if self.causal else CHUNK
        for text in running:
            part = text.ids[text.sequence.length : text.sequence.length + room]
            turns.append((text, part))
            room -= len(part)
        while waiting and room > 0 and len(running) < N_TEXTS:
            i = waiting[-1]
            ids = texts[i]
            if len(ids) > room and turns:  # it waits for a step where it is whole, or for its turn at the front
                break
            if running and not self.cache.has_room(len(ids)):
                break
            text = _Text(i, ids, None if segments is None else segments[i], self.cache.add(len(ids)))
            waiting.pop()
            running.append(text)
            part = ids[: self.most] if self.causal else ids
            turns.append((text, part))
            room -= len(part)
        return turns

    def _step(self, turns: list[tuple[_Text, Sequence[int]]], wanted: str) -> tuple[Step, list[int]]:
        """The step of these rows, and how many of each text's rows are wanted of it."""
        before = [text.sequence.length for text, _ in turns]
        step = self.cache.step([(text.sequence, part) for text, part in turns])
        lengths = [len(part) for _, part in turns]
        starts = np.cumsum([0, *lengths[:-1]])
        if not self.causal:
            step.see_to = np.repeat(np.array(lengths, np.int32) - 1, lengths)
            planes = np.zeros((2, step.n_rows), np.int32)
            planes[0] = step.cache_pos
            for (text, _), start, n in zip(turns, starts, lengths, strict=True):
                if text.segments is not None:
                    planes[1, start : start + n] = text.segments
            step.positions = planes
        out: list[I32] = []
        for start, n, first in zip(starts, lengths, before, strict=True):
            if wanted == "all":
                out.append(np.arange(start, start + n, dtype=np.int32))
            else:  # of a part that does not hold the row that is wanted, its last: a row costs less than a special case
                out.append(np.array([start if wanted == "cls" and not first else start + n - 1], np.int32))
        step.out_rows, step.best = np.concatenate(out), False
        return step, [len(rows) for rows in out]

    def close(self) -> None:
        """Give the program back."""
        if self._program is not None:
            self._program.close()
            self._program = None


def _one(rows: F32, wanted: str) -> F32:
    """The row that is wanted, of one row from each part of a text."""
    return rows[:1] if wanted == "cls" else rows[-1:]


def pool(rows: F32, pooling: str) -> F32:
    """(T, C) -> (C,): the mean (summed in double, in order), the first row, or the last."""
    if pooling == "mean":
        mean: F32 = (rows.sum(axis=0, dtype=np.float64) / len(rows)).astype(np.float32)
        return mean
    one: F32 = rows[0] if pooling == "cls" else rows[-1]
    return one


def normalized(x: F32) -> F32:
    """x / |x| row by row, (N, C) -> (N, C); a row of zeros stays."""
    wide = x.astype(np.float64)
    size = np.sqrt((wide * wide).sum(axis=1, keepdims=True))
    out: F32 = (wide / np.maximum(size, LEAST_NORM)).astype(np.float32)
    return out


def pooled(embedder: Embedder, texts: Sequence[Sequence[int]], kind: str, size: int, normalize: bool) -> F32:
    """Texts as ids -> a row each, (N, `size`), by a known kind of pooling."""
    out = np.empty((len(texts), size), np.float32)
    for i, rows in embedder.rows(texts, "all" if kind == "mean" else kind):
        out[i] = pool(rows, kind)
    return normalized(out) if normalize else out


def choose_pooling(asked: str | None, in_file: str) -> str:
    """What to do: as asked, or as the file says. Raises UnknownName, InvalidArgument for "none": a row per text is
    wanted."""
    pooling = asked or in_file
    if pooling not in POOLINGS:
        raise UnknownName("pooling", pooling, POOLINGS[1:])
    if pooling == "none":
        who = "asked for" if asked else "the file's choice"
        raise InvalidArgument(
            f"pooling 'none' ({who}) gives a row per token: `hidden` does; embed takes mean, cls, last"
        )
    return pooling


def cut(ids: list[int], n_ctx: int, tail: int) -> list[int]:
    """The first n_ctx tokens, of which the last `tail` are the text's own last ones ([SEP], EOS). What is cut is
    logged."""
    if len(ids) <= n_ctx:
        return ids
    log.warning("a text of %d tokens is cut to the %d positions that the model has", len(ids), n_ctx)
    tail = min(tail, n_ctx)
    return ids[: n_ctx - tail] + ids[len(ids) - tail :] if tail else ids[:n_ctx]
