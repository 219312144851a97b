"""How much memory a model will need, part by part, before anything is loaded: `zl.estimate("m.gguf", n_ctx=8192)`.

Everything comes from the head of the file (metadata and the list of tensors); no tensor is read. The parts:

    embedding, attention,    the file's own bytes of these tensors: in memory a weight takes the same, but for the
    feed-forward, norms,     padding of its last panel
    output, other
    KV cache                 layers x positions x key/value heads x (K + V head size) x bytes of a value, in pages of 64
                             positions
    states                   of state-space layers: pages of states x layers, for one sequence, whatever its length
    activations              the rows of one prefill chunk that are alive at once, and the logits of one row

Source of the parts: the table that LLaMA's memory is usually given in. Its published figures leave out the block scales
here and there (7B in Q4_0: KV cache 0.08 GB, where 2,048 positions of 32 layers in f16 are 1.07 GB); these are the
sums.

What it is not: a measurement. Python, NumPy and the tokenizer's tables come on top (about 40 to 100 MB, by vocabulary).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from zigllama.app.console import printable, size, table
from zigllama.errors import BadMetadata, InvalidArgument, ShapeError
from zigllama.foundation.ggml_types import type_by_name
from zigllama.foundation.gguf_format import GGUFReader, TensorInfo
from zigllama.inference.state_pool import states_quota

PAGE = 64  # positions of a cache page
CHUNK = 512  # rows of a prefill chunk
MAX_LAYERS = 10_000
WEIGHT_PARTS = ("embedding", "attention", "feed-forward", "norms", "output", "other")

# The first pattern that a tensor's name matches says which part it belongs to. Norms first: they are named after what
# they precede.
_PART_OF = (
    (re.compile(r"norm"), "norms"),
    (re.compile(r"^(token_embd|position_embd|token_types)\b"), "embedding"),
    (re.compile(r"^output\b"), "output"),
    (re.compile(r"^(blk|enc\.blk|dec\.blk)\.\d+\.(attn|cross_attn)"), "attention"),
    (re.compile(r"^(blk|enc\.blk|dec\.blk)\.\d+\.(ffn|layer_output)"), "feed-forward"),
)


@dataclass(frozen=True)
class Part:
    """One line of the estimate."""

    name: str
    n_bytes: int
    note: str = ""


@dataclass(frozen=True)
class Estimate:
    """Bytes per part of a model in memory, for a context of `n_ctx` positions."""

    parts: tuple[Part, ...]
    architecture: str
    n_params: int
    n_ctx: int
    cache_type: str

    @property
    def weights(self) -> int:
        """Bytes of all tensors: what of the total is in the file."""
        return sum(p.n_bytes for p in self.parts if p.name in WEIGHT_PARTS)

    @property
    def total(self) -> int:
        return sum(p.n_bytes for p in self.parts)

    def __getitem__(self, part: str) -> int:
        """Bytes of a part: `e["KV cache"]`. Raises KeyError for a part that is not in the list."""
        for p in self.parts:
            if p.name == part:
                return p.n_bytes
        raise KeyError(part)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for json.dumps."""
        return {
            "architecture": self.architecture,
            "n_params": self.n_params,
            "n_ctx": self.n_ctx,
            "cache_type": self.cache_type,
            "parts": {p.name: p.n_bytes for p in self.parts},
            "weights": self.weights,
            "total": self.total,
        }

    def __str__(self) -> str:
        millions = f"{self.n_params / 1e6:,.1f} M parameters"
        head = f"{printable(self.architecture)}, {millions}; context {self.n_ctx:,}, cache {self.cache_type}"
        rows: list[tuple[str, str, str, str]] = [
            (p.name, f"{p.n_bytes:,}", size(p.n_bytes), p.note) for p in self.parts if p.n_bytes or p.note
        ]
        rows.append(("total", f"{self.total:,}", size(self.total), ""))
        return head + "\n" + table(rows, ("part", "bytes", "", ""), right=[1, 2])


def estimate(path: str | os.PathLike[str], n_ctx: int | None = None, cache_type: str = "f16") -> Estimate:
    """Estimate the memory of the model in a GGUF file.

    n_ctx       positions of the context; None takes what the model was trained with
    cache_type  number format of keys and values: "f16", "f32" or "q8_0"

    Raises what the GGUF reader raises for a file that is none, BadMetadata when a size is missing, and InvalidArgument
    for an n_ctx or cache type that cannot be.
    """
    with GGUFReader(path) as reader:
        return estimate_tensors(reader.metadata, reader.tensors.values(), n_ctx, cache_type)


def estimate_tensors(
    metadata: Mapping[str, Any], tensors: Iterable[TensorInfo], n_ctx: int | None = None, cache_type: str = "f16"
) -> Estimate:
    """The same from metadata and tensor list, for a model that is not a file (yet)."""
    if cache_type.lower() not in ("f16", "f32", "q8_0"):
        raise InvalidArgument(f"cache_type {cache_type!r}: expected 'f16', 'f32' or 'q8_0'")
    sizes = Sizes.of(metadata)
    n_ctx = sizes.n_ctx if n_ctx is None else n_ctx
    if n_ctx < 1:
        raise InvalidArgument(f"n_ctx is {n_ctx}: expected at least 1")
    bytes_of = dict.fromkeys(WEIGHT_PARTS, 0)
    n_params, n_vocab, tied = 0, 0, True
    for tensor in tensors:
        bytes_of[part_of(tensor.name)] += tensor.n_bytes
        n_params += math.prod(tensor.shape)
        tied = tied and tensor.name != "output.weight"
        if tensor.name == "token_embd.weight":
            n_vocab = tensor.shape[0]
    notes = {"output": "the embedding's matrix serves as the output" if tied else ""}
    parts = [Part(name, bytes_of[name], notes.get(name, "")) for name in WEIGHT_PARTS]
    parts.append(_cache_part(sizes, n_ctx, cache_type))
    if f"{sizes.architecture}.ssm.state_size" in metadata:
        parts.append(_state_part(sizes, metadata))
    parts.append(_activation_part(sizes, min(n_ctx, CHUNK), n_vocab))
    return Estimate(tuple(parts), sizes.architecture, n_params, n_ctx, cache_type.lower())


def part_of(name: str) -> str:
    """Which part a tensor belongs to, by its GGUF name.

    >>> part_of("blk.0.attn_q.weight"), part_of("blk.0.attn_q_norm.weight"), part_of("token_embd.weight")
    ('attention', 'norms', 'embedding')
    """
    return next((part for pattern, part in _PART_OF if pattern.search(name)), "other")


@dataclass(frozen=True)
class Sizes:
    """The hyper-parameters that memory depends on, a value per layer where the file may give one."""

    architecture: str
    n_ctx: int
    n_embd: int
    n_head: tuple[int, ...]
    n_head_kv: tuple[int, ...]
    n_ff: int
    dk: int
    dv: int

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Sizes:
        architecture = metadata.get("general.architecture")
        if not isinstance(architecture, str):
            raise BadMetadata("general.architecture", "a name is needed to find the sizes")

        def number(key: str, default: int | None = None) -> int:
            full = f"{architecture}.{key}"
            value = metadata.get(full, default)
            if value is None:
                raise BadMetadata(full, "is missing")
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
                raise BadMetadata(full, f"expected a size, found {value!r}")
            return value

        n_layer = number("block_count")
        if n_layer > MAX_LAYERS:
            raise BadMetadata(f"{architecture}.block_count", f"{n_layer} layers; at most {MAX_LAYERS} are read")

        def per_layer(key: str, default: tuple[int, ...] | None = None) -> tuple[int, ...]:
            full = f"{architecture}.{key}"
            value = metadata.get(full)
            if value is None and default is not None:
                return default
            if value is not None and not isinstance(value, int | float | str):
                if len(value) != n_layer:
                    raise BadMetadata(full, f"{len(value)} values for {n_layer} layers")
                return tuple(int(v) for v in value)
            return (number(key),) * n_layer

        n_embd = number("embedding_length")
        n_head = per_layer("attention.head_count")
        n_head_kv = per_layer("attention.head_count_kv", n_head)
        head_dim = n_embd // n_head[0] if n_head and n_head[0] else 0
        return cls(
            architecture=architecture,
            n_ctx=number("context_length"),
            n_embd=n_embd,
            n_head=n_head,
            n_head_kv=n_head_kv,
            n_ff=max(per_layer("feed_forward_length", (0,) * n_layer), default=0),
            dk=number("attention.key_length", head_dim),
            dv=number("attention.value_length", head_dim),
        )


def _cache_part(sizes: Sizes, n_ctx: int, cache_type: str) -> Part:
    """Every layer keeps every position, one with a sliding window too."""
    positions = -(-n_ctx // PAGE) * PAGE
    kind = type_by_name(cache_type)
    if sizes.dk % kind.block_size or sizes.dv % kind.block_size:
        raise ShapeError(
            f"a {kind.name} cache has blocks of {kind.block_size} channels, its heads have {sizes.dk} and {sizes.dv}"
        )
    per_position = sum(sizes.n_head_kv) * (sizes.dk + sizes.dv) // kind.block_size * kind.block_bytes
    return Part("KV cache", positions * per_position, f"{size(per_position)} a position")


def _state_part(sizes: Sizes, metadata: Mapping[str, Any]) -> Part:
    """What a sequence holds of state-space layers: some pages of states, however long it is."""

    def number(key: str, default: int | None = None) -> int:
        value = metadata.get(f"{sizes.architecture}.ssm.{key}", default)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
            raise BadMetadata(f"{sizes.architecture}.ssm.{key}", f"expected a size, found {value!r:.40}")
        return value

    inner, states = number("inner_size"), number("state_size")
    convolved = inner + 2 * number("group_count", 0) * states
    one = 4 * len(sizes.n_head) * ((max(1, number("conv_kernel")) - 1) * convolved + inner * states)
    return Part("states", states_quota(CHUNK) * one, f"{states_quota(CHUNK)} of {size(one)}, for each sequence")


def _activation_part(sizes: Sizes, rows: int, n_vocab: int) -> Part:
    """Alive at once in a layer: the residual, its norm, and the wider of two: q, k, v and attention's result, or gate
    and up, whose product takes the gate's place.
    """
    n_head, n_kv = max(sizes.n_head, default=0), max(sizes.n_head_kv, default=0)
    attention = n_head * (sizes.dk + sizes.dv) + n_kv * (sizes.dk + sizes.dv)
    widest = max(attention, 2 * sizes.n_ff)
    return Part(
        "activations",
        4 * (rows * (2 * sizes.n_embd + widest) + n_vocab),
        f"chunks of {rows} rows, and the logits of one",
    )
