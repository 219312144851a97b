"""A GGUF file as a transformers model: the second opinion on the float evaluation.

The converters from transformers to GGUF change two things, undone here: rows of llama's q and k are permuted so that
rotary pairs become neighbours, and gemma3's RMSNorm weights have had 1 added.  Weights are set through `state_dict`,
strictly: a tensor too many or too few is an error.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from .weights import Array, Weights

LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def version() -> str:
    """Versions of both packages."""
    return f"transformers {transformers.__version__}, torch {torch.__version__}"


def halves(w: Array, n_head: int) -> Array:
    """Rows of each head from neighbours (0, 1), (2, 3).. back to halves (0, D/2), (1, D/2 + 1)..: the way back."""
    d = w.shape[0] // n_head
    return w.reshape(n_head, d // 2, 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def config_of(w: Weights) -> transformers.PretrainedConfig:
    """The transformers configuration that a file's metadata describes."""
    n_embd, n_head, n_layer = (
        int(w.need("embedding_length")),
        int(w.need("attention.head_count")),
        int(w.need("block_count")),
    )
    head_dim = int(w.get("attention.key_length", n_embd // n_head))
    n_vocab = w["token_embd.weight"].shape[0]
    common = {
        "hidden_size": n_embd,
        "intermediate_size": int(w.need("feed_forward_length")),
        "num_hidden_layers": n_layer,
        "num_attention_heads": n_head,
        "num_key_value_heads": int(w.get("attention.head_count_kv", n_head)),
        "head_dim": head_dim,
        "rms_norm_eps": float(w.need("attention.layer_norm_rms_epsilon")),
        "vocab_size": n_vocab,
        "max_position_embeddings": int(w.get("context_length", 4096)),
        "tie_word_embeddings": "output.weight" not in w,
        "attn_implementation": "eager",
        "pad_token_id": None,
    }
    base = float(w.get("rope.freq_base", 10000.0))
    if w.metadata["general.architecture"] == "llama":
        return transformers.LlamaConfig(rope_parameters={"rope_type": "default", "rope_theta": base}, **common)
    pattern = int(w.get("attention.sliding_window_pattern", 6))
    return transformers.Gemma3TextConfig(
        sliding_window=int(w.need("attention.sliding_window")),
        layer_types=["full_attention" if i % pattern == pattern - 1 else "sliding_attention" for i in range(n_layer)],
        rope_parameters={
            "full_attention": {"rope_type": "default", "rope_theta": base},
            "sliding_attention": {"rope_type": "default", "rope_theta": float(w.get("rope.freq_base_swa", 10000.0))},
        },
        query_pre_attn_scalar=head_dim,
        hidden_activation="gelu_pytorch_tanh",
        final_logit_softcapping=None,
        attn_logit_softcapping=None,
        **common,
    )


class TorchModel:
    """One GGUF file as a transformers model in float64 (the library keeps rotary tables and norms in float32)."""

    def __init__(self, path: str | Path) -> None:
        w = Weights(path)
        self.config = config_of(w)
        gemma = w.metadata["general.architecture"] == "gemma3"
        kind: Any = transformers.Gemma3ForCausalLM if gemma else transformers.LlamaForCausalLM
        with torch.device("cpu"):
            self.model = kind(self.config).double().eval()
        state = {
            "model.embed_tokens.weight": w["token_embd.weight"],
            "model.norm.weight": w["output_norm.weight"] - gemma,
        }
        state["lm_head.weight"] = w["output.weight"] if "output.weight" in w else w["token_embd.weight"]
        names = dict(LAYER_NAMES, ffn_norm="pre_feedforward_layernorm" if gemma else "post_attention_layernorm")
        heads = {"attn_q": self.config.num_attention_heads, "attn_k": self.config.num_key_value_heads}
        for i in range(self.config.num_hidden_layers):
            for ours, theirs in names.items():
                name = f"blk.{i}.{ours}.weight"
                if name not in w:
                    continue
                value = w[name]
                if gemma and ours.endswith("norm"):
                    value = value - 1.0
                if not gemma and ours in heads:
                    value = halves(value, heads[ours])
                state[f"model.layers.{i}.{theirs}.weight"] = value
        self.model.load_state_dict(
            {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in state.items()}, strict=True
        )

    def logits(self, ids: Sequence[int], rows: Sequence[int] | None = None) -> Array:
        """Logits at every position, or at the given ones.   -> (rows, V)"""
        keep = torch.arange(len(ids)) if rows is None else torch.tensor(list(rows))
        with torch.no_grad():
            out = self.model(torch.tensor([list(ids)]), logits_to_keep=keep, use_cache=False)
        return np.asarray(out.logits[0].double().numpy())
