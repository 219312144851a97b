"""Folders of Mixtral -> llama with experts, Qwen2Moe and Qwen3Moe -> qwen2moe, qwen3moe.

A folder holds a layer's experts as a tensor each (what is published), or stacked (E, 2F, C) with gate above up and
(E, C, F), as transformers 5 has them in memory and may save them; the file holds three stacks either way.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from zigllama.foundation.runtime import F32
from zigllama.models.conversion import llama, qwen
from zigllama.models.conversion.checkpoint import Config
from zigllama.models.conversion.recipes import Conversion, Recipe, register, stacked, take
from zigllama.models.conversion.tables import activation, n_layer

QWEN = {"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}
MAX_EXPERTS = 1 << 17  # of a model, ten times those of the largest
MIXTRAL = {"gate": "w1", "up": "w3", "down": "w2"}


def _count(config: Config, *keys: str) -> int:
    """How many experts a layer has. Each is three tensors, whose names are made before the folder is asked for one:
    so there is a limit to those of all layers."""
    return config.int(*keys, low=1, high=max(1, MAX_EXPERTS // n_layer(config)))


def _half(x: F32, part: int) -> F32:
    """Gate (0) or up (1) of (E, 2F, C)."""
    half: F32 = np.split(x, 2, axis=1)[part]
    return half


def experts(new: str, old: str, each: str, n: int, names: Mapping[str, str]) -> dict[str, Recipe]:
    """The three stacks of a layer; `old` begins the stacked names, `each` those of single experts."""

    def recipe(name: str) -> Recipe:
        single = stacked([f"{each}{i}.{names[name]}.weight" for i in range(n)])
        if name == "down":
            return Recipe((f"{old}down_proj",), otherwise=single)
        part = ("gate", "up").index(name)
        return Recipe((f"{old}gate_up_proj",), lambda x: _half(x, part), otherwise=single)

    return {f"{new}ffn_{name}_exps.weight": recipe(name) for name in names}


def metadata1(config: Config) -> dict[str, Any]:
    """Mixtral: LLaMA's keys and its experts'."""
    activation(config, "hidden_act", "silu")
    n, used = _count(config, "num_local_experts"), config.int("num_experts_per_tok", low=1)
    return llama.windowed(config) | {"expert_count": n, "expert_used_count": used}


def tensors1(config: Config) -> dict[str, Recipe]:
    """LLaMA's tensors without its feed-forward network."""
    plain = re.compile(r"ffn_(gate|up|down)\.")
    out = {name: recipe for name, recipe in llama.tensors(config).items() if not plain.search(name)}
    n = _count(config, "num_local_experts")
    for i in range(n_layer(config)):
        new, old, published = f"blk.{i}.", f"model.layers.{i}.mlp.", f"model.layers.{i}.block_sparse_moe."
        out[new + "ffn_gate_inp.weight"] = Recipe((old + "gate.weight",), otherwise=take(published + "gate.weight"))
        out |= experts(new, old + "experts.", published + "experts.", n, MIXTRAL)
    return out


def metadata2(config: Config) -> dict[str, Any]:
    """Qwen 2's keys and its experts'."""
    return qwen.metadata2moe(config) | _experts(config)


def metadata3(config: Config) -> dict[str, Any]:
    """Qwen 3's keys and its experts'."""
    return qwen.metadata3moe(config) | _experts(config)


def _experts(config: Config) -> dict[str, Any]:
    """expert_weights_norm is there because norm_topk_prob may be either."""
    keys: dict[str, Any] = {
        "expert_count": _count(config, "num_experts", "num_local_experts"),
        "expert_used_count": config.int("num_experts_per_tok", low=1),
        "expert_feed_forward_length": config.int("moe_intermediate_size", low=1),
        "expert_weights_norm": config.bool("norm_topk_prob", default=False),
    }
    if config.get("shared_expert_intermediate_size") is not None:
        keys["expert_shared_feed_forward_length"] = config.int("shared_expert_intermediate_size", low=1)
    return keys


def _has_experts(config: Config, i: int) -> bool:
    step = config.int("decoder_sparse_step", default=1, low=1)
    return i not in config.list("mlp_only_layers", default=[]) and (i + 1) % step == 0


def tensors(config: Config) -> dict[str, Recipe]:
    """Every layer has experts but those of mlp_only_layers, or between every decoder_sparse_step-th one."""
    out = qwen.tensors(config)
    n, shared = (
        _count(config, "num_experts", "num_local_experts"),
        config.get("shared_expert_intermediate_size") is not None,
    )
    for i in range(n_layer(config)):
        if not _has_experts(config, i):
            continue
        new, old = f"blk.{i}.", f"model.layers.{i}.mlp."
        for name in QWEN:
            del out[f"{new}ffn_{name}.weight"]
        out[new + "ffn_gate_inp.weight"] = take(old + "gate.weight")
        out |= experts(new, old + "experts.", old + "experts.", n, QWEN)
        if shared:
            out |= {f"{new}ffn_{a}_shexp.weight": take(f"{old}shared_expert.{b}.weight") for a, b in QWEN.items()}
            gate = Recipe((old + "shared_expert_gate.weight",), lambda x: x.reshape(-1), lambda s: (int(np.prod(s)),))
            out[new + "ffn_gate_inp_shexp.weight"] = gate
    return out


DEFAULTS1 = {"rms_norm_eps": 1e-5, "rope_theta": 1e6}
register("MixtralForCausalLM", Conversion("llama", metadata1, tensors1, llama.IGNORED, ("model.",), defaults=DEFAULTS1))
for _name, _arch, _keys in (("Qwen2Moe", "qwen2moe", metadata2), ("Qwen3Moe", "qwen3moe", metadata3)):
    register(
        f"{_name}ForCausalLM",
        Conversion(_arch, _keys, tensors, qwen.IGNORED, ("model.",), defaults=qwen.WINDOW),
    )
