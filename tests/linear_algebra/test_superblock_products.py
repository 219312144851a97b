"""Products with superblocks that have integer scales, `quantization.LONG`: the twin against loops over Python's
integers, and x rounded by scales alike in 256 columns.

What it is not: the kernels, which test_linear_op.py and test_wide_products.py compare with the twin.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from format_samples import QUANTIZED, hostile_blocks, random_blocks

from zigllama.foundation.ggml_types import type_by_name
from zigllama.foundation.runtime import F32
from zigllama.linear_algebra import quantization
from zigllama.linear_algebra.quant_blocks import spread
from zigllama.linear_algebra.quantization import LONG, activation_block, matmul_twin, quantize_activation

Bytes = npt.NDArray[np.uint8]
LIMIT = 2**31


def half(raw: Bytes) -> np.float32:
    return np.float32(raw.view(np.float16)[0])


def q4_k(block: Bytes) -> tuple[list[int], list[tuple[int, int]]]:
    """Codes of one superblock of Q4_K, and the scale and minimum of each 32 of them."""
    raw = [int(v) for v in block]
    scales = []
    for j in range(8):
        if j < 4:
            scales.append((raw[4 + j] & 63, raw[8 + j] & 63))
        else:
            low = raw[8 + j]
            scales.append((low & 15 | raw[j] >> 6 << 4, low >> 4 | raw[4 + j] >> 6 << 4))
    codes = [raw[16 + 32 * (k // 64) + k % 32] >> 4 * (k // 32 % 2) & 15 for k in range(256)]
    return codes, scales


def q6_k(block: Bytes) -> tuple[list[int], list[int]]:
    """Codes of one superblock of Q6_K, and the scale of each 16 of them."""
    raw = [int(v) for v in block]
    codes = []
    for k in range(256):
        part, at = divmod(k, 128)
        low = raw[64 * part + at % 64] >> 4 * (at // 64) & 15
        codes.append(low | (raw[128 + 32 * part + at % 32] >> 2 * (at // 32) & 3) << 4)
    return codes, [v - 256 if v > 127 else v for v in raw[192:208]]


def rounded(row: F32) -> tuple[list[int], list[int], np.float32]:
    """The codes of 256 columns, each block's power of two, and what is multiplied by it: the rule, value by value."""
    amax = max(abs(float(v)) for v in row)
    codes, powers = [], []
    for b in range(8):
        values = [float(v) for v in row[32 * b : 32 * b + 32]]
        power, top = 16, amax
        while power > 1 and max(map(abs, values)) <= top / 2:
            power, top = power // 2, top / 2
        by = np.float32(127) / np.float32(top)
        codes += [round(float(np.float32(v) * by)) for v in values]  # Python rounds ties to even too
        powers.append(power)
    return codes, powers, np.float32(amax) / np.float32(127) / np.float32(16)


def rows_of_x(seed: int) -> F32:
    """x (3, 768) whose blocks of 32 differ by powers of two from 2^-7 to 1, one of them zero."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((3, 768)) * np.repeat(2.0 ** rng.integers(-7, 1, (3, 24)), 32, axis=1)
    x[:, 96:128] = 0
    return x.astype(np.float32)


def test_x_is_rounded_as_meant() -> None:
    x = rows_of_x(1)
    q, d, s = quantize_activation(x, 256)
    seen = set()
    for t in range(3):
        for b in range(3):
            codes, powers, unit = rounded(x[t, 256 * b : 256 * b + 256])
            np.testing.assert_array_equal(q[t, 256 * b : 256 * b + 256], codes)
            np.testing.assert_array_equal(d[t, 8 * b : 8 * b + 8], np.array(powers, np.float32) * unit)
            np.testing.assert_array_equal(s[t, 8 * b : 8 * b + 8], np.reshape(codes, (8, 2, 16)).sum(axis=2))
            seen.update(powers)
    assert seen == {1, 2, 4, 8, 16}


Step = Callable[[Bytes, list[int], list[int]], np.float32]


def assert_by_hand(name: str, seed: int, step: Step) -> None:
    """The twin against `step` of each superblock, its codes of x and their powers, two rows of W and three of x."""
    blocks, x = random_blocks(name, 6, 1, finite=True), rows_of_x(seed)
    got = matmul_twin(x, blocks.reshape(-1), name, 2)
    for t in range(3):
        for r in range(2):
            y = np.float32(0)
            for b in range(3):
                q, powers, dx = rounded(x[t, 256 * b : 256 * b + 256])
                y = y + step(blocks[3 * r + b], q, powers) * dx
            assert got[t, r] == y, (t, r)


def test_a_product_with_q4_k_by_hand() -> None:
    def step(block: Bytes, q: list[int], powers: list[int]) -> np.float32:
        codes, scales = q4_k(block)
        i = sum(powers[k // 32] * scales[k // 32][0] * codes[k] * q[k] for k in range(256))
        m = sum(powers[k // 32] * scales[k // 32][1] * q[k] for k in range(256))
        return np.float32(i) * half(block[:2]) - half(block[2:4]) * np.float32(m)

    assert_by_hand("Q4_K", 2, step)


def test_a_product_with_q6_k_by_hand() -> None:
    def step(block: Bytes, q: list[int], powers: list[int]) -> np.float32:
        codes, scales = q6_k(block)
        i = sum(powers[k // 32] * scales[k // 16] * (codes[k] - 32) * q[k] for k in range(256))
        return np.float32(i) * half(block[208:])

    assert_by_hand("Q6_K", 3, step)


@pytest.mark.parametrize(("code", "sign"), [(63, 1), (63, -1), (0, 1), (0, -1)])
def test_the_largest_sums_of_q6_k(code: int, sign: int) -> None:
    """All codes at one end, scales -128, q +-127, each block at its largest power: within 32 bits, beyond float32's."""
    block = np.full((1, 210), 255 if code else 0, np.uint8)
    block[0, 192:208] = 0x80
    block[0, 208:] = np.array([0.5], np.float16).view(np.uint8)
    codes, scales = q6_k(block[0])
    assert (codes, scales) == ([code] * 256, [-128] * 16)
    i = sum(16 * scales[k // 16] * (u - 32) * 127 * sign for k, u in enumerate(codes))
    assert 2**30 < abs(i) < LIMIT
    got = matmul_twin(np.full((1, 256), 127 * sign, np.float32), block.reshape(-1), "Q6_K", 1)
    assert got[0, 0] == np.float32(i) * np.float32(0.5) * np.float32(1 / 16)


# --- formats ----------------------------------------------------------------------------------------------------------


def test_long_formats_are_those_with_integer_scales() -> None:
    found = {name for name in QUANTIZED if quantization.unpack(random_blocks(name, 1), name).parts is not None}
    assert found == LONG and len(LONG) == 13
    for name in QUANTIZED:
        assert activation_block(name) == (256 if name in LONG else 32)
        assert name not in LONG or type_by_name(name).block_size == 256


@pytest.mark.parametrize("name", sorted(LONG))
def test_integer_scales(name: str) -> None:
    """They are what A and B were made of, exactly; no sum of products leaves 32 bits, zero points taken off or not."""
    finite = random_blocks(name, 300, finite=True)
    u = quantization.unpack(finite, name)
    parts = u.parts
    assert parts is not None and parts.d.shape == (300, 1) and parts.sc.shape in ((300, 8), (300, 16))
    np.testing.assert_array_equal(u.scales.reshape(300, -1), parts.d.astype(np.float64) * parts.sc)
    assert (u.minimums is None) == (parts.dmin is None) == (parts.mn is None) == (name not in ("Q2_K", "Q4_K", "Q5_K"))
    if u.minimums is not None and parts.dmin is not None and parts.mn is not None:
        np.testing.assert_array_equal(u.minimums.reshape(300, -1), parts.dmin.astype(np.float64) * parts.mn)
    u = quantization.unpack(np.concatenate([finite, hostile_blocks(name)]), name)
    parts = u.parts
    assert parts is not None
    assert int(np.abs(u.codes - u.zero).max()) * int(np.abs(parts.sc).max()) * 127 * 256 * 16 < LIMIT
    assert parts.mn is None or int(parts.mn.max()) * 127 * 256 * 16 < LIMIT


@pytest.mark.parametrize("name", sorted(LONG))
def test_twin_against_the_values(name: str) -> None:
    """The product of the values that W and the rounded x are worth, in float64; three superblocks, each of which takes
    at most five operations behind its sum."""
    blocks = random_blocks(name, 15, 2, finite=True)
    x = np.random.default_rng(1).standard_normal((4, 768)).astype(np.float32)
    q, d, _ = quantize_activation(x, 256)
    x64 = q * np.repeat(d.astype(np.float64), 32, axis=1)
    u = quantization.unpack(blocks, name)
    parts = spread(np.abs(u.scales)).astype(np.float64) * np.abs(u.codes - u.zero)
    if u.minimums is not None:
        parts = parts + spread(np.abs(u.minimums))
    size = np.abs(x64) @ parts.reshape(5, 768).T
    w = quantization.dequantize(blocks, name).reshape(5, 768).astype(np.float64)
    # what a value itself was rounded by, where it is a difference, is in `size` once more
    off = np.abs(matmul_twin(x, blocks.reshape(-1), name, 5) - x64 @ w.T)
    assert (off <= (5 + 3 + 1) * 2.0**-24 * size).all()


# --- x ----------------------------------------------------------------------------------------------------------------


def test_what_is_not_finite_takes_its_256_columns() -> None:
    x = np.random.default_rng(4).standard_normal((3, 768)).astype(np.float32)
    clean = quantize_activation(x, 256)
    for bad in (np.nan, np.inf, -np.inf):
        y = x.copy()
        y[1, 256 + 77] = bad
        q, d, s = quantize_activation(y, 256)
        assert np.isnan(d[1, 8:16]).all() and not q[1, 256:512].any() and not s[1, 8:16].any()
        q[1, 256:512], d[1, 8:16], s[1, 8:16] = clean[0][1, 256:512], clean[1][1, 8:16], clean[2][1, 8:16]
        for found, want in zip((q, d, s), clean, strict=True):
            np.testing.assert_array_equal(found, want)
        assert np.isnan(quantize_activation(y)[1]).sum() == 1  # with a scale for every 32 columns it takes one


def test_a_large_value_coarsens_its_own_block() -> None:
    """127 in one block of 32: a step is 1 there, 1/16 in the seven others, and stays 1/127 in the next superblock."""
    x = np.zeros((1, 512), np.float32)
    x[0, ::2], x[0, 1::2] = 1.0, -0.4
    x[0, 40] = 127
    q, d, s = quantize_activation(x, 256)
    steps = [1 / 16, 1.0] + [1 / 16] * 6 + [np.float32(1) / np.float32(127)] * 8
    np.testing.assert_array_equal(d, np.array([steps], np.float32))
    want = [16, -6] * 16 + [1, 0] * 16 + [16, -6] * 96 + [127, -51] * 128  # -6.4, -50.8, to the nearest
    want[40] = 127
    np.testing.assert_array_equal(q, [want])
    np.testing.assert_array_equal(s[0, 0], [80, 80])
    np.testing.assert_array_equal(s[0, 1], [8 + 126, 8])


def test_ties_and_the_smallest_scales() -> None:
    x = np.zeros((3, 256), np.float32)
    x[0, :6] = 127, 0.5, 1.5, 2.5, -0.5, -1.5
    x[1, 255] = np.float32(2.0**-115)
    x[2] = np.nextafter(np.float32(2.0**-115), np.float32(0))
    q, d, _ = quantize_activation(x, 256)
    np.testing.assert_array_equal(q[0, :6], [127, 0, 2, 2, 0, -2])
    assert q[1, 255] == 127 and d[1, 7] == np.float32(2.0**-115) / np.float32(127) and d[1, 0] == d[1, 7] / 16
    assert not q[2].any() and not d[2].any()
