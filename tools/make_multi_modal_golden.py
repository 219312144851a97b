"""Make tests/golden/multi_modal/NAME.json and NAME.npz: what transformers says about a small random model and images.

    pip install torch transformers safetensors numpy pillow
    python tools/make_multi_modal_golden.py llava smolvlm      some of tests/multi_modal_variants.py
    python tools/make_multi_modal_golden.py                    all that have no golden file yet

The models are made as tools/make_architecture_golden.py makes them. Images go through the class's own image processor,
the form that resizes by Pillow, in float32:

    pixels     of each image's tiles: shape, means and deviations by tile and channel, and some values
    features   rows of the first image, after the projector
    prompts    what the class's processor puts in the place of each image: its rows as <image>, and marks around tiles
    one, two   logits of some rows of a text with one image, and of one with two
    greedy     16 tokens after the text with two, each from a pass over all, and how far the second best logit was
    effects    how far some logit moves when one parameter is made neutral; below ten times the tolerance it is idle
               and the model is refused, except for what the variant names

The engine takes no part.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers
from make_architecture_golden import N_GREEDY, ROOT, Oracle, keep, make_asked
from multi_modal_variants import EFFECTS, IMAGE_TOKEN, RUNS, VARIANTS, ImageVariant, Run, image

GOLDEN = ROOT / "tests" / "golden" / "multi_modal"
ROWS = (0, 1, 6, 40, 49, 50, 51, 60, 65, 66, 67, 127, 200, 299)
N_VALUES = 64


class ImageOracle(Oracle):
    """A variant's model with its image processor."""

    def __init__(self, name: str, variant: ImageVariant) -> None:
        super().__init__(name, variant)
        self.name, self.images = name, variant
        self.ids = [i % IMAGE_TOKEN for i in self.ids]
        module, made = variant.processor.split(".")
        path = f"transformers.models.{module}.image_processing_pil_{module}"
        self.processor = getattr(importlib.import_module(path), made)(**variant.settings)
        self.pixels = [self.processed(image(name, i)) for i in range(len(variant.images))]

    def processed(self, pixels: np.ndarray[Any, Any]) -> torch.Tensor:
        """Tiles (n, 3, S, S) of one image."""
        found = self.processor(images=[pixels], return_tensors="pt")["pixel_values"]
        return found.reshape(-1, *found.shape[-3:])

    @property
    def tiles(self) -> tuple[int, ...]:
        """How many tiles each image has."""
        return tuple(len(p) for p in self.pixels)

    def shown(self, *images: int) -> torch.Tensor:
        """The model's pixel_values of these images."""
        found = torch.cat([self.pixels[i] for i in images])
        return found if self.images.hf.startswith("Llava") else found[None]

    def features(self, i: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Rows of an image (N, C)."""
        with torch.no_grad():
            found = self.model.get_image_features(self.shown(i), return_dict=True).pooler_output
        return np.asarray(torch.cat([f.reshape(-1, f.shape[-1]) for f in found]).numpy(), np.float32)

    def prompt(self, i: int) -> str:
        """What stands for an image, without a tokenizer, of which only the marks' texts are asked."""
        made = getattr(transformers, self.images.hf.removesuffix("ForConditionalGeneration") + "Processor")
        marks = {"fake_image_token": "<fake_token_around_image>", "image_token": "<image>"}
        marks |= {"global_image_tag": "<global-img>", "global_image_token": "<global-img>"}
        vision = self.config["vision_config"]
        it = SimpleNamespace(
            image_seq_len=self.images.n_out,
            patch_size=vision["patch_size"],
            num_additional_image_tokens=1,
            vision_feature_select_strategy="default",
            **marks,
        )
        more = {} if self.images.hf.startswith("Llava") else {"return_row_col_info": True}
        inputs = self.processor(images=[image(self.name, i)], return_tensors="pt", **more)
        return str(made.replace_image_token(it, inputs, 0))

    def greedy(self) -> tuple[list[int], list[float]]:
        """The continuation of the run with two images, and the gaps."""
        tokens, gaps = list[int](), list[float]()
        for _ in range(N_GREEDY):
            row = self.look(RUNS["two"], tokens)[-1]
            second, first = np.partition(row, -2)[-2:]
            tokens.append(int(row.argmax()))
            gaps.append(round(float(first - second), 6))
        if IMAGE_TOKEN in tokens:
            raise SystemExit(f"{self.name}: the continuation has the image's placeholder in it")
        return tokens, gaps

    def look(self, run: Run, more: Sequence[int] = ()) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Logits (T + N, V), `more` ids behind the run's."""
        n = self.images.n_out
        text = list(self.ids[: run.n_ids(self.tiles, n)])
        for at, _, _ in reversed(run.tiles(self.tiles)):
            text[at:at] = [IMAGE_TOKEN] * n
        assert len(text) == run.length
        text += more
        with torch.no_grad():
            pixels = self.shown(*range(len(run.places)))
            found = self.model(input_ids=torch.tensor([text]), pixel_values=pixels, use_cache=False).logits
        return np.asarray(found[0].numpy(), np.float32)

    def effects(self) -> dict[str, float]:
        """Largest change of a logit, per parameter."""
        plain, effects = self.look(EFFECTS), {}
        for name, parameter in self.model.named_parameters():
            with self.neutral(parameter, name):
                effects[name] = float(f"{np.abs(self.look(EFFECTS) - plain).max():.4g}")
        return effects

    def statistics(self, i: int) -> dict[str, Any]:
        """What is kept of an image's tiles."""
        x = self.pixels[i].numpy().astype(np.float32)
        every = max(1, x.size // N_VALUES)
        return {
            "shape": list(x.shape),
            "mean": [[float(c.mean(dtype=np.float64)) for c in tile] for tile in x],
            "deviation": [[float(c.std(dtype=np.float64)) for c in tile] for tile in x],
            "every": every,
            "values": [float(v) for v in x.reshape(-1)[::every]],
        }


def make(name: str, variant: ImageVariant) -> None:
    """Write one pair of files. Raises SystemExit for an idle parameter, and for one that is not idle as said."""
    oracle = ImageOracle(name, variant)
    effects = oracle.effects()
    for parameter, effect in effects.items():
        idle = any(re.search(pattern, parameter) for pattern in variant.idle)
        if not idle and not effect >= 10 * variant.atol:
            raise SystemExit(f"{name}: {parameter} is idle: neutral, it moves no logit by more than {effect}")
        if idle and not effect < variant.atol:
            raise SystemExit(f"{name}: {parameter} should be idle, and moves a logit by {effect}")
    runs = {key: oracle.look(run)[[r for r in ROWS if r < run.length]] for key, run in RUNS.items()}
    tokens, gaps = oracle.greedy()
    about = {
        "oracle": f"transformers {transformers.__version__}, torch {torch.__version__}, numpy {np.__version__}",
        "command": f"python tools/make_multi_modal_golden.py {name}",
        "class": variant.hf,
        "n_vocab": oracle.n_vocab,
        "config": oracle.config,
        "processor": json.loads(oracle.processor.to_json_string()),
        "parameters": {key: list(shape) for key, shape in oracle.shapes.items()},
        "ids": oracle.ids,
        "tiles": list(oracle.tiles),
        "rows": {key: [r for r in ROWS if r < run.length] for key, run in RUNS.items()},
        "pixels": [oracle.statistics(i) for i in range(len(variant.images))],
        "prompts": [oracle.prompt(i) for i in range(len(variant.images))],
        "greedy": tokens,
        "greedy_gaps": gaps,
        "effects": effects,
    }
    features = oracle.features(0)
    keep(GOLDEN / name, about, {"features": features, **runs})
    least = min((e, p) for p, e in effects.items() if not any(re.search(pattern, p) for pattern in variant.idle))
    print(f"{name}: tiles {oracle.tiles}, features {features.shape} to {np.abs(features).max():.2f}, "
          f"logits to {max(float(np.abs(r).max()) for r in runs.values()):.2f}, "
          f"least gap {min(gaps):.4f}, least effect {least}")  # fmt: skip


if __name__ == "__main__":
    make_asked(__doc__, VARIANTS, GOLDEN, make)
