"""One block: attention, then a feed-forward network, each added to what came in (He et al., 2015).

    x = x + attention(norm(x))            pre-norm (Xiong et al., 2020): the stream itself is never normalised
    x = x + feed_forward(norm(x))

With post norms (Gemma 2 and 3) the result of each half is normalised once more before it is added. A parallel block
(GPT-J, GPT-NeoX, Falcon, Phi-2) gives both halves what came in, so that neither waits for the other:

    x = x + attention(norm(x)) + feed_forward(norm'(x))          norm' is norm itself, or a second one

Post-norm (Vaswani et al., 2017; BERT) normalises the sums instead: x = norm(x + attention(x)), and so on. A decoder
that writes from an encoder's result has a third part between the two, cross-attention. Whether a block is an encoder's
or a decoder's is not its own business: the step says what a row sees.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zigllama.errors import InvalidArgument
from zigllama.foundation.runtime import Step
from zigllama.neural_primitives.arithmetic import add
from zigllama.transformers.attention import MultiHeadAttention
from zigllama.transformers.cross_attention import CrossAttention
from zigllama.transformers.interfaces import Cache

Norm = Callable[[Any], Any]


@dataclass
class TransformerBlock:
    """A pre-norm block. `attn_post_norm` and `ffn_post_norm` are None where the architecture has none, and `ffn_norm`
    in a parallel block whose halves share a norm. With `norm_sums` it is a post-norm block: `attn_norm`, `cross_norm`
    and `ffn_norm` normalise the sums. `cross` and its norm come between the halves. Raises InvalidArgument for parts
    that do not go together."""

    attn_norm: Norm
    attention: MultiHeadAttention
    ffn_norm: Norm | None
    feed_forward: Callable[[Any], Any]
    attn_post_norm: Norm | None = None
    ffn_post_norm: Norm | None = None
    parallel: bool = False
    norm_sums: bool = False
    cross: CrossAttention | None = None
    cross_norm: Norm | None = None

    def __post_init__(self) -> None:
        if (self.cross is None) != (self.cross_norm is None):
            raise InvalidArgument("TransformerBlock: cross-attention and its norm come together")
        if self.parallel and (self.norm_sums or self.cross is not None):
            raise InvalidArgument("TransformerBlock: a parallel block has one sum: no norm_sums, no cross-attention")
        posts = self.attn_post_norm is not None or self.ffn_post_norm is not None
        if self.norm_sums and (self.ffn_norm is None or posts):
            raise InvalidArgument("TransformerBlock: norm_sums has one norm for each sum, and no other")

    def __call__(self, x: Any, step: Step, cache: Cache) -> Any:
        """x (T, C) -> (T, C)"""
        if self.norm_sums:
            return self._post_norm(x, step, cache)
        h = self.attn_norm(x)
        a = self.attention(h, step, cache)
        y = add(x, a if self.attn_post_norm is None else self.attn_post_norm(a))
        if self.cross is not None and self.cross_norm is not None:
            y = add(y, self.cross(self.cross_norm(y), step, cache))
        source = x if self.parallel else y
        f = self.feed_forward(h if self.ffn_norm is None else self.ffn_norm(source))
        return add(y, f if self.ffn_post_norm is None else self.ffn_post_norm(f))

    def _post_norm(self, x: Any, step: Step, cache: Cache) -> Any:
        y = self.attn_norm(add(x, self.attention(x, step, cache)))
        if self.cross is not None and self.cross_norm is not None:
            y = self.cross_norm(add(y, self.cross(y, step, cache)))
        assert self.ffn_norm is not None
        return self.ffn_norm(add(y, self.feed_forward(y)))
