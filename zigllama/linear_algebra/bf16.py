"""Products in bf16: how x and W are rounded, the product as the instruction does it, and who computes that way.

bf16 is the upper half of a float32: 8 bits of precision, the same exponents. x86's vdpbf16ps multiplies pairs of them
into float32, twice as many per cycle as float32 has multiply-adds. Its order is the contract of the kernels:

    acc = 0; for i = 0, 2, 4, ... below K:  acc = fma'(w[i + 1], x[i + 1], acc);  acc = fma'(w[i], x[i], acc)

where fma' rounds once, takes denormal numbers for zeros and gives zeros for them; beyond an odd K stand zeros. The
product of two bf16 has 16 bits, and with the 24 of acc the sum of both is exact in float64, or further from every tie
of float32 than float64 can be wrong: rounding the float64 sum once more is the fused rounding, so the twin has the
kernels' bits.

Source: Intel's Software Developer's Manual, VDPBF16PS; the order was measured over all exponents.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from zigllama.errors import ISAUnavailable, UnknownName
from zigllama.foundation.runtime import F32

COMPUTE = ("f32", "bf16")
ROUNDED = ("F16", "BF16")  # the weight types that can be multiplied in bf16

F64 = npt.NDArray[np.float64]


def round_bf16(x: F32) -> F32:
    """float32 rounded to bf16, to nearest, ties to even, as float32; a NaN stays one."""
    u = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = ((u + (np.uint32(0x7FFF) + (u >> 16 & 1))) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.where(np.isnan(x), x, rounded).astype(np.float32)


def _flush(x: Any) -> Any:
    """Denormal float32 numbers become zeros of their sign."""
    return np.where(np.abs(x) < np.float32(2.0**-126), np.copysign(np.float32(0), x), x)


def bf16_product(x: F32, w: F32) -> F32:
    """y = x W^T with both rounded to bf16, in the order above.   x (T, K), w (N, K) -> (T, N)"""
    k = x.shape[1]
    a, b = (_flush(round_bf16(m)).astype(np.float64) for m in (x, w))
    y = np.zeros((len(x), len(w)), np.float32)
    with np.errstate(invalid="ignore", over="ignore", under="ignore"):
        for i in range(0, k, 2):
            for j in (i + 1, i):
                term: Any = np.outer(a[:, j], b[:, j]) if j < k else 0.0
                y = _flush((y.astype(np.float64) + term).astype(np.float32))
    return y


def choose(asked: str | None, weights: Iterable[Any], has_bf16: bool, isa: str) -> str:
    """Set how each of these `Weight`s is computed; "bf16" when one of them is in bf16, else "f32".

    asked      "f32"; "bf16": F16 and BF16 weights; None: BF16 weights in bf16 where the ISA variant has it
    has_bf16   the ISA variant has it; `isa` names it in the error

    F32 and quantised weights are not concerned. Raises UnknownName, ISAUnavailable for "bf16" where there is none.
    """
    if asked not in (None, *COMPUTE):
        raise UnknownName("float_compute", str(asked), COMPUTE)
    if asked == "bf16" and not has_bf16:
        raise ISAUnavailable(f"float_compute='bf16' needs the ISA variant 'avx512bf16'; this is {isa!r}")
    types = ROUNDED if asked == "bf16" else ("BF16",) if asked is None and has_bf16 else ()
    label = "f32"
    for w in weights:
        w.compute = "bf16" if w.type.name in types else "f32"
        if w.compute == "bf16":
            label = "bf16"
    return label
