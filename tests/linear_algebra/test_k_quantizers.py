"""The K-quants' quantisers: C on each ISA variant against the twin, byte for byte, and both against ggml's errors.

tests/golden/quantize_k.json has the errors of ggml's own quantisers on the same rows (tools/make_quantize_golden.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
from native_ops import check_quantizing_threads, usable_variants
from quantize_samples import GOLDEN, TYPES, all_rows, error, hard_rows, importance_of
from strategies import guarded_array

from zigllama import errors
from zigllama.foundation.ggml_types import type_by_name
from zigllama.linear_algebra import k_quantizers, quantizers
from zigllama.linear_algebra.k_quantization import packed_scales
from zigllama.linear_algebra.kquantizer import KQuantizer
from zigllama.linear_algebra.number_formats import dequantize, quantize_rows

F32 = npt.NDArray[np.float32]
WANT = json.loads((GOLDEN / "quantize_k.json").read_text("utf-8"))["errors"]
NAMES = list(TYPES["k"])
ROWS = all_rows("k")
WORSE = 1.02  # what is accepted; on drawn rows the ratio is 0.6 to 0.97, and less where few values occur


def cases() -> Iterator[tuple[F32, F32 | None]]:
    x, importance = hard_rows(9)
    x[7] += 1  # far from 0
    x[8, ::3] = np.float32(1e-41)  # denormal beside the largest
    x[8, 1::3] = 65504
    importance[64:96] = 0  # a block that nothing is known of
    for rows, weights in ((x, importance), (ROWS["long tails"][:2, :512], importance_of(512))):
        yield rows, weights
        yield rows, None
    yield x, np.zeros(256, np.float32)
    yield x, np.full(256, 1e-41, np.float32)


@pytest.mark.parametrize("name", NAMES)
def test_c_makes_the_bytes_of_the_twin(name: str) -> None:
    for x, importance in cases():
        want = quantizers.quantize(x, name, importance)
        part = guarded_array(x, np.float32)
        for isa in usable_variants():
            found = quantize_rows(part, name, importance, isa=isa)
            np.testing.assert_array_equal(found, want, err_msg=isa)
        assert np.isfinite(dequantize(want, name)).all()


@pytest.mark.parametrize("name", NAMES)
def test_bytes_do_not_depend_on_threads(name: str) -> None:
    check_quantizing_threads(ROWS["gaussian"], name, importance_of(1024))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", ROWS)
def test_errors_are_not_above_ggmls(name: str, rows: str) -> None:
    x, golden = ROWS[rows], WANT[name][rows]
    importance = importance_of(x.shape[1])
    with_it, without = quantize_rows(x, name, importance), quantize_rows(x, name)
    weighted = error(x, dequantize(with_it, name), importance)
    assert weighted <= WORSE * golden["weighted"]
    assert error(x, dequantize(without, name), None) <= WORSE * golden["plain"]
    if golden["plain"] > 1e-6:  # else, in constant rows and rows that were Q4_K before, nothing is left to trade
        assert weighted < error(x, dequantize(without, name), importance)


@pytest.mark.parametrize("name", NAMES)
def test_values_are_as_near_as_codes_and_scales_allow(name: str) -> None:
    """For the scales in the block no other code is nearer: moving any by one makes no error smaller."""
    x = ROWS["gaussian"][:2]
    data = quantize_rows(x, name)
    unpacked = {"Q2_K": 4, "Q3_K": 8, "Q4_K": 16, "Q5_K": 32, "Q6_K": 64}[name]
    values = dequantize(data, name).reshape(-1, k_quantizers.FORMATS[name].size)
    steps = np.array([np.diff(np.unique(row)).min(initial=np.inf) for row in values])[:, None]
    off = np.abs(x.reshape(values.shape) - values)
    low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    inside = (x.reshape(values.shape) > low) & (x.reshape(values.shape) < high) & np.isfinite(steps)
    assert inside.mean() > 0.5
    assert (off <= steps * 0.5001)[inside].all()
    assert all(len(np.unique(row)) <= unpacked for row in values)


@pytest.mark.parametrize("name", NAMES)
def test_zero_rows_are_zero(name: str) -> None:
    for importance in (None, np.ones(256, np.float32)):
        assert not quantize_rows(np.zeros((2, 256), np.float32), name, importance).any()


@pytest.mark.parametrize("name", NAMES)
def test_the_scale_of_the_values_does_not_matter(name: str) -> None:
    """Times a power of two: the same codes, d times it, as long as d is a normal half."""
    x, importance = ROWS["gaussian"][:2, :512], importance_of(512)
    small, large = (dequantize(quantize_rows(x * np.float32(f), name, importance), name) for f in (1024, 16384))
    np.testing.assert_array_equal(large, small * 16)


def test_only_ratios_of_importance_count() -> None:
    x, importance = ROWS["gaussian"][:2, :512], importance_of(512)
    for name in NAMES:
        np.testing.assert_array_equal(quantize_rows(x, name, importance), quantize_rows(x, name, importance * 1024))
        ones, plain = quantize_rows(x, name, np.ones(512, np.float32) * 7), quantize_rows(x, name)
        found, want = (error(x, dequantize(data, name), None) for data in (ones, plain))
        assert found == pytest.approx(want, rel=0.01)


def test_bad_rows_are_refused() -> None:
    x = ROWS["gaussian"][:2, :512].copy()
    for name in NAMES:
        with pytest.raises(errors.ShapeError, match="256"):
            quantize_rows(x[:, :384], name)
        for bad in (np.inf, np.nan, 65520.0):
            x[1, 300] = bad
            with pytest.raises(errors.InvalidArgument, match=r"row 1, column 300 .*at most 65504"):
                quantize_rows(x, name)
        x[1, 300] = 0


def test_twelve_bytes_of_scales() -> None:
    rng = np.random.default_rng(5)
    sc, mn = (rng.integers(0, 64, (100, 8)).astype(np.uint8) for _ in range(2))
    found = packed_scales(k_quantizers.packed_scales(sc, mn))
    np.testing.assert_array_equal(found, (sc, mn))


def test_kquantizer() -> None:
    x, importance = ROWS["gaussian"][:2], importance_of(1024)
    for name in (*KQuantizer.TYPES, *KQuantizer.MIXES):
        q = KQuantizer(name.lower(), importance)
        kind = type_by_name(q.type_name)
        assert (q.name, q.bits_per_weight, q.block_size) == (name, kind.bits_per_weight, kind.block_size)
        data = q.quantize(x)
        np.testing.assert_array_equal(data, quantize_rows(x, q.type_name, importance))
        assert q.dequantize(data).shape == x.shape
    assert tuple(KQuantizer.TYPES) == tuple(NAMES)
    with pytest.raises(errors.UnknownName, match="IQ4_XS"):
        KQuantizer("IQ4_XS")
