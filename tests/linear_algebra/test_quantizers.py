"""The quantisers of plain halves and of blocks of 32: C on each ISA variant and the twin against PyPI's gguf, byte for
byte; how `zl.quantize_rows` is called. The IQ types are test_iq_quantizers.py's."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from native_ops import THREADS, usable_variants
from strategies import guarded_array

import zigllama as zl
from zigllama import errors
from zigllama.foundation.ggml_types import GGML_TYPES, row_bytes, type_by_name
from zigllama.linear_algebra import quantizers

F32 = npt.NDArray[np.float32]
LEGACY = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")


def rows() -> F32:
    """(64, 576), 18 blocks of 32 a row: bells, long tails, constants, zeros, ties, scales that are subnormal halves."""
    rng = np.random.default_rng(3)
    x = (rng.standard_normal((64, 576)) * 0.02).astype(np.float32)
    x[20:40] = rng.standard_t(3, (20, 576))
    x[40] = -0.3
    x[41] = 0.3
    x[42] = 0
    x[43] = np.round(x[43] * 400) / 8
    x[44] *= np.float32(1e-4)
    x[45, 32:] = 0
    x[46] *= np.float32(5e5)
    return x


@pytest.mark.parametrize("name", LEGACY)
def test_bytes_are_those_of_gguf(name: str) -> None:
    gguf = pytest.importorskip("gguf", reason="gguf is not installed")
    x = rows()
    with np.errstate(all="ignore"):
        want = gguf.quants.quantize(x, gguf.GGMLQuantizationType[name])
    assert np.array_equal(quantizers.quantize(x, name), want)
    for isa in usable_variants():
        assert np.array_equal(zl.quantize_rows(x, name, isa=isa), want), isa


@pytest.mark.parametrize("name", LEGACY)
def test_variants_threads_and_tails_change_nothing(name: str) -> None:
    """Values too small for any scale too, where gguf divides by a subnormal number and ggml's cast is undefined."""
    x = rows()
    x[0] = np.float32(1e-41)
    want = quantizers.quantize(x, name)
    for n_threads in THREADS:
        assert np.array_equal(zl.quantize_rows(x, name, n_threads=n_threads), want)
    for cols in (32, 96, 544):
        part = guarded_array(np.ascontiguousarray(x[-3:, :cols]), np.float32)
        for isa in usable_variants():
            got = zl.quantize_rows(part, name, isa=isa)
            assert np.array_equal(got, want[-3:, : got.shape[1]]), (isa, cols)
    assert zl.quantize_rows(x[:0], name).shape == (0, want.shape[1])


def test_halves_are_rounded_to_even() -> None:
    x = np.concatenate([rows()[:, :575], np.float32(2.0) ** -np.arange(1, 65, dtype=np.float32)[:, None]], axis=1)
    bits = np.ascontiguousarray(x[:, :333]).view(np.uint32).astype(np.uint64)
    bf16 = (bits + 0x7FFF + (bits >> np.uint64(16) & np.uint64(1)) >> np.uint64(16)).astype("<u2")
    for isa in usable_variants():
        assert np.array_equal(zl.quantize_rows(x, "F16", isa=isa), x.astype("<f2").view(np.uint8))
        assert np.array_equal(zl.quantize_rows(x[:, :333], "BF16", isa=isa), bf16.view(np.uint8))


@pytest.mark.parametrize("name", ["F32", "F16", "BF16"])
def test_plain_numbers_are_the_twins(name: str) -> None:
    x = np.ascontiguousarray(rows()[:, :333])
    want = quantizers.quantize(x, name)
    for isa in usable_variants():
        for n_threads in THREADS:
            assert np.array_equal(zl.quantize_rows(x, name, isa=isa, n_threads=n_threads), want), (isa, n_threads)


@pytest.mark.parametrize("name", GGML_TYPES)
def test_c_makes_what_a_twin_makes_and_no_other_type(name: str) -> None:
    x, importance = np.ones((1, 256), np.float32), np.ones(256, np.float32)
    if name in quantizers.QUANTIZE:
        assert np.array_equal(zl.quantize_rows(x, name, importance), quantizers.quantize(x, name, importance))
    else:
        with pytest.raises(errors.DTypeError, match=f"no quantiser of {name}"):
            zl.quantize_rows(x, name, importance)


def test_every_type_of_gguf_is_made_or_refused_with_a_reason() -> None:
    constants = pytest.importorskip("gguf.constants", reason="gguf is not installed")
    listed = {t.name for t in constants.GGMLQuantizationType}
    assert len(listed) >= 32
    assert listed - set(quantizers.QUANTIZE) == set(quantizers.REFUSED) & listed
    assert not set(quantizers.REFUSED) & set(quantizers.QUANTIZE)
    x = np.ones((1, 256), np.float32)
    for name in listed:
        if name in quantizers.QUANTIZE:
            assert zl.quantize_rows(x, name, x[0]).shape == (1, row_bytes(type_by_name(name), 256))
            continue
        for make in (zl.quantize_rows, quantizers.quantize):
            with pytest.raises(errors.DTypeError, match=f"no quantiser of {name}: {quantizers.REFUSED[name]}"):
                make(x, name)


@pytest.mark.parametrize("name", quantizers.QUANTIZE)
def test_which_types_importance_makes_a_difference_to(name: str) -> None:
    x = rows()[:4, :512]
    x[:, ::3] *= 3
    weights = np.exp(np.random.default_rng(1).standard_normal((2, 512)) * 2).astype(np.float32)
    a, b = (zl.quantize_rows(x, name, w) for w in weights)
    assert np.array_equal(a, b) is (name not in quantizers.WEIGHED)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 65520.0])
def test_a_value_that_is_not_taken_is_named(bad: float) -> None:
    x = np.zeros((900, 64), np.float32)
    x[3, 17] = x[800, 5] = bad
    for name in ("Q4_1", "F16"):
        with pytest.raises(errors.InvalidArgument, match=r"row 3, column 17 is .*at most 65504"):
            zl.quantize_rows(x, name, n_threads=2)


def test_errors() -> None:
    x = np.zeros((2, 64), np.float32)
    with pytest.raises(errors.ShapeError, match="63"):
        zl.quantize_rows(x[:, :63], "Q4_1")
    with pytest.raises(errors.ShapeError, match=r"\(64,\)"):
        zl.quantize_rows(x[0], "Q4_1")
    with pytest.raises(errors.DTypeError, match="int32"):
        zl.quantize_rows(x.astype(np.int32), "Q4_1")
    with pytest.raises(errors.DTypeError, match="no quantiser of Q8_1"):
        zl.quantize_rows(x, "Q8_1")
    with pytest.raises(errors.DTypeError, match="no quantiser of Q8_1"):
        quantizers.quantize(x, "Q8_1")
    with pytest.raises(errors.ShapeError, match="importance"):
        zl.quantize_rows(x, "Q4_1", np.ones(63))
    for bad in (-1.0, np.nan, np.inf):
        importance = np.ones(64)
        importance[9] = bad
        with pytest.raises(errors.InvalidArgument, match="column 9"):
            zl.quantize_rows(x, "Q4_1", importance)
