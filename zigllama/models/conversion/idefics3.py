"""Folders of Idefics3's and SmolVLM's classes -> the text model as `llama`, and the projector as `clip` of type
idefics3.

SmolVLM has Idefics3's layers under names of its own in the config; the tensors' names are the same.
"""

from __future__ import annotations

from typing import Any

from zigllama.models.conversion import llama
from zigllama.models.conversion.checkpoint import Checkpoint, Config
from zigllama.models.conversion.image_processor import HALF, cut, image_processor, normalisation
from zigllama.models.conversion.recipes import Conversion, Recipe, register, take
from zigllama.models.conversion.tables import named
from zigllama.models.conversion.vision_tower import (
    NOTE,
    check,
    part,
    text_config,
    text_tensors,
    tower_metadata,
    tower_tensors,
)

KINDS = ("idefics3_vision", "idefics3", "smolvlm_vision", "smolvlm")
VISION = {
    "hidden_size": 1152, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 16,
    "image_size": 224, "patch_size": 32, "layer_norm_eps": 1e-6,
}  # fmt: skip
TOWER = "model.vision_model."


def text(config: Config) -> Config:
    """The text model's config."""
    return text_config(config, {"rms_norm_eps": 1e-5}, config.bool("tie_word_embeddings", default=False))


def vision(config: Config) -> Config:
    """The tower's config."""
    return part(config, "vision_config", KINDS, VISION, {})


def metadata(config: Config) -> dict[str, Any]:
    """The projector's keys."""
    keys = tower_metadata(vision(config), text(config).int("hidden_size"), "idefics3", {"gelu_pytorch_tanh": True})
    return keys | {"vision.projector.scale_factor": config.int("scale_factor", default=2, low=1, high=64)}


def tensors(config: Config) -> dict[str, Recipe]:
    """The projector's."""
    out = tower_tensors(TOWER, vision(config).layers("num_hidden_layers"))
    out["v.patch_embd.bias"] = take(f"{TOWER}embeddings.patch_embedding.bias")
    out |= named("", "", {"v.post_ln": f"{TOWER}post_layernorm"})
    return out | {"mm.model.fc.weight": take("model.connector.modality_projection.proj.weight")}


def images(checkpoint: Checkpoint) -> tuple[dict[str, Any], list[str]]:
    """What the folder's image processor says."""
    settings = image_processor(checkpoint)
    return normalisation(settings, HALF) | cut(settings, vision(checkpoint.config).int("image_size")), []


TEXT = Conversion(
    "llama",
    lambda config: llama.metadata(text(config)),
    lambda config: text_tensors(text(config), "model.text_model.", "lm_head."),
    (r"^model\.(vision_model|connector)\.", *llama.IGNORED),
    notes=(NOTE,),
)
OTHERS = (r"^model\.text_model\.", r"^lm_head\.")
PROJECTOR = Conversion("clip", metadata, tensors, OTHERS, images=images, check=check)
for name in ("Idefics3ForConditionalGeneration", "SmolVLMForConditionalGeneration"):
    register(name, TEXT, PROJECTOR)
