"""How much memory a model will need, part by part, before anything is loaded: `zl.estimate("m.gguf", n_ctx=8192)`, or
of a published shape without any file: `zl.estimate("llama-7b", n_ctx=2048, type_name="Q4_0")`.

Everything comes from the head of the file (metadata and the list of tensors; no tensor is read), or from a
`ModelConfig`, with every matrix in the one type that was asked for and vectors in float32. The parts:

    embedding, attention,    the file's own bytes of these tensors: in memory a weight takes the same, but for the
    feed-forward, norms,     padding of its last panel
    output, other
    state space              the same of the matrices of Mamba's layers
    KV cache                 layers x positions x key/value heads x (K + V head size) x bytes of a value, in pages of 64
                             positions
    state                    what a state-space model keeps in its place, in float32: layers x (inner channels x state
                             size, and the convolution's last inputs, (kernel - 1) x convolved channels); one at the end
                             of each 64 positions of a chunk that is being read, and two more, however long the context
    activations              the rows of one prefill chunk that are alive at once, and the logits of one row

Source of the parts: the table that LLaMA's memory is usually given in, in GB of 1e9 bytes. What is printed here is the
sum of what a file holds, and differs from the published figures where those contradict arithmetic:

    30B                  "30.0 B parameters, 60 GB in FP16" rounds the name; 32.5 B parameters are 65.1 GB (F32: 130.1)
    Q8_0, "one byte"     a block of 32 values has a scale of two bytes: 34/32 bytes a value, 7.2 GB for 7B, not 6.7
    Q4_0, half a byte    18/32 bytes a value, 3.8 GB for 7B: here the scales are counted
    KV cache, f16        2 x layers x positions x channels x 2 bytes: 1.07, 1.68, 3.27 and 5.37 GB for 2,048 positions.
                         "1.0, 1.6, 3.2, 5.2" are GiB or cut short; "0.08" in the same table's parts of 7B in Q4_0 is
                         neither, and its total of 3.8 GB has no cache in it
    parts of 7B, Q4_0    embedding 0.07, attention 1.21, feed-forward 2.43, output 0.07: "embedding 0.5, layers 2.9,
                         output 0.3" give the embedding four bytes a value and the layers a fifth too little
    norms                "0.02" is ten times the 1.1 MB that 65 rows of 4,096 float32 are

What it is not: a measurement. Python, NumPy and the tokenizer's tables come on top (about 40 to 100 MB, by vocabulary).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from zigllama.app.console import printable, size, table
from zigllama.errors import BadMetadata, ContextOverflow, InvalidArgument, ShapeError
from zigllama.foundation.ggml_types import row_bytes, type_by_name
from zigllama.foundation.gguf_format import GGUFReader, TensorInfo
from zigllama.models.model_config import ModelConfig, ModelSize
from zigllama.models.parameters import PARTS, part_of

PAGE = 64  # positions of a cache page
CHUNK = 512  # rows of a prefill chunk
MAX_LAYERS = 10_000
WEIGHT_PARTS = PARTS
_EXPERTS = re.compile(r"^blk\.\d+\.ffn_(gate|up|gate_up|down)_exps\b")  # all experts' matrices of a kind, stacked


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


def estimate(
    model: str | os.PathLike[str] | ModelConfig,
    n_ctx: int | None = None,
    cache_type: str = "f16",
    *,
    type_name: str | None = None,
) -> Estimate:
    """Estimate the memory of a model.

    model       a GGUF file; or a `ModelConfig`, or a preset's name (`ModelSize`) where no file is called so
    n_ctx       positions of the context; None takes what the model was trained with
    cache_type  number format of keys and values: "f16", "f32" or "q8_0"
    type_name   of a preset's matrices, "F16" unless given; a file has its own

    Raises what the GGUF reader raises for a file that is none, BadMetadata when a size is missing, InvalidArgument for
    an n_ctx or cache type that cannot be and for the type of a file, ContextOverflow for more positions than were
    learned, UnknownName for a type that there is not, ShapeError for one whose quant blocks do not fit the rows.
    """
    config = preset_of(model)
    if config is not None:
        return estimate_tensors(config.metadata(), tensor_infos(config, type_name or "F16"), n_ctx, cache_type)
    if type_name is not None:
        raise InvalidArgument(f"type_name {type_name!r} is for presets; a file's tensors have their types")
    assert not isinstance(model, ModelConfig)
    with GGUFReader(model) as reader:
        return estimate_tensors(reader.metadata, reader.tensors.values(), n_ctx, cache_type)


def preset_of(model: str | os.PathLike[str] | ModelConfig) -> ModelConfig | None:
    """The config that is meant, or None where it is a file: what is there under that name is a file."""
    if isinstance(model, ModelConfig):
        return model
    if isinstance(model, ModelSize):
        return ModelConfig.preset(model)
    is_preset = model in set(ModelSize) and not os.path.exists(model)
    return ModelConfig.preset(str(model)) if is_preset else None


def tensor_infos(config: ModelConfig, type_name: str) -> list[TensorInfo]:
    """The tensors of a file of that shape: matrices in the type, vectors in float32. Raises UnknownName, ShapeError."""
    wanted, f32 = type_by_name(type_name), type_by_name("F32")
    infos = []
    for name, shape in config.tensors.items():
        kind = wanted if len(shape) > 1 else f32
        n_bytes = math.prod(shape[:-1]) * row_bytes(kind, shape[-1])
        infos.append(TensorInfo(name, shape, kind, 0, n_bytes))
    return infos


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
    n_params, n_vocab, tied, in_experts = 0, 0, True, 0
    for tensor in tensors:
        bytes_of[part_of(tensor.name)] += tensor.n_bytes
        n_params += math.prod(tensor.shape)
        tied = tied and tensor.name != "output.weight"
        in_experts += tensor.n_bytes if _EXPERTS.search(tensor.name) else 0
        if tensor.name == "token_embd.weight":
            n_vocab = tensor.shape[0]
        if tensor.name == "position_embd.weight" and n_ctx > tensor.shape[0]:
            raise ContextOverflow(n_ctx, tensor.shape[0])  # learned positions: there are no others
    notes = {"output": "the embedding's matrix serves as the output" if tied else ""}
    if in_experts and sizes.n_expert:
        read = bytes_of["feed-forward"] - in_experts + in_experts * sizes.n_expert_used // sizes.n_expert
        notes["feed-forward"] = f"{sizes.n_expert_used} of {sizes.n_expert} experts a token: {size(read)} are read"
    parts = [Part(name, bytes_of[name], notes.get(name, "")) for name in WEIGHT_PARTS]
    parts.append(_cache_part(sizes, n_ctx, cache_type))
    parts.append(_state_part(sizes, n_ctx))
    parts.append(_activation_part(sizes, min(n_ctx, CHUNK), n_vocab))
    return Estimate(tuple(parts), sizes.architecture, n_params, n_ctx, cache_type.lower())


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
    n_expert: int = 0
    n_expert_used: int = 0
    widest_ff: int = 0  # channels of gate and up that a row has at once, those of its experts together
    state_bytes: int = 0  # of one state, all layers together
    inner: int = 0  # channels that a row has in a state-space layer

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
            return checked(full, value)

        def checked(full: str, value: Any) -> int:
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
                raise BadMetadata(full, f"expected a size, found {value!r:.80}")
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
                values = value.tolist() if isinstance(value, np.ndarray) else value
                return tuple(checked(full, v) for v in values)
            return (number(key),) * n_layer

        n_embd = number("embedding_length")
        inner = number("ssm.inner_size", 0)
        no_heads = (0,) * n_layer if inner else None  # a state-space model has none, and its file may say nothing
        n_head = per_layer("attention.head_count", no_heads)
        n_head_kv = per_layer("attention.head_count_kv", n_head)
        head_dim = n_embd // n_head[0] if n_head and n_head[0] else 0
        n_ff = max(per_layer("feed_forward_length", (0,) * n_layer), default=0)
        used = number("expert_used_count", 0)
        routed = used * number("expert_feed_forward_length", n_ff)
        # Mamba 2 convolves its inputs to the state too, a pair of them for each group
        convolved = inner + 2 * number("ssm.group_count", 0) * number("ssm.state_size", 0)
        kept = max(number("ssm.conv_kernel", 1) - 1, 0) * convolved + inner * number("ssm.state_size", 0)
        return cls(
            architecture=architecture,
            n_ctx=number("context_length"),
            n_embd=n_embd,
            n_head=n_head,
            n_head_kv=n_head_kv,
            n_ff=n_ff,
            dk=number("attention.key_length", head_dim),
            dv=number("attention.value_length", head_dim),
            n_expert=number("expert_count", 0),
            n_expert_used=used,
            widest_ff=2 * max(routed + number("expert_shared_feed_forward_length", 0), 0 if used else n_ff),
            state_bytes=4 * n_layer * kept,
            inner=2 * inner + 2 * convolved,
        )


def _cache_part(sizes: Sizes, n_ctx: int, cache_type: str) -> Part:
    """Every layer keeps every position, one with a sliding window too; a layer without heads keeps none."""
    if not any(sizes.n_head_kv):
        return Part("KV cache", 0)
    positions = -(-n_ctx // PAGE) * PAGE
    kind = type_by_name(cache_type)
    if sizes.dk % kind.block_size or sizes.dv % kind.block_size:
        raise ShapeError(
            f"a {kind.name} cache has blocks of {kind.block_size} channels, its heads have {sizes.dk} and {sizes.dv}"
        )
    per_position = sum(sizes.n_head_kv) * (sizes.dk + sizes.dv) // kind.block_size * kind.block_bytes
    return Part("KV cache", positions * per_position, f"{size(per_position)} a position")


def _state_part(sizes: Sizes, n_ctx: int) -> Part:
    """A sequence holds the states at the ends of the pages of a chunk, and those that a step goes on from."""
    held = min(-(-n_ctx // PAGE) + 1, CHUNK // PAGE + 2)
    note = f"{size(sizes.state_bytes)} a state, {held} of them while a prompt is read" if sizes.state_bytes else ""
    return Part("state", held * sizes.state_bytes, note)


def _activation_part(sizes: Sizes, rows: int, n_vocab: int) -> Part:
    """Alive at once in a layer: the residual, its norm, and the widest of three: q, k, v and attention's result; gate
    and up, whose product takes the gate's place, of all experts that a row goes to; what a state-space layer's first
    product and its convolution give.
    """
    n_head, n_kv = max(sizes.n_head, default=0), max(sizes.n_head_kv, default=0)
    attention = n_head * (sizes.dk + sizes.dv) + n_kv * (sizes.dk + sizes.dv)
    widest = max(attention, sizes.widest_ff, sizes.inner)
    return Part(
        "activations",
        4 * (rows * (2 * sizes.n_embd + widest) + n_vocab),
        f"chunks of {rows} rows, and the logits of one",
    )
