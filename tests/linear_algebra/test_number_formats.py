"""Every number format, read: the twin and the C kernels on each ISA variant against PyPI's gguf, bit for bit.

    ZIGLLAMA_HEAVY=1 pytest tests/linear_algebra/test_number_formats.py       100,000 random blocks of every type

What gguf cannot read (Q8_1, Q8_K, Q1_0, Q2_0, F64 and the integers) is compared with its definition, written out here;
of those that ggml's own C reads, tests/golden/quantize_legacy.json has what it gives (tools/make_legacy_golden.py).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from format_samples import PLAIN, QUANTIZED, UNREAD, hostile_blocks, random_blocks, unread_blocks, values_digest
from native_ops import THREADS, usable_variants
from strategies import guarded_array

import zigllama as zl
from zigllama import errors
from zigllama.foundation.ggml_types import GGML_TYPES, RETIRED, type_by_name
from zigllama.foundation.native_weights import NativeWeight
from zigllama.foundation.runtime import EagerRuntime, Step
from zigllama.foundation.shared_context import shared_context
from zigllama.linear_algebra import quantization
from zigllama.linear_algebra.linear import Weight, embed, linear

F32 = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]
HEAVY = os.environ.get("ZIGLLAMA_HEAVY")
N_BLOCKS = 100_000 if HEAVY else 500
AT_ONCE = 10_000
GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "quantize_legacy.json").read_text("utf-8"))["values"]


def same(a: F32, b: F32) -> bool:
    """Equal bits; any NaN equals any other."""
    return bool(((a.view(np.uint32) == b.view(np.uint32)) | (np.isnan(a) & np.isnan(b))).all())


def halves(raw: Bytes) -> F32:
    return np.ascontiguousarray(raw).view(np.float16).astype(np.float32)


def by_definition(blocks: Bytes, name: str) -> F32:
    """What gguf cannot read."""
    if name == "Q8_1":
        return halves(blocks[:, :2]) * blocks[:, 4:].view(np.int8).astype(np.float32)
    if name == "Q8_K":
        return np.ascontiguousarray(blocks[:, :4]).view(np.float32) * blocks[:, 4:260].view(np.int8).astype(np.float32)
    bits = np.unpackbits(blocks[:, 2:], axis=1, bitorder="little").astype(np.float32)
    if name == "Q1_0":
        return np.where(bits == 1, halves(blocks[:, :2]), -halves(blocks[:, :2])).astype(np.float32)
    assert name == "Q2_0"
    return halves(blocks[:, :2]) * (bits[:, ::2] + 2 * bits[:, 1::2] - 1)


def oracle(blocks: Bytes, name: str) -> F32:
    with np.errstate(all="ignore"):
        if name in ("Q8_1", "Q8_K", "Q1_0", "Q2_0"):
            return by_definition(blocks, name)
        gguf = pytest.importorskip("gguf", reason="gguf is not installed")
        values: F32 = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[name])
        return values


def check(name: str, blocks: Bytes) -> None:
    want = oracle(blocks, name)
    assert want.shape == (len(blocks), type_by_name(name).block_size)
    assert same(quantization.dequantize(blocks, name).reshape(want.shape), want), f"twin of {name}"
    for isa in usable_variants():
        got = zl.dequantize(blocks, name, isa=isa)
        assert got.shape == want.shape
        assert same(got, want), f"{name} on {isa}"


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUANTIZED)
def test_random_blocks(name: str) -> None:
    for part in range(-(-N_BLOCKS // AT_ONCE)):
        n = min(AT_ONCE, N_BLOCKS - part * AT_ONCE)
        check(name, random_blocks(name, n - n // 4, part, finite=True))
        check(name, random_blocks(name, n // 4, part))


@pytest.mark.parametrize("name", QUANTIZED)
def test_hostile_blocks(name: str) -> None:
    blocks = hostile_blocks(name)
    check(name, blocks)
    if name not in ("MXFP4", "NVFP4"):  # whose scales are always finite
        assert np.isnan(zl.dequantize(blocks, name)).any()


@pytest.mark.parametrize("name", UNREAD)
def test_what_gguf_does_not_read_is_as_ggml_reads_it(name: str) -> None:
    blocks = unread_blocks(name)
    for isa in usable_variants():
        assert values_digest(zl.dequantize(blocks, name, isa=isa)) == GOLDEN[name], isa


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("F32", "f4"), ("F16", "f2"), ("F64", "f8"), ("I8", "i1"), ("I16", "i2"), ("I32", "i4"), ("I64", "i8")],
)
def test_plain_numbers_are_converted(name: str, dtype: str) -> None:
    raw = random_blocks(name, 1001)
    with np.errstate(all="ignore"):
        want = raw.view(f"<{dtype}").astype(np.float32)
    assert same(quantization.dequantize(raw, name).reshape(-1, 1), want)
    for isa in usable_variants():
        assert same(zl.dequantize(raw, name, isa=isa), want), isa


def test_bf16_is_the_upper_half_of_f32() -> None:
    raw = np.arange(1 << 16, dtype="<u2")
    want = np.stack([np.zeros_like(raw), raw], 1).view("<f4")[:, 0]
    for isa in usable_variants():
        assert same(zl.dequantize(raw.view(np.uint8), "BF16", isa=isa), want)


# --- none forgotten ---------------------------------------------------------------------------------------------------


def test_every_type_of_gguf_is_read_or_refused_by_name() -> None:
    constants = pytest.importorskip("gguf.constants", reason="gguf is not installed")
    listed = [t.name for t in constants.GGMLQuantizationType]
    assert len(listed) >= 32
    assert set(listed) <= set(GGML_TYPES) == {*QUANTIZED, *PLAIN}
    for name in (*QUANTIZED, *PLAIN):
        kind = type_by_name(name)
        assert zl.dequantize(np.zeros((3, kind.block_bytes), np.uint8), name.lower()).shape == (3, kind.block_size)
    for name in RETIRED.values():
        with pytest.raises(errors.UnknownName, match=f"{name}.*withdrawn"):
            zl.dequantize(np.zeros((1, 18), np.uint8), name)


# --- how it is called -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Q4_0", "IQ2_XS", "F16", "NVFP4"])
def test_shapes(name: str) -> None:
    kind = type_by_name(name)
    blocks = random_blocks(name, 24, finite=True)
    want = zl.dequantize(blocks, name)
    for lead in ((), (4,), (2, 3)):
        rows = blocks.reshape(*lead, -1)
        got = zl.dequantize(rows, name)
        assert got.shape == (*lead, rows.shape[-1] // kind.block_bytes * kind.block_size)
        assert same(got.reshape(-1), want.reshape(-1))
    assert zl.dequantize(blocks[:0], name).shape == (0, kind.block_size)
    assert same(zl.dequantize(blocks[::2], name), want[::2])  # no copy is asked of the caller


@pytest.mark.parametrize("name", QUANTIZED)
def test_threads_change_nothing_and_no_byte_outside_is_read(name: str) -> None:
    kind = type_by_name(name)
    n = 3 * 65536 // kind.block_size + 5  # several chunks, the last one short
    blocks = random_blocks(name, n, 7)
    first = zl.dequantize(blocks, name, n_threads=THREADS[0])
    for n_threads in THREADS[1:]:
        assert same(zl.dequantize(blocks, name, n_threads=n_threads), first)
    for count in (1, 2, 7):
        part: Any = guarded_array(blocks[-count:], np.uint8)
        for isa in usable_variants():
            assert same(zl.dequantize(part, name, isa=isa), first[-count:])


def test_errors() -> None:
    blocks = np.zeros((2, 18), np.uint8)
    with pytest.raises(errors.UnknownName, match="Q4_0"):
        zl.dequantize(blocks, "Q4_00")
    with pytest.raises(errors.ShapeError, match=r"\(2, 18\).*Q4_1, 20 bytes"):
        zl.dequantize(blocks, "Q4_1")
    with pytest.raises(errors.ShapeError, match=r"shape \(\)"):
        zl.dequantize(np.array(3, np.uint8), "I8")
    with pytest.raises(errors.DTypeError, match="int32"):
        zl.dequantize(blocks.astype(np.int32), "Q4_0")
    with pytest.raises(errors.UnknownName, match="avx3"):
        zl.dequantize(blocks, "Q4_0", isa="avx3")
    with pytest.raises(errors.DTypeError, match="F32 is not a quantised type"):
        quantization.unpack(blocks, "F32")
    with pytest.raises(errors.ShapeError, match="35 bytes"):
        quantization.unpack(blocks.reshape(-1)[:35], "Q4_0")


# --- embeddings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*QUANTIZED, *PLAIN])
def test_an_embedding_of_any_type_is_looked_up(name: str) -> None:
    """Rows of a mapped weight, whether or not products with its type have kernels."""
    kind = type_by_name(name)
    blocks = random_blocks(name, 7 * 256 // kind.block_size, finite=True)
    weight = Weight(kind, 7, 256, guarded_array(blocks.reshape(-1), np.uint8))
    step = Step.of_rows(4)
    step.tokens = np.array([6, 0, 3, 6], np.int32)
    want = embed.ref(step, weight, scale=0.5)
    for isa in usable_variants():
        weight.close()
        context = shared_context(isa, 2)
        weight.prepare(context, mapped=True)
        assert same(embed(EagerRuntime(context, step).bind(), weight, scale=0.5).array, want), isa
    weight.close()


def test_a_type_without_products_is_refused_by_name() -> None:
    kind = type_by_name("Q8_K")
    weight = Weight(kind, 2, 256, random_blocks("Q8_K", 2).reshape(-1))
    context = shared_context(None, 1)
    with pytest.raises(errors.DTypeError, match="no kernel multiplies Q8_K"):
        NativeWeight(context, kind.id, 2, 256, weight.data)
    weight.prepare(context, mapped=True)
    runtime = EagerRuntime(context, Step.of_rows(1))
    with pytest.raises(errors.DTypeError, match="no kernel multiplies Q8_K, weight 0"):
        linear(runtime.rows(np.zeros((1, 256), np.float32)), weight)
    weight.close()
