"""Two executions of the same forward pass, op by op on the same inputs: `zigllama.diff` without its face.

A `Side` is one way to run an op: the NumPy twin, or a native context. `Lockstep` is a runtime (foundation/runtime.py)
whose values are side A's; at each op it lets both sides run on them, measures how far apart they come out, and goes on
with A's result. So a difference is found at the op that makes it, and does not travel.

The pages of the cache are shared: what both sides leave there is compared, keys and values after `kv_store`, states
after the ops of state-space layers, and A's stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from zigllama.app.diff_bounds import bound
from zigllama.app.diff_bounds_state import STATES, state_pages
from zigllama.foundation.ggml_types import type_by_name
from zigllama.foundation.runtime import EagerRuntime, Op, Rows, Step
from zigllama.linear_algebra.linear import Weight
from zigllama.linear_algebra.quantization import dequantize
from zigllama.neural_primitives.softmax import top_k_ids
from zigllama.transformers.cache_pages import read_pages
from zigllama.transformers.interfaces import PAGE

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Divergence:
    """Where two executions differ, at the element that is furthest beyond its bound.

    op, operand   what ran, and with which tensor ("ffn_gate"; "" where it has none)
    layer         None outside the layers
    number        the how-manieth op it was, from 0
    index         of the element; a, b its values, error |a - b|, bound the most it may be
    ulp           float32 numbers between a and b; None where one of them is NaN
    beyond        how many elements are beyond their bound, of `size`
    """

    op: str
    layer: int | None
    operand: str
    number: int
    index: tuple[int, ...]
    a: float
    b: float
    error: float
    bound: float
    ulp: int | None
    beyond: int
    size: int

    def __str__(self) -> str:
        where = "" if self.layer is None else f" in layer {self.layer}"
        name = f"{self.op} {self.operand}" if self.operand else self.op
        at = ", ".join(str(i) for i in self.index)
        ulp = "" if self.ulp is None else f", {self.ulp} ulp"
        values = f"{self.a:.9g} and {self.b:.9g} differ by {self.error:.3g}{ulp}"
        return (
            f"{name}{where} (op {self.number}) at [{at}]: {values}; "
            f"bound {self.bound:.3g}; {self.beyond} of {self.size} values are beyond theirs"
        )

    def to_json(self) -> dict[str, Any]:
        """As plain values; numbers that JSON lacks are text."""
        return {k: _plain(v) for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Measured:
    """One op, compared: its largest error as a share of its bound (1 is the limit), and what is beyond, if anything."""

    op: str
    layer: int | None
    operand: str
    share: float
    identical: bool
    divergence: Divergence | None


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def ulp_distance(a: float, b: float) -> int | None:
    """How many float32 steps from a to b; None when one is NaN. -0 and +0 are the same number."""
    if np.isnan(a) or np.isnan(b):
        return None

    def rank(x: float) -> int:
        bits = int(np.float32(x).view(np.int32))
        return bits if bits >= 0 else -(bits & 0x7FFFFFFF)

    return abs(rank(a) - rank(b))


class Side:
    """One way to run ops: natively on `context`, or (None) by their twins. `blas` names the library of `context`."""

    def __init__(self, name: str, context: Any | None, blas: str | None = None) -> None:
        self.name, self.context, self.blas = name, context, blas

    @property
    def on_tape(self) -> bool:
        """Whether a tape on `context` does what `run` does: not where a subclass runs ops in a way of its own."""
        return self.context is not None and type(self).run is Side.run

    def run(self, op: Op, args: tuple[Any, ...], params: Mapping[str, Any], step: Step) -> tuple[Array, ...]:
        """The op's outputs as arrays. Rows among `args` are `Rows` that hold an array."""
        if self.context is None:
            result = op.ref(*(a.array if isinstance(a, Rows) else a for a in args), **params)
            return result if isinstance(result, tuple) else () if result is None else (result,)
        runtime = EagerRuntime(self.context, step)
        own = tuple(Rows(runtime, a.cols, a.rows_kind, a.array) if isinstance(a, Rows) else a for a in args)
        result = runtime.execute(op, op.lower(*own, **params))
        outs = result if isinstance(result, tuple) else () if result is None else (result,)
        return tuple(top_k_ids(o) if op.name == "top_k" and i else o.array for i, o in enumerate(outs))


def as_float32(w: Weight) -> Weight:
    """The same matrices as float32."""
    data = w.dequantized().reshape(-1).view(np.uint8)
    return Weight(type_by_name("F32"), w.rows, w.cols, data, w.name, stack=w.stack)


class FloatSide(Side):
    """The twins, but for products with quantised weights, whose activations stay float32: what rounding them costs is
    the distance from this.
    """

    def __init__(self) -> None:
        super().__init__("float32 activations", None)

    def run(self, op: Op, args: tuple[Any, ...], params: Mapping[str, Any], step: Step) -> tuple[Array, ...]:
        """As `Side.run`."""
        if op.name in ("experts_gated", "experts_down"):
            args = tuple(as_float32(a) if isinstance(a, Weight) else a for a in args)
        if op.name != "linear":
            return super().run(op, args, params, step)
        given: list[Any] = [a.array if isinstance(a, Rows) else a for a in args]
        x, weight, bias, residual = (*given, None, None)[:4]
        y = x @ dequantize(weight.data, weight.type.name).reshape(weight.rows, weight.cols).T
        for more in (bias, residual):
            y = y if more is None else y + more
        return (y,)


def _rows(runtime: Any, op: Op, args: tuple[Any, ...], params: dict[str, Any], arrays: tuple[Array, ...]) -> Any:
    """An op's outputs as values of `runtime`, as a forward pass expects them."""
    if not arrays:
        return None
    kind = op.lower(*args, **params).rows_kind
    if kind is None:
        kind = next((x.rows_kind for x in args if isinstance(x, Rows)), 0)
    rows = tuple(Rows(runtime, y.shape[1], kind, y) for y in arrays)
    return rows[0] if len(rows) == 1 else rows


class Alone:
    """The runtime that runs every op on one side."""

    name = "alone"

    def __init__(self, side: Side, step: Step) -> None:
        self.side, self.step = side, step

    def bind(self) -> Step:
        """The step, marked as belonging to this runtime."""
        return replace(self.step, runtime=self)

    def call(self, op: Op, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Run one op."""
        args = tuple(self.step if isinstance(a, Step) else a for a in args)
        return _rows(self, op, args, params, self.side.run(op, args, params, self.step))


class Lockstep:
    """The runtime that runs every op on both sides.

    names      id of a weight or vector -> its tensor's name
    measured   gets one entry per op that is run
    """

    name = "lockstep"

    def __init__(
        self,
        a: Side,
        b: Side,
        step: Step,
        names: Mapping[int, str] | None = None,
        measured: list[Measured] | None = None,
    ) -> None:
        self.a, self.b, self.step = a, b, step
        self.names = {} if names is None else names
        self.measured: list[Measured] = [] if measured is None else measured
        self._layer: int | None = None

    def bind(self) -> Step:
        """The step, marked as belonging to this runtime, to be handed to a forward pass."""
        return replace(self.step, runtime=self)

    def call(self, op: Op, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Run one op on both sides with A's values, compare, and return A's result."""
        args = tuple(self.step if isinstance(a, Step) else a for a in args)
        operand = self._place(op, args)
        arrays = tuple(x.array if isinstance(x, Rows) else x for x in args)
        if op.name == "kv_store":
            got_a, got_b = self._stores(op, args, params)
        else:
            (got_b, left_b), (got_a, left_a) = (self._run(side, op, args, params) for side in (self.b, self.a))
        limits = [bound(op.name, arrays, params, y) for y in got_a]
        pairs = list(zip(got_a, got_b, limits, strict=True))
        if op.name in STATES:
            with np.errstate(all="ignore"):
                pairs.append((left_a, left_b, 2 * STATES[op.name][1](arrays, params)))
        worst: Measured | None = None
        for y, z, limit in pairs:
            found = self._compare(op, operand, y, z, limit)
            if worst is None or (found.share, not found.identical) > (worst.share, not worst.identical):
                worst = found
        if worst is not None:
            self.measured.append(worst)
        return None if op.name == "kv_store" else _rows(self, op, args, params, got_a)

    def _run(self, side: Side, op: Op, args: tuple[Any, ...], params: dict[str, Any]) -> tuple[tuple[Array, ...], Any]:
        """An op's outputs, and of one with states a copy of those that it leaves: (pages, values). A's run is last."""
        out = side.run(op, args, params, self.step)
        if op.name not in STATES:
            return out, None
        pages = args[-1]
        store: Array = getattr(pages, STATES[op.name][0])
        return out, store[state_pages(self.step, pages.cls), params["layer"]].copy()

    def _place(self, op: Op, args: tuple[Any, ...]) -> str:
        """The name of the op's tensor without its layer; moves `_layer` on. Ops without a tensor stay where it was."""
        if op.name in ("embed", "gather"):  # before the first layer, and after the last
            self._layer = None
        name = next((self.names[id(x)] for x in args if id(x) in self.names), "")
        found = re.fullmatch(r"blk\.(\d+)\.(.*?)(\.weight)?", name)
        if found:
            self._layer = int(found[1])
            return found[2]
        if name:
            self._layer = None
        return name.removesuffix(".weight")

    def _stores(self, op: Op, args: tuple[Any, ...], params: dict[str, Any]) -> tuple[tuple[Array, ...], ...]:
        """What each side leaves in the pages that are written; they end with A's."""
        cache, step, layer = args[3], self.step, params["layer"]
        pages = np.unique(step.tables[cache.cls][step.seq, step.cache_pos // PAGE])
        before = cache.k[pages, layer], cache.v[pages, layer]
        after = []
        for side in (self.b, self.a):
            cache.k[pages, layer], cache.v[pages, layer] = before
            side.run(op, args, params, step)
            after.append(read_pages(cache, pages, layer))
        return after[1], after[0]

    def _compare(self, op: Op, operand: str, a: Array, b: Array, limit: Any) -> Measured:
        return compare(op.name, a, b, limit, layer=self._layer, operand=operand, number=len(self.measured))


def compare(
    name: str, a: Array, b: Array, limit: Any, *, layer: int | None = None, operand: str = "", number: int = 0
) -> Measured:
    """Two results of the same shape against the bound of each element. NaN equals NaN, and infinity itself."""
    with np.errstate(all="ignore"):
        x, y = a.astype(np.float64), b.astype(np.float64)
        limits = np.broadcast_to(np.asarray(limit, np.float64), x.shape)
        same = (x == y) | (np.isnan(x) & np.isnan(y))
        error = np.where(same, 0, np.abs(x - y))
        fine = same | (error <= limits)
        share = np.where(same, 0, np.where(fine, error / limits, np.maximum(error / limits, 1)))
        share = np.where(np.isnan(share), np.inf, share)
    worst = float(share.max(initial=0))
    divergence = None
    if not fine.all():
        index = tuple(int(i) for i in np.unravel_index(np.argmax(np.where(fine, -1, share)), x.shape))
        divergence = Divergence(
            name, layer, operand, number, index, float(x[index]), float(y[index]), float(error[index]),
            float(limits[index]), ulp_distance(float(x[index]), float(y[index])), int((~fine).sum()), x.size,
        )  # fmt: skip
    return Measured(name, layer, operand, worst, bool(same.all()), divergence)
