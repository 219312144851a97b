"""Weights of the small models of tests/architecture_variants/: by name and shape from a seed, the same everywhere.

    norms       1 +- 0.3       biases    +- 0.3
    matrices    deviation gain * columns^-0.5: 1.5 for queries and keys, so that attention looks somewhere in particular
                instead of averaging everything; 3 for embeddings and heads, so that logits are of size 3; 1 for others

A variant's `ranges` and `gains` say what a family has in other places.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from architecture_variants import Variant
from random_weights import Stream

F32 = npt.NDArray[np.float32]

GAINS = {r"embed|emb\b|wte|wpe|lm_head": 3.0, r"q_proj|k_proj|query|key(?!_value)|qkv|c_attn|Wqkv": 1.5}


def ids(label: str, n: int, n_vocab: int) -> list[int]:
    """n token ids."""
    return [int(x) for x in Stream(f"{label}/ids").uniform(0, n_vocab, n)]


def tensor(label: str, name: str, shape: tuple[int, ...], variant: Variant) -> F32:
    """One parameter."""
    stream = Stream(f"{label}/{name}")
    for pattern, (mean, spread) in variant.ranges.items():
        if re.search(pattern, name):
            return stream.uniform(mean - spread, mean + spread, *shape).astype(np.float32)
    if name.endswith("bias"):
        return stream.uniform(-0.3, 0.3, *shape).astype(np.float32)
    if len(shape) < 2:
        return stream.uniform(0.7, 1.3, *shape).astype(np.float32)
    gains = {**variant.gains, **GAINS}
    gain = next((g for pattern, g in gains.items() if re.search(pattern, name)), 1.0)
    width = float(gain * (3.0 / shape[-1]) ** 0.5)
    return stream.uniform(-width, width, *shape).astype(np.float32)


def weights(label: str, shapes: Mapping[str, tuple[int, ...]], variant: Variant) -> dict[str, F32]:
    """All parameters of the variant called `label`."""
    return {name: tensor(label, name, tuple(shape), variant) for name, shape in shapes.items()}
