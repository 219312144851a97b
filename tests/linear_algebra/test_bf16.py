"""Products in bf16: the kernels have the twin's bits however they are run, the twin is float64's within its bound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from native_ops import run_linear

from zigllama import errors
from zigllama.foundation.ggml_types import type_by_name
from zigllama.foundation.native import isa_has_bf16, isa_variants
from zigllama.foundation.shared_context import shared_context
from zigllama.linear_algebra.bf16 import bf16_product, choose, round_bf16
from zigllama.linear_algebra.linear import Weight

USABLE = [name for name, ok in isa_variants() if ok]
WITH = [name for name in USABLE if isa_has_bf16(name)]
SIZES = st.sampled_from([1, 1e-37, 1e30])
WITHOUT = [name for name in USABLE if not isa_has_bf16(name)]


def weight(kind: str, rows: int, cols: int, seed: int) -> Weight:
    x = np.random.default_rng(seed).standard_normal((rows, cols)).astype(np.float32)
    raw = x.astype(np.float16) if kind == "F16" else (x.view(np.uint32) >> 16).astype(np.uint16)
    made = Weight(type_by_name(kind), rows, cols, np.ascontiguousarray(raw).reshape(-1).view(np.uint8), kind)
    made.compute = "bf16"
    return made


def test_rounding_is_to_nearest_even() -> None:
    bits = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF, 0x7F800000, 0xFF7FFFFF, 0x00008000], np.uint32)
    want = np.array([0x3F800000, 0x3F820000, 0x3F810000, 0x3F800000, 0x7F800000, 0xFF800000, 0x00000000], np.uint32)
    np.testing.assert_array_equal(round_bf16(bits.view(np.float32)).view(np.uint32), want)
    assert np.isnan(round_bf16(np.array([0x7F800001, 0x7FFFFFFF], np.uint32).view(np.float32))).all()


def test_the_twin_is_float64s_product_of_rounded_values_within_its_bound() -> None:
    x = np.random.default_rng(1).standard_normal((5, 301)).astype(np.float32)
    w = np.random.default_rng(2).standard_normal((7, 301)).astype(np.float32)
    a, b = round_bf16(x).astype(np.float64), round_bf16(w).astype(np.float64)
    bound = 301 * 2.0**-24 * (np.abs(a) @ np.abs(b).T) * (1 + 301 * 2.0**-23)  # one rounding per term
    assert (np.abs(bf16_product(x, w) - a @ b.T) <= bound).all()
    assert (np.abs(bf16_product(x, w) - x.astype(np.float64) @ w.T) > bound).any()  # rounding to bf16 shows


@pytest.mark.skipif(not WITH, reason="the CPU has no AVX-512 BF16")
@pytest.mark.parametrize("kind", ["F16", "BF16"])
@given(st.integers(1, 40), st.integers(1, 70), st.integers(1, 120), st.integers(0, 999), SIZES)
def test_kernels_have_the_twins_bits(kind: str, t: int, rows: int, cols: int, seed: int, size: float) -> None:
    x = (np.random.default_rng(seed).standard_normal((t, cols)) * size).astype(np.float32)
    w = weight(kind, rows, cols, seed + 1)
    want = bf16_product(x, w.dequantized())
    for mapped in (False, True):
        for threads in (1, 3):
            np.testing.assert_array_equal(run_linear(x, w, WITH[0], threads, mapped), want)
    part = run_linear(x[t // 2 :], w, WITH[0])
    np.testing.assert_array_equal(part, want[t // 2 :])
    w.close()


@pytest.mark.parametrize("isa", WITHOUT)
def test_where_there_is_no_instruction_it_is_refused(isa: str) -> None:
    w = weight("BF16", 3, 4, 1)
    with pytest.raises(errors.ISAUnavailable, match="avx512bf16"):
        w.prepare(shared_context(isa, 1))
    with pytest.raises(errors.ISAUnavailable, match=isa):
        choose("bf16", [w], False, isa)
    assert choose(None, [w], False, isa) == "f32" and w.compute == "f32"


def test_who_computes_in_bf16() -> None:
    both = [weight("F16", 3, 4, 1), weight("BF16", 3, 4, 1), Weight.from_array(np.ones((2, 3)))]
    table = {None: ["f32", "bf16", "f32"], "f32": ["f32"] * 3, "bf16": ["bf16", "bf16", "f32"]}
    for asked, want in table.items():
        label = choose(asked, both, True, "x")
        assert [w.compute for w in both] == want and label == ("bf16" if "bf16" in want else "f32")
    with pytest.raises(errors.UnknownName):
        choose("fp8", both, True, "x")
