"""Hyper-parameters, read out of a file's metadata and checked: a number that cannot be is an error that names its
key."""

from __future__ import annotations

import builtins
import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from zigllama.errors import BadMetadata, BadTensor, MissingTensor
from zigllama.neural_primitives.embeddings import RoPE
from zigllama.neural_primitives.rope_scaling import Yarn
from zigllama.transformers.spec import ExpertSpec

MAX_LAYERS = 4096  # far above any model; a file that says more is broken or hostile
MAX_SIZE = 1 << 24
MAX_USED = 256  # experts of a row
SCALINGS = ("none", "linear")


class HyperParameters:
    """The keys of one architecture, `{prefix}.block_count` and so on.

    >>> h = HyperParameters(metadata)
    >>> h.int("block_count"), h.float("attention.layer_norm_rms_epsilon")

    tensors   names of the file's tensors, for what only they tell
    n_ctx     positions that the model will be used with, None: what it was trained for

    Every accessor raises BadMetadata for a missing key without default, a wrong type, or a value out of range.
    """

    def __init__(
        self, metadata: Mapping[str, Any], tensors: Collection[str] = (), n_ctx: builtins.int | None = None
    ) -> None:
        self.metadata, self.tensors, self._n_ctx = metadata, tensors, n_ctx
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
        if isinstance(value, np.ndarray | list):
            what = f"one for all layers is expected, found an array of {len(value)}"
            raise BadMetadata(f"{self.prefix}.{key}", f"{what}: layers of different sizes are not read")
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

    def string(self, key: str, default: str, known: Collection[str] = ()) -> str:
        """A string, one of `known` if there are any."""
        value = self.metadata.get(f"{self.prefix}.{key}", default)
        if not isinstance(value, str) or (known and value not in known):
            raise BadMetadata(f"{self.prefix}.{key}", f"{value!r} is not supported; {', '.join(known) or 'text'} is")
        return value

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.metadata.get(f"{self.prefix}.{key}", default)
        if not isinstance(value, bool):
            raise BadMetadata(f"{self.prefix}.{key}", f"expected true or false, found {value!r}")
        return value

    def sizes(
        self,
        n_vocab: builtins.int,
        norm_eps: str = "attention.layer_norm_rms_epsilon",
        *,
        n_head_kv: builtins.int = 0,
        causal: bool = True,
    ) -> dict[str, Any]:
        """The sizes that every decoder has, by their names in `Spec`; head counts must divide. `norm_eps` is the key of
        the norms' epsilon; n_head_kv what holds without attention.head_count_kv, 0: n_head. `causal`: what
        attention.causal must be where the file has it: a decoder that was trained on as an encoder is another model."""
        if self.flag("attention.causal", causal) is not causal:
            rows = "see what is at and before them" if causal else "see the whole text"
            reason = f"this architecture's rows {rows}: {str(causal).lower()} is expected"
            raise BadMetadata(f"{self.prefix}.attention.causal", reason)
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

    def experts(
        self, sizes: Mapping[str, Any], gating: str = "softmax_chosen", *, divided: bool = False, shared: bool = False
    ) -> ExpertSpec | None:
        """The experts that expert_count, expert_used_count and expert_feed_forward_length describe, None where
        expert_count is 0 or missing. A layer is dense where the file has no router for it. Without its key the size
        is n_ff, `divided`: by expert_used_count. `shared`: there is a shared expert, of
        expert_shared_feed_forward_length (n_ff).

        Files that hold each expert as a tensor of its own, as they were made until April 2024, are refused by name.
        """
        n = self.int("expert_count", 0, low=0, high=1 << 16)
        if n == 0:
            return None
        if "blk.0.ffn_gate.0.weight" in self.tensors:
            raise BadTensor("blk.0.ffn_gate.0.weight", "one expert's; only ffn_gate_exps, which holds all, is read")
        used = self.int("expert_used_count", high=min(n, MAX_USED))
        n_ff = self.int("expert_feed_forward_length", max(1, sizes["n_ff"] // (used if divided else 1)))
        size = self.int("expert_shared_feed_forward_length", sizes["n_ff"]) if shared else 0
        layers = range(sizes["n_layer"])
        dense = tuple(i for i in layers if self.tensors and f"blk.{i}.ffn_gate_inp.weight" not in self.tensors)
        if len(dense) == len(layers):
            raise MissingTensor("blk.0.ffn_gate_inp.weight")
        return ExpertSpec(n, used, n_ff, gating, size, dense)

    def rope_dim(self, head_dim: builtins.int) -> builtins.int:
        """How many channels of a head are rotated: an even number, at most the head."""
        dim = self.int("rope.dimension_count", head_dim)
        if dim % 2 or dim > head_dim:
            raise BadMetadata(f"{self.prefix}.rope.dimension_count", f"{dim} channels of a head of {head_dim}")
        return dim

    def rope_factor(self) -> builtins.float:
        """Linear scaling of positions, 1 where there is none. Other kinds of scaling are refused by name."""
        if self.string("rope.scaling.type", "linear", SCALINGS) == "none":
            return 1.0
        return self.float("rope.scaling.factor", self.float("rope.scale_linear", 1.0))

    def rope(self, head_dim: builtins.int, mode: builtins.int, base: builtins.float = 10000.0) -> RoPE:
        """The rotation that rope.freq_base, rope.dimension_count and rope.scaling.* describe: without scaling, linear,
        YaRN, or LongRoPE, whose divisors `rope_divisors` names. `base` is what holds without rope.freq_base.

        rope.scaling.attn_factor multiplies cos and sin, with YaRN in addition to its own 0.1 ln(factor) + 1; a
        yarn_attn_factor stands in the place of that. Both are llama.cpp's keys, though it reads the second one, and the
        betas, for a few architectures only.
        """
        kind = self.string("rope.scaling.type", "linear", (*SCALINGS, "yarn", "longrope"))
        if kind == "longrope" and self.tensors and "rope_factors_long.weight" not in self.tensors:
            raise MissingTensor("rope_factors_long.weight")
        base, dim = self.float("rope.freq_base", base), self.rope_dim(head_dim)
        attention = self.float("rope.scaling.attn_factor", 1.0)
        if kind != "yarn":
            return RoPE(dim, base, mode, self.rope_factor() if kind in SCALINGS else 1.0, attention)
        yarn = Yarn(
            self.float("rope.scaling.factor"),
            self.original_context(),
            self.float("rope.scaling.yarn_beta_fast", 32.0),
            self.float("rope.scaling.yarn_beta_slow", 1.0),
        )
        for key, usual in (("yarn_ext_factor", 1.0), ("yarn_log_multiplier", 0.0)):
            if self.float(f"rope.scaling.{key}", usual, positive=False) != usual:
                raise BadMetadata(f"{self.prefix}.rope.scaling.{key}", f"only {usual:g} is supported")
        scale = self.float("rope.scaling.yarn_attn_factor", yarn.scale)
        return RoPE(dim, base, mode, scale=scale * attention, yarn=yarn)

    def original_context(self) -> builtins.int:
        """The context that the model had before RoPE was scaled."""
        trained = self.int("context_length", high=1 << 30)
        return self.int("rope.scaling.original_context_length", trained, high=1 << 30)

    def rope_divisors(self) -> tuple[str, ...]:
        """Names of the file's vectors that divide the rates of the rotation, the one to use first.

        LongRoPE has two, for contexts up to the original one and for longer ones. It is the model's context that
        counts, not how long a text happens to be: rates that changed on the way would not fit the keys cached before.
        """
        long, short = "rope_factors_long.weight", "rope_factors_short.weight"
        if self.string("rope.scaling.type", "linear") == "longrope" or long in self.tensors or short in self.tensors:
            return (long, short) if self.n_ctx > self.original_context() else (short, long)
        return ("rope_freqs.weight",) if "rope_freqs.weight" in self.tensors else ()

    @property
    def n_ctx(self) -> builtins.int:
        """Positions that the model will be used with: what was asked for, or what it was trained for."""
        return self._n_ctx or self.int("context_length", high=1 << 30)

    def windows(self, n_layer: builtins.int, period: builtins.int = 0) -> tuple[builtins.int, ...]:
        """The attention window of each layer, 0: it sees everything.

        attention.sliding_window is the window; without it, or with 0, there is none. sliding_window_pattern says which
        layers have it: a flag per layer; or a number p, then every p-th layer sees everything; 0: all of them have it.
        `period` is the number that holds without the key.
        """
        window = self.int("attention.sliding_window", 0, low=0, high=1 << 30)
        key = f"{self.prefix}.attention.sliding_window_pattern"
        flags = self.metadata.get(key, period)
        if isinstance(flags, builtins.int):
            period = self.int("attention.sliding_window_pattern", period, low=0)
            return tuple(0 if period and (i + 1) % period == 0 else window for i in range(n_layer))
        values = [] if isinstance(flags, str | builtins.float) else list(flags)
        if len(values) != n_layer or any(v not in (0, 1) for v in values):
            raise BadMetadata(key, f"expected a number, or true or false for each of {n_layer} layers")
        return tuple(window if flag else 0 for flag in values)
