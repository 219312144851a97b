"""How many parameters a model has, part by part, counted over the shapes of its tensors.

The shapes may be a file's, or the table that an architecture asks for (tensors.py): the same table that a file is
checked against when it is loaded, so what is counted of a shape cannot differ from what a file of that shape holds.

What it is not: bytes. Those depend on the number format of each tensor (app/estimate.py).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from zigllama.models.tensors import Shape

PARTS = ("embedding", "attention", "feed-forward", "state space", "norms", "output", "other")

# The first pattern that a tensor's name matches says which part it belongs to. Norms first: they are named after what
# they precede.
_PART_OF = (
    (re.compile(r"norm"), "norms"),
    (re.compile(r"^(token_embd|position_embd|token_types)\b"), "embedding"),
    (re.compile(r"^(output|cls)\b"), "output"),
    (re.compile(r"^(blk|enc\.blk|dec\.blk)\.\d+\.(attn|cross_attn)"), "attention"),
    (re.compile(r"^(blk|enc\.blk|dec\.blk)\.\d+\.(ffn|layer_output)"), "feed-forward"),
    (re.compile(r"^blk\.\d+\.ssm_"), "state space"),
)


def part_of(name: str) -> str:
    """Which part a tensor belongs to, by its GGUF name.

    >>> part_of("blk.0.attn_q.weight"), part_of("blk.0.attn_q_norm.weight"), part_of("token_embd.weight")
    ('attention', 'norms', 'embedding')
    """
    return next((part for pattern, part in _PART_OF if pattern.search(name)), "other")


def count_parameters(shapes: Mapping[str, Shape]) -> dict[str, int]:
    """Parameters by part, every part of `PARTS` among them, of tensors by name.

    A matrix (rows, cols) counts rows * cols, a norm its channels. An output that is tied to the embedding is no tensor
    of its own and counts nothing.
    """
    counts = dict.fromkeys(PARTS, 0)
    for name, shape in shapes.items():
        counts[part_of(name)] += math.prod(shape)
    return counts
