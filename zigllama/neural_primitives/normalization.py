"""Normalisation: bring the channels of a row to a common size, so that depth neither explodes nor starves a signal.

    LayerNorm  (Ba, Kiros & Hinton, 2016, arXiv 1607.06450)   takes off the mean, divides by the standard deviation
    RMSNorm    (Zhang & Sennrich, 2019, arXiv 1910.07467)     divides by the root mean square alone: cheaper, as good
    GroupNorm  (Wu & He, 2018, arXiv 1803.08494)              LayerNorm over groups, a scale and shift per channel
    BatchNorm  (Ioffe & Szegedy, 2015, arXiv 1502.03167)      by each channel's mean and variance in training

The first two work on each row by itself, or on groups of m channels of a row (m = len(w)): with m the head size this
is the query/key norm of Gemma 3 and Qwen 3. `eps` keeps a row of zeros from dividing by zero; it is part of a model, so
nothing here assumes one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from zigllama.errors import InvalidArgument, ShapeError
from zigllama.foundation.opcodes import Opcode
from zigllama.foundation.runtime import F32, Lowered, cols_of, op
from zigllama.neural_primitives.arithmetic import add, mul


def _group(name: str, x: Any, w: F32 | None, group: int) -> int:
    """Channels that are normalised together: len(w), or `group`, or all."""
    cols = cols_of(x)
    m = int(w.shape[0]) if w is not None else group or cols
    if m < 1 or cols % m or (group and m != group):
        raise ShapeError(f"{name}: {cols} channels do not divide into groups of {m} (group asked for: {group})")
    return m


def _rms_groups(x: Any, w: F32 | None, group: int) -> tuple[int, int]:
    """Channels of a group, and how many groups have a weight of their own (1: all share one)."""
    if w is not None and group and w.shape[0] == cols_of(x) != group:
        return _group("rms_norm", x, None, group), cols_of(x) // group
    return _group("rms_norm", x, w, group), 1


def _lower_rms(x: Any, w: F32 | None, *, eps: float, group: int = 0) -> Lowered:
    return Lowered([x, w], [cols_of(x)], ints=_rms_groups(x, w, group), floats=[eps])


@op(code=Opcode.RMS_NORM, lower=_lower_rms, rowwise=True)
def rms_norm(x: Any, w: Any, *, eps: float, group: int = 0) -> Any:
    """x / sqrt(mean(x^2) + eps) * w, over each group of len(w) channels, or of `group` where each has its own w.

    x (T, C), w (m,), None, or with a group (C,) -> (T, C). Raises ShapeError.
    """
    m, own = _rms_groups(x, w, group)
    g = x.reshape(*x.shape[:-1], x.shape[-1] // m, m)
    y = g / np.sqrt(np.mean(g * g, axis=-1, keepdims=True) + eps)
    return (y if w is None else y * w.reshape(own, m)).reshape(x.shape)


def _lower_layer(x: Any, w: F32 | None, b: F32 | None = None, *, eps: float, group: int = 0) -> Lowered:
    return Lowered([x, w, b], [cols_of(x)], ints=[_group("layer_norm", x, w, group)], floats=[eps])


@op(code=Opcode.LAYER_NORM, lower=_lower_layer, rowwise=True)
def layer_norm(x: Any, w: Any, b: Any = None, *, eps: float, group: int = 0) -> Any:
    """(x - mean(x)) / sqrt(var(x) + eps) * w + b, over each group of len(w) channels; var divides by m, not m - 1.

    x (T, C), w and b (m,) or None -> (T, C).   Raises ShapeError.
    """
    m = _group("layer_norm", x, w, group)
    g = x.reshape(*x.shape[:-1], x.shape[-1] // m, m)
    d = g - g.mean(axis=-1, keepdims=True)
    y = d / np.sqrt(np.mean(d * d, axis=-1, keepdims=True) + eps)
    y = y if w is None else y * w
    return (y if b is None else y + b).reshape(x.shape)


def _check_parameters(name: str, w: F32 | None, b: F32 | None, eps: float) -> None:
    if not (np.isfinite(eps) and eps >= 0):
        raise InvalidArgument(f"{name}: eps is {eps}, want finite and >= 0")
    for p in (w, b):
        if p is not None and p.ndim != 1:
            raise ShapeError(f"{name}: a parameter has shape {p.shape}, want one dimension")
    if w is not None and b is not None and w.shape != b.shape:
        raise ShapeError(f"{name}: weight has shape {w.shape}, bias {b.shape}")


@dataclass(frozen=True)
class RMSNorm:
    """RMSNorm with its scale: `RMSNorm(w, eps)(x)`. Raises ShapeError, InvalidArgument."""

    weight: F32 | None
    eps: float = 1e-5

    def __post_init__(self) -> None:
        _check_parameters("RMSNorm", self.weight, None, self.eps)

    def __call__(self, x: Any) -> Any:
        return rms_norm(x, self.weight, eps=self.eps)


@dataclass(frozen=True)
class LayerNorm:
    """LayerNorm with its scale and shift: `LayerNorm(w, b, eps)(x)`. Raises ShapeError, InvalidArgument."""

    weight: F32 | None
    bias: F32 | None = None
    eps: float = 1e-5

    def __post_init__(self) -> None:
        _check_parameters("LayerNorm", self.weight, self.bias, self.eps)

    def __call__(self, x: Any) -> Any:
        return layer_norm(x, self.weight, self.bias, eps=self.eps)


def _affine(x: Any, scale: F32 | None, shift: F32 | None) -> Any:
    """x * scale + shift, channel by channel, of what is given"""
    x = x if scale is None else mul(x, scale)
    return x if shift is None else add(x, shift)


@dataclass(frozen=True)
class GroupNorm:
    """Each of `groups` runs of C / groups channels of a row gets mean 0 and variance 1; then w * x + b per channel.

    `GroupNorm(groups, w, b, eps)(x)`, x (T, C), w and b (C,) or None -> (T, C). One group is LayerNorm; C groups leave
    b alone. Raises ShapeError, InvalidArgument.
    """

    groups: int
    weight: F32 | None = None
    bias: F32 | None = None
    eps: float = 1e-5

    def __post_init__(self) -> None:
        _check_parameters("GroupNorm", self.weight, self.bias, self.eps)
        if self.groups < 1:
            raise InvalidArgument(f"GroupNorm: {self.groups} groups")

    def __call__(self, x: Any) -> Any:
        cols = cols_of(x)
        if cols % self.groups:
            raise ShapeError(f"GroupNorm: {cols} channels do not divide into {self.groups} groups")
        return _affine(layer_norm(x, None, None, eps=self.eps, group=cols // self.groups), self.weight, self.bias)


@dataclass(frozen=True)
class BatchNorm:
    """(x - mean) / sqrt(var + eps) * w + b per channel, with the mean and variance that training has kept.

    `BatchNorm(mean, var, w, b, eps)(x)`, x (T, C), the others (C,), w and b or None -> (T, C). At inference this is one
    scale and one shift for each channel, made in double and rounded once; nothing here trains. Raises ShapeError,
    InvalidArgument, also for a variance below 0 or none that is finite.
    """

    mean: F32
    var: F32
    weight: F32 | None = None
    bias: F32 | None = None
    eps: float = 1e-5

    def __post_init__(self) -> None:
        _check_parameters("BatchNorm", self.mean, self.var, self.eps)
        for p in (self.weight, self.bias):
            _check_parameters("BatchNorm", self.mean, p, self.eps)
        if not (np.isfinite(self.var) & (self.var + self.eps > 0) & (self.var >= 0)).all():
            raise InvalidArgument(f"BatchNorm: variances from {self.var.min()} to {self.var.max()}, eps {self.eps}")

    @cached_property
    def scale(self) -> F32:
        """w / sqrt(var + eps) (C,)"""
        w = 1.0 if self.weight is None else self.weight.astype(np.float64)
        scale: F32 = (w / np.sqrt(self.var.astype(np.float64) + self.eps)).astype(np.float32)
        return scale

    @cached_property
    def shift(self) -> F32:
        """b - mean * w / sqrt(var + eps) (C,)"""
        w = 1.0 if self.weight is None else self.weight.astype(np.float64)
        b = 0.0 if self.bias is None else self.bias.astype(np.float64)
        scale = w / np.sqrt(self.var.astype(np.float64) + self.eps)
        shift: F32 = (b - self.mean.astype(np.float64) * scale).astype(np.float32)
        return shift

    def __call__(self, x: Any) -> Any:
        return _affine(x, self.scale, self.shift)
