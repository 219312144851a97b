"""Blocks and attentions of every kind, as data: tools/make_blocks_golden.py builds each with torch, the tests with
zigllama, both with the weights of `tensor`, which depend on names and shapes alone.

Sizes are small and awkward: heads that are no power of two, a memory of another width, more rows than a page has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from random_weights import Stream

F32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """A block, or an attention alone (`alone`). T rows of C channels; F channels inside the feed-forward network."""

    rows: int = 70
    width: int = 24
    heads: int = 3
    kv_heads: int = 3
    inner: int = 40
    kind: str = "standard"  # feed_forward.KINDS
    norm: str = "layer"  # or "rms"
    both_ways: bool = False
    post_norm: bool = False
    parallel: bool = False
    shared_norm: bool = False  # of a parallel block's halves
    biases: bool = True
    window: int = 0
    softcap: float = 0.0
    alibi: bool = False
    memory: int = 0  # rows of a memory: encoder-decoder
    memory_width: int = 0  # its channels, 0: as wide as the rows
    alone: bool = False
    eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        """Channels of a head."""
        return self.width // self.heads


CASES = {
    # torch.nn.TransformerEncoderLayer and TransformerDecoderLayer
    "encoder-post": Case(both_ways=True, post_norm=True),
    "encoder-pre": Case(both_ways=True, kind="gelu"),
    "decoder-post": Case(post_norm=True, kind="gelu"),
    "decoder-pre": Case(),
    "encoder-decoder-post": Case(post_norm=True, memory=67),
    "encoder-decoder-pre": Case(kind="gelu", memory=9, rows=67),
    # torch.nn.MultiheadAttention with keys and values of another width
    "cross-wide-memory": Case(alone=True, memory=40, memory_width=17),
    # made of torch's functions
    "swiglu": Case(kind="swiglu", norm="rms", biases=False, eps=1e-6),
    "geglu-grouped": Case(kind="geglu", norm="rms", heads=6, kv_heads=2, eps=0.3),
    "glu-multi-query": Case(kind="glu", heads=4, kv_heads=1),
    "parallel": Case(parallel=True, kind="gelu"),
    "parallel-one-norm": Case(parallel=True, shared_norm=True, kind="gelu", biases=False),
    "windowed": Case(alone=True, window=20),
    "soft-capped": Case(alone=True, softcap=1.5),
    "alibi": Case(alone=True, alibi=True, heads=6, kv_heads=3),
    "both-ways-windowless-alibi": Case(alone=True, alibi=True, both_ways=True, heads=4, kv_heads=4),
}


def shapes(case: Case) -> dict[str, tuple[int, ...]]:
    """The parameters of a case by name, matrices (out, in)."""
    c, f, d = case.width, case.inner, case.head_dim
    found: dict[str, tuple[int, ...]] = {}

    def attention(name: str, wide: int) -> None:
        for part, rows, cols in (
            ("q", case.heads * d, c),
            ("k", case.kv_heads * d, wide),
            ("v", case.kv_heads * d, wide),
            ("out", c, case.heads * d),
        ):
            found[f"{name}.{part}.weight"] = (rows, cols)
            if case.biases:
                found[f"{name}.{part}.bias"] = (rows,)

    def norm(name: str) -> None:
        found[f"{name}.weight"] = (c,)
        if case.norm == "layer":
            found[f"{name}.bias"] = (c,)

    if not (case.alone and case.memory):
        attention("attention", c)
    if case.memory:
        attention("cross", case.memory_width or c)
    if case.alone:
        return found
    norm("attn_norm")
    if case.memory:
        norm("cross_norm")
    if not case.shared_norm:
        norm("ffn_norm")
    gated = case.kind in ("swiglu", "geglu", "glu")
    for part, rows, cols in (*([("gate", f, c)] if gated else []), ("up", f, c), ("down", c, f)):
        found[f"ffn.{part}.weight"] = (rows, cols)
        if case.biases:
            found[f"ffn.{part}.bias"] = (rows,)
    return found


def tensor(label: str, name: str, shape: tuple[int, ...]) -> F32:
    """One parameter: norms near 1, biases within 0.3, queries and keys large enough that attention looks somewhere."""
    stream = Stream(f"blocks/{label}/{name}")
    if name.endswith("bias"):
        return stream.uniform(-0.3, 0.3, *shape).astype(np.float32)
    if len(shape) == 1:
        return stream.uniform(0.7, 1.3, *shape).astype(np.float32)
    size = (2.0 if ".q." in name or ".k." in name else 1.0) * (3 / shape[1]) ** 0.5
    return stream.uniform(-size, size, *shape).astype(np.float32)


def weights(label: str) -> dict[str, F32]:
    """All parameters of a case."""
    return {name: tensor(label, name, shape) for name, shape in shapes(CASES[label]).items()}


def inputs(label: str) -> tuple[F32, F32 | None]:
    """The rows (T, C), and the memory (M, its width) or None."""
    case, size = CASES[label], 3.0**0.5
    x = Stream(f"blocks/{label}/x").uniform(-size, size, case.rows, case.width).astype(np.float32)
    if not case.memory:
        return x, None
    wide = case.memory_width or case.width
    return x, Stream(f"blocks/{label}/memory").uniform(-size, size, case.memory, wide).astype(np.float32)


PIECE_ROWS, PIECE_WIDTH = 9, 24


def piece(name: str, *shape: int, low: float = -2.0, high: float = 2.0) -> F32:
    """An operand of one of layer 3's pieces."""
    return Stream(f"blocks/pieces/{name}").uniform(low, high, *shape).astype(np.float32)
