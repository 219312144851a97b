"""Qwen 1, for which transformers has no class: held against its class for Qwen 2.

The authors' own code (QwenLM/Qwen, modeling_qwen.py) computes, with one matrix and bias for q, k and v, half-split
rotation of whole heads, RMSNorm and w_down (w1 x * silu(w2 x)), what Qwen 2 computes with as many key/value heads as
query heads, w1 as its up and w2 as its gate. So a Qwen 1 folder made of a Qwen 2 model's weights must give that
model's logits: those that transformers gave (golden), and bit for bit those of the file of architecture qwen2.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors_folder
import seeded_weights
from architecture_models import Subject

from zigllama.errors import BadCheckpoint
from zigllama.models.conversion.convert import convert

RENAMED = {
    "model.embed_tokens": "transformer.wte",
    "model.norm": "transformer.ln_f",
    "model.layers": "transformer.h",
    "input_layernorm": "ln_1",
    "post_attention_layernorm": "ln_2",
    "self_attn.o_proj": "attn.c_proj",
    "mlp.up_proj": "mlp.w1",
    "mlp.gate_proj": "mlp.w2",
    "mlp.down_proj": "mlp.c_proj",
}
CONFIG = {
    "architectures": ["QWenLMHeadModel"],
    "vocab_size": 300,
    "hidden_size": 256,
    "intermediate_size": 1024,  # gate and up together
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "kv_channels": 64,
    "seq_length": 512,
    "max_position_embeddings": 512,
    "layer_norm_epsilon": 1e-5,
    "rotary_emb_base": 1e6,
    "rotary_pct": 1.0,
    "no_bias": True,
    "use_dynamic_ntk": True,
    "use_logn_attn": True,
    "tie_word_embeddings": False,
}


def folder(subject: Subject, path: Path, **changes: Any) -> Path:
    """The Qwen 2 variant's weights as Qwen 1's class saves them."""
    shapes = {key: tuple(shape) for key, shape in subject.about["parameters"].items()}
    tensors = {}
    for name, x in seeded_weights.weights(subject.name, shapes, subject.variant).items():
        for old, new in RENAMED.items():
            name = name.replace(old, new)
        tensors[name] = x
    for i in range(2):
        for kind in ("weight", "bias"):
            parts = [tensors.pop(f"transformer.h.{i}.self_attn.{x}_proj.{kind}") for x in "qkv"]
            tensors[f"transformer.h.{i}.attn.c_attn.{kind}"] = np.concatenate(parts)
    assert not any(re.search("model|proj$|self_attn", name) for name in tensors)
    return safetensors_folder.folder(path, CONFIG | changes, tensors)


def test_qwen1_is_qwen2_with_all_heads(tmp_path: Path) -> None:
    subject = Subject("qwen2-heads", tmp_path)
    made = convert(folder(subject, tmp_path / "qwen"), tmp_path / "qwen.gguf", "F32", vocabulary=False)
    assert made.arch == "qwen" and made.metadata["qwen.feed_forward_length"] == 1024
    shapes = [made.tensors[f"blk.1.{name}.weight"][0] for name in ("attn_qkv", "ffn_up")]
    assert shapes == [(768, 256), (512, 256)]
    with subject.open(tmp_path / "qwen.gguf") as m:
        ours = m.logits(subject.ids)
    np.testing.assert_allclose(ours[subject.rows(300)], subject.arrays[300], rtol=0, atol=subject.variant.atol)
    np.testing.assert_array_equal(ours, subject.model.logits(subject.ids))
    subject.close()


@pytest.mark.parametrize(("key", "value"), [("no_bias", False), ("kv_channels", 32)])
def test_what_it_is_not(tmp_path: Path, key: str, value: Any) -> None:
    """A Qwen 1 with biases everywhere, or heads of another size, was never published and has no form in GGUF."""
    with pytest.raises(BadCheckpoint, match=key):
        convert(
            folder(Subject("qwen2-heads", tmp_path), tmp_path / "qwen", **{key: value}),
            tmp_path / "qwen.gguf",
            "F32",
            vocabulary=False,
        )
