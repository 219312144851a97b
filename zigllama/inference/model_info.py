"""What a model is, in numbers: `Model.info`; and what runs it: `Model.backend`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from zigllama.foundation.blas_integration import BlasInterface
from zigllama.models.gguf import GGUFLoader


class ModelInfo(NamedTuple):
    """What a model is: sizes in numbers, the file in bytes, the most frequent type of its matrices."""

    architecture: str
    name: str
    quantisation: str
    n_params: int
    n_bytes: int
    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: int
    n_ff: int
    n_vocab: int
    n_ctx_train: int


def model_info(loader: GGUFLoader) -> ModelInfo:
    """Of the file that a loader has open."""
    metadata, tensors, s = loader.reader.metadata, loader.reader.tensors, loader.spec
    sizes: dict[str, int] = {}
    for t in tensors.values():
        if len(t.shape) > 1:
            sizes[t.type.name] = sizes.get(t.type.name, 0) + t.n_bytes
    return ModelInfo(
        architecture=str(metadata["general.architecture"]),
        name=str(metadata.get("general.name", "")),
        quantisation=max(sizes, key=lambda k: sizes[k]),
        n_params=sum(int(np.prod(t.shape)) for t in tensors.values()),
        n_bytes=loader.reader.n_bytes,
        n_layer=s.n_layer,
        n_embd=s.n_embd,
        n_head=s.n_head,
        n_head_kv=s.n_head_kv,
        n_ff=s.n_ff,
        n_vocab=s.n_vocab,
        n_ctx_train=s.n_ctx,
    )


def backend_info(context: Any, mode: str, float_compute: str, blas: BlasInterface) -> dict[str, Any]:
    """What runs, of an engine's context (None: the twins) and mode: `Model.backend`."""
    if context is None:
        what = {"backend": "reference", "execution": "reference", "isa": None, "n_threads": 1}
        return what | {"float_compute": float_compute, "blas": "numpy", "blas_library": None}
    return {
        "backend": "native",
        "execution": mode,
        "isa": context.isa,
        "n_threads": context.n_threads,
        "float_compute": float_compute,
        "blas": blas.name,
        "blas_library": blas.facts() if blas.is_library else None,
    }
