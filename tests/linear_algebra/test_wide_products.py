"""Products with the formats that are widened to one common form (ckernels/kernels/formats_wide.h), on every ISA
variant: against the twin, the same bits however they are run, rows back from panels bit for bit.

What it is not: the formats with tiles of their own, which are in test_linear_op.py.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from format_samples import QUANTIZED, random_blocks
from native_ops import run_linear, usable_variants

from zigllama.foundation.ggml_types import type_by_name
from zigllama.foundation.runtime import F32, EagerRuntime, Step
from zigllama.foundation.shared_context import shared_context
from zigllama.linear_algebra import quantization
from zigllama.linear_algebra.linear import Weight, embed
from zigllama.linear_algebra.quant_blocks import spread
from zigllama.models.gguf import MULTIPLIED

TILED = {"Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"}
WIDE = [name for name in QUANTIZED if name in MULTIPLIED and name not in TILED]
ACTIVATIONS = {"Q8_1", "Q8_K"}  # no file has them
EPS = float(np.finfo(np.float32).eps)


def a_weight(kind: str, rows: int, cols: int, part: int = 0) -> Weight:
    """Any codes; scales of ordinary size."""
    t = type_by_name(kind)
    blocks = random_blocks(kind, rows * cols // t.block_size, part, finite=True)
    if kind == "MXFP4":
        blocks[:, 0] = 120 + blocks[:, 0] % 16
    return Weight(t, rows, cols, blocks.reshape(-1), kind)


def rows_of_x(t: int, cols: int, seed: int) -> F32:
    x = np.random.default_rng(seed).standard_normal((t, cols)).astype(np.float32)
    x[:, : cols // 8] *= 50  # blocks of different sizes
    return x


def bound(x: F32, weight: Weight) -> npt.NDArray[np.float64]:
    """Each scale of x takes at most ten rounded operations on numbers no larger than sum |x| (127 |A| + |B|)."""
    u = quantization.unpack(weight.data, weight.type.name)
    steps = spread(np.abs(u.scales)).astype(np.float64) * np.abs(u.codes - u.zero)
    steps += 0 if u.minimums is None else spread(np.abs(u.minimums))
    per = quantization.activation_block(weight.type.name)
    q, d, _ = quantization.quantize_activation(x, per)
    size = np.abs(q.astype(np.float64) * np.repeat(d, 32, axis=1)) @ steps.reshape(weight.rows, weight.cols).T
    made: npt.NDArray[np.float64] = 10 * (weight.cols // per) * EPS * size + 1e-30
    return made


def test_every_format_of_weights_is_multiplied() -> None:
    assert set(QUANTIZED) - set(MULTIPLIED) == ACTIVATIONS and len(WIDE) == 17


@pytest.mark.parametrize("isa", usable_variants())
@pytest.mark.parametrize("kind", WIDE)
def test_against_the_twin_and_itself(isa: str, kind: str) -> None:
    """Lone rows, small batches, many rows; threads; panels or the file's rows."""
    for rows, cols, t in ((1, 256, 1), (21, 768, 9), (67, 512, 37)):
        weight, x = a_weight(kind, rows, cols, rows), rows_of_x(t, cols, rows)
        got = run_linear(x, weight, isa)
        want = quantization.matmul_twin(x, weight.data, kind, rows)
        worst = (np.abs(got.astype(np.float64) - want) / bound(x, weight)).max()
        assert worst <= 1, f"{kind} {rows} x {cols}, {t} rows: {worst} of the bound"
    for threads in (2, 3):
        np.testing.assert_array_equal(run_linear(x, weight, isa, threads), got)
    np.testing.assert_array_equal(run_linear(x, weight, isa, 2, mapped=True), got)
    for a, b in ((0, 1), (1, 3), (3, 8), (8, 37)):
        np.testing.assert_array_equal(run_linear(x[a:b], weight, isa, 2), got[a:b])
        np.testing.assert_array_equal(run_linear(x[a:b], weight, isa, mapped=True), got[a:b])
    weight.close()


@pytest.mark.parametrize("isa", usable_variants())
@pytest.mark.parametrize("kind", WIDE)
def test_smallest_widths(isa: str, kind: str) -> None:
    """One quant block of the file a row."""
    cols = type_by_name(kind).block_size
    weight, x = a_weight(kind, 9, cols), rows_of_x(3, cols, 1)
    want = quantization.matmul_twin(x, weight.data, kind, 9)
    assert (np.abs(run_linear(x, weight, isa).astype(np.float64) - want) <= bound(x, weight)).all()
    weight.close()


@pytest.mark.parametrize("isa", usable_variants())
@pytest.mark.parametrize("kind", WIDE)
def test_rows_come_back_from_panels(isa: str, kind: str) -> None:
    """An embedding that is the output matrix too: its rows bit for bit, and panels of the file's size."""
    weight, context = a_weight(kind, 19, 512), shared_context(isa, 1)
    step = Step.of_rows(19)
    step.tokens = np.arange(19, dtype=np.int32)
    native = weight.prepare(context)
    lanes = {"avx512bf16": 16, "avx512": 16, "avx2": 8}.get(isa, 4)
    assert native.n_bytes == weight.data.nbytes // 19 * (-(-19 // lanes) * lanes)
    got = embed(EagerRuntime(context, step).bind(), weight).array
    np.testing.assert_array_equal(got.view(np.uint32), weight.dequantized().view(np.uint32))
    weight.close()


@pytest.mark.parametrize("kind", WIDE)
def test_a_nan_stays_in_its_row(kind: str) -> None:
    weight, x = a_weight(kind, 20, 512), rows_of_x(3, 512, 6)
    isa = usable_variants()[0]
    clean = run_linear(x, weight, isa)
    y = x.copy()
    y[1, 77] = np.nan
    got = run_linear(y, weight, isa)
    assert np.isnan(got[1]).all()
    np.testing.assert_array_equal(got[[0, 2]], clean[[0, 2]])
    weight.close()
