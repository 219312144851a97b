"""From a GGUF file to a decoder: find the architecture, check the tensors, wrap them as weights.

What it is not: a parser (foundation/gguf_format.py) or a tokenizer (tokenizer.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import numpy as np

from zigllama.errors import BadMetadata, ContextOverflow, TensorShapeMismatch, UnsupportedType
from zigllama.foundation.byte_source import StrPath
from zigllama.foundation.ggml_types import type_by_name
from zigllama.foundation.gguf_format import GGUFReader
from zigllama.foundation.tensor import Tensor
from zigllama.linear_algebra.linear import Weight
from zigllama.models.config import HyperParameters
from zigllama.models.registry import architecture
from zigllama.transformers.spec import Spec

MULTIPLIED = (
    "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ1_S",
    "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "Q1_0", "Q2_0",
    "MXFP4", "NVFP4",
)  # fmt: skip


class GGUFLoader:
    """A model file, checked against its architecture; `decoder()` gives the model.

        with GGUFLoader("model.gguf") as loader:
            loader.spec, loader.decoder()

    dequantize   wrap every matrix as float32, so that products are computed in float32 throughout

    n_ctx        positions that it will be used with, None: as many as it was trained for; LongRoPE's rates depend on it

    Raises the ModelFileErrors: UnsupportedArchitecture, BadMetadata, MissingTensor, TensorShapeMismatch, BadTensor,
    UnsupportedType, and those of GGUFReader; ContextOverflow for an n_ctx beyond learned positions.
    """

    def __init__(self, path: StrPath, *, dequantize: bool = False, n_ctx: int | None = None) -> None:
        self.reader = GGUFReader(path)
        try:
            self.dequantize, self.n_ctx = dequantize, n_ctx
            self.spec = self._check()
        except BaseException:
            self.reader.close()
            raise

    def _check(self) -> Spec:
        metadata, tensors = self.reader.metadata, self.reader.tensors
        name = metadata.get("general.architecture")
        if not isinstance(name, str):
            raise BadMetadata("general.architecture", "missing or not a string")
        arch = architecture(name)
        n_vocab = self._n_vocab()
        hyper = HyperParameters(metadata, tensors, self.n_ctx)
        if hyper.int("block_count", low=0, high=1 << 62) > len(tensors):  # before anything is made per layer
            raise BadMetadata(f"{name}.block_count", f"more layers than the file's {len(tensors)} tensors could fill")
        spec: Spec = arch.spec(hyper, n_vocab)
        if self.n_ctx is not None and getattr(spec, "learned_positions", False) and self.n_ctx > spec.n_ctx:
            raise ContextOverflow(self.n_ctx, spec.n_ctx)
        self.architecture, self.table = arch, arch.tensors(spec)
        self.table.check({n: tuple(t.shape) for n, t in tensors.items()})
        for t in tensors.values():
            if t.type.name not in (MULTIPLIED if len(t.shape) > 1 else ("F32", "F16", "BF16")):
                raise UnsupportedType(t.name, t.type.name)
        return spec

    def _n_vocab(self) -> int:
        embedding = self.reader.tensor("token_embd.weight")
        if len(embedding.shape) != 2:
            raise TensorShapeMismatch("token_embd.weight", (0, 0), tuple(embedding.shape))
        rows = int(embedding.shape[0])
        tokens = self.reader.metadata.get("tokenizer.ggml.tokens")
        if tokens is not None and not hasattr(tokens, "__len__"):
            raise BadMetadata("tokenizer.ggml.tokens", f"expected an array, found {type(tokens).__name__}")
        if tokens is not None and len(tokens) != rows:
            raise BadMetadata("tokenizer.ggml.tokens", f"{len(tokens)} words, token_embd.weight has {rows} rows")
        return rows

    def weight(self, name: str) -> Any:
        """A tensor as the decoder takes it: `Weight` for a matrix, float32 for a vector and what is used like one."""
        from zigllama.linear_algebra.quantization import dequantize

        t = self.reader.tensor(name)
        data = self.reader.tensor_bytes(name)
        if not self.table.is_matrix(name, len(t.shape)):
            return dequantize(data, t.type.name).reshape(t.shape)
        *stack, rows, cols = t.shape if len(t.shape) > 1 else (1, *t.shape)  # of a layer's experts: (E, rows, cols)
        n = stack[0] if stack else 1
        rows *= n
        if self.dequantize and t.type.name != "F32":
            data = dequantize(data, t.type.name).view(np.uint8).reshape(-1)
            return Weight(type_by_name("F32"), rows, cols, data, name, stack=n)
        return Weight(t.type, rows, cols, data, name, stack=n)

    def tensor(self, name: str) -> Tensor:
        """A tensor of the file as numbers: a `Tensor` of float32 in its shape, whatever its number format.

        A copy, decoded now; `weight` is the tensor as it is multiplied. Raises MissingTensor.
        """
        from zigllama.linear_algebra.quantization import dequantize

        t = self.reader.tensor(name)
        return Tensor.view(np.array(dequantize(self.reader.tensor_bytes(name), t.type.name).reshape(t.shape)))

    def weights(self) -> Iterator[tuple[str, Any]]:
        """Every tensor in the order of the file, then `output.weight` where it is tied to the embedding. Of a matrix
        that the model takes apart (q, k and v in one) its parts come, views of the same bytes.

        A tied output is the embedding's own `Weight`: rows are looked up in the form in which it is multiplied, the
        same bits, and the file's pages are not needed any more.
        """
        embedding: Any = None
        for name in self.reader.tensors:
            weight = self.weight(name)
            if name == "token_embd.weight":
                embedding = weight
            first = 0
            for part, rows in self.table.joined.get(name, ()):
                yield part, _rows(weight, part, first, rows)
                first += rows
            if not first:
                yield name, weight
        if "output.weight" in self.table.optional and "output.weight" not in self.reader.tensors:
            yield "output.weight", embedding

    def decoder(self) -> Any:
        """The model, a `Decoder` or what the architecture has in its place, with weights over the mapped file; nothing
        is repacked yet."""
        return self.architecture.model(self.spec, dict(self.weights()))

    def close(self) -> None:
        """Close the file."""
        self.reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _rows(whole: Any, name: str, first: int, rows: int) -> Any:
    """Rows first .. first + rows - 1 of a matrix or vector, without a copy."""
    if not isinstance(whole, Weight):
        return whole[first : first + rows]
    size = whole.data.nbytes // whole.rows
    return Weight(whole.type, rows, whole.cols, whole.data[first * size : (first + rows) * size], name, whole.name)
