"""How keys and values stand in the pages of a cache, in each number format that a cache may have.

    F32, F16    a key page is [4 groups][channel][16 keys], a value page [key][channel]; F16 is rounded to even
    Q8_0        the same order of signed bytes, and beside them a scale in half precision for every key and 32 channels:
                d = max|x| / 127, code = round(x * (127 / max|x|)), value = d * code          (1.0625 bytes a value)

The scale is rounded after the codes were made, as ggml does it; d * code has 19 bits, so what is read back is exact in
float32. A block that holds a NaN or an infinity reads as NaN.

What it is not: attention (attention.py), or memory: the arrays are `foundation.native_cache.NativeCache`'s.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zigllama.foundation.runtime import F32
from zigllama.linear_algebra.quantization import quantize_activation


def write_rows(cache: Any, layer: int, page: Any, at: Any, k: F32, v: F32) -> None:
    """Row t of k (T, G, dk) and of v (T, G, dv) becomes position at[t] of page page[t]."""
    group, key = at // 16, at % 16
    with np.errstate(over="ignore", invalid="ignore"):
        if cache.k_scales is None:
            cache.k[page, layer, :, group, :, key] = k
            cache.v[page, layer, :, at, :] = v
            return
        cache.k_codes[page, layer, :, group, :, key], cache.k_scales[page, layer, :, group, :, key] = _codes(k)
        cache.v_codes[page, layer, :, at, :], cache.v_scales[page, layer, :, at, :] = _codes(v)


def read_pages(cache: Any, pages: Any, layer: int) -> tuple[F32, F32]:
    """Keys (G, P, dk) and values (G, P, dv) of whole pages, one after another, in float32."""
    if cache.k_scales is None:
        k, v = cache.k[pages, layer], cache.v[pages, layer]
    else:
        k = _values(cache.k_codes[pages, layer], cache.k_scales[pages, layer], axis=3)
        v = _values(cache.v_codes[pages, layer], cache.v_scales[pages, layer], axis=3)
    k, v = k.astype(np.float32, copy=False), v.astype(np.float32, copy=False)
    keys = k.transpose(1, 0, 2, 4, 3).reshape(cache.n_kv, -1, cache.dk)
    return keys, v.transpose(1, 0, 2, 3).reshape(cache.n_kv, -1, cache.dv)


def _codes(x: F32) -> tuple[Any, Any]:
    """Codes (T, G, d) int8 and scales (T, G, d/32) float16 of rows (T, G, d)."""
    q, d, _ = quantize_activation(x.reshape(-1, x.shape[-1]))
    return q.reshape(x.shape), d.astype(np.float16).reshape(*x.shape[:-1], -1)


def _values(codes: Any, scales: Any, axis: int) -> Any:
    with np.errstate(invalid="ignore"):
        return codes.astype(np.float32) * scales.astype(np.float32).repeat(32, axis)
