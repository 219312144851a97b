"""`QuantizedTensor`: errors within what rounding may do, products within what rounding x may do, layouts, refusals."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from native_ops import THREADS, usable_variants

import zigllama as zl
from zigllama import errors
from zigllama.linear_algebra import quantized_tensor

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
QuantizedTensor: Any = zl.QuantizedTensor  # what is None where a scheme has it not, is not asked for
U = 2.0**-24
LAYOUTS = [("group", 32), ("group", 12), ("channel", 32)]  # GGUF's, another, and one scale for each row


def matrix(rows: int = 7, cols: int = 96) -> F32:
    x = np.random.default_rng(rows).standard_normal((rows, cols)).astype(np.float32)
    x[1] *= 300
    x[2] = 0
    x[3] = 0.7
    x[4] = np.abs(x[4]) + 2
    return x


def half_error(d: F64) -> F64:
    """What half precision may take from a number."""
    return np.maximum(np.abs(d) * 2.0**-11, 2.0**-25)


def bound(scheme: str, x: F64, size: int, symmetric: bool) -> F64:
    """|x - y| at most: half a step, and the largest code times the rounding of the scale. `slack`: x / d is made of two
    float32 operations, so a value near the middle of two codes may take the other one."""
    if scheme == "F16":
        return half_error(x)
    v = x.reshape(len(x), -1, size)
    low, high = v.min(axis=2, keepdims=True), v.max(axis=2, keepdims=True)
    amax = np.maximum(-low, high)
    slack = 1 + 2.0**-12
    if scheme == "Q8_0":
        d = amax / 127
        limit = d / 2 * slack + 127 * half_error(d)
    elif scheme == "Q4_0":  # 16 codes from -8 to 7: a value near minus the largest is a whole step from its code
        d = amax / 8
        beyond = np.maximum(-v * np.sign(np.take_along_axis(v, np.abs(v).argmax(axis=2)[..., None], 2)) - 7.5 * d, 0)
        limit = d / 2 * slack + beyond + 8 * half_error(d)
    elif scheme == "Q4_1":
        d = (high - low) / 15
        limit = d / 2 * slack + 15 * half_error(d) + half_error(low)
    elif symmetric:
        limit = amax / 127 / 2 * slack + 2.0**-117
    else:
        limit = (np.maximum(high, 0) - np.minimum(low, 0)) / 255 / 2 * slack + 2.0**-117
    return np.broadcast_to(limit, v.shape).reshape(x.shape)


@given(
    scheme=st.sampled_from(QuantizedTensor.SCHEMES),
    layout=st.sampled_from(LAYOUTS),
    x=hnp.arrays(np.float32, (2, 96), elements=st.floats(-60000, 60000, width=32)),
    by=st.sampled_from([1.0, 2.0**-16, 0.37]),
    symmetric=st.booleans(),
)
def test_values_are_within_a_step(scheme: str, layout: tuple[str, int], x: F32, by: float, symmetric: bool) -> None:
    per, size = layout
    x = x * np.float32(by)
    q = QuantizedTensor.quantize(x, scheme, per=per, group_size=size, symmetric=symmetric if scheme == "INT8" else None)
    error = np.abs(x.astype(np.float64) - q.dequantize())
    limit = bound(scheme, x.astype(np.float64), 96 if per == "channel" else size, symmetric)
    assert (error <= limit * (1 + 2.0**-20)).all(), (error - limit).max()


@pytest.mark.parametrize("scheme", QuantizedTensor.SCHEMES)
@pytest.mark.parametrize(("per", "size"), LAYOUTS)
@pytest.mark.parametrize("symmetric", [None, False])
def test_products(scheme: str, per: str, size: int, symmetric: bool | None) -> None:
    """Against float64 products with the values that the matrix is worth. x is off by half a step t of its group, at
    most of its row. Sums of n terms, of which each goes through a few operations, are off by (n + 8) u of the sizes:
    codes times scale, and minimums, are each at most twice the largest of a row."""
    if symmetric is False and scheme != "INT8":
        symmetric = None
    q = QuantizedTensor.quantize(matrix(), scheme, per=per, group_size=size, symmetric=symmetric)
    w = q.dequantize().astype(np.float64)
    x = np.random.default_rng(9).standard_normal((5, 96)).astype(np.float32)
    step = 0 if scheme == "F16" else np.abs(x).max(axis=1, keepdims=True) / 127 / 2 * (1 + 2.0**-20)
    limit = step * np.abs(w).sum(axis=1) + (96 + 8) * U * 4 * np.abs(x).sum(axis=1, keepdims=True) * np.abs(w).max(
        axis=1
    )
    native = q.blocks is not None
    for isa in usable_variants() if native else (None,):
        assert (np.abs(q.matmul(x, isa=isa) - x @ w.T) <= limit).all(), isa
    first = q.matmul(x)
    assert first.shape == (5, 7)
    for n_threads in THREADS:
        assert np.array_equal(q.matmul(x, n_threads=n_threads), first)
    assert np.array_equal(q.matmul(x[2:3])[0], first[2])  # a row's product is its own


@pytest.mark.parametrize("symmetric", [True, False])
def test_integer_sums_are_exact(symmetric: bool) -> None:
    """x of whole numbers up to 127, scales that are powers of two: every step is exact, and so is the product."""
    rng = np.random.default_rng(1)
    w = rng.integers(-127, 128, (6, 250)).astype(np.float32) * 0.25
    w[:, 0], w[:, 1] = (127 * 0.25, -127 * 0.25) if symmetric else (191.25 * 0.25, -63.75 * 0.25)
    if not symmetric:
        w = np.clip(w, -16, 47.75)
        w[:, 0], w[:, 1] = 47.75, -16
    x = rng.integers(-127, 128, (4, 250)).astype(np.float32)
    x[:, 7] = 127
    q = QuantizedTensor.quantize(w, "int8", per="channel", symmetric=symmetric)
    assert np.array_equal(q.scales, np.full((6, 1), 0.25, np.float32))
    assert np.array_equal(q.dequantize(), w)
    assert np.array_equal(q.matmul(x), (x.astype(np.float64) @ w.T.astype(np.float64)).astype(np.float32))
    assert q.error(w) == (0, 0, pytest.approx(1))


def test_the_layouts_of_gguf_are_its_bytes() -> None:
    x = matrix()
    for scheme in ("Q4_0", "Q4_1", "Q8_0", "F16"):
        q = QuantizedTensor.quantize(x, scheme)
        assert np.array_equal(q.blocks, zl.quantize_rows(x, scheme))
        assert q.nbytes == q.blocks.nbytes
        assert np.array_equal(q.dequantize(), zl.dequantize(q.blocks, scheme))
    for scheme, rule in (
        ("Q4_0", quantized_tensor._q4_0),
        ("Q4_1", quantized_tensor._q4_1),
        ("Q8_0", quantized_tensor._q8_0),
    ):
        want: Any = rule(x.reshape(7, 3, 32))
        got = QuantizedTensor.quantize(x, scheme)
        assert np.array_equal(got.codes, want.codes.reshape(7, 96))
        for a, b in ((got.scales, want.scales), (got.zeros, want.zeros), (got.minimums, want.minimums)):
            assert (a is None) == (b is None)
            assert a is None or np.array_equal(a, b)


@pytest.mark.parametrize(
    ("scheme", "symmetric", "bits", "more"),
    [
        ("Q4_0", None, 4, 16),
        ("Q4_1", None, 4, 32),
        ("Q8_0", None, 8, 16),
        ("INT8", None, 8, 32),
        ("INT8", False, 8, 40),
    ],
)
def test_what_it_takes(scheme: str, symmetric: bool | None, bits: int, more: int) -> None:
    x = matrix(5, 99)
    for per, size, groups in (("channel", 0, 1), ("group", 33, 3)):
        q = QuantizedTensor.quantize(x, scheme, per=per, group_size=size, symmetric=symmetric)
        assert q.nbytes == -(-5 * 99 * bits // 8) + 5 * groups * more // 8
        assert q.scales.shape == (5, groups)
        assert q.bits_per_weight == 8 * q.nbytes / (5 * 99)
        assert q.codes.shape == q.shape == (5, 99)
        assert q.symmetric == (symmetric is None and scheme != "Q4_1")
        assert scheme in repr(q)
        assert (q.blocks, q.group_size) == (None, 99 // groups)
        assert (q.minimums is not None) == (scheme == "Q4_1")
        low, high = {4: (0, 15), 8: (-128, 127)}[bits]
        assert low <= q.codes.min() < q.codes.max() <= high


def test_distortion() -> None:
    x = matrix()
    errors_ = {name: QuantizedTensor.quantize(x, name).error(x) for name in QuantizedTensor.SCHEMES}
    assert errors_["F16"].rmse < errors_["Q8_0"].rmse < errors_["Q4_1"].rmse < errors_["Q4_0"].rmse
    y = QuantizedTensor.quantize(x, "Q4_0").dequantize().astype(np.float64)
    found = errors_["Q4_0"]
    assert found.largest == np.abs(x - y).max()
    assert found.rmse == pytest.approx(np.sqrt(((x - y) ** 2).mean()))
    assert found.cosine == pytest.approx(np.corrcoef(x.ravel(), y.ravel())[0, 1], rel=1e-2)
    nothing = QuantizedTensor.quantize(np.zeros((1, 32), np.float32))
    assert nothing.error(np.zeros((1, 32))) == (0, 0, 1)
    assert nothing.error(np.ones((1, 32))) == (1, 1, 0)


def test_finer_groups_and_offsets_pay() -> None:
    """Rows of which a tenth is large; values that are all above 2: what groups, and zero points, are for."""
    x = np.random.default_rng(0).standard_normal((16, 320)).astype(np.float32)
    x[:, :32] *= 20
    channel, group = (QuantizedTensor.quantize(x, "INT8", per=per).error(x).rmse for per in ("channel", "group"))
    assert group < channel / 2
    x = np.abs(x)
    both = [QuantizedTensor.quantize(x, "INT8", per="channel", symmetric=s).error(x).rmse for s in (True, False)]
    assert both[1] < 0.6 * both[0]


def test_refusals() -> None:
    x = matrix()
    make = QuantizedTensor.quantize
    with pytest.raises(errors.UnknownName, match="Q3_9"):
        make(x, "Q3_9")
    with pytest.raises(errors.UnknownName, match="tensor"):
        make(x, per="tensor")
    for size in (0, 36, -32):
        with pytest.raises(errors.ShapeError, match=f"96 columns are not whole groups of {size}"):
            make(x, group_size=size)
    with pytest.raises(errors.ShapeError, match=r"\(96,\)"):
        make(x[0])
    with pytest.raises(errors.ShapeError, match=r"\(0, 96\)"):
        make(x[:0])
    with pytest.raises(errors.DTypeError, match="int64"):
        make(np.ones((2, 32), np.int64))
    for scheme, symmetric in (("Q4_1", True), ("Q4_0", False), ("F16", False)):
        with pytest.raises(errors.InvalidArgument, match=f"{scheme} is .*symmetric"):
            make(x, scheme, symmetric=symmetric)
    for bad in (np.nan, np.inf, 70000.0):
        y = x.copy()
        y[2, 5] = bad
        for per in ("channel", "group"):
            with pytest.raises(errors.InvalidArgument, match="row 2, column 5"):
                make(y, "Q4_0", per=per)
    assert make(y, "INT8").error(y).largest < 70000 / 127  # whose scale is a float
    q = make(x, "INT8")
    for rows in (np.ones((2, 95), np.float32), np.ones(96, np.float32)):
        with pytest.raises(errors.ShapeError, match=r"95|\(96,\)"):
            q.matmul(rows)
    with pytest.raises(errors.InvalidArgument, match="row 0, column 3 is nan"):
        q.matmul(np.where(np.arange(96) == 3, np.nan, np.ones((1, 96))))
    with pytest.raises(errors.ShapeError, match=r"\(7, 95\)"):
        q.error(x[:, :95])
    with pytest.raises(errors.InvalidArgument, match="F16 has no codes"):
        _ = make(x, "F16").codes
    wide = make(np.ones((1, quantized_tensor.LONGEST_SUM + 1), np.float32), "INT8", per="channel")
    with pytest.raises(errors.ShapeError, match="66312 products"):
        wide.matmul(np.ones((1, wide.shape[1]), np.float32))
