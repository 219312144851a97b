"""The quantisers of ternary, binary and two-bit formats and of 4-bit floats: C on each ISA variant, the twin, PyPI's
gguf and ggml's own C (tests/golden/quantize_legacy.json, by tools/make_legacy_golden.py), byte for byte."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from native_ops import THREADS, usable_variants
from quantize_low_samples import TYPES, digest, low_rows
from strategies import guarded_array

import zigllama as zl
from zigllama import errors
from zigllama.foundation.ggml_types import type_by_name
from zigllama.linear_algebra import quantizers
from zigllama.linear_algebra.quantization import unpack

F32 = npt.NDArray[np.float32]
GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "quantize_legacy.json").read_text("utf-8"))["digests"]
ROWS = low_rows()


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("rows", ROWS)
def test_bytes_are_those_of_ggml(name: str, rows: str) -> None:
    x = ROWS[rows]
    assert digest(quantizers.quantize(x, name)) == GOLDEN[name][rows]
    for isa in usable_variants():
        assert digest(zl.quantize_rows(x, name, isa=isa)) == GOLDEN[name][rows], isa


@pytest.mark.parametrize("name", ["TQ1_0", "TQ2_0", "MXFP4"])
def test_bytes_are_those_of_gguf(name: str) -> None:
    gguf = pytest.importorskip("gguf", reason="gguf is not installed")
    x = np.random.default_rng(4).standard_normal((96, 1024)).astype(np.float32)
    with np.errstate(all="ignore"):
        want = gguf.quants.quantize(x, gguf.GGMLQuantizationType[name])
    assert np.array_equal(zl.quantize_rows(x, name), want)


def hard_rows() -> F32:
    """Superblocks (9, 256) where ggml's bytes are not defined, or hang on the C library: too small, or near a power."""
    x = (np.random.default_rng(2).standard_normal((9, 256)) * 0.1).astype(np.float32)
    x[0] *= np.float32(1e-38)  # largest values that are subnormal
    x[1] = np.float32(-1e-45)
    x[2] *= np.float32(1e-36)  # below 2^-117, where 1 / d is large
    for i, k in enumerate((-3, 0, 1, 3, 11)):
        x[3 + i] = np.clip(x[3 + i], -1, 1) * np.ldexp(np.float32(1), k)
        x[3 + i, ::32] = np.nextafter(np.ldexp(np.float32(1), k), np.float32(0))
    x[8] = np.float32(2688)
    return x


@pytest.mark.parametrize("name", TYPES)
def test_variants_threads_and_tails_change_nothing(name: str) -> None:
    x = hard_rows()
    want = quantizers.quantize(x, name)
    for isa in usable_variants():
        assert np.array_equal(zl.quantize_rows(x, name, isa=isa), want), isa
    assert np.isfinite(zl.dequantize(want, name)).all()
    per = type_by_name(name).block_size
    for cols in (per, 3 * per, 1024):  # of blocks one, some, and more than a vector holds
        part = guarded_array(np.resize(ROWS["drawn"], (3, cols)), np.float32)
        want = quantizers.quantize(part, name)
        for isa in usable_variants():
            assert np.array_equal(zl.quantize_rows(part, name, isa=isa), want), (isa, cols)
    many = np.resize(ROWS["drawn"], (70, 768))
    want = quantizers.quantize(many, name)
    for n_threads in THREADS:
        assert np.array_equal(zl.quantize_rows(many, name, n_threads=n_threads), want), n_threads
    assert zl.quantize_rows(many[:0], name).shape == (0, want.shape[1])


def test_where_a_largest_value_is_just_below_a_power_of_two() -> None:
    """The exponent is that of the value: 2^-22 below 8 it is still 2, and 6 is the largest 4-bit float."""
    x = np.zeros((1, 32), np.float32)
    x[0, 3] = np.nextafter(np.float32(8), np.float32(0))
    data = zl.quantize_rows(x, "MXFP4")
    assert data[0, 0] == 127
    assert zl.dequantize(data, "MXFP4")[0, 3] == 6
    x[0, 3] = 8
    assert zl.quantize_rows(x, "MXFP4")[0, 0] == 128


@given(
    name=st.sampled_from(sorted(TYPES)),
    x=hnp.arrays(np.float32, (1, 256), elements=st.floats(-2688, 2688, width=32)),
    by=st.sampled_from([1.0, 2.0**-12, 0.37]),
)
def test_errors_are_within_a_step(name: str, x: F32, by: float) -> None:
    """Half of the scale for ternary codes, and what half precision takes from it: 2^-11 of it, or 2^-25. Half of the
    widest step between 4-bit floats, from 4 d to 6 d, and what is beyond; in MXFP4 nothing is from 8 d on."""
    x = x * np.float32(by)
    data = zl.quantize_rows(x, name)
    y = zl.dequantize(data, name).astype(np.float64)
    error = np.abs(x - y)
    if name == "Q1_0":  # a sign and a size; the mean of the sizes leaves no error on average
        assert (np.sign(y) * np.where(x >= 0, 1, -1) >= 0).all()
        mean = np.abs(x.astype(np.float64)).reshape(2, 128).mean(axis=1)
        assert np.allclose(np.abs(y).reshape(2, 128)[:, 0], mean, rtol=2.0**-10, atol=2.0**-25)
        return
    if name in ("MXFP4", "NVFP4"):
        per = 32 if name == "MXFP4" else 16
        d = 2 * np.repeat(unpack(data.reshape(-1), name).scales, per).reshape(x.shape).astype(np.float64)
        beyond = np.maximum(np.abs(x) - 6 * d, 0)
        assert (error <= d + beyond).all()
        assert name == "NVFP4" or (beyond < 2 * d).all()
        return
    per = type_by_name(name).block_size
    amax = np.repeat(np.abs(x.astype(np.float64)).reshape(-1, per).max(axis=1), per).reshape(x.shape)
    assert (error <= amax * (0.5 + 2.0**-11 + 2.0**-22) + 2.0**-25).all()


def test_what_nvfp4_does_not_take() -> None:
    x = np.zeros((2, 64), np.float32)
    x[1, 9] = 2688.5
    with pytest.raises(errors.InvalidArgument, match=r"row 1, column 9 is 2688.5; a value of NVFP4 is at most 2688"):
        zl.quantize_rows(x, "NVFP4")
    x[1, 9] = 3e38  # the exponent of MXFP4 reaches further than that of a float
    assert zl.dequantize(zl.quantize_rows(x, "MXFP4"), "MXFP4")[1, 9] == np.ldexp(6.0, 125)
