"""Models that see images, held against `transformers`: small ones, as data, and the images and texts they are shown.

tools/make_multi_modal_golden.py NAME makes the golden files (with torch and transformers, without zigllama),
tests/golden/test_multi_modal.py runs what lies there. Widths that 32 divides, so that 8 bits apply to the tower too;
the text model is 256 wide. An image of 70 x 50 pixels, and a second one of another shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from architecture_variants import Variant
from random_weights import Stream

U8 = npt.NDArray[np.uint8]
IMAGE_TOKEN = 299  # the last of the vocabulary: transformers' placeholder, which no text has

TEXT: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 300,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5,
}
KEYS = {r"vision.*k_proj\.bias": "softmax takes it out: nothing is rotated"}
CLIP = {
    "model_type": "clip_vision_model", "hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 3,
    "num_attention_heads": 3, "image_size": 56, "patch_size": 14,
}  # fmt: skip
SIGLIP = {
    "hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 48,
    "patch_size": 8, "layer_norm_eps": 1e-5,
}  # fmt: skip
# a product over 3 x 14 x 14 pixels, of which seeded_weights sees the last side alone; positions about as large
GAINS = {r"patch_embedding\.weight": (1 / 42) ** 0.5, r"position_embedding": 8.0, r"vision.*[qk]_proj": 3.0}
RANGES = {r"class_embedding": (0.0, 1.5)}
LAST_BLOCK = {r"vision_tower.*layers\.2\.": "the rows are taken before CLIP's last block"}
LAST_NORM = {r"vision_tower.*post_layernorm": "the rows are taken before the norm after CLIP's last block"}


@dataclass(frozen=True)
class ImageVariant(Variant):
    """`processor`: the class of transformers that makes images ready, with its `settings`; `n_out`: rows of a tile;
    `images`: width and height of each; `fit`: what zigllama.Vision is told."""

    processor: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    n_out: int = 0
    images: tuple[tuple[int, int], ...] = ((70, 50), (31, 83))
    fit: str = "crop"


def _llava(vision: dict[str, Any] | None = None, idle: Mapping[str, str] = LAST_BLOCK, **config: Any) -> dict[str, Any]:
    base = {"vision_config": CLIP | (vision or {}), "text_config": TEXT, "image_token_index": IMAGE_TOKEN}
    return {
        "hf": "LlavaForConditionalGeneration",
        "config": base | {"image_seq_length": 16} | config,
        "gains": GAINS,
        "ranges": RANGES,
        "idle": KEYS | LAST_NORM | dict(idle),
        "n_out": 16,
        "prompt": 0,
    }


CROPPED = {"size": {"shortest_edge": 56}, "crop_size": {"height": 56, "width": 56}}
VARIANTS = {
    "llava": ImageVariant(**_llava(), processor="clip.CLIPImageProcessorPil", settings=CROPPED),
    "llava-padded": ImageVariant(
        **_llava({"hidden_act": "gelu"}, {}, vision_feature_layer=3, text_config=TEXT | {"tie_word_embeddings": True}),
        processor="llava.LlavaImageProcessorPil",
        settings=CROPPED | {"do_pad": True, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.3, 0.25, 0.2]},
        fit="pad",
    ),
    "idefics3": ImageVariant(
        "Idefics3ForConditionalGeneration",
        {"vision_config": SIGLIP, "text_config": TEXT, "image_token_id": IMAGE_TOKEN, "scale_factor": 3},
        gains=GAINS,
        idle=KEYS,
        prompt=0,
        processor="idefics3.Idefics3ImageProcessorPil",
        settings={"size": {"longest_edge": 90}, "max_image_size": {"longest_edge": 48}},
        n_out=4,
    ),
    "smolvlm": ImageVariant(
        "SmolVLMForConditionalGeneration",
        {
            "vision_config": SIGLIP | {"image_size": 64, "patch_size": 16},
            "text_config": TEXT | {"rope_theta": 50000.0},
            "image_token_id": IMAGE_TOKEN,
            "scale_factor": 2,
            "tie_word_embeddings": True,
        },
        gains=GAINS,
        idle=KEYS,
        prompt=0,
        processor="smolvlm.SmolVLMImageProcessorPil",
        settings={"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 64}},
        n_out=4,
    ),
}  # fmt: skip


def image(name: str, i: int) -> U8:
    """The variant's i-th image (H, W, 3): fields of 10 x 10 pixels of one colour, and noise on them."""
    width, height = VARIANTS[name].images[i]
    fields = Stream(f"{name}/fields/{i}").bytes(-(-height // 10), -(-width // 10), 3)
    large = np.repeat(np.repeat(fields, 10, axis=0), 10, axis=1)[:height, :width]
    found: U8 = large // 4 * 3 + Stream(f"{name}/noise/{i}").bytes(height, width, 3) // 4
    return found


@dataclass(frozen=True)
class Run:
    """A text with images: `length` positions in all, and before which of its ids each image's first tile stands. The
    tiles of one image have an id between them, as Idefics3's marks are."""

    length: int
    places: tuple[int, ...]

    def tiles(self, tiles: tuple[int, ...]) -> list[tuple[int, int, int]]:
        """(place, image, tile) of every tile; `tiles`: how many each image has."""
        return [(at + t, i, t) for i, at in enumerate(self.places) for t in range(tiles[i])]

    def n_ids(self, tiles: tuple[int, ...], n_out: int) -> int:
        """How many ids are left beside the images' rows."""
        return self.length - n_out * len(self.tiles(tiles))


RUNS = {"one": Run(300, (50,)), "two": Run(128, (3, 40))}
EFFECTS = Run(64, (12,))
