"""Conversion of the dense families: configs of older and newer spelling, rotations, and what is refused by name."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from architecture_models import GOLDEN

from zigllama.errors import BadCheckpoint, ShapeError
from zigllama.models.conversion.checkpoint import Config
from zigllama.models.conversion.recipes import conversion_of
from zigllama.models.conversion.rope import rope_keys, rope_tensors
from zigllama.models.conversion.tables import sorted_qkv


def config(name: str, **changes: Any) -> Config:
    """The config of a variant, changed; None takes a key away."""
    found = json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))["config"] | changes
    return Config({key: value for key, value in found.items() if value is not None})


def keys(c: Config) -> dict[str, Any]:
    """The metadata of a config."""
    return conversion_of(c).metadata(c)


OLD: list[tuple[str, dict[str, Any]]] = [
    ("llama", {"rope_parameters": None, "rope_theta": 20000.0}),
    ("llama-linear", {"rope_parameters": None, "rope_scaling": {"type": "linear", "factor": 4.0}}),
    ("gptneox", {"rope_parameters": None, "rotary_pct": 0.25, "rotary_emb_base": 10000}),
    ("phi2", {"rope_parameters": None, "rope_theta": 10000.0, "partial_rotary_factor": 0.375}),
    ("qwen2-window", {"layer_types": None}),
    ("gemma3-linear", {"rope_parameters": None, "rope_theta": 1e6, "rope_local_base_freq": 10000.0,
                       "rope_scaling": {"rope_type": "linear", "factor": 8.0}}),
    ("bloom", {"n_layer": None, "num_hidden_layers": 2, "n_head": None, "num_attention_heads": 4}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "changes"), OLD)
def test_older_configs_say_the_same(name: str, changes: dict[str, Any]) -> None:
    assert keys(config(name, **changes)) == keys(config(name))


def test_phi3_by_its_older_name() -> None:
    new = config("phi3-longrope-long")
    rope = new["rope_parameters"] | {"type": "su"}
    old = config("phi3-longrope-long", rope_parameters=None, rope_theta=10000.0, partial_rotary_factor=0.75)
    old["rope_scaling"] = {k: v for k, v in rope.items() if k in ("type", "short_factor", "long_factor")}
    assert keys(old) == keys(new) and keys(new)["rope.scaling.type"] == "longrope"
    assert keys(new)["rope.dimension_count"] == 48
    assert keys(new)["rope.scaling.attn_factor"] == pytest.approx((1 + np.log(4) / np.log(256)) ** 0.5)
    assert sorted(rope_tensors(old, 64)) == ["rope_factors_long.weight", "rope_factors_short.weight"]


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "'dynamic' is not supported"),
    ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "truncate": False}}, "without truncation"),
    ("llama", {"rope_parameters": {"rope_type": "yarn", "factor": 0.0}}, "factor 0.0"),
    ("llama", {"rope_parameters": {"rope_type": "yarn"}}, "factor: missing"),
    ("qwen2-window", {"layer_types": ["sliding_attention"]}, "layer_types: 1 for 3 layers"),
    ("qwen2-window", {"layer_types": ["sliding_attention", "full_attention", "other"]}, "other kinds"),
    ("falcon-7b", {"alibi": True}, "alibi: True"),
    ("falcon-7b", {"parallel_attn": False}, "parallel_attn"),
    ("falcon-7b", {"bias": True}, "bias: True"),
    ("falcon-40b", {"activation": "relu"}, "activation: 'relu'"),
    ("gptneox", {"hidden_act": "gelu_10"}, "hidden_act"),
    ("gptneox", {"attention_bias": False}, "attention_bias"),
    ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
    ("gpt2", {"activation_function": "relu"}, "activation_function"),
    ("starcoder2", {"use_bias": False}, "use_bias"),
    ("phi2", {"qk_layernorm": True}, "qk_layernorm"),
    ("phi3", {"hidden_act": "gelu"}, "hidden_act"),
    ("gemma", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
    ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
    ("bloom", {"apply_residual_connection_post_layernorm": True}, "apply_residual"),
    ("gptj", {"tie_word_embeddings": True}, "tie_word_embeddings"),
]


@pytest.mark.parametrize(("name", "changes", "reason"), REFUSED)
def test_refused(name: str, changes: dict[str, Any], reason: str) -> None:
    """What a page does not do is refused before a byte is written, by the config's key."""
    with pytest.raises(BadCheckpoint, match=reason):
        keys(config(name, **changes))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"factor": 0.0}, "factor 0.0"),
        ({"high_freq_factor": 1.0}, "high 1.0"),
        ({"low_freq_factor": None}, "low_freq_factor: missing"),
    ],
)
def test_llama3_that_cannot_be(change: dict[str, Any], reason: str) -> None:
    c = config("llama3")
    c["rope_parameters"] = {k: v for k, v in (c["rope_parameters"] | change).items() if v is not None}
    with pytest.raises(BadCheckpoint, match=reason):
        rope_tensors(c, 128)


@pytest.mark.parametrize("values", [[1.0] * 23, [1.0] * 23 + [0.0], [1.0] * 23 + ["1"], "text"])
def test_longrope_that_cannot_be(values: Any) -> None:
    c = config("phi3-longrope-long")
    c["rope_parameters"] = c["rope_parameters"] | {"long_factor": values}
    with pytest.raises(BadCheckpoint, match="long_factor"):
        rope_tensors(c, 64)


def test_yarn_attention_factors() -> None:
    """What the file's attn_factor multiplies: the config's attention_factor, or its two mscales, over the usual one."""
    base = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 128}
    usual = 0.1 * np.log(4) + 1

    def factor(**more: float) -> float:
        return float(rope_keys(config("llama", rope_parameters=base | more), 64).get("rope.scaling.attn_factor", 1.0))

    assert factor() == factor(mscale=1.0) == 1.0
    assert factor(attention_factor=1.5) == pytest.approx(1.5 / usual)
    want = (0.1 * 0.7 * np.log(4) + 1) / (0.1 * 0.5 * np.log(4) + 1)
    assert factor(mscale=0.7, mscale_all_dim=0.5) == pytest.approx(want / usual)


def test_sorting_q_k_and_v() -> None:
    """Heads of two channels, numbered as they come out: in the folder group by group, q .. q, k, v each."""
    order = [0, 1, 2, 3, 8, 9, 12, 13, 4, 5, 6, 7, 10, 11, 14, 15]  # 4 heads, 2 key/value heads
    make = sorted_qkv("qkv", 4, 2).make
    assert make is not None
    np.testing.assert_array_equal(make(np.array(order, np.float32)), np.arange(16))
    matrix = np.array(order, np.float32)[:, None] * np.ones(3, np.float32)
    np.testing.assert_array_equal(make(matrix), np.arange(16)[:, None] * np.ones(3))
    with pytest.raises(ShapeError, match="15 rows for 4 heads and 2"):
        make(np.zeros((15, 3), np.float32))
