"""What the families' files share: sizes under either of their names in a config, layers as tables of names, one matrix
for q, k and v sorted, and a check of what a page takes for granted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from zigllama.errors import BadCheckpoint, ShapeError
from zigllama.foundation.runtime import F32
from zigllama.models.conversion.checkpoint import Config
from zigllama.models.conversion.recipes import Recipe, take
from zigllama.models.conversion.safetensors import shown

BOTH = ("weight", "bias")
# the names that configs have for the same; BLOOM's n_embed counts before its hidden_size
HEADS, LAYERS, WIDTH = (
    ("num_attention_heads", "n_head"),
    ("num_hidden_layers", "n_layer"),
    ("n_embed", "hidden_size", "n_embd"),
)
EPSILON = ("layer_norm_epsilon", "layer_norm_eps", "norm_epsilon")
# An activation by its name here -> the names that configs have for it (ACT2FN of transformers). Those of one row
# compute the same up to rounding: gelu_new, gelu_fast and gelu_accurate write the tanh form each in their own way,
# gelu_python the exact one. The others (gelu_10, which clips; laplace, mish, ...) no architecture here has.
ACTIVATIONS = {
    "silu": ("silu", "swish"),
    "gelu": ("gelu", "gelu_python"),
    "gelu_tanh": ("gelu_pytorch_tanh", "gelu_new", "gelu_fast", "gelu_accurate", "gelu_python_tanh"),
    "gelu_quick": ("quick_gelu",),
    "relu": ("relu",),
    "relu_squared": ("relu2",),
}
CONTEXT = ("max_position_embeddings", "n_positions", "n_ctx", "seq_length")


def n_layer(config: Config) -> int:
    """How many layers."""
    return config.layers(*LAYERS)


def head_dim(config: Config) -> int:
    """Channels of a head."""
    return config.int("head_dim", default=config.int(*WIDTH) // config.int(*HEADS, low=1), low=1)


def sizes(config: Config, kv_heads: int | None = None, *, layer_norm: bool = False, context: int = 0) -> dict[str, Any]:
    """The sizes by GGUF's keys. kv_heads: None is what the config says; `layer_norm`: which norm the epsilon is of;
    `context`: where the config has none. Raises BadCheckpoint."""
    heads, width = config.int(*HEADS, low=1), config.int(*WIDTH, low=1)
    if kv_heads is None:
        kv_heads = config.int("num_key_value_heads", default=heads, low=1)
    keys: dict[str, Any] = {
        "context_length": config.int(*CONTEXT, default=context or None, low=1, high=1 << 30),
        "embedding_length": width,
        "block_count": n_layer(config),
        "feed_forward_length": config.int("intermediate_size", "n_inner", "ffn_hidden_size", default=4 * width, low=1),
        "attention.head_count": heads,
        "attention.head_count_kv": kv_heads,
        "vocab_size": config.int("vocab_size", low=1),
    }
    if layer_norm:
        keys["attention.layer_norm_epsilon"] = config.float(*EPSILON, default=1e-5)
    else:
        keys["attention.layer_norm_rms_epsilon"] = config.float("rms_norm_eps", *EPSILON, default=1e-6)
    if head_dim(config) * heads != width:
        keys |= {"attention.key_length": head_dim(config), "attention.value_length": head_dim(config)}
    return keys


def window(config: Config, layer_types: bool = False) -> dict[str, Any]:
    """attention.sliding_window, where there is one; `layer_types`: some layers have it, and a flag per layer says
    which. Raises BadCheckpoint."""
    if config.get("sliding_window") is None:
        return {}
    keys: dict[str, Any] = {"attention.sliding_window": config.int("sliding_window", low=1, high=1 << 30)}
    if layer_types:
        kinds = config.list("layer_types")
        if len(kinds) != n_layer(config) or not {"sliding_attention", "full_attention"}.issuperset(map(str, kinds)):
            reason = f"layer_types: {len(kinds)} for {n_layer(config)} layers, or of other kinds"
            raise BadCheckpoint(config.path, reason)
        keys["attention.sliding_window_pattern"] = [kind == "sliding_attention" for kind in kinds]
    return keys


def named(new: str, old: str, names: Mapping[str, str], kinds: tuple[str, ...] = BOTH) -> dict[str, Recipe]:
    """{file: folder} for tensors that are taken as they are, `new` and `old` in front, of each kind."""
    return {f"{new}{a}.{kind}": take(f"{old}{b}.{kind}") for a, b in names.items() for kind in kinds}


def head(config: Config, tied: bool, name: str = "lm_head", kinds: tuple[str, ...] = ("weight",)) -> dict[str, Recipe]:
    """The output matrix, unless tie_word_embeddings (`tied` where the config is silent) says it is the embedding."""
    tie = config.bool("tie_word_embeddings", default=tied)
    return {} if tie else named("", "", {"output": name}, kinds)


def sorted_qkv(name: str, heads: int, kv_heads: int) -> Recipe:
    """Rows (q .. q, k, v) of each key/value head in turn -> all q, all k, all v; matrix or bias. With one key/value
    head nothing moves; with as many as there are query heads it is GPT-NeoX's and BLOOM's order. Raises ShapeError."""

    def sort(x: F32) -> F32:
        if x.shape[0] % (heads + 2 * kv_heads):
            raise ShapeError(f"{name}: {x.shape[0]} rows for {heads} heads and {kv_heads} key/value heads")
        groups = x.reshape(kv_heads, heads // kv_heads + 2, -1, *x.shape[1:])
        parts = (groups[:, :-2], groups[:, -2], groups[:, -1])
        return np.concatenate([part.reshape(-1, *x.shape[1:]) for part in parts])

    return Recipe((name,), sort, lambda shape: shape)


def expect(config: Config, key: str, *values: Any) -> None:
    """Raises BadCheckpoint unless the config has one of these values, or none. The first is the usual one."""
    found = config.get(key)
    if found is not None and found not in values:
        raise BadCheckpoint(config.path, f"{key}: {shown(found)} is not supported; {' or '.join(map(repr, values))} is")


def activation(config: Config, key: str, *ours: str) -> str:
    """Which of these of ACTIVATIONS the config has; the first where it is silent. Raises BadCheckpoint for others."""
    expect(config, key, *(name for one in ours for name in ACTIVATIONS[one]))
    return next((one for one in ours if config.get(key) in ACTIVATIONS[one]), ours[0])
