"""Importance from text: how large the inputs of each matrix are while a model reads, channel by channel.

    window      | B . . . . . . . |         n_ctx tokens, BOS in place of the first where the model wants one, all read
    per matrix  sum[j] += x[j]^2            over every row x that is multiplied with it        count += 1

The model runs op by op, and whoever listens sees each product with its input before any fusion: q, k and v, or gate and
up, are three or two products of one value, whose squares are summed once. The sums are float64 and become float32 at
the end, so that they depend neither on threads nor on how many windows there are.

The definition is llama-imatrix's, its windows too. Of a stack of experts each has
its own sums, of the rows that chose it, and its own count. What this file is not: a file format (models/importance.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from zigllama.errors import BadImportance, ContextOverflow, NonFinite, WrongKindOfModel
from zigllama.foundation.runtime import F32, I32, Lowered, Op, Rows
from zigllama.inference.engine import CHUNK
from zigllama.inference.kv_cache import ModelKVCache
from zigllama.inference.perplexity import cut, text_ids, with_bos
from zigllama.inference.scoring import F64, surprise
from zigllama.linear_algebra.linear import Weight, linear
from zigllama.models.importance import Entry, Importance, combined
from zigllama.neural_primitives.experts import expert_ids, experts_down, experts_gated

if TYPE_CHECKING:
    from zigllama.inference.model import Model

WINDOW = 512
BLOCK = 128  # rows that are widened to float64 at a time, which stay in the cache
LARGEST = float(np.finfo(np.float32).max)
LOGITS_ROWS = 64  # rows whose logits are in memory together


def squares(x: F32) -> F64:
    """sum_t x[t, j]^2 of rows (T, C): float64 (C,). Squares of float32 are exact in it."""
    out = np.zeros(x.shape[1], np.float64)
    for at in range(0, len(x), BLOCK):
        wide = x[at : at + BLOCK].astype(np.float64)
        out += np.einsum("tc,tc->c", wide, wide)
    return out


class Sums:
    """Of a matrix, or of a stack of E: sums of squares float64 (E, C), and how many rows each has, int64 (E,)."""

    def __init__(self, name: str, cols: int, stack: int = 1) -> None:
        self.name = name
        self.sums, self.counts = np.zeros((stack, cols)), np.zeros(stack, np.int64)

    def add(self, of_rows: F64, n: int, matrix: int = 0) -> None:
        """Squares that were summed over n rows. Raises NonFinite, with the matrix's name, once a sum is beyond
        float32, infinite or NaN."""
        self.sums[matrix] += of_rows
        self.counts[matrix] += n
        if not self.sums[matrix].max() <= LARGEST:
            raise NonFinite(f"the squared inputs of {self.name}", None)

    def plus(self, other: Sums) -> Sums:
        """Both together."""
        out = Sums(self.name, self.sums.shape[1], len(self.counts))
        out.sums, out.counts = self.sums + other.sums, self.counts + other.counts
        return out


class Collector:
    """The sums of a model's matrices over the windows that were given to it.

    n_ctx            tokens per window at most
    process_output   also of the matrix that makes the logits; where that is the embedding, under the embedding's name

    Raises ContextOverflow for windows longer than the model's context, OutOfMemory.

        c = Collector(model)
        for window in windows:
            c.add(window)
        c.importance("text.txt")
    """

    def __init__(self, model: Model, n_ctx: int = WINDOW, *, process_output: bool = False) -> None:
        if n_ctx > model.n_ctx:
            raise ContextOverflow(n_ctx, model.n_ctx)
        if not model.spec.causal:
            raise WrongKindOfModel("an importance matrix", "an encoder", "`embed` texts")
        self.model, self.n_ctx, self.n_windows = model, n_ctx, 0
        embedding, output = model.decoder.token_embd, model.decoder.output
        self.output: Weight | None = output if process_output else None
        skipped = {id(w) for w in (embedding, output) if w is not self.output}
        self._weights: dict[int, str] = {}  # id of a matrix -> its first name: an output that is the embedding has two
        for name, weight in model.weights.items():
            if isinstance(weight, Weight) and id(weight) not in skipped:
                self._weights.setdefault(id(weight), name)
        self._total = {name: Sums(name, (w := model.weights[name]).cols, w.stack) for name in self._weights.values()}
        engine = model.engine
        self._cache = ModelKVCache(
            model.spec.cache_spec(), n_ctx, type_name=engine.cache.type_name, chunk=CHUNK, keep=0
        )

    def add(self, window: Sequence[int], *, score: bool = False) -> F64 | None:
        """Read one window from position 0. With `score`, -ln p of the tokens after its middle one, as perplexity.py
        has them, float64 (n - 1 - n // 2).

        What is interrupted or fails leaves the sums as they were. Raises ContextOverflow, NonFinite, ClosedError,
        InvalidArgument for an id outside the vocabulary.
        """
        ids = self.model.prompt_ids(window)
        new = {name: Sums(name, total.sums.shape[1], len(total.counts)) for name, total in self._total.items()}
        watch = _Watch({key: new[name] for key, name in self._weights.items()})
        first = len(ids) // 2
        scores: list[float] = []
        sequence = self._cache.add()
        try:
            for at in range(0, len(ids), CHUNK):
                step = self._cache.extend(sequence, ids[at : at + CHUNK])
                hidden = self.model.engine.hidden(step, self._cache, watch)
                if not np.isfinite(hidden).all():
                    raise NonFinite("the last norm", None)
                if self.output is not None:
                    watch.product(self.output, hidden)
                if score:
                    scores += self._scores(ids, at, hidden, first)
        finally:
            self._cache.remove(sequence)
        # one assignment: Ctrl-C comes before it or after it
        self._total, self.n_windows = {k: t.plus(new[k]) for k, t in self._total.items()}, self.n_windows + 1
        return np.array(scores) if score else None

    def _scores(self, ids: list[int], at: int, hidden: F32, first: int) -> list[float]:
        """-ln p of the tokens that follow rows `hidden`, the positions from `at` on, where they are past `first`."""
        out: list[float] = []
        begin, end = max(first, at), min(at + len(hidden), len(ids) - 1)
        for i in range(begin, end, LOGITS_ROWS):
            rows = self.model.engine.logits(hidden[i - at : min(i + LOGITS_ROWS, end) - at])
            if not np.isfinite(rows).all():
                raise NonFinite("logits", None)
            out += [surprise(row, ids[j + 1]) for j, row in enumerate(rows, i)]
        return out

    def importance(self, *datasets: str) -> Importance:
        """What the windows so far amount to. Matrices that no product was seen with have no entry."""
        entries = {
            name: Entry(t.sums.astype(np.float32), t.counts.astype(np.float32))
            for name, t in self._total.items()
            if t.counts.any()
        }
        return Importance(entries, datasets, self.n_windows, self.n_ctx)

    def check(self, other: Importance) -> None:
        """Raises BadImportance where an importance matrix cannot be of this model: another number of columns."""
        for name, total in self._total.items():
            entry = other.entries.get(name)
            if entry is not None and entry.sums.size != total.sums.size:
                found, want = entry.sums.size, total.sums.size
                raise BadImportance(other.path, f"{name!r} has {found} sums, the model's has {want} columns")


class _Watch:
    """The observer of a window: sums what enters products. Products of one value in a row share its sum."""

    def __init__(self, sums: dict[int, Sums]) -> None:
        self.sums = sums
        self.last: tuple[Any, F64] | None = None

    def __call__(self, op: Op, call: Lowered, result: Any) -> None:
        if op is linear:
            x, weight = call.ins[0], call.ins[1]
            assert isinstance(x, Rows) and x.array is not None
            self.product(weight, x.array)

        elif op is experts_gated or op is experts_down:
            h, ids = call.ins[0].array, expert_ids(call.ins[1].array)
            t, k = ids.shape
            rows = h.reshape(t * k, -1) if op is experts_down else np.repeat(h, k, axis=0)
            for weight in call.ins[2:4] if op is experts_gated else call.ins[3:]:
                self.chosen(weight, rows, ids.reshape(-1))

    def chosen(self, weight: Weight, x: F32, ids: I32) -> None:
        """Each row (T, C) is multiplied with the matrix of the stack that its id names."""
        if (sums := self.sums.get(id(weight))) is None:
            return
        for e in np.unique(ids):
            mine = x[ids == e]
            sums.add(squares(mine), len(mine), int(e))

    def product(self, weight: Weight, x: F32) -> None:
        """Rows (T, C) are multiplied with a weight."""
        if (sums := self.sums.get(id(weight))) is None:
            return
        if self.last is None or self.last[0] is not x:
            self.last = x, squares(x)
        sums.add(self.last[1], len(x))


def windows_of(
    model: Model, text: str | Sequence[int], n_ctx: int, chunks: int = -1, *, skip: int = 0, parse_special: bool = False
) -> I32:
    """The windows (n, n_ctx) of a text or of its tokens, without the first `skip` and at most `chunks` (-1: all); BOS
    is not put in yet. Raises InvalidArgument for a text shorter than two windows, and as `cut`."""
    ids = text_ids(model, text, parse_special=parse_special) if isinstance(text, str) else list(text)
    return cut(ids[skip * n_ctx :], n_ctx, chunks)


def importance(
    model: Model,
    text: str | Sequence[int],
    *,
    n_ctx: int = WINDOW,
    chunks: int = -1,
    process_output: bool = False,
    dataset: str = "",
    add_to: Sequence[Importance] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Importance:
    """The importance matrix of a model on a text: per matrix of its layers the sums of its squared inputs.

    text             text, or its token ids as they are to be cut into windows
    n_ctx            tokens per window; a rest that fills none is left out; each begins anew, with BOS where the model
                     wants one
    chunks           windows at most; -1: all
    process_output   also of the matrix that makes the logits
    dataset          what to call the text in the file
    add_to           importance matrices of earlier runs that are added to it
    progress         called with the windows that are read, and how many there are

    `zigllama.models.importance` writes it, `zl.quantize(imatrix=...)` reads it:  w_j = sum_j / count.
    Raises InvalidArgument (a text of fewer than two windows, an id outside the vocabulary), ContextOverflow, NonFinite,
    BadImportance where one of `add_to` does not fit the model.
    """
    windows = windows_of(model, text, n_ctx, chunks)
    collector = Collector(model, n_ctx, process_output=process_output)
    for part in add_to:
        collector.check(part)
    for i, window in enumerate(windows, 1):
        collector.add(with_bos(model, window))
        if progress is not None:
            progress(i, len(windows))
    own = collector.importance(*([dataset] if dataset else []))
    return combined([*add_to, own], n_ctx) if add_to else own
