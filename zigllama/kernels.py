"""The kernels, one call each: for scripts, for comparing, for learning.

    zl.kernels.rms_norm(x, w, eps=1e-5)                 C, on the best ISA variant
    zl.kernels.rms_norm(x, w, eps=1e-5, isa="generic")  C, on a named one
    zl.kernels.rms_norm.ref(x, w, eps=1e-5)             its NumPy twin

All take arrays and return new float32 arrays, or write into `out`. `isa` None means ZIGLLAMA_ISA, else the best that
this CPU runs; `n_threads` None means ZIGLLAMA_THREADS, else what `zigllama doctor` shows. The bits do not depend on
threads. `x` may have any number of dimensions: the last holds the channels, the others are rows.

What it is not: the way a model runs. That is one tape of many ops (foundation/tape.py); here every call stands alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from zigllama.errors import DTypeError, InvalidArgument, ShapeError
from zigllama.foundation import native, native_context
from zigllama.foundation.blas_integration import open_blas
from zigllama.foundation.ggml_types import row_bytes, type_by_name
from zigllama.foundation.native_cache import NativeCache
from zigllama.foundation.runtime import F32, ROWS_STEP, EagerRuntime, Op, Rows, Step
from zigllama.foundation.shared_context import shared_context
from zigllama.linear_algebra import linear as _linear
from zigllama.linear_algebra import matrix_ops
from zigllama.neural_primitives import activations, embeddings, normalization
from zigllama.neural_primitives import softmax as scores
from zigllama.transformers import attention as _attention
from zigllama.transformers.interfaces import PAGE

__all__ = [
    "attention", "gelu", "gelu_tanh", "layer_norm", "matmul", "quant_matmul", "rms_norm", "rope", "silu", "softmax",
    "top_k", "variants",
]  # fmt: skip

Array = npt.NDArray[Any]


# --- how a kernel is called -------------------------------------------------------------------------------------------


@dataclass
class Call:
    """One op on arrays: `args` in the op's order, of which the arrays numbered in `rows` are rows of the step.

    shape   of the result; ids   whether the second output holds int32
    """

    op: Op
    step: Step
    args: list[Any]
    rows: Sequence[int]
    shape: tuple[int, ...]
    params: dict[str, Any] = field(default_factory=dict)
    ids: bool = False

    def reference(self) -> Any:
        """What the twin gives."""
        return self._shaped(self.op.ref(*self.args, **self.params))

    def native(self, context: native_context.NativeContext, out: F32 | None = None) -> Any:
        """What the kernel gives on `context`, written into `out` where one is passed."""
        runtime = EagerRuntime(context, self.step)
        args = [runtime.rows(a) if i in self.rows else a for i, a in enumerate(self.args)]
        lowered = self.op.lower(*args, **self.params)
        n = self.step.n_rows
        arrays = [np.empty((n, cols), np.float32) for cols in lowered.outs]
        if out is not None:
            arrays[0] = self._into(out).reshape(n, lowered.outs[0])
        outs = [Rows(runtime, a.shape[1], ROWS_STEP, a) for a in arrays]
        context.run_op(self.op.code, lowered.ins, outs, lowered.ints, lowered.floats, runtime.native_step)
        if len(arrays) == 1:
            return self._shaped(arrays[0]) if out is None else out
        return self._shaped((arrays[0], scores.top_k_ids(arrays[1])))

    def _shaped(self, result: Any) -> Any:
        if isinstance(result, tuple):
            return tuple(r.reshape(self.shape) for r in result)
        return result.reshape(self.shape)

    def _into(self, out: F32) -> F32:
        if self.ids:
            raise InvalidArgument(f"{self.op.name} has two results and takes no `out`")
        if not isinstance(out, np.ndarray) or out.dtype != np.float32:
            raise DTypeError(f"out must be a float32 array, found {getattr(out, 'dtype', type(out).__name__)}")
        if out.shape != self.shape or not out.flags.c_contiguous or not out.flags.writeable:
            raise ShapeError(f"out must be writable, C-contiguous and of shape {self.shape}, found {out.shape}")
        if any(isinstance(a, np.ndarray) and np.may_share_memory(a, out) for a in self.args):
            raise InvalidArgument("out overlaps an input")
        return out


class Kernel:
    """A kernel that is called on arrays; `.ref` is its twin, `.call(...)` the op that both run."""

    def __init__(self, build: Callable[..., Call]) -> None:
        self.call = build
        self.__name__ = build.__name__
        self.__doc__ = build.__doc__
        given = inspect.signature(build)
        extra = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None)
            for name in ("isa", "n_threads", "out")
        ]
        self.__signature__ = given.replace(
            parameters=[*given.parameters.values(), *extra], return_annotation=inspect.Signature.empty
        )

    def __call__(
        self, *args: Any, isa: str | None = None, n_threads: int | None = None, out: F32 | None = None, **params: Any
    ) -> Any:
        """Run it in C; see the kernel's own text. Raises UnknownName, ISAUnavailable, ShapeError, DTypeError."""
        call = self.call(*args, **params)
        return call.native(shared_context(isa, n_threads), out)

    def ref(self, *args: Any, **params: Any) -> Any:
        """The same in NumPy."""
        return self.call(*args, **params).reference()

    def __repr__(self) -> str:
        return f"<kernel {self.__name__}>"


def _float32(name: str, x: npt.ArrayLike, ndim: int = 1) -> F32:
    """`x` as C-contiguous float32 with at least one dimension, or exactly `ndim` where that is more."""
    a = np.asarray(x)
    if a.dtype.kind not in "fiu":
        raise DTypeError(f"{name}: element type {a.dtype}, want numbers that become float32")
    if a.ndim < 1 or (ndim > 1 and a.ndim != ndim):
        raise ShapeError(
            f"{name}: shape {a.shape}, want {'at least one dimension' if ndim == 1 else f'{ndim} of them'}"
        )
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(a, np.float32)


def _flat(a: F32) -> F32:
    """(..., C) -> (rows, C)"""
    return a.reshape(int(np.prod(a.shape[:-1], dtype=np.int64)), a.shape[-1])


def _rowwise(op: Op, name: str, x: npt.ArrayLike, *rest: Any, **params: Any) -> Call:
    """An op from rows to rows of the same shape."""
    a = _float32(name, x)
    flat = _flat(a)
    return Call(op, Step.of_rows(len(flat)), [flat, *rest], (0,), a.shape, params)


def _vector(name: str, w: npt.ArrayLike | None) -> F32 | None:
    return None if w is None else _float32(name, w)


# --- products ---------------------------------------------------------------------------------------------------------


@Kernel
def quant_matmul(x: npt.ArrayLike, w_blocks: npt.NDArray[np.uint8], type_name: str) -> Call:
    """y = x W^T for a matrix in a number format.   x (..., K), w_blocks uint8 (N, bytes per row) -> (..., N)

    x is rounded to 8 bits when the format is quantised, with a scale for every 32 columns; for superblocks with integer
    scales those of 256 columns are alike but for a power of two (see linear_algebra/quantization.py). F16 and BF16 are
    multiplied in float32, whatever a model does with them by `float_compute`. The matrix is packed anew for each call:
    a model packs it once. Raises ShapeError, DTypeError, UnknownName.
    """
    a = _float32("quant_matmul", x)
    blocks = np.asarray(w_blocks)
    if blocks.dtype != np.uint8 or blocks.ndim != 2:
        raise DTypeError(
            f"quant_matmul: w_blocks is {blocks.dtype} of shape {blocks.shape}, want uint8 (N, bytes per row)"
        )
    kind = type_by_name(type_name)
    if row_bytes(kind, a.shape[-1]) != blocks.shape[1]:
        need = row_bytes(kind, a.shape[-1])
        raise ShapeError(
            f"quant_matmul: rows of {a.shape[-1]} in {kind.name} take {need} bytes, found {blocks.shape[1]}"
        )
    weight = _linear.Weight(kind, len(blocks), a.shape[-1], np.ascontiguousarray(blocks).reshape(-1), "w_blocks")
    flat = _flat(a)
    step = Step.of_rows(len(flat))
    return Call(_linear.linear, step, [flat, weight], (0,), (*a.shape[:-1], len(blocks)))


class _Matmul:
    """a @ b in float32.   a (M, K), b (K, N) -> (M, N)

    blas   None or "auto": ZIGLLAMA_BLAS, else our own tiles; "generic": our own; or a BLAS library by name or path
           (foundation/blas_integration.py), whose bits are its own

    Raises ShapeError, DTypeError, UnknownName, ISAUnavailable; BlasUnavailable, and never falls back in silence.
    """

    __name__ = "matmul"

    def __call__(
        self, a: npt.ArrayLike, b: npt.ArrayLike, *, blas: str | None = None, isa: str | None = None,
        n_threads: int | None = None, out: F32 | None = None,
    ) -> F32:  # fmt: skip
        library = open_blas(blas)
        x, y = _float32("matmul", a, 2), _float32("matmul", b, 2)
        result = native_context.matmul(shared_context(isa, n_threads, library), x, y)
        if out is None:
            return result
        if out.dtype != np.float32 or out.shape != result.shape:
            raise ShapeError(f"out must be float32 of shape {result.shape}, found {out.dtype} {out.shape}")
        out[...] = result
        return out

    def ref(self, a: npt.ArrayLike, b: npt.ArrayLike) -> F32:
        """The same in NumPy: summed in double, rounded once."""
        return matrix_ops.matmul_reference(_float32("matmul", a, 2), _float32("matmul", b, 2))

    def __repr__(self) -> str:
        return "<kernel matmul>"


matmul = _Matmul()


# --- rows -------------------------------------------------------------------------------------------------------------


@Kernel
def silu(x: npt.ArrayLike) -> Call:
    """x sigmoid(x).   any shape"""
    return _rowwise(activations.silu, "silu", x)


@Kernel
def gelu(x: npt.ArrayLike, *, approximate: bool = False) -> Call:
    """x Phi(x), Phi the normal distribution; with `approximate` its tanh form (`gelu_tanh`).   any shape"""
    return _rowwise(activations.gelu_tanh if approximate else activations.gelu, "gelu", x)


@Kernel
def gelu_tanh(x: npt.ArrayLike) -> Call:
    """x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))).   any shape"""
    return _rowwise(activations.gelu_tanh, "gelu_tanh", x)


@Kernel
def rms_norm(x: npt.ArrayLike, w: npt.ArrayLike | None = None, *, eps: float = 1e-5) -> Call:
    """x / sqrt(mean(x^2) + eps) * w over groups of len(w) channels.   x (..., C), w (m,) or None -> (..., C)"""
    return _rowwise(normalization.rms_norm, "rms_norm", x, _vector("rms_norm", w), eps=eps)


@Kernel
def layer_norm(
    x: npt.ArrayLike, w: npt.ArrayLike | None = None, b: npt.ArrayLike | None = None, *, eps: float = 1e-5
) -> Call:
    """(x - mean) / sqrt(var + eps) * w + b.   x (..., C), w and b (m,) or None -> (..., C)"""
    rest = _vector("layer_norm", w), _vector("layer_norm", b)
    return _rowwise(normalization.layer_norm, "layer_norm", x, *rest, eps=eps)


@Kernel
def softmax(x: npt.ArrayLike, *, scale: float = 1.0) -> Call:
    """exp(y - max y) / sum exp(y - max y), y = scale * x, over the last dimension.   x (..., C) -> (..., C)"""
    return _rowwise(scores.softmax, "softmax", x, scale=scale)


@Kernel
def top_k(x: npt.ArrayLike, k: int, *, mask: npt.NDArray[np.bool_] | None = None) -> Call:
    """The k largest of each row, descending, ties to the lower id.   x (..., V) -> values (..., k), ids (..., k) int32

    `mask` (V,) of booleans: ids that are not allowed count as -inf. Raises InvalidArgument when k is not within 1..V.
    """
    a = _float32("top_k", x)
    flat = _flat(a)
    step = Step.of_rows(len(flat))
    if mask is not None:
        allowed = np.asarray(mask, np.bool_)
        if allowed.shape != a.shape[-1:]:
            raise ShapeError(f"top_k: a mask of shape {allowed.shape} for {a.shape[-1]} values")
        bits = np.packbits(allowed, bitorder="little")
        words = np.zeros(-(-len(allowed) // 32) * 4, np.uint8)
        words[: len(bits)] = bits
        step.masks = [words.view(np.uint32)] * len(flat)
    return Call(scores.top_k, step, [flat, step], (0,), (*a.shape[:-1], k), {"k": k}, ids=True)


@Kernel
def rope(
    x: npt.ArrayLike, positions: npt.ArrayLike | None = None, *, rope_dim: int | None = None, base: float = 10000.0,
    factor: float = 1.0, interleaved: bool = True, scale: float = 1.0,
) -> Call:  # fmt: skip
    """Rotate the channels of every head by an angle that grows with the position.   x (T, H, D) -> (T, H, D)

    positions (T,) int, by default 0 .. T-1. The first `rope_dim` channels (default D) are rotated, in pairs (2i, 2i+1)
    or, with interleaved=False, (i, i + rope_dim/2), by position * base^(-2i/rope_dim) / factor. `scale` multiplies cos
    and sin. Raises ShapeError, InvalidArgument.
    """
    a = _float32("rope", x, 3)
    n, heads, d = a.shape
    step = Step.of_rows(n)
    if positions is not None:
        p = np.asarray(positions)
        if p.shape != (n,) or p.dtype.kind not in "iu":
            raise ShapeError(f"rope: positions are {p.dtype} of shape {p.shape}, want {n} integers")
        step.positions = np.ascontiguousarray(p, np.int32)[None, :]
    inverse = embeddings.rope_frequencies(d if rope_dim is None else rope_dim, base, factor=factor)
    mode = embeddings.ROPE_INTERLEAVED if interleaved else embeddings.ROPE_HALF_SPLIT
    params = {"heads": heads, "mode": mode, "scale": scale}
    return Call(embeddings.rope, step, [a.reshape(n, heads * d), inverse, step], (0,), a.shape, params)


@Kernel
def attention(
    q: npt.ArrayLike, k: npt.ArrayLike, v: npt.ArrayLike, *, scale: float | None = None, causal: bool = True,
    window: int = 0, softcap: float = 0.0, cache_type: str = "F32",
) -> Call:  # fmt: skip
    """softmax(softcap(scale * q k^T)) v.   q (T, H, D), k (P, G, D), v (P, G, Dv) -> (T, H, Dv)

    H query heads share G key heads. Row t stands at position P - T + t and, when `causal`, sees what is at or before
    it; otherwise all of P. `window` > 0: only that many positions, its own included. `scale` defaults to 1 / sqrt(D).
    Keys and values are kept as `cache_type`, "F32", "F16" or "Q8_0", in pages of 64 as in a model. Raises ShapeError,
    InvalidArgument.
    """
    queries, keys, values = _float32("q", q, 3), _float32("k", k, 3), _float32("v", v, 3)
    t, heads, d = queries.shape
    p, g, dv = values.shape
    if keys.shape != (p, g, d) or not g or heads % g:
        raise ShapeError(f"attention: q {queries.shape}, k {keys.shape}, v {values.shape} do not fit together")
    if (causal and t > p) or not p:
        raise ShapeError(f"attention: {t} rows at the end of {p} positions")
    n_pages = -(-max(t, p) // PAGE)
    cache = NativeCache(type_by_name(cache_type).id, 0, 1, g, d, dv, n_pages)
    table = [np.arange(n_pages, dtype=np.int32)[None, :]]
    fill = Step.of_rows(p)
    fill.tables = table
    _attention.kv_store.ref(keys.reshape(p, g * d), values.reshape(p, g * dv), fill, cache, layer=0)
    step = Step.of_rows(t)
    step.tables = table
    step.cache_pos = np.arange(max(p - t, 0), max(p - t, 0) + t, dtype=np.int32)
    step.see_to = step.cache_pos if causal else np.full(t, p - 1, np.int32)
    params = {
        "layer": 0, "heads": heads, "scale": d**-0.5 if scale is None else scale, "window": window, "softcap": softcap,
    }  # fmt: skip
    return Call(_attention.attention, step, [queries.reshape(t, heads * d), step, cache], (0,), (t, heads, dv), params)


# --- what there is ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variants:
    """ISA variants of one kernel, best first: compiled into this build, runnable on this CPU, and the one in use."""

    exist: tuple[str, ...]
    usable: tuple[str, ...]
    in_use: str


def variants(isa: str | None = None) -> dict[str, Variants]:
    """Native kernel name -> its ISA variants, with the one that `isa` (None: ZIGLLAMA_ISA, else the best) runs.

    Each kernel is compiled for every variant of the build, from the same source. Raises UnknownName, ISAUnavailable.
    """
    exist = native.isa_variants()
    names, usable = tuple(n for n, _ in exist), tuple(n for n, ok in exist if ok)
    in_use = native_context.kernel_variants(shared_context(isa, 1))
    return {kernel: Variants(names, usable, chosen) for kernel, chosen in in_use.items()}
