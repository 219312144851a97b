"""Run an op natively on every ISA variant of this machine with 1, 2 and 3 threads, in guarded memory, and compare with
a bound.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from strategies import guarded_array

from zigllama.foundation.native import isa_variants
from zigllama.foundation.native_context import NativeContext
from zigllama.foundation.runtime import F32, ROWS_OUT, ROWS_STEP, EagerRuntime, Lowered, Op, Rows, Step
from zigllama.foundation.shared_context import shared_context
from zigllama.linear_algebra.linear import Weight, linear
from zigllama.linear_algebra.number_formats import quantize_rows

THREADS = (1, 2, 3)
Outputs = tuple[npt.NDArray[np.float32], ...]


@cache
def usable_variants() -> tuple[str, ...]:
    return tuple(name for name, usable in isa_variants() if usable)


@cache
def context(isa: str, n_threads: int) -> NativeContext:
    """One context per variant and thread count for the whole run: starting threads is slow."""
    return NativeContext(n_threads=n_threads, isa=isa)


class GuardedRuntime(EagerRuntime):
    """Eager, with every input, constant and output ending at a guard page."""

    def rows(self, x: npt.ArrayLike, rows_kind: int = ROWS_STEP) -> Rows:
        return super().rows(guarded_array(x), rows_kind)

    def execute(self, op: Op, call: Lowered) -> Any:
        kind = call.rows_kind
        if kind is None:
            kind = next((x.rows_kind for x in call.ins if isinstance(x, Rows)), ROWS_STEP)
        n = self.step.n_out if kind == ROWS_OUT else self.step.n_rows
        outs = [Rows(self, cols, kind, guarded_array(np.full((n, cols), np.nan))) for cols in call.outs]
        ins = [guarded_array(x, x.dtype) if isinstance(x, np.ndarray) else x for x in call.ins]
        self.context.run_op(op.code, ins, outs, call.ints, call.floats, self.native_step)
        return outs[0] if len(outs) == 1 else tuple(outs)


def everywhere(
    step: Step, op: Op, inputs: Sequence[npt.NDArray[Any]], *rest: Any, **params: Any
) -> Iterator[tuple[str, Outputs]]:
    """(ISA variant, output arrays) of `op(*inputs, *rest, **params)` for each variant, `inputs` as native rows.

    Checks on the way that the number of threads changes no bit.
    """
    for isa in usable_variants():
        first: list[bytes] | None = None
        arrays: Outputs = ()
        for n_threads in THREADS:
            runtime = GuardedRuntime(context(isa, n_threads), step)
            out = op(*(runtime.rows(x) for x in inputs), *rest, **params)
            arrays = tuple(o.array for o in (out if isinstance(out, tuple) else (out,)))
            got = [a.tobytes() for a in arrays]
            assert first is None or got == first, f"{isa}: {n_threads} threads give other bits than one"
            first = got
        yield isa, arrays


def assert_within(
    got: npt.NDArray[np.float32], want: npt.NDArray[np.float64], bound: npt.NDArray[np.float64], what: str
) -> None:
    """|got - want| <= bound; NaN exactly where `want` is NaN; infinite only where want +- bound leaves float32."""
    assert got.shape == want.shape, f"{what}: shape {got.shape}, want {want.shape}"
    largest = float(np.finfo(np.float32).max)
    with np.errstate(invalid="ignore", over="ignore"):
        close = (np.abs(got.astype(np.float64) - want) <= bound) | (got == want)
        overflow = np.isinf(got) & (np.sign(got) == np.sign(want)) & (np.abs(want) + bound >= largest)
        near = np.abs(want) - np.abs(bound) >= largest  # an infinite result of the formula
    ok = close | overflow | (np.isnan(want) & np.isnan(got)) | (near & (got == np.sign(want) * largest))
    if not ok.all():
        at = tuple(int(i) for i in np.argwhere(~ok)[0])
        raise AssertionError(
            f"{what}{at}: got {got[at]!r}, want {want[at]!r} +- {np.broadcast_to(bound, want.shape)[at]:.3g}"
        )


def doubles(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return x.astype(np.float64)


def run_linear(x: F32, weight: Weight, isa: str, threads: int = 1, mapped: bool = False) -> F32:
    """x W^T by C, with the weight in panels or, `mapped`, as the file has it."""
    context = shared_context(isa, threads)
    weight.close()
    weight.prepare(context, mapped=mapped)
    runtime = EagerRuntime(context, Step.of_rows(len(x)))
    y: F32 = linear(runtime.rows(x), weight).array
    return y


def check_quantizing_threads(x: F32, name: str, importance: F32) -> None:
    """Forty of these rows are several chunks: the same bytes on any number of threads, and each row's are those that it
    has alone."""
    many = np.resize(x, (40, x.shape[1]))
    found = [quantize_rows(many, name, importance, n_threads=n) for n in THREADS]
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
    np.testing.assert_array_equal(found[0][17:18], quantize_rows(many[17:18], name, importance))
