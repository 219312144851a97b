"""The numbers by which the C library knows its ops and activation functions: `zl_opcode` and `zl_unary` of zl_api.h.

They are repeated here, not read from the extension, so that ops can be defined (and their twins run) without it. A test
reads the header and fails when the two differ.
"""

from __future__ import annotations

from enum import IntEnum


class Opcode(IntEnum):
    """What a row of a tape does; the header says what its operands and parameters are."""

    EMBED = 1
    RMS_NORM = 2
    LAYER_NORM = 3
    LINEAR = 4
    ROPE = 5
    KV_STORE = 6
    ATTENTION = 7
    UNARY = 8
    GLU = 9
    ADD = 10
    MUL = 11
    SCALE = 12
    SOFTMAX = 13
    SOFTCAP = 14
    GATHER = 15
    TOP_K = 16
    LOOKUP = 17
    ROUTE = 18
    EXPERTS_GATED = 19
    EXPERTS_DOWN = 20
    SHORT_CONV = 21
    SELECTIVE_SCAN = 22
    DUAL_SCAN = 23


class Unary(IntEnum):
    """An activation function, the parameter of UNARY and GLU."""

    RELU = 1
    GELU_ERF = 2
    GELU_TANH = 3
    SILU = 4
    TANH = 5
    SIGMOID = 6
    GELU_QUICK = 7
    EXP = 8
    RELU_SQUARED = 9


class Gating(IntEnum):
    """What makes weights of a router's logits, a parameter of ROUTE."""

    SOFTMAX_ALL = 0
    SOFTMAX_CHOSEN = 1
    SIGMOID_EACH = 2
    SIGMOID_SHARE = 3
