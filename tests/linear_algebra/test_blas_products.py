"""Products through BLAS libraries, real ones where they are: within the bound of a float32 sum in any order, one call
per thread, the weights and rows that they are for and no others.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tolerances
from hypothesis import given
from hypothesis import strategies as st

from zigllama import kernels
from zigllama.errors import BlasUnavailable
from zigllama.foundation.blas_integration import BlasInterface
from zigllama.foundation.ggml_types import type_by_name
from zigllama.foundation.native import isa_variants
from zigllama.foundation.native_context import NativeContext
from zigllama.foundation.runtime import F32, EagerRuntime, Step
from zigllama.linear_algebra.linear import Weight, linear

USABLE = [name for name, ok in isa_variants() if ok]
FEW = 8  # rows of x that stay with our own kernels


@pytest.fixture(scope="module", params=["openblas", "mkl", "stand-in"])
def library(request: pytest.FixtureRequest, stub_blas: Callable[[str], Path]) -> BlasInterface:
    """A library that is here, under its name; or the stand-in with 64-bit integers."""
    if request.param == "stand-in":
        return BlasInterface(str(stub_blas("libscipy_openblas64_.so")))
    try:
        return BlasInterface(request.param)
    except BlasUnavailable:
        pytest.skip(f"BLAS library {request.param} is not here")


@cache
def context(n_threads: int, isa: str = USABLE[0]) -> NativeContext:
    return NativeContext(n_threads, isa)


def weight(kind: str, rows: int, cols: int, seed: int) -> Weight:
    x = np.random.default_rng(seed).standard_normal((rows, cols)).astype(np.float32)
    raw: npt.NDArray[Any] = x.astype(np.float16) if kind == "F16" else x
    raw = (x.view(np.uint32) >> 16).astype(np.uint16) if kind == "BF16" else raw
    return Weight(type_by_name(kind), rows, cols, np.ascontiguousarray(raw).reshape(-1).view(np.uint8), kind)


def run(c: NativeContext, library: BlasInterface | None, x: F32, w: Weight, **more: Any) -> tuple[F32, int]:
    """y, and how often the library was called."""
    (library or BlasInterface("generic")).attach(c)
    before = c.counters()["blas_calls"]
    runtime = EagerRuntime(c, Step.of_rows(len(x)))
    residual = more.get("residual")
    y: F32 = linear(runtime.rows(x), w, more.get("bias"), None if residual is None else runtime.rows(residual)).array
    return y, c.counters()["blas_calls"] - before


def assert_close(got: F32, x: F32, w: Weight, bias: F32 | None, residual: F32 | None) -> None:
    """Against the exact product: the rounding of the sum, and of what is added to it."""
    a, b = x.astype(np.float64), w.dequantized().astype(np.float64).T
    want, bound = a @ b, tolerances.product(a, b)
    for term in (bias, residual):
        if term is not None:
            want = want + term
            bound = bound * (1 + tolerances.U) + tolerances.U * np.abs(want)
    assert (np.abs(got - want) <= bound).all()


@pytest.mark.parametrize("kind", ["F32", "F16"])
@given(
    st.integers(1, 70), st.integers(1, 300), st.sampled_from([9, 10, 33, 64]), st.integers(1, 3), st.booleans(),
    st.sampled_from([None, "bias", "residual", "both"]), st.integers(0, 99),
)  # fmt: skip
def test_linear_is_within_its_bound(
    library: BlasInterface, kind: str, rows: int, cols: int, t: int, n_threads: int, mapped: bool, more: str | None,
    seed: int,
) -> None:  # fmt: skip
    w, rng = weight(kind, rows, cols, seed), np.random.default_rng(seed + 1)
    x = rng.standard_normal((t, cols)).astype(np.float32)
    x[:, : cols // 8] *= 50
    bias = rng.standard_normal(rows).astype(np.float32) if more in ("bias", "both") else None
    residual = rng.standard_normal((t, rows)).astype(np.float32) * 9 if more in ("residual", "both") else None
    c = context(n_threads)
    w.prepare(c, mapped=mapped)
    got, calls = run(c, library, x, w, bias=bias, residual=residual)
    w.close()
    assert_close(got, x, w, bias, residual)
    slab = ceil(ceil(rows / n_threads) / 16) * 16  # a thread's share, in whole panels
    assert calls == ceil(rows / slab)


@pytest.mark.parametrize("isa", USABLE)
def test_every_panel_form_is_turned_back(library: BlasInterface, isa: str) -> None:
    """Panels of 16, 8 and 4 lanes, several strips of columns, a slab that begins in the middle."""
    x = np.random.default_rng(3).standard_normal((20, 333)).astype(np.float32)
    for kind in ("F32", "F16"):
        w = weight(kind, 101, 333, 4)
        got, calls = run(context(3, isa), library, x, w)
        assert calls == 3
        assert_close(got, x, w, None, None)
        mapped = Weight(w.type, w.rows, w.cols, w.data)
        mapped.prepare(context(3, isa), mapped=True)
        assert run(context(3, isa), library, x, mapped)[0].tobytes() == got.tobytes()
        w.close()
        mapped.close()


def test_a_slab_is_no_larger_than_its_limit(library: BlasInterface) -> None:
    """What has to be written out as floats is at most 16 MB at a time; a mapped F32 matrix is handed over as it is."""
    rows, cols = 640, 8192  # 20 MB as floats
    w = weight("F32", rows, cols, 5)
    x = np.random.default_rng(6).standard_normal((9, cols)).astype(np.float32)
    got, calls = run(context(1), library, x, w)
    assert calls == 2
    assert_close(got, x, w, None, None)
    mapped = Weight(w.type, rows, cols, w.data)
    mapped.prepare(context(1), mapped=True)
    assert run(context(1), library, x, mapped)[1] == 1
    w.close()
    mapped.close()


def test_what_is_not_for_a_library_keeps_its_bits(library: BlasInterface) -> None:
    """Few rows, and other types of weights: our own kernels, their bits, no call."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal((40, 256)).astype(np.float32)
    blocks = rng.integers(-99, 99, (50, 8, 34)).astype(np.int8).view(np.uint8)
    blocks[..., :2] = np.array([0.01], np.float16).view(np.uint8)
    cases = [(weight("F32", 50, 256, 8), FEW), (weight("F16", 50, 256, 8), FEW), (weight("BF16", 50, 256, 8), 40)]
    cases.append((Weight(type_by_name("Q8_0"), 50, 256, blocks.reshape(-1)), 40))
    for w, t in cases:
        for n in (1, t):
            want, none = run(context(2), None, x[:n], w)
            got, calls = run(context(2), library, x[:n], w)
            assert (calls, none) == (0, 0) and got.tobytes() == want.tobytes(), w.type.name
        w.close()


def test_values_that_are_not_finite_stay_in_their_row(library: BlasInterface) -> None:
    x = np.random.default_rng(9).standard_normal((20, 64)).astype(np.float32)
    w = weight("F32", 33, 64, 10)
    clean, _ = run(context(2), library, x, w)
    x[4, 7], x[11, 0] = np.nan, np.inf
    got, calls = run(context(2), library, x, w)
    assert calls == 2
    assert np.isnan(got[4]).all() and not np.isfinite(got[11]).any()
    others = [t for t in range(20) if t not in (4, 11)]
    assert got[others].tobytes() == clean[others].tobytes()
    w.close()


@given(st.integers(0, 70), st.integers(0, 300), st.integers(0, 70), st.integers(1, 3), st.integers(0, 99))
def test_matmul(library: BlasInterface, m: int, k: int, n: int, n_threads: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.standard_normal(s).astype(np.float32) for s in ((m, k), (k, n)))
    exact = a.astype(np.float64) @ b
    got = kernels.matmul(a, b, blas=library.name, n_threads=n_threads)
    assert got.shape == (m, n)
    assert (np.abs(got - exact) <= tolerances.product(a.astype(np.float64), b.astype(np.float64))).all()


def test_matmul_goes_where_it_was_sent(stub_blas: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from blas_stubs import Books

    path = stub_blas("libblis.so.4")
    books, a = Books(path), np.ones((5, 5), np.float32)
    before = books.calls
    monkeypatch.delenv("ZIGLLAMA_BLAS", raising=False)
    kernels.matmul(a, a)
    assert books.calls == before
    out = np.empty((5, 5), np.float32)
    assert kernels.matmul(a, a, blas=str(path), n_threads=1, out=out) is out and (out == 5).all()
    assert books.calls == before + 1
    monkeypatch.setenv("ZIGLLAMA_BLAS", str(path))
    kernels.matmul(a, a, n_threads=1)
    assert books.calls == before + 2
    kernels.matmul(a, a, blas="generic")
    assert books.calls == before + 2
