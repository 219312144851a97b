"""One block of a decoder: attention, then a feed-forward network, each added to what came in (He et al., 2015).

    x = x + attention(norm(x))            pre-norm (Xiong et al., 2020): the stream itself is never normalised
    x = x + feed_forward(norm(x))

With post norms (Gemma 2 and 3) the result of each half is normalised once more before it is added. A parallel block
(GPT-J, GPT-NeoX, Falcon, Phi-2) gives both halves what came in, so that neither waits for the other:

    x = x + attention(norm(x)) + feed_forward(norm'(x))          norm' is norm itself, or a second one
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zigllama.foundation.runtime import Step
from zigllama.neural_primitives.arithmetic import add
from zigllama.transformers.attention import MultiHeadAttention
from zigllama.transformers.interfaces import Cache

Norm = Callable[[Any], Any]


@dataclass
class TransformerBlock:
    """A pre-norm decoder block. `attn_post_norm` and `ffn_post_norm` are None where the architecture has none, and
    `ffn_norm` in a parallel block whose halves share a norm."""

    attn_norm: Norm
    attention: MultiHeadAttention
    ffn_norm: Norm | None
    feed_forward: Callable[[Any], Any]
    attn_post_norm: Norm | None = None
    ffn_post_norm: Norm | None = None
    parallel: bool = False

    def __call__(self, x: Any, step: Step, cache: Cache) -> Any:
        """x (T, C) -> (T, C)"""
        h = self.attn_norm(x)
        a = self.attention(h, step, cache)
        y = add(x, a if self.attn_post_norm is None else self.attn_post_norm(a))
        source = x if self.parallel else y
        f = self.feed_forward(h if self.ffn_norm is None else self.ffn_norm(source))
        return add(y, f if self.ffn_post_norm is None else self.ffn_post_norm(f))
