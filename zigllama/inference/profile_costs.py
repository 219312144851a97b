"""What an op of the tape must move and compute, told from its shapes: the other half of a profile beside its time.

    streamed      bytes of weights, keys and values: read once per step, from wherever a step's whole reading fits
    activations   bytes of the values between ops, read and written: they stay in the caches
    operations    multiplications and additions, of products and attention; other ops are limited by their bytes

Everything is linear in a step's counts (`Counts`), so a phase of many steps needs their sums and no list.

    linear      streamed  the weights' bytes          activations  4 T (K + N + N of a residual)   operations  2 T K N
    embed       streamed  T rows' bytes               activations  4 T C
    kv_store    streamed  what is written, T rows     activations  4 T (G dk + G dv)
    attention   streamed  (dk + dv) G bytes of each position that some row of a sequence sees
                operations  2 H (dk + dv) for each row and position that it sees
    others      activations  4 T (columns of operands and results)

What this file is not: it measures nothing (profiling.py) and runs nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zigllama.foundation.runtime import ROWS_OUT, Rows, Step
from zigllama.foundation.tape_passes import Tape, TapeOp
from zigllama.linear_algebra.linear import Weight
from zigllama.transformers.interfaces import PAGE

FLOATS = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class Cost:
    """Bytes and operations (see above); `unit` is the ceiling that the operations have: "int8" or "f32"."""

    streamed: float = 0.0
    activations: float = 0.0
    operations: float = 0.0
    unit: str = "f32"


@dataclass
class Counts:
    """Sums over steps: how many, their rows, the rows whose logits were wanted; and per window (0: none) the positions
    that rows saw, and the positions that some row of a sequence saw."""

    steps: int = 0
    rows: int = 0
    out_rows: int = 0
    seen: Counter[int] = field(default_factory=Counter)
    read: Counter[int] = field(default_factory=Counter)

    def add(self, step: Step, windows: Sequence[int]) -> None:
        """One step more."""
        self.steps += 1
        self.rows += step.n_rows
        self.out_rows += step.n_out
        for window in windows:
            seen, read = visible(step, window)
            self.seen[window] += seen
            self.read[window] += read


def visible(step: Step, window: int) -> tuple[int, int]:
    """(row, position) pairs where the row sees the position, and (sequence, position) pairs where some row does."""
    if not step.n_rows:
        return 0, 0
    last = step.see_to.astype(np.int64)
    first = np.maximum(0, step.cache_pos.astype(np.int64) - window + 1) if window else np.zeros_like(last)
    begin = np.flatnonzero(np.diff(step.seq, prepend=step.seq[0] - 1))  # rows of a sequence are adjacent
    union = np.maximum.reduceat(last, begin) - np.minimum.reduceat(first, begin) + 1
    return int(np.maximum(last - first + 1, 0).sum()), int(np.maximum(union, 0).sum())


def windows_of(tape: Tape) -> tuple[int, ...]:
    """The windows of a tape's attention ops."""
    return tuple(sorted({row.ints[2] for row in tape.ops if row.op.name == "attention"}))


def cost(row: TapeOp, counts: Counts) -> Cost:
    """Of an op of the tape, in all steps that were counted."""
    values = [v for v in (*row.ins, *row.outs) if isinstance(v, Rows)]
    weights = [w for w in row.ins if isinstance(w, Weight)]

    def n(value: Rows) -> int:
        return counts.out_rows if value.rows_kind == ROWS_OUT else counts.rows

    moved = 4.0 * sum(v.cols * n(v) for v in values)
    if row.op.name == "linear":
        operations = 2.0 * sum(w.rows * w.cols for w in weights) * n(values[0])
        unit = ("bf16" if weights[0].compute == "bf16" else "f32") if weights[0].type.name in FLOATS else "int8"
        return Cost(float(sum(w.data.nbytes for w in weights)) * counts.steps, moved, operations, unit)
    if row.op.name in ("experts_gated", "experts_down"):
        # a row's own experts; how many rows share them is not known here, so of many rows the bytes are an upper bound
        pairs, used = n(row.ins[1]) * row.ins[1].cols, counts.steps * weights[0].stack
        unit = ("bf16" if weights[0].compute == "bf16" else "f32") if weights[0].type.name in FLOATS else "int8"
        operations = 2.0 * sum(w.rows // w.stack * w.cols for w in weights) * pairs
        return Cost(float(sum(w.data.nbytes // w.stack for w in weights)) * min(pairs, used), moved, operations, unit)
    if row.op.name == "embed":
        return Cost(weights[0].data.nbytes / weights[0].rows * counts.rows, moved)
    if row.op.name == "gather":  # of its operand only the wanted rows are read
        return Cost(0.0, 8.0 * values[0].cols * counts.out_rows)
    cache = next((x for x in row.ins if hasattr(x, "n_kv")), None)
    if cache is None:
        return Cost(0.0, moved)
    positions = cache.n_pages * cache.n_layer * PAGE
    per_position = (cache.k.nbytes + cache.v.nbytes) / positions  # of a layer, scales of a Q8_0 cache included
    if row.op.name == "kv_store":
        return Cost(per_position * counts.rows, moved)
    if cache.state:  # read from one page and written to another, by each sequence of a step; here: by one
        size = cache.dk if row.op.name == "short_conv" else cache.dv
        taps = row.ints[1] if row.op.name == "short_conv" else 3 * cache.dv // values[0].cols
        return Cost(0.0, moved + 8.0 * size * counts.steps, 2.0 * taps * values[0].cols * counts.rows, "f32")
    _, heads, window = row.ints[:3]
    return Cost(
        per_position * counts.read[window], moved, 2.0 * heads * (cache.dk + cache.dv) * counts.seen[window], "f32"
    )


# --- names ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """Where an op stands: what it does with which tensors ("linear attn_q+attn_k+attn_v"), and its layer (None: it
    belongs to no block)."""

    label: str
    layer: int | None


def places(tape: Tape, weights: Mapping[str, Any]) -> list[Place]:
    """The place of every op of a tape, from the names of its tensors (`blk.{i}.attn_q.weight`). An op without any
    (rope, attention) belongs to the layer of the op before it."""
    names: dict[int, list[str]] = {}
    for name, weight in weights.items():
        names.setdefault(id(weight), []).append(name.removesuffix(".weight"))
    found: list[Place] = []
    layer: int | None = None
    for row in tape.ops:
        mine = [names[id(x)] for x in row.ins if id(x) in names]
        # a matrix with two names is the embedding and, tied, the output
        own = [n[0] if row.op.name == "embed" or len(n) == 1 else n[-1] for n in mine]
        own = [n for n in own if not n.endswith(".bias")]
        short = []
        for name in own:
            block, number, rest = [*name.split(".", 2), "", ""][:3]
            layer = int(number) if block == "blk" else None
            short.append(rest if block == "blk" else name)
        found.append(Place(" ".join([row.op.name, "+".join(short)]).strip(), layer))
    return found
