"""What layers 4 and 5 need of a KV cache that layer 6 builds.

A model publishes a `CacheSpec`; whoever runs it makes a cache that fits and hands it in. Layers with the same attention
window share a cache class, and a class has one page table per sequence: pages that a window has left behind can be used
again, while layers that see everything keep theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

PAGE = 64  # positions per page, and the span in which attention is summed


class CacheClass(NamedTuple):
    """Layers that share a page table: their window (0 = they see everything), how many, and the sizes of their
    heads.

    state    its layers keep no keys and values but a state: dk and dv values of a convolution and of a scan (n_kv 1)
    """

    window: int
    n_layer: int
    n_kv: int
    dk: int
    dv: int
    state: bool = False


class CacheSpec(NamedTuple):
    """The cache a model needs: its classes, and per layer (class, index within the class)."""

    classes: tuple[CacheClass, ...]
    layers: tuple[tuple[int, int], ...]


class Cache(Protocol):
    """Pages of keys and values. `pages[c]` is class c as an operand of `kv_store` and `attention`."""

    spec: CacheSpec

    @property
    def pages(self) -> Sequence[Any]: ...
