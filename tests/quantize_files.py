"""The cases in which a quantised file can be compared with llama-quantize's byte for byte: types with one rule each.

tools/make_mixes_golden.py has llama-quantize write them and keeps a digest; the test has zigllama write them.
"""

from __future__ import annotations

import struct
from pathlib import Path

import random_weights
import small_models

MODELS = ("llama-f32", "llama-f16", "llama-bf16", "gemma3-f32")
PLAIN = ("F32", "F16", "BF16", "Q8_0")
PURE = ("Q4_0", "Q4_1", "Q5_0", "Q5_1")  # their mixes have Q6_K in them
IMPORTANCE = "importance.dat"


def cases() -> dict[str, tuple[str, str, list[str]]]:
    """Case -> model, mix, flags. The importance matrix lies beside the model."""
    found = {f"{model} {mix}": (model, mix, list[str]()) for model in MODELS for mix in PLAIN}
    found |= {f"{model} {mix} pure": (model, mix, ["--pure"]) for model in MODELS for mix in PURE}
    return found | {"llama-f32 Q8_0 imatrix": ("llama-f32", "Q8_0", ["--imatrix", IMPORTANCE])}


def write_importance(path: Path, model: str = "llama-f32", shape: small_models.Shape | None = None) -> None:
    """An importance matrix for all matrices of the layers of a model, in the legacy form, by hand."""
    raw, n = b"", 0
    for name, (_, dims, _) in small_models.tensors(model, shape or small_models.MODELS[model], 8).items():
        if len(dims) == 2 and name.startswith("blk."):
            values = random_weights.Stream(f"importance/{name}").uniform(0, 9, dims[1]).astype("<f4")
            raw += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", 4, dims[1]) + values.tobytes()
            n += 1
    path.write_bytes(struct.pack("<i", n) + raw + struct.pack("<ii", 4, 8) + b"text.txt")
