"""Small projector files ("mmproj") with random weights, in both spellings, and an image to give them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf_bytes
import numpy as np
from random_weights import Stream

PIXELS = Stream("image").bytes(50, 77, 3)
C, F, TEXT = 64, 96, 48
Tensors = dict[str, tuple[str, tuple[int, ...], gguf_bytes.Data]]


def parts(kind: str, old: bool = False, n_out: int = TEXT) -> tuple[dict[str, Any], Tensors]:
    """Metadata and tensors of a small tower of 4 x 4 patches; `old`: with the first files' names."""
    clip = kind == "mlp"
    shapes: dict[str, tuple[int, ...]] = {"v.patch_embd.weight": (C, 3, 8, 8), "v.position_embd.weight": (16 + clip, C)}
    shapes |= {"v.class_embd": (C,)} if clip else {"v.patch_embd.bias": (C,)}
    norms = ["v.pre_ln" if clip else "v.post_ln"]
    first, second = ("ffn_down", "ffn_up") if old else ("ffn_up", "ffn_down")
    for b in ("v.blk.0.", "v.blk.1."):
        norms += [b + "ln1", b + "ln2"]
        for n in ("attn_q", "attn_k", "attn_v", "attn_out"):
            shapes |= {f"{b}{n}.weight": (C, C), f"{b}{n}.bias": (C,)}
        shapes |= {f"{b}{first}.weight": (F, C), f"{b}{first}.bias": (F,)}
        shapes |= {f"{b}{second}.weight": (C, F), f"{b}{second}.bias": (C,)}
    for n in norms:
        shapes |= {f"{n}.weight": (C,), f"{n}.bias": (C,)}
    if clip:
        shapes |= {"mm.0.weight": (n_out, C), "mm.0.bias": (n_out,)}
        shapes |= {"mm.2.weight": (n_out, n_out), "mm.2.bias": (n_out,)}
    else:
        shapes |= {"mm.model.fc.weight": (n_out, 4 * C)}
    tensors: Tensors = {}
    for n, s in shapes.items():
        label = n.replace("ffn_down", "ffn2").replace("ffn_up", "ffn1")
        if old:  # the same numbers under the other name
            label = n.replace("ffn_down", "ffn1").replace("ffn_up", "ffn2")
        size = 2.0 * int(np.prod(s[1:])) ** -0.5 if len(s) > 1 else 0.3
        x = Stream(label).uniform(-size, size, *s).astype("<f4")
        tensors[n] = ("F32", s, x.view(np.uint8).reshape(-1))
    keys: dict[str, Any] = {
        "image_size": 32,
        "patch_size": 8,
        "embedding_length": C,
        "feed_forward_length": F,
        "block_count": 2,
        "attention.head_count": 4,
        "attention.layer_norm_epsilon": 1e-5,
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.3, 0.25, 0.2],
    }
    if not clip:
        keys |= {"projector.scale_factor": 2, "preproc_image_size": 90}
    head = {"general.architecture": "clip", "clip.has_vision_encoder": True, "clip.projector_type": kind}
    return head | {f"clip.vision.{k}": v for k, v in keys.items()} | {"clip.use_gelu": not clip}, tensors


def write(
    path: Path, kind: str = "mlp", old: bool = False, change: Callable[..., None] | None = None, n_out: int = TEXT
) -> Path:
    """A projector's file whose rows have n_out channels, after `change(metadata, tensors)`."""
    metadata, tensors = parts(kind, old, n_out)
    if change is not None:
        change(metadata, tensors)
    gguf_bytes.write(path, metadata, tensors)
    return path
