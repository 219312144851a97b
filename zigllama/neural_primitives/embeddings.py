"""Embeddings: from token ids to rows of channels, and the rotation that tells attention where a row stands.

RoPE (Su et al., 2021, "RoFormer", arXiv 2104.09864) turns pairs of channels of every query and key by an angle that
grows with the position p. A rotation keeps lengths, and the dot product of a query turned by p with a key turned by q
depends on p - q alone: the score sees how far apart two tokens are. Pair i turns at the rate inv_freq[i] =
base^(-2i/dim) / factor: the first pairs quickly, for what is near, the last ones slowly, for what is far.

Two layouts of the pairs are in use, and a model's weights fit one of them only:

    interleaved (GPT-J, GGUF's llama)   channels (2i, 2i + 1)
    half-split  (NeoX, Hugging Face)    channels (i, i + dim/2)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from zigllama.errors import InvalidArgument, ShapeError
from zigllama.foundation.opcodes import Opcode
from zigllama.foundation.runtime import F32, Lowered, Step, cols_of, op
from zigllama.linear_algebra.linear import Weight, embed
from zigllama.neural_primitives.rope_scaling import Yarn, rope_rates

ROPE_INTERLEAVED, ROPE_HALF_SPLIT = 0, 1


def rope_frequencies(rope_dim: int, base: float = 10000.0, *, factor: float = 1.0) -> F32:
    """base^(-2i / rope_dim) / factor for i < rope_dim / 2: radians per position of each pair.

    -> (rope_dim / 2,) float32.

    factor > 1 is linear scaling (position interpolation, Chen et al., 2023, arXiv 2306.15595): positions shrink, so
    that a context `factor` times longer spans the angles seen in training. Computed in double, rounded once. Raises
    InvalidArgument.
    """
    if not (np.isfinite(factor) and factor > 0):
        raise InvalidArgument(f"rope_frequencies: factor {factor} must be finite and > 0")
    return (rope_rates(rope_dim, base) / factor).astype(np.float32)


def _lower_rope(
    x: Any, inv_freq: F32, step: Step, *, heads: int, mode: int, plane: int = 0, scale: float = 1.0
) -> Lowered:
    head_dim, rot = _rope_shape(cols_of(x), inv_freq, heads, mode)
    return Lowered([x, inv_freq], [cols_of(x)], ints=[heads, head_dim, rot, mode, plane], floats=[scale])


def _rope_shape(cols: int, inv_freq: F32, heads: int, mode: int) -> tuple[int, int]:
    """(channels per head, rotated channels per head)"""
    head_dim, rot = cols // max(heads, 1), 2 * int(inv_freq.shape[0])
    if heads < 1 or heads * head_dim != cols or not 2 <= rot <= head_dim:
        raise ShapeError(f"rope: {cols} channels in {heads} heads cannot have {rot} channels of each rotated")
    if mode not in (ROPE_INTERLEAVED, ROPE_HALF_SPLIT):
        raise InvalidArgument(f"rope: mode is {mode}, want 0 (interleaved) or 1 (half-split)")
    return head_dim, rot


@op(code=Opcode.ROPE, lower=_lower_rope)
def rope(x: Any, inv_freq: Any, step: Any, *, heads: int, mode: int, plane: int = 0, scale: float = 1.0) -> Any:
    """(a, b) -> (a cos t - b sin t, b cos t + a sin t) for each pair i of each head, t = position * inv_freq[i].

    x (T, H*D), inv_freq (rot/2,), positions step.positions[plane] (T,) -> (T, H*D); channels beyond rot pass through.
    `scale` multiplies cos and sin (YaRN's attention factor). The angle is the exact product, taken in double: rounding
    it to float32 first, as is often done, is off by 1e-3 at position 32,768. Raises ShapeError, InvalidArgument, and
    IndexOutOfRange for a plane that the step does not have.
    """
    head_dim, rot = _rope_shape(cols_of(x), inv_freq, heads, mode)
    angle = step.plane(plane)[:, None, None].astype(np.float64) * inv_freq.astype(np.float64)  # (T, 1, rot/2)
    cos, sin = (np.cos(angle) * scale).astype(x.dtype), (np.sin(angle) * scale).astype(x.dtype)
    y = x.reshape(x.shape[0], heads, head_dim).copy()
    if mode == ROPE_INTERLEAVED:
        first, second = slice(0, rot, 2), slice(1, rot, 2)
    else:
        first, second = slice(0, rot // 2), slice(rot // 2, rot)
    a, b = y[..., first].copy(), y[..., second].copy()
    y[..., first], y[..., second] = a * cos - b * sin, b * cos + a * sin
    return y.reshape(x.shape)


def alibi_slopes(heads: int) -> F32:
    """The slope of each head, -> (heads,) float32: head h of n = 2^k heads has 2^(-8 (h + 1) / n).

    ALiBi ("Attention with Linear Biases", Press et al., 2021, arXiv 2108.12409) adds -slope * (p - j) to the score of a
    query at p and a key at j, and no position to anything else. Where the number of heads is no power of two, the first
    n, the largest power below it, have the slopes of n heads, the others every second one of 2n heads. Raises
    InvalidArgument.
    """
    if heads < 1:
        raise InvalidArgument(f"alibi_slopes: {heads} heads")
    n = 1 << (heads.bit_length() - 1)
    exponents = [-8.0 * (h + 1) / n for h in range(n)] + [-4.0 * (2 * h + 1) / n for h in range(heads - n)]
    return np.exp2(exponents).astype(np.float32)


def _lower_lookup(weight: Weight, step: Any, *, plane: int = 0, offset: int = 0) -> Lowered:
    return Lowered([weight], [weight.cols], ints=[plane, offset])


@op(code=Opcode.LOOKUP, lower=_lower_lookup)
def lookup(weight: Any, step: Any, *, plane: int = 0, offset: int = 0) -> Any:
    """W[positions[plane] + offset]: learned positions (Gehring et al., 2017), or another number that each row has, as
    BERT's segments.   W (P, C) -> (T, C).   Raises ShapeError for a number outside the table, IndexOutOfRange for a
    plane that the step does not have.
    """
    from zigllama.linear_algebra.quantization import dequantize

    at = step.plane(plane) + offset
    if at.size and not (at.min() >= 0 and at.max() < weight.rows):
        raise ShapeError(f"lookup: rows from {at.min()} to {at.max()}, {weight.name} has {weight.rows}")
    rows = weight.data.reshape(weight.rows, -1)[at]
    return dequantize(rows.reshape(-1), weight.type.name).reshape(len(at), weight.cols)


@dataclass(frozen=True)
class RoPE:
    """A layer's rotation: `RoPE(dim, base, mode)(x, step, heads)`, with its frequencies made once.

    factor     linear scaling of positions
    yarn       YaRN in its place (its scale is not applied by itself: `scale` says what cos and sin are multiplied with)
    divisors   one per pair, what its rate is divided by in addition (Llama 3, LongRoPE), or none
    """

    dim: int
    base: float = 10000.0
    mode: int = ROPE_INTERLEAVED
    factor: float = 1.0
    scale: float = 1.0
    yarn: Yarn | None = None
    divisors: tuple[float, ...] = ()

    @cached_property
    def inv_freq(self) -> F32:
        """(dim / 2,) radians per position. Raises ShapeError, InvalidArgument."""
        if self.yarn is None and not self.divisors:
            return rope_frequencies(self.dim, self.base, factor=self.factor)
        rates = rope_rates(self.dim, self.base) / self.factor
        if self.yarn is not None:
            rates = self.yarn.rates(self.dim, self.base)
        if self.divisors and len(self.divisors) != len(rates):
            raise ShapeError(f"rope: {len(self.divisors)} divisors for {len(rates)} pairs")
        inv_freq: F32 = (rates / np.asarray(self.divisors or 1.0)).astype(np.float32)
        return inv_freq

    def divided(self, divisors: F32) -> RoPE:
        """The same with each pair's rate divided by its divisor (dim / 2,). Raises InvalidArgument unless all are
        finite and above 0."""
        if not (np.isfinite(divisors).all() and (divisors > 0).all()):
            raise InvalidArgument(f"rope: divisors must be finite and > 0, found {divisors.min()} to {divisors.max()}")
        return replace(self, divisors=tuple(map(float, divisors)))

    def __call__(self, x: Any, step: Step, heads: int) -> Any:
        """x (T, heads * D) -> the same shape, rotated to the positions of `step`"""
        return rope(x, self.inv_freq, step, heads=heads, mode=self.mode, scale=self.scale)


@dataclass(frozen=True)
class TokenEmbedding:
    """The table that gives each token its row of channels (Bengio et al., 2003): `TokenEmbedding(weight)(step)`.

    weight   (V, C), in any number format; only the rows that are asked for are read and decoded
    scale    what each row is multiplied with (Gemma: sqrt(C))
    """

    weight: Weight
    scale: float = 1.0

    @classmethod
    def from_array(cls, table: Any, scale: float = 1.0) -> TokenEmbedding:
        """From a float (V, C) array. Raises ShapeError."""
        return cls(Weight.from_array(table, "token embedding"), scale)

    @property
    def n_vocab(self) -> int:
        return self.weight.rows

    @property
    def n_embd(self) -> int:
        return self.weight.cols

    def __call__(self, step: Step) -> Any:
        """The rows of step.tokens -> (T, C), in the step's runtime. Raises ShapeError, InvalidArgument."""
        return embed(step, self.weight, scale=self.scale)

    def lookup(self, ids: Any) -> F32:
        """The rows of a list of ids -> (T, C) float32, in NumPy. Raises ShapeError for an id outside the vocabulary."""
        step = Step.of_rows(len(ids))
        step.tokens = np.asarray(ids, np.int32).reshape(-1)
        rows: F32 = embed.ref(step, self.weight, scale=self.scale)
        return rows
