"""Shapes of models as data: an architecture, its hyper-parameters by GGUF's keys, the size of the vocabulary.

Which tensors a shape has is not written here: the architecture's own table says it (zigllama/models/tensors.py), the
one that a file is checked against when it is opened.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from zigllama.models.config import HyperParameters
from zigllama.models.registry import architecture


@dataclass(frozen=True)
class Shape:
    """A model without its weights. `keys` are metadata under the architecture's name; `tied`: no output matrix of its
    own."""

    architecture: str
    n_vocab: int
    keys: Mapping[str, Any]
    tied: bool = False

    @property
    def metadata(self) -> dict[str, Any]:
        """The keys as a file has them."""
        keys = {"vocab_size": self.n_vocab, **self.keys}
        head = {"general.architecture": self.architecture}
        return head | {f"{self.architecture}.{key}": value for key, value in keys.items()}

    @cached_property
    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Shapes by name, in NumPy's order. Raises BadMetadata for keys that do not fit together."""
        found = architecture(self.architecture)
        table = found.tensors(found.spec(HyperParameters(self.metadata), self.n_vocab))
        output = "output.weight"  # what else is optional are biases, which the usual file does not have
        return table.required | ({} if self.tied or output not in table.optional else {output: table.optional[output]})

    @property
    def n_embd(self) -> int:
        """Channels of the stream."""
        return int(self.keys["embedding_length"])

    @property
    def n_params(self) -> int:
        """How many weights there are, norms included."""
        return sum(map(math.prod, self.tensors.values()))


def transformer(
    name: str,
    n_embd: int,
    n_layer: int,
    n_head: int,
    n_ff: int,
    n_vocab: int,
    *,
    n_head_kv: int = 0,
    n_ctx: int = 2048,
    rms: bool = False,
    tied: bool = False,
    more: Mapping[str, Any] | None = None,
) -> Shape:
    """Sizes by GGUF's names; n_head_kv 0: as many as n_head. `rms`: norms are RMSNorm. `more`: further keys."""
    norm = "attention.layer_norm_rms_epsilon" if rms else "attention.layer_norm_epsilon"
    sizes = {
        "context_length": n_ctx,
        "embedding_length": n_embd,
        "block_count": n_layer,
        "feed_forward_length": n_ff,
        "attention.head_count": n_head,
        "attention.head_count_kv": n_head_kv or n_head,
        norm: 1e-5,
    }
    return Shape(name, n_vocab, sizes | dict(more or {}), tied)


def llama(
    n_embd: int,
    n_layer: int,
    n_head: int,
    n_head_kv: int,
    n_ff: int,
    n_vocab: int = 32_000,
    n_ctx: int = 4096,
    **more: Any,
) -> Shape:
    """LLaMA and Mixtral."""
    rope = {"rope.dimension_count": n_embd // n_head, "rope.freq_base": 10000.0}
    sizes = n_embd, n_layer, n_head, n_ff, n_vocab
    return transformer("llama", *sizes, n_head_kv=n_head_kv, n_ctx=n_ctx, rms=True, more=rope | more)


def mamba(name: str, n_embd: int, n_layer: int, n_vocab: int, n_state: int, rank: int, **more: int) -> Shape:
    """Twice as many channels inside, four taps. `rank`: columns that dt is made by; of Mamba 2 its heads."""
    sizes = {
        "context_length": 2048,
        "embedding_length": n_embd,
        "block_count": n_layer,
        "feed_forward_length": 0,
        "attention.head_count": 0,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "ssm.conv_kernel": 4,
        "ssm.inner_size": 2 * n_embd,
        "ssm.state_size": n_state,
        "ssm.time_step_rank": rank,
    }
    return Shape(name, n_vocab, sizes | {f"ssm.{key}": value for key, value in more.items()}, tied=True)


NEOX = {"rope.dimension_count": 16, "rope.freq_base": 10000.0}  # a quarter of a head of 64
PARALLEL = NEOX | {"use_parallel_residual": True}
FALCON = {"rope.dimension_count": 64, "rope.freq_base": 10000.0}
EIGHT = {"expert_count": 8, "expert_used_count": 2}
SHARED = {
    "expert_count": 16,
    "expert_used_count": 4,
    "expert_feed_forward_length": 512,
    "expert_shared_feed_forward_length": 2048,
    "rope.freq_base": 1e6,
}

# One of each kind at about 500M: sizes of real models where there are any so small.
SHAPES = {
    "1.1b": llama(2048, 22, 32, 4, 5632),  # TinyLlama's
    "7b": llama(4096, 32, 32, 32, 11008),  # LLaMA's
    "gptneox-410m": transformer("gptneox", 1024, 24, 16, 4096, 50_304, more=PARALLEL),  # Pythia's
    "phi2-410m": transformer("phi2", 1024, 24, 16, 4096, 51_200, more=NEOX),
    "falcon-390m": transformer("falcon", 1024, 24, 16, 4096, 65_024, n_head_kv=1, more=FALCON),
    "bloom-560m": transformer("bloom", 1024, 24, 16, 4096, 250_880, tied=True),  # BLOOM's smallest
    "gpt2-355m": transformer("gpt2", 1024, 24, 16, 4096, 50_257, n_ctx=1024, tied=True),  # GPT-2 medium's
    "mixtral-520m": llama(768, 12, 12, 4, 2048, **EIGHT),
    "qwen2moe-490m": transformer("qwen2moe", 1024, 12, 16, 2048, 32_000, rms=True, more=SHARED),
    "mamba-370m": mamba("mamba", 1024, 48, 50_280, 16, 64),  # Mamba's own, as the next
    "mamba2-370m": mamba("mamba2", 1024, 48, 50_288, 128, 32, group_count=1),
}
