"""Products with the weights of chosen experts (Shazeer et al., 2017, arXiv 1701.06538; Jiang et al., 2024, 2401.04088).

    logits = x W_router^T                         (T, E)
    weights, ids = route(logits, k)               (T, k) each: which experts a row goes to, and how much each counts
    h = experts_gated(x, ids, gate, up)           (T, k F): act(gate_e x) * up_e x, side by side in the router's order
    y = experts_down(h, ids, weights, down)       (T, C): sum_j weights_j down_e(j) h_j, j ascending

The experts' matrices are a `Weight` with a stack. Each product is that of `linear` with the expert's matrix, bit for
bit, however many rows have chosen it; experts that no row chose are not read.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zigllama.errors import InvalidArgument, ShapeError, UnknownName
from zigllama.foundation.opcodes import Gating, Opcode, Unary
from zigllama.foundation.runtime import F32, I32, Lowered, cols_of, op
from zigllama.linear_algebra.linear import linear
