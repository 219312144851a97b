"""One block of a decoder: attention, then a feed-forward network, each added to what came in (He et al., 2015).

    x = x + attention(norm(x))            pre-norm (Xiong et al., 2020): the stream itself is never normalised
    x = x + feed_forward(norm(x))

With post norms (Gemma 2 and 3) the result of each half is normalised once more before it is added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zigllama.foundation.runtime import Step
from zigllama.neural_primitives.arithmetic import add
from zigllama.transformers.attention import MultiHeadAttention
from zigllama.transformers.feed_forward import FeedForward
from zigllama.transformers.interfaces import Cache

Norm = Callable[[Any], Any]


@dataclass
class TransformerBlock:
    """A pre-norm decoder block. `attn_post_norm` and `ffn_post_norm` are None where the architecture has none."""

    attn_norm: Norm
    attention: MultiHeadAttention
    ffn_norm: Norm
    feed_forward: FeedForward
    attn_post_norm: Norm | None = None
    ffn_post_norm: Norm | None = None

    def __call__(self, x: Any, step: Step, cache: Cache) -> Any:
        """x (T, C) -> (T, C)"""
        a = self.attention(self.attn_norm(x), step, cache)
        x = add(x, a if self.attn_post_norm is None else self.attn_post_norm(a))
        f = self.feed_forward(self.ffn_norm(x))
        return add(x, f if self.ffn_post_norm is None else self.ffn_post_norm(f))
