"""What the pages of models that see images share: the parts of their config, their text model's recipes, and the ViT
of CLIP and SigLIP -> the keys and tensors of a projector's file (models/multi_modal.py reads it).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from zigllama.errors import UnsupportedArchitecture
from zigllama.models.conversion import llama
from zigllama.models.conversion.checkpoint import Config
from zigllama.models.conversion.recipes import Recipe, Shape, take
from zigllama.models.conversion.tables import expect, named
from zigllama.models.multi_modal import checked

# what LLaMA's class takes for sizes that a nested config leaves out, as LLaVA 1.5 does with nearly all
TEXT: Mapping[str, Any] = {
    "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "max_position_embeddings": 2048,
}  # fmt: skip
# the file's names of a block -> the folder's
BLOCK = {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_out": "self_attn.out_proj", "ln1": "layer_norm1", "ln2": "layer_norm2",
    "ffn_up": "mlp.fc1", "ffn_down": "mlp.fc2",
}  # fmt: skip
NOTE = "this is the text model; convert the folder with mmproj=True (--mmproj) too, for the file that sees images"


def part(
    config: Config, key: str, kinds: tuple[str, ...], defaults: Mapping[str, Any], absent: Mapping[str, Any]
) -> Config:
    """An object of the config, with what its class takes for the keys that it lacks (`defaults`), or for all where the
    object itself is missing (`absent`). Raises BadCheckpoint; UnsupportedArchitecture for a model_type beyond `kinds`.
    """
    found = Config(absent) if config.get(key) is None else config.object(key)
    found.path = f"{config.path}, {key}"
    kind = found.text("model_type", default=kinds[0])
    if kind not in kinds:
        raise UnsupportedArchitecture(f"{config.get('model_type')} with a {key} of type {kind}", kinds[0])
    for name, value in defaults.items():
        found.setdefault(name, value)
    return found


def text_config(config: Config, absent: Mapping[str, Any], tied: bool) -> Config:
    """The text model's config, which is LLaMA's; `tied`: whether the output matrix is the embedding."""
    text = part(config, "text_config", ("llama",), TEXT, absent)
    text["tie_word_embeddings"] = tied
    return text


def text_tensors(text: Config, model: str, head: str) -> dict[str, Recipe]:
    """LLaMA's recipes with `model` for its "model." and `head` for its "lm_head."."""

    def spelt(name: str) -> str:
        return re.sub("^model\\.", model, re.sub("^lm_head\\.", head, name))

    found = llama.tensors(text).items()
    return {key: dataclasses.replace(recipe, names=tuple(map(spelt, recipe.names))) for key, recipe in found}


def tower_metadata(vision: Config, n_out: int, kind: str, gelu: Mapping[str, bool]) -> dict[str, Any]:
    """The tower's keys; `gelu`: hidden_act -> use_gelu. Raises BadCheckpoint."""
    expect(vision, "num_channels", 3)
    expect(vision, "hidden_act", *gelu)
    return {
        "general.type": "mmproj",
        "has_vision_encoder": True,
        "projector_type": kind,
        "use_gelu": gelu[vision.text("hidden_act", default=next(iter(gelu)))],
        "vision.image_size": vision.int("image_size", low=1, high=1 << 12),
        "vision.patch_size": vision.int("patch_size", low=1, high=1 << 10),
        "vision.embedding_length": vision.int("hidden_size", low=1),
        "vision.feed_forward_length": vision.int("intermediate_size", low=1),
        "vision.block_count": vision.layers("num_hidden_layers"),
        "vision.attention.head_count": vision.int("num_attention_heads", low=1),
        "vision.attention.layer_norm_epsilon": vision.float("layer_norm_eps"),
        "vision.projection_dim": n_out,
    }


def tower_tensors(prefix: str, n_layer: int) -> dict[str, Recipe]:
    """The patches' product, the positions and the first n_layer blocks; `prefix` stands before the folder's names."""
    out = {
        "v.patch_embd.weight": take(f"{prefix}embeddings.patch_embedding.weight"),
        "v.position_embd.weight": take(f"{prefix}embeddings.position_embedding.weight"),
    }
    for i in range(n_layer):
        out |= named(f"v.blk.{i}.", f"{prefix}encoder.layers.{i}.", BLOCK)
    return out


def check(metadata: Mapping[str, Any], shapes: Mapping[str, Shape]) -> None:
    """Raises what opening such a file would."""
    checked(metadata, shapes)
