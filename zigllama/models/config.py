"""Hyper-parameters, read out of a file's metadata and checked: a number that cannot be is an error that names its
key."""

from __future__ import annotations

import builtins
import math
from collections.abc import Mapping
from typing import Any

from zigllama.errors import BadMetadata

MAX_LAYERS = 4096  # far above any model; a file that says more is broken or hostile
MAX_SIZE = 1 << 24


class HyperParameters:
    """The keys of one architecture, `{prefix}.block_count` and so on.

    >>> h = HyperParameters(metadata)
    >>> h.int("block_count"), h.float("attention.layer_norm_rms_epsilon")

    Every accessor raises BadMetadata for a missing key without default, a wrong type, or a value out of range.
    """

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.metadata = metadata
        self.prefix = str(metadata.get("general.architecture", ""))

    def has(self, key: str) -> bool:
        """Whether the file has the key."""
        return f"{self.prefix}.{key}" in self.metadata

    def _get(self, key: str) -> Any:
        full = f"{self.prefix}.{key}"
        if full not in self.metadata:
            raise BadMetadata(full, "missing")
        return self.metadata[full]

    def int(
        self,
        key: str,
        default: builtins.int | None = None,
        *,
        low: builtins.int = 1,
        high: builtins.int = MAX_SIZE,
    ) -> builtins.int:
        """An integer from `low` to `high`."""
        if default is not None and not self.has(key):
            return default
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, builtins.int):
            raise BadMetadata(f"{self.prefix}.{key}", f"expected one integer, found {type(value).__name__}")
        if not low <= value <= high:
            raise BadMetadata(f"{self.prefix}.{key}", f"{value} is not within {low} and {high}")
        return value

    def float(self, key: str, default: builtins.float | None = None, *, positive: bool = True) -> builtins.float:
        """A finite number, above 0 unless `positive` is False."""
        if default is not None and not self.has(key):
            return default
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, builtins.int | builtins.float):
            raise BadMetadata(f"{self.prefix}.{key}", f"expected one number, found {type(value).__name__}")
        if not math.isfinite(value) or (positive and value <= 0):
            raise BadMetadata(f"{self.prefix}.{key}", f"{value} is not a finite number{' above 0' if positive else ''}")
        return builtins.float(value)

    def sizes(
        self, n_vocab: builtins.int, norm_eps: str = "attention.layer_norm_rms_epsilon", *, n_head_kv: builtins.int = 0
    ) -> dict[str, Any]:
        """The sizes that every decoder has, by their names in `Spec`; head counts must divide. `norm_eps` is the key of
        the norms' epsilon; n_head_kv what holds without attention.head_count_kv, 0: n_head."""
        n_layer = self.int("block_count", high=MAX_LAYERS)
        n_embd, n_head = self.int("embedding_length"), self.int("attention.head_count")
        n_head_kv = self.int("attention.head_count_kv", n_head_kv or n_head)
        if n_head % n_head_kv:
            raise BadMetadata(f"{self.prefix}.attention.head_count_kv", f"{n_head_kv} does not divide {n_head} heads")
        if not self.has("attention.key_length") and n_embd % n_head:
            raise BadMetadata(f"{self.prefix}.attention.head_count", f"{n_head} does not divide {n_embd} channels")
        head_dim = self.int("attention.key_length", n_embd // n_head)
        if self.int("attention.value_length", head_dim) != head_dim:
            raise BadMetadata(f"{self.prefix}.attention.value_length", f"differs from the key length {head_dim}")
        return {
            "n_layer": n_layer,
            "n_embd": n_embd,
            "n_head": n_head,
            "n_head_kv": n_head_kv,
            "n_ff": self.int("feed_forward_length"),
            "n_vocab": n_vocab,
            "n_ctx": self.int("context_length", high=1 << 30),
            "head_dim": head_dim,
            "norm_eps": self.float(norm_eps, 1e-5),
        }

    def rope_dim(self, head_dim: builtins.int) -> builtins.int:
        """How many channels of a head are rotated: an even number, at most the head."""
        dim = self.int("rope.dimension_count", head_dim)
        if dim % 2 or dim > head_dim:
            raise BadMetadata(f"{self.prefix}.rope.dimension_count", f"{dim} channels of a head of {head_dim}")
        return dim

    def rope_factor(self) -> builtins.float:
        """Linear scaling of positions, 1 where there is none. Other kinds of scaling are refused by name."""
        kind = self.metadata.get(f"{self.prefix}.rope.scaling.type", "linear")
        if kind == "none":
            return 1.0
        if kind != "linear":
            raise BadMetadata(f"{self.prefix}.rope.scaling.type", f"{kind!r} is not supported; 'none' and 'linear' are")
        return self.float("rope.scaling.factor", 1.0)
