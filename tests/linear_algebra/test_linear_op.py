"""Products with every weight type, on every ISA variant: against the twin, and the same bits however they are run."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from native_ops import run_linear

from zigllama import errors
from zigllama.foundation.ggml_types import type_by_name
from zigllama.foundation.native import isa_variants
from zigllama.foundation.native_formats import quantize_activation
from zigllama.foundation.runtime import F32
from zigllama.foundation.shared_context import shared_context
from zigllama.linear_algebra import quantization
from zigllama.linear_algebra.linear import Weight
from zigllama.linear_algebra.quant_blocks import spread

USABLE = [name for name, ok in isa_variants() if ok]
QUANTISED = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"]
TYPES = ["F32", "F16", "BF16", *QUANTISED]
SCALES_AT = {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "Q4_1": (0, 2), "Q5_1": (0, 2)}  # f16 fields of a block
EPS = float(np.finfo(np.float32).eps)


def random_weight(kind: str, rows: int, cols: int, seed: int) -> Weight:
    """Any codes, with half-float scales of size one hundredth."""
    rng = np.random.default_rng(seed)
    t = type_by_name(kind)
    if kind in ("F32", "F16", "BF16"):
        x = rng.standard_normal((rows, cols)).astype(np.float32)
        raw = x.astype(np.float16).view(np.uint8) if kind == "F16" else x.view(np.uint8)
        raw = (x.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8) if kind == "BF16" else raw
        return Weight(t, rows, cols, np.ascontiguousarray(raw).reshape(-1), kind)
    blocks = rng.integers(0, 256, (rows * cols // t.block_size, t.block_bytes), np.uint8)
    for at in SCALES_AT.get(kind, (0,)):
        scale = (rng.standard_normal((len(blocks), 1)) * 0.01).astype(np.float16)
        blocks[:, at : at + 2] = scale.view(np.uint8)
    return Weight(t, rows, cols, blocks.reshape(-1), kind)


def bound(x: F32, weight: Weight) -> npt.NDArray[np.float64]:
    """Rounding of the float sums: one product and one sum of at most n terms, each relative eps of the magnitudes.

    n is the number of scales of x times the operations on what is under each, or of the values for a float matrix. Four
    operations behind an exact integer; five behind one of a superblock, which float32 rounds.
    """
    w = np.abs(weight.dequantized().astype(np.float64))
    per = quantization.activation_block(weight.type.name)
    if weight.type.name in QUANTISED:
        q, d, _ = quantization.quantize_activation(x, per)
        x = q.astype(np.float32) * np.repeat(d, 32, axis=1)
        # a code's magnitude before its zero point and minimum cancel: at most 64 steps of its scale
        u = quantization.unpack(weight.data, weight.type.name)
        steps = spread(np.abs(u.scales)) * 64
        steps += 0 if u.minimums is None else spread(np.abs(u.minimums))
        w = w + steps.reshape(weight.rows, weight.cols)
    n = weight.cols if weight.type.name not in QUANTISED else weight.cols // per * (4 if per == 32 else 5)
    made: npt.NDArray[np.float64] = n * EPS * (np.abs(x).astype(np.float64) @ w.T) + 1e-30
    return made


@pytest.mark.parametrize("isa", USABLE)
@pytest.mark.parametrize("kind", TYPES)
@given(
    st.integers(1, 40),
    st.integers(1, 4),
    st.sampled_from([0, 1, 2, 3, 5, 8, 9, 33]),
    st.integers(1, 3),
    st.integers(0, 99),
)
def test_against_the_twin(isa: str, kind: str, rows: int, blocks: int, t: int, threads: int, seed: int) -> None:
    weight = random_weight(kind, rows, blocks * max(32, type_by_name(kind).block_size), seed)
    x = np.random.default_rng(seed + 1).standard_normal((t, weight.cols)).astype(np.float32)
    x[:, : weight.cols // 8] *= 50  # blocks of different sizes
    got = run_linear(x, weight, isa, threads)
    want = quantization.matmul_twin(x, weight.data, kind, rows)
    assert got.shape == (t, rows) and (np.abs(got - want) <= bound(x, weight)).all()


@pytest.mark.parametrize("isa", USABLE)
@pytest.mark.parametrize("kind", TYPES)
def test_bits_do_not_depend_on_how(isa: str, kind: str) -> None:
    """Threads, company, panels or file rows: the same bits."""
    weight = random_weight(kind, 203, 512, 3)
    x = np.random.default_rng(4).standard_normal((37, 512)).astype(np.float32)
    want = run_linear(x, weight, isa)
    for threads in (2, 3):
        np.testing.assert_array_equal(run_linear(x, weight, isa, threads), want)
    np.testing.assert_array_equal(run_linear(x, weight, isa, 2, mapped=True), want)
    for a, b in ((0, 1), (1, 3), (3, 8), (8, 37)):
        np.testing.assert_array_equal(run_linear(x[a:b], weight, isa, 2), want[a:b])


@pytest.mark.parametrize("kind", QUANTISED)
def test_a_nan_stays_in_its_row(kind: str) -> None:
    weight = random_weight(kind, 20, 512, 5)
    x = np.random.default_rng(6).standard_normal((3, 512)).astype(np.float32)
    clean = run_linear(x, weight, USABLE[0])
    for bad in (np.nan, np.inf, -np.inf):
        y = x.copy()
        y[1, 77] = bad
        got = run_linear(y, weight, USABLE[0])
        assert np.isnan(got[1]).all()
        np.testing.assert_array_equal(got[[0, 2]], clean[[0, 2]])


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("isa", USABLE)
def test_panels_take_the_files_bytes(isa: str, kind: str) -> None:
    """Panel bytes are the file's, and the padding of the last panel."""
    lanes = {"avx512bf16": 16, "avx512": 16, "avx2": 8}.get(isa, 4)
    for rows in (lanes, lanes + 1):
        weight = random_weight(kind, rows, 256, 1)
        native = weight.prepare(shared_context(isa, 1))
        assert native.n_bytes == weight.data.nbytes // rows * (-(-rows // lanes) * lanes)


@pytest.mark.parametrize("isa", USABLE)
@pytest.mark.parametrize("per", [32, 256])
@given(
    st.integers(0, 5), st.integers(1, 4), st.integers(0, 9999), st.sampled_from([1.0, 1e-30, 1e-38, 1e-45, 3e38, 0.0])
)
def test_activation_format_is_exact(isa: str, per: int, rows: int, blocks: int, seed: int, size: float) -> None:
    """The native quantiser and its twin agree bit for bit, denormals, zeros, infinities and NaN included."""
    rng = np.random.default_rng(seed)
    x = (rng.standard_normal((rows, blocks * per)) / 5 * size).astype(np.float32)
    if rows and seed % 3 == 0:
        x[rng.integers(rows), rng.integers(blocks * per)] = rng.choice([np.nan, np.inf, -np.inf, 0.0])
    for got, want in zip(
        quantize_activation(shared_context(isa, 1), x, per), quantization.quantize_activation(x, per), strict=True
    ):
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("isa", USABLE)
def test_activation_formats_that_there_are_not(isa: str) -> None:
    def native(x: F32, per: int) -> object:
        return quantize_activation(shared_context(isa, 1), x, per)

    for quantize in (native, quantization.quantize_activation):
        for cols, per in ((48, 32), (288, 256)):
            with pytest.raises(errors.ShapeError, match=rf"\(2, {cols}\).* multiple of {per}"):
                quantize(np.ones((2, cols), np.float32), per)
        for per in (0, 64, 512):
            with pytest.raises(errors.InvalidArgument, match=f" {per} columns rounded together, want 32 or 256"):
                quantize(np.ones((2, 512), np.float32), per)
