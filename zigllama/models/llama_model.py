"""`LLaMAModel`: a LLaMA in a few lines of Python, to look at and to play with.

    >>> config = ModelConfig(n_layer=2, n_embd=64, n_head=4, n_ff=176, n_vocab=100, n_ctx=64)
    >>> model = LLaMAModel(config, seed=1)
    >>> model.logits([1, 2, 3]).shape
    (3, 100)

It is the decoder that `zl.Model` runs (decoder.py), over weights that were given or drawn at random, as NumPy arrays:
the reference, without threads, tokenizer or file. So it is slow, and every step of it can be looked at:
`model.decoder.blocks[0].attention` is the object that attends.

What it is not: the way to run a model. `zl.Model` is.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

from zigllama.errors import InvalidArgument, OutOfMemory
from zigllama.foundation.byte_source import StrPath
from zigllama.foundation.ggml_types import type_by_name
from zigllama.foundation.runtime import F32
from zigllama.linear_algebra.linear import Weight
from zigllama.models.gguf import GGUFLoader
from zigllama.models.model_config import ModelConfig, ModelSize
from zigllama.models.registry import architecture
from zigllama.models.tensors import TensorTable
from zigllama.transformers.one_sequence import OneSequence


class LLaMAModel:
    """A decoder of the shape `config` (a `ModelConfig`, or a preset's name).

    weights   float arrays by GGUF name, of exactly the shapes in `config.tensors`; None draws them
    seed      of the random weights: matrices normal with deviation 1 / sqrt(cols), so that sizes stay what they are
              from layer to layer; norms' scales 1, shifts and biases 0

    Raises MissingTensor, TensorShapeMismatch, BadTensor for weights that do not fit, OutOfMemory before random weights
    are drawn that this machine cannot hold, and what `ModelConfig` raises.
    """

    def __init__(
        self, config: ModelConfig | ModelSize | str, weights: Mapping[str, Any] | None = None, *, seed: int = 0
    ) -> None:
        self.config = config if isinstance(config, ModelConfig) else ModelConfig.preset(config)
        table = self.config.table
        arrays = self._random(seed) if weights is None else {k: np.asarray(v, np.float32) for k, v in weights.items()}
        table.check({name: tuple(a.shape) for name, a in arrays.items()})
        made: dict[str, Any] = {}
        for name, array in arrays.items():
            made |= _parts(name, array, table)
        made.setdefault("output.weight", made["token_embd.weight"])
        self.weights = made
        self.decoder = architecture(self.config.architecture).model(self.config.spec, made)

    @classmethod
    def from_file(cls, path: StrPath) -> Self:
        """The model of a GGUF file, every tensor in float32. Raises what GGUFLoader raises."""
        with GGUFLoader(path) as loader:
            made = cls.__new__(cls)
            made.config = config_of(loader)
            made.weights = {name: _own(weight) for name, weight in loader.weights()}
            made.decoder = loader.architecture.model(loader.spec, made.weights)
            return made

    def _random(self, seed: int) -> dict[str, F32]:
        need = 4 * self.config.n_params
        if need > os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"):
            raise OutOfMemory(f"random weights of {self.config.name or 'this model'} in float32", need)
        rng = np.random.Generator(np.random.PCG64(seed))
        return {name: _drawn(rng, name, shape) for name, shape in self.config.tensors.items()}

    @property
    def n_params(self) -> int:
        """Parameters of all tensors."""
        return self.config.n_params

    def cache(self, n_ctx: int | None = None) -> OneSequence:
        """An empty cache of `n_ctx` positions, or as many as the model has."""
        n_ctx = self.config.n_ctx if n_ctx is None else n_ctx
        return OneSequence(self.decoder.cache_spec(), n_ctx, backend="reference")

    def logits(self, ids: Sequence[int], cache: OneSequence | None = None) -> F32:
        """Logits (T, V) of every position of `ids`: from position 0, or after what `cache` holds.

        Raises ContextOverflow, ShapeError for an id outside the vocabulary, InvalidArgument for no ids.
        """
        if not len(ids):
            raise InvalidArgument("logits of no token")
        cache = self.cache(len(ids)) if cache is None else cache
        step = cache.step(len(ids))
        step.tokens = np.array(ids, np.int32)
        rows: F32 = self.decoder.forward(step, cache)
        cache.length += len(ids)
        return rows

    def generate(self, ids: Sequence[int], n: int) -> Iterator[int]:
        """The `n` likeliest tokens in a row, each computed from the cache and the one before. Raises as `logits`."""
        cache, new = self.cache(len(ids) + n), list(ids)
        for _ in range(n):
            new = [int(self.logits(new, cache)[-1].argmax())]
            yield new[0]

    def __repr__(self) -> str:
        return f"<LLaMAModel {self.config.name or self.config.architecture}, {self.n_params / 1e6:,.1f} M parameters>"


def config_of(loader: GGUFLoader) -> ModelConfig:
    """The shape of a file."""
    spec, metadata = loader.spec, loader.reader.metadata
    name = str(metadata["general.architecture"])
    return ModelConfig(
        n_layer=spec.n_layer,
        n_embd=spec.n_embd,
        n_head=spec.n_head,
        n_ff=spec.n_ff,
        n_vocab=spec.n_vocab,
        n_ctx=spec.n_ctx,
        n_head_kv=spec.n_head_kv,
        norm_eps=spec.norm_eps,
        tied="output.weight" not in loader.reader.tensors,
        architecture=name,
        name=str(metadata.get("general.name", "")),
        extra={k.removeprefix(f"{name}."): v for k, v in metadata.items() if k.startswith(f"{name}.")},
    )


def _drawn(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> F32:
    if len(shape) > 1:
        return rng.standard_normal(shape, np.float32) / np.float32(math.sqrt(shape[-1]))
    return np.full(shape, 0.0 if name.endswith(".bias") else 1.0, np.float32)


def _parts(name: str, array: F32, table: TensorTable) -> dict[str, Any]:
    """The array as the decoder takes it, or the parts of one that a file joins."""
    parts = table.joined.get(name, ())
    cuts = np.cumsum([rows for _, rows in parts])[:-1]
    pieces = zip((n for n, _ in parts), np.split(array, cuts), strict=True) if parts else [(name, array)]
    return {n: _weight(a, n) if table.is_matrix(name, a.ndim) else a for n, a in pieces}


def _weight(array: F32, name: str) -> Weight:
    """A matrix, a stack of them (E, rows, cols), or a vector that is a matrix of one row."""
    *stack, rows, cols = array.shape if array.ndim > 1 else (1, *array.shape)
    n = stack[0] if stack else 1
    data = np.ascontiguousarray(array, np.float32).reshape(-1).view(np.uint8)
    return Weight(type_by_name("F32"), n * rows, cols, data, name, stack=n)


def _own(weight: Any) -> Any:
    """A weight over memory of its own, in float32: the file is closed when it is used."""
    if not isinstance(weight, Weight):
        return np.array(weight)
    return _weight(weight.dequantized().reshape(weight.stack, -1, weight.cols), weight.name)
