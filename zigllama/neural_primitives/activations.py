"""Activation functions, and the gated pairs that modern feed-forward networks are built from.

Each function is an op: the formula is its docstring, the NumPy twin its body, and on native values the same call is one
C kernel. They take a number, an array of any shape, or a native value, and return the same kind. An infinite argument
follows the formula as IEEE arithmetic does: x * sigmoid(x) at -inf is -inf * 0, which is NaN, for all the functions of
that form.

Sources: ReLU Nair & Hinton 2010; squared ReLU So et al. 2021, "Primer" (arXiv 2109.08668); GELU Hendrycks & Gimpel 2016
(1606.08415); SiLU Elfwing et al. 2017 (1702.03118); gated units Dauphin et al. 2016 (1612.08083) and Shazeer 2020, "GLU
Variants Improve Transformer" (2002.05202).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from zigllama.errors import ShapeError, UnknownName
from zigllama.foundation.opcodes import Opcode, Unary
from zigllama.foundation.runtime import Lowered, Op, cols_of, op

_erfc = np.vectorize(math.erfc, otypes=[np.float64])  # NumPy has none; the reference may be slow


def _unary(function: Unary) -> Callable[[Callable[..., Any]], Op]:
    return op(code=Opcode.UNARY, lower=lambda x: Lowered([x], [cols_of(x)], ints=[function]), rowwise=True)


def _like(x: Any, y: Any) -> Any:
    """y in the element type of x: Python numbers stay double."""
    return y.astype(x.dtype)[()] if hasattr(x, "dtype") else float(y)


@_unary(Unary.RELU)
def relu(x: Any) -> Any:
    """max(x, 0)"""
    return np.maximum(x, 0)


@_unary(Unary.SIGMOID)
def sigmoid(x: Any) -> Any:
    """1 / (1 + e^-x): from 0 to 1, one half at 0"""
    with np.errstate(over="ignore"):  # e^-x may be infinite: then the quotient is 0, which is right
        return 1 / (1 + np.exp(-x))


@_unary(Unary.TANH)
def tanh(x: Any) -> Any:
    """(e^x - e^-x) / (e^x + e^-x): from -1 to 1"""
    return np.tanh(x)


@_unary(Unary.EXP)
def exp(x: Any) -> Any:
    """e^x; results below 2^-126 may be flushed to 0 in the native kernel"""
    with np.errstate(over="ignore"):
        return np.exp(x)


@_unary(Unary.SILU)
def silu(x: Any) -> Any:
    """x sigmoid(x), also called swish"""
    with np.errstate(over="ignore", invalid="ignore"):
        return x / (1 + np.exp(-x))


@_unary(Unary.GELU_ERF)
def gelu(x: Any) -> Any:
    """x Phi(x) = x/2 (1 + erf(x / sqrt 2)): x times the probability that a standard normal value lies below it.

    Computed as x/2 erfc(-x / sqrt 2), the same without cancellation for x < 0.
    """
    with np.errstate(invalid="ignore"):
        z = np.asarray(x, np.float64)
        return _like(x, z / 2 * _erfc(-z / math.sqrt(2)))


@_unary(Unary.GELU_TANH)
def gelu_tanh(x: Any) -> Any:
    """x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))): GELU approximated, within 5e-4.

    A model uses the form that it was trained with.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


@_unary(Unary.GELU_QUICK)
def gelu_quick(x: Any) -> Any:
    """x sigmoid(1.702 x): a coarser approximation of GELU, used by CLIP"""
    with np.errstate(over="ignore", invalid="ignore"):
        return x / (1 + np.exp(-1.702 * x))


@_unary(Unary.RELU_SQUARED)
def relu_squared(x: Any) -> Any:
    """max(x, 0)^2: smooth where ReLU bends, and steeper beyond"""
    with np.errstate(over="ignore"):
        return np.square(np.maximum(x, 0))


ACTIVATIONS: dict[str, tuple[Op, Unary]] = {
    "relu": (relu, Unary.RELU),
    "sigmoid": (sigmoid, Unary.SIGMOID),
    "tanh": (tanh, Unary.TANH),
    "exp": (exp, Unary.EXP),
    "silu": (silu, Unary.SILU),
    "gelu": (gelu, Unary.GELU_ERF),
    "gelu_tanh": (gelu_tanh, Unary.GELU_TANH),
    "gelu_quick": (gelu_quick, Unary.GELU_QUICK),
    "relu_squared": (relu_squared, Unary.RELU_SQUARED),
}


def activation_named(name: str) -> tuple[Op, Unary]:
    """The activation function of that name and its number in C. Raises UnknownName."""
    if name not in ACTIVATIONS:
        raise UnknownName("activation", name, tuple(ACTIVATIONS))
    return ACTIVATIONS[name]


def _lower_glu(gate: Any, up: Any, *, activation: str = "sigmoid") -> Lowered:
    return Lowered([gate, up], [cols_of(gate)], ints=[activation_named(activation)[1]])


@op(code=Opcode.GLU, lower=_lower_glu, rowwise=True)
def glu(gate: Any, up: Any, *, activation: str = "sigmoid") -> Any:
    """act(gate) * up: one half of a projection decides how much of the other passes.   gate, up (T, F) -> (T, F)

    activation "sigmoid" is GLU, "relu" ReGLU, "gelu" or "gelu_tanh" GeGLU, "silu" SwiGLU. Raises ShapeError,
    UnknownName.
    """
    if np.shape(gate) != np.shape(up):
        raise ShapeError(f"glu: gate has shape {np.shape(gate)}, up has shape {np.shape(up)}")
    with np.errstate(invalid="ignore"):
        return activation_named(activation)[0].ref(gate) * up


def geglu(gate: Any, up: Any, *, approximate: bool = True) -> Any:
    """gelu(gate) * up; `approximate` takes GELU's tanh form, as the models that use GeGLU do.

    (T, F), (T, F) -> (T, F)
    """
    return glu(gate, up, activation="gelu_tanh" if approximate else "gelu")


def swiglu(gate: Any, up: Any) -> Any:
    """silu(gate) * up.   (T, F), (T, F) -> (T, F)"""
    return glu(gate, up, activation="silu")
