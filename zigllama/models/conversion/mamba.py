"""Folders of Mamba, FalconMamba and Mamba 2 -> mamba, mamba2. What is learned is ln(-A): the file has A."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from zigllama.errors import BadCheckpoint
from zigllama.models.conversion.checkpoint import Config
from zigllama.models.conversion.recipes import Conversion, Recipe, register, take
from zigllama.models.conversion.safetensors import shown
from zigllama.models.conversion.tables import activation, expect, head, named

UNLIMITED = 1 << 20  # positions: a state has no end; what llama.cpp's converter says
TIED = (r"^lm_head\.weight$",)  # a tied head, written out


def _keys(config: Config, inner: int) -> dict[str, Any]:
    """What both have. Raises BadCheckpoint for what the decoder has not."""
    activation(config, "hidden_act", "silu")
    expect(config, "use_bias", False)
    expect(config, "use_conv_bias", True)
    return {
        "context_length": UNLIMITED,
        "embedding_length": config.int("hidden_size", low=1),
        "feed_forward_length": 0,  # llama.cpp wants these two to be there
        "attention.head_count": 0,
        "block_count": config.layers("num_hidden_layers"),
        "attention.layer_norm_rms_epsilon": config.float("layer_norm_epsilon", default=1e-5),
        "ssm.conv_kernel": config.int("conv_kernel", default=4, low=1),
        "ssm.inner_size": inner,
        "ssm.state_size": config.int("state_size", low=1),
        "vocab_size": config.int("vocab_size", low=1),
    }


def mamba(config: Config) -> dict[str, Any]:
    """Mamba."""
    width = config.int("hidden_size", low=1)
    inner = config.int("intermediate_size", default=config.int("expand", default=2, low=1) * width, low=1)
    rank = -(-width // 16) if config.get("time_step_rank") in (None, "auto") else config.int("time_step_rank", low=1)
    return _keys(config, inner) | {"ssm.time_step_rank": rank, "ssm.dt_b_c_rms": False}


def falcon_mamba(config: Config) -> dict[str, Any]:
    """FalconMamba: dt, B and C are normalised, without a scale to learn, and with an epsilon of their own, for which
    llama.cpp has no key and takes the layers'."""
    epsilon = config.float("mixer_rms_eps", default=1e-6)
    return mamba(config) | {"ssm.dt_b_c_rms": True, "ssm.dt_b_c_rms_epsilon": epsilon}


def mamba2(config: Config) -> dict[str, Any]:
    """Mamba 2."""
    expect(config, "rms_norm", True)
    heads, dim = config.int("num_heads", low=1), config.int("head_dim", low=1)
    limit = config.list("time_step_limit", default=[0.0, math.inf])
    if limit != [0.0, math.inf]:
        raise BadCheckpoint(config.path, f"time_step_limit: {shown(limit)} is not supported; [0, Infinity] is")
    return _keys(config, heads * dim) | {
        "ssm.time_step_rank": heads,
        "ssm.group_count": config.int("n_groups", default=8, low=1),
    }


def _outside(config: Config) -> dict[str, Recipe]:
    names = {"token_embd": "embeddings", "output_norm": "norm_f"}
    return named("", "backbone.", names, ("weight",)) | head(config, True)


def _layer(new: str, old: str) -> dict[str, Recipe]:
    """What both have."""
    out = {f"{new}attn_norm.weight": take(f"{old}norm.weight")}
    out |= named(new, f"{old}mixer.", {"ssm_in": "in_proj", "ssm_out": "out_proj"}, ("weight",))
    out[f"{new}ssm_conv1d.weight"] = Recipe(  # (channels, 1, taps)
        (f"{old}mixer.conv1d.weight",), lambda x: x.reshape(x.shape[0], x.shape[-1]), lambda s: (s[0], s[-1])
    )
    out[f"{new}ssm_conv1d.bias"] = take(f"{old}mixer.conv1d.bias")
    return out


def mamba_tensors(config: Config) -> dict[str, Recipe]:
    """Mamba."""
    out = _outside(config)
    for i in range(config.layers("num_hidden_layers")):
        new, old = f"blk.{i}.", f"backbone.layers.{i}."
        out |= _layer(new, old) | named(new, f"{old}mixer.", {"ssm_dt": "dt_proj"})
        out |= named(new, f"{old}mixer.", {"ssm_x": "x_proj"}, ("weight",))
        out[f"{new}ssm_a"] = Recipe((f"{old}mixer.A_log",), lambda x: -np.exp(x), lambda s: s)
        out[f"{new}ssm_d"] = take(f"{old}mixer.D")
    return out


def mamba2_tensors(config: Config) -> dict[str, Recipe]:
    """Mamba 2: A, D and the norm's scale have a second dimension in the file."""
    out, groups = _outside(config), config.int("n_groups", default=8, low=1)
    for i in range(config.layers("num_hidden_layers")):
        new, old = f"blk.{i}.", f"backbone.layers.{i}."
        out |= _layer(new, old)
        out[f"{new}ssm_dt.bias"] = take(f"{old}mixer.dt_bias")
        out[f"{new}ssm_a"] = Recipe((f"{old}mixer.A_log",), lambda x: -np.exp(x)[:, None], lambda s: (*s, 1))
        out[f"{new}ssm_d"] = Recipe((f"{old}mixer.D",), lambda x: x[:, None], lambda s: (*s, 1))
        out[f"{new}ssm_norm.weight"] = Recipe((f"{old}mixer.norm.weight",), lambda x: x.reshape(groups, -1))
    return out


register("MambaForCausalLM", Conversion("mamba", mamba, mamba_tensors, TIED))
register("FalconMambaForCausalLM", Conversion("mamba", falcon_mamba, mamba_tensors, TIED))
register(
    "Mamba2ForCausalLM", Conversion("mamba2", mamba2, mamba2_tensors, TIED, defaults={"tie_word_embeddings": False})
)
