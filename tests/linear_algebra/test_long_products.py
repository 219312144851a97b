"""Products with the formats whose superblocks have integer scales, bit for bit: the plain C variant has no fused
multiply-add, so that its order of operations, which all variants share, is exactly the twin's.

What it is not: the twin itself, which test_superblock_products.py holds against loops over integers.
"""

from __future__ import annotations

import numpy as np
import pytest
from format_samples import random_blocks
from native_ops import run_linear, usable_variants

from zigllama.foundation.ggml_types import type_by_name
from zigllama.linear_algebra import quantization
from zigllama.linear_algebra.linear import Weight
from zigllama.linear_algebra.quantization import LONG


@pytest.mark.parametrize("kind", sorted(LONG))
def test_plain_c_has_the_twins_bits(kind: str) -> None:
    """Random codes, scales of ordinary size, rows of x whose blocks differ a thousandfold; one row, a batch, many."""
    assert "generic" in usable_variants()
    t, rows, cols = type_by_name(kind), 19, 768
    blocks = random_blocks(kind, rows * cols // t.block_size, 7, finite=True)
    weight = Weight(t, rows, cols, blocks.reshape(-1), kind)
    rng = np.random.default_rng(len(kind))
    x = rng.standard_normal((40, cols)).astype(np.float32)
    x *= np.repeat(10.0 ** rng.integers(-2, 2, (40, cols // 32)), 32, axis=1).astype(np.float32)
    want = quantization.matmul_twin(x, weight.data, kind, rows)
    for n in (1, 5, 40):
        np.testing.assert_array_equal(run_linear(x[:n], weight, "generic"), want[:n])
    weight.close()
