"""`ModelConfig`: the shape of a model as a value, and the published ones by name.

    >>> config = ModelConfig.preset("llama-7b")
    >>> config.n_params, config.parameters["attention"]
    (6738415616, 2147483648)

A config is what a GGUF file says in its metadata: sizes, and the name of an architecture. Everything that follows from
them is asked of that architecture (registry.py), never written down a second time: which activation and norm it has,
its tensors and their shapes, and so the number of its parameters. `metadata()` gives the keys of a file of that shape.

Sizes: LLaMA (Touvron et al., 2023, arXiv 2302.13971, table 2; the epsilon of the norms as in the released parameters),
Code Llama (Rozière et al., 2023, arXiv 2308.12950, section 2: trained on 16,384 positions with a RoPE base of 1e6; the
infilling tokens make 16 rows more in the vocabulary of 7B and 13B; 34B has 8 key/value heads, as Llama 2's).

What it is not: the reader of a file's metadata (config.py), or weights (llama_model.py).
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, Self

from zigllama.errors import InvalidArgument, UnknownName
from zigllama.models.config import HyperParameters
from zigllama.models.parameters import count_parameters
from zigllama.models.registry import architecture
from zigllama.models.tensors import Shape, TensorTable


class ModelSize(StrEnum):
    """The presets, by the name that `ModelConfig.preset` and `zigllama estimate` take."""

    LLAMA_7B = "llama-7b"
    LLAMA_13B = "llama-13b"
    LLAMA_30B = "llama-30b"
    LLAMA_65B = "llama-65b"
    CODELLAMA_7B = "codellama-7b"
    CODELLAMA_13B = "codellama-13b"
    CODELLAMA_34B = "codellama-34b"


class Activation(StrEnum):
    """The function of a feed-forward network (neural_primitives/activations.py)."""

    RELU = "relu"
    RELU_SQUARED = "relu_squared"
    SIGMOID = "sigmoid"
    TANH = "tanh"
    SILU = "silu"
    GELU = "gelu"
    GELU_TANH = "gelu_tanh"
    GELU_QUICK = "gelu_quick"


class Normalization(StrEnum):
    """The norm of a block (neural_primitives/normalization.py)."""

    RMS = "rms"
    LAYER = "layer"


class Position(StrEnum):
    """How a model knows where a token stands."""

    ROPE = "rope"  # queries and keys are rotated (Su et al., 2021)
    ALIBI = "alibi"  # scores fall with the distance (Press et al., 2021)
    LEARNED = "learned"  # a row per position, added to the token's
    NONE = "none"


@dataclass(frozen=True)
class ModelConfig:
    """The sizes of a model of an architecture, named as in GGUF.

    n_head_kv   key/value heads; 0: as many as heads
    head_dim    channels of a head; 0: n_embd / n_head
    tied        the embedding's matrix serves as the output
    extra       further keys of the architecture, without its prefix: {"attention.sliding_window": 4096}

    Raises UnsupportedArchitecture and BadMetadata, as a file of these sizes would, when it is first asked for anything
    that follows from them.
    """

    n_layer: int
    n_embd: int
    n_head: int
    n_ff: int
    n_vocab: int
    n_ctx: int = 2048
    n_head_kv: int = 0
    head_dim: int = 0
    norm_eps: float = 1e-5
    rope_base: float = 10000.0
    tied: bool = False
    architecture: str = "llama"
    name: str = ""
    extra: Mapping[str, Any] | None = None

    @classmethod
    def preset(cls, size: ModelSize | str, **changes: Any) -> Self:
        """A published shape, with fields changed where `changes` says so. Raises UnknownName, which names the nearest,
        and TypeError for a field that there is not."""
        try:
            sizes = _PRESETS[ModelSize(size)]
        except ValueError:
            known = tuple(s.value for s in ModelSize)
            near = next(iter(difflib.get_close_matches(str(size).lower(), known)), None)
            raise UnknownName("preset", str(size), known, near) from None
        return replace(cls(**sizes, name=ModelSize(size).value), **changes)

    def metadata(self) -> dict[str, Any]:
        """The keys of a GGUF file of this shape, without a vocabulary."""
        own: dict[str, Any] = {
            "block_count": self.n_layer,
            "context_length": self.n_ctx,
            "embedding_length": self.n_embd,
            "feed_forward_length": self.n_ff,
            "attention.head_count": self.n_head,
            "attention.head_count_kv": self.n_head_kv or self.n_head,
            "attention.layer_norm_rms_epsilon": self.norm_eps,
            "attention.layer_norm_epsilon": self.norm_eps,
            "rope.freq_base": self.rope_base,
            "vocab_size": self.n_vocab,
        }
        if self.head_dim:
            own |= {"attention.key_length": self.head_dim, "attention.value_length": self.head_dim}
        own |= self.extra or {}
        general = {"general.architecture": self.architecture, "general.name": self.name or "unnamed"}
        return general | {f"{self.architecture}.{key}": value for key, value in own.items()}

    @cached_property
    def spec(self) -> Any:
        """What the architecture makes of these sizes: a `Spec`, which the decoder runs."""
        if self.n_vocab < 1:
            raise InvalidArgument(f"n_vocab is {self.n_vocab}, want at least 1")
        return architecture(self.architecture).spec(HyperParameters(self.metadata()), self.n_vocab)

    @property
    def table(self) -> TensorTable:
        """The tensors that a file of this shape must have, and those that it may have."""
        return architecture(self.architecture).tensors(self.spec)

    @property
    def tensors(self) -> dict[str, Shape]:
        """Name and shape of every tensor: the required ones, and the output unless it is tied."""
        table = self.table
        output = table.optional.get("output.weight")
        return table.required | ({} if self.tied or output is None else {"output.weight": output})

    @cached_property
    def parameters(self) -> dict[str, int]:
        """Parameters by part: embedding, attention, feed-forward, state space, norms, output, other."""
        return count_parameters(self.tensors)

    @property
    def n_params(self) -> int:
        """All parameters."""
        return sum(self.parameters.values())

    @property
    def activation(self) -> Activation:
        """The feed-forward's function; whether it is gated is `spec.gated`."""
        return Activation(self.spec.activation)

    @property
    def normalization(self) -> Normalization:
        return Normalization(self.spec.norm)

    @property
    def position(self) -> Position:
        """How it knows where a token stands, by what its spec says."""
        if self.spec.learned_positions:
            return Position.LEARNED
        if self.spec.alibi:
            return Position.ALIBI
        return Position.ROPE if any(layer.rope is not None for layer in self.spec.layers) else Position.NONE


_LLAMA: dict[str, Any] = {"n_vocab": 32_000, "n_ctx": 2048, "norm_eps": 1e-6}
_CODE: dict[str, Any] = {"n_vocab": 32_016, "n_ctx": 16_384, "norm_eps": 1e-5, "rope_base": 1e6}


def _widths(n_embd: int, n_ff: int, n_layer: int, n_head: int) -> dict[str, Any]:
    return {"n_embd": n_embd, "n_ff": n_ff, "n_layer": n_layer, "n_head": n_head}


_PRESETS: dict[ModelSize, dict[str, Any]] = {
    ModelSize.LLAMA_7B: _LLAMA | _widths(4096, 11_008, 32, 32),
    ModelSize.LLAMA_13B: _LLAMA | _widths(5120, 13_824, 40, 40),
    ModelSize.LLAMA_30B: _LLAMA | _widths(6656, 17_920, 60, 52),
    ModelSize.LLAMA_65B: _LLAMA | _widths(8192, 22_016, 80, 64) | {"norm_eps": 1e-5},
    ModelSize.CODELLAMA_7B: _CODE | _widths(4096, 11_008, 32, 32),
    ModelSize.CODELLAMA_13B: _CODE | _widths(5120, 13_824, 40, 40),
    ModelSize.CODELLAMA_34B: _CODE | _widths(8192, 22_016, 48, 64) | {"n_vocab": 32_000, "n_head_kv": 8},
}
