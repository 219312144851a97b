"""Folders of LLaVA 1.5's class -> the text model as `llama`, and the projector as `clip` of type mlp.

The rows are taken before the last of CLIP's blocks (vision_feature_layer -2): the file ends there, and says so in
`feature_layer`, which stops readers that would leave out one more. Folders have been written with three spellings of
the tower's names and two of the others'.
"""

from __future__ import annotations

from typing import Any

from zigllama.errors import BadCheckpoint
from zigllama.models.conversion import llama
from zigllama.models.conversion.checkpoint import Checkpoint, Config
from zigllama.models.conversion.image_processor import CLIP, fitted, image_processor, normalisation
from zigllama.models.conversion.recipes import Conversion, Recipe, register, take
from zigllama.models.conversion.safetensors import shown
from zigllama.models.conversion.tables import expect, named
from zigllama.models.conversion.vision_tower import (
    NOTE,
    check,
    part,
    text_config,
    text_tensors,
    tower_metadata,
    tower_tensors,
)

VISION = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "image_size": 224, "patch_size": 32, "layer_norm_eps": 1e-5,
}  # fmt: skip
ABSENT = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "image_size": 336, "patch_size": 14,
}  # fmt: skip
TOWER, MM = "vision_tower.vision_model.", "multi_modal_projector."
SPELLINGS = (
    (r"^language_model\.model\.", "model.language_model."),
    (r"^language_model\.lm_head\.", "lm_head."),
    (r"^vision_tower\.vision_model\.", "vision_tower."),
    (r"^vision_tower\.vision_model\.", "model.vision_tower.vision_model."),
    (r"^vision_tower\.vision_model\.", "model.vision_tower."),
    (r"^multi_modal_projector\.", "model.multi_modal_projector."),
)


def text(config: Config) -> Config:
    """The text model's config."""
    tied = config.bool("tie_word_embeddings", default=False)
    own = config.object("text_config").bool("tie_word_embeddings", default=False)
    return text_config(config, {}, tied or own)


def vision(config: Config) -> Config:
    """The tower's config."""
    return part(config, "vision_config", ("clip_vision_model",), VISION, ABSENT)


def depth(config: Config) -> int:
    """After how many blocks the rows are taken. Raises BadCheckpoint for anything but one layer."""
    n = vision(config).layers("num_hidden_layers")
    value = config.get("vision_feature_layer", -2)
    layer = value[0] if isinstance(value, list) and len(value) == 1 else value
    if isinstance(layer, bool) or not isinstance(layer, int) or not 1 <= (layer if layer >= 0 else n + 1 + layer) <= n:
        reason = f"vision_feature_layer: {shown(value)} is not supported, one layer from 1 to {n} or from -{n} to -1 is"
        raise BadCheckpoint(config.path, reason)
    return layer if layer > 0 else n + 1 + layer


def metadata(config: Config) -> dict[str, Any]:
    """The projector's keys."""
    expect(config, "vision_feature_select_strategy", "default")  # the patches' rows, without the class token's
    expect(config, "projector_hidden_act", "gelu")
    expect(config, "multimodal_projector_bias", True)
    keys = tower_metadata(vision(config), text(config).int("hidden_size"), "mlp", {"quick_gelu": False, "gelu": True})
    return keys | {"vision.block_count": depth(config), "vision.feature_layer": [depth(config)]}


def tensors(config: Config) -> dict[str, Recipe]:
    """The projector's."""
    out = tower_tensors(TOWER, depth(config)) | {"v.class_embd": take(f"{TOWER}embeddings.class_embedding")}
    out |= named("", "", {"v.pre_ln": f"{TOWER}pre_layrnorm"})  # spelt so in every folder
    return out | named("", "", {"mm.0": f"{MM}linear_1", "mm.2": f"{MM}linear_2"})


def ignored(config: Config) -> tuple[str, ...]:
    """The text model; the norm after the last block, and the blocks from which no row is taken."""
    tower = r"^(model\.)?vision_tower\.(vision_model\.)?"
    unused = "|".join(str(i) for i in range(depth(config), vision(config).layers("num_hidden_layers")))
    blocks = (rf"{tower}encoder\.layers\.(?:{unused})\.",) if unused else ()
    left = (rf"{tower}post_layernorm\.", rf"{tower}embeddings\.position_ids$")
    return (r"^(model\.)?language_model\.", r"^lm_head\.", *left, *blocks)


def images(checkpoint: Checkpoint) -> tuple[dict[str, Any], list[str]]:
    """What the folder's image processor says."""
    settings = image_processor(checkpoint)
    notes = fitted(settings, vision(checkpoint.config).int("image_size"))
    return normalisation(settings, CLIP), notes


TEXT = Conversion(
    "llama",
    lambda config: llama.metadata(text(config)),
    lambda config: text_tensors(text(config), "language_model.model.", "language_model.lm_head."),
    (r"^(model\.)?(vision_tower|multi_modal_projector)\.", r"\.rotary_emb\.inv_freq$", r"(^|\.)lm_head\.weight$"),
    spellings=SPELLINGS,
    notes=(NOTE,),
)
PROJECTOR = Conversion("clip", metadata, tensors, ignored, spellings=SPELLINGS, images=images, check=check)
register("LlavaForConditionalGeneration", TEXT, PROJECTOR)
