"""What a quantisation will do, tensor by tensor, before it does anything: types, sizes, and why it could not be done.

From the head of the file and the names in the importance matrix alone; no tensor is read. quantize.py carries a plan
out, mixes.py has the rules by which types are chosen.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from zigllama.app import mixes
from zigllama.app.mixes import Chooser, Facts, Mix, mix_by_name, order_of, role_of
from zigllama.errors import (
    BadImportance,
    BadMetadata,
    DTypeError,
    ImportanceNeeded,
    InvalidArgument,
    RequantizeRefused,
)
from zigllama.foundation.ggml_types import GGMLType, row_bytes, type_by_name
from zigllama.foundation.gguf_format import GGUFReader, TensorInfo
from zigllama.linear_algebra.quantizers import QUANTIZE
from zigllama.models.conversion.recipes import wider_of
from zigllama.models.importance import Importance

# What may be made, and what of: an integer is an index, not a weight.
MADE = {
    "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ1_S",
    "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4",
}  # fmt: skip
INTEGERS = ("I8", "I16", "I32", "I64")
PER_LAYER_EMBEDDING = "per_layer_token_embd.weight"


@dataclass(frozen=True)
class Options:
    """What the user asks for beside the mix.

    tensor_types           pattern -> type, for tensors whose name the regular expression is found in; the first holds
    output_tensor_type     of output.weight, and of the embedding where it is the output too
    token_embedding_type   of the token embedding; goes before output_tensor_type
    pure                   every matrix gets the mix's base type
    leave_output_tensor    output.weight keeps its type
    wider                  F16 for what `convert` leaves in F16 when it is asked for Q8_0: of an encoder, attention's
                           values and output. llama-quantize has no such rule, and its files are what a mix's name
                           stands for, so it has to be asked for; `tensor_types` goes before it
    """

    tensor_types: Mapping[str, str] = field(default_factory=dict)
    output_tensor_type: str | None = None
    token_embedding_type: str | None = None
    pure: bool = False
    leave_output_tensor: bool = False
    wider: bool = False


@dataclass(frozen=True)
class Step:
    """One tensor: what it is, what it becomes, and what it would have become if its rows were of another width."""

    info: TensorInfo
    target: GGMLType
    wanted: GGMLType
    needs_importance: bool

    @property
    def name(self) -> str:
        """The tensor's name."""
        return self.info.name

    @property
    def changes(self) -> bool:
        """Whether the numbers are converted; else they are copied."""
        return self.target.id != self.info.type.id

    @property
    def n_bytes(self) -> int:
        """Bytes afterwards."""
        return math.prod(self.info.shape[:-1]) * row_bytes(self.target, self.info.shape[-1])

    @property
    def fell_back(self) -> bool:
        """Whether another type stands in for the wanted one."""
        return self.target.id != self.wanted.id


@dataclass(frozen=True)
class Plan:
    """All tensors in the order in which they are written, and their sums."""

    mix: Mix
    steps: Sequence[Step]
    architecture: str = ""

    @property
    def n_values(self) -> int:
        """Values of all tensors."""
        return sum(math.prod(s.info.shape) for s in self.steps)

    @property
    def n_bytes_before(self) -> int:
        """Bytes of all tensors in the source."""
        return sum(s.info.n_bytes for s in self.steps)

    @property
    def n_bytes(self) -> int:
        """Bytes of all tensors afterwards."""
        return sum(s.n_bytes for s in self.steps)

    @property
    def bits_per_weight(self) -> float:
        """8 * n_bytes / n_values."""
        return 8 * self.n_bytes / max(self.n_values, 1)

    def check(self, importance: Importance | None, allow_requantize: bool) -> None:
        """Raise what stands against carrying it out: RequantizeRefused, ImportanceNeeded, BadImportance; DTypeError for
        a type that `zl.quantize_rows` does not make."""
        for s in self.steps:
            if not s.changes:
                continue
            if s.info.type.is_quantized and not allow_requantize:
                raise RequantizeRefused(s.name, s.info.type.name, s.target.name)
            if importance_for(s.info, importance) is None and s.needs_importance:
                raise ImportanceNeeded(s.name, s.target.name, importance is not None)
        for s in self.steps:
            if s.changes and s.target.name not in QUANTIZE:
                raise DTypeError(f"tensor {s.name!r} would become {s.target.name}, and there is no quantiser of it")


def make_plan(reader: GGUFReader, type_name: str, options: Options, importance: Importance | None = None) -> Plan:
    """Choose every tensor's type. Raises UnknownName for a mix or type, InvalidArgument for a pattern that is wrong or
    that no tensor's name has, and for `wider` of a model without such tensors, BadMetadata for hyper-parameters that
    are no numbers.
    """
    mix = mix_by_name(type_name)
    output, embedding = (
        None if name is None else _made(name) for name in (options.output_tensor_type, options.token_embedding_type)
    )
    patterns = [(_compiled(p), _made(t)) for p, t in options.tensor_types.items()]
    unused = {p.pattern for p, _ in patterns}
    facts = facts_of(reader, importance is not None)
    chooser = Chooser(mix, facts)
    wider = re.compile((wider_of(facts.architecture) if options.wider else "") or "(?!)")
    if options.wider and not any(wider.search(name) for name in reader.tensors):
        raise InvalidArgument(f"{facts.architecture!r:.40} has no tensors that convert leaves wider than 8 bits")
    steps = []
    for info in sorted(reader.tensors.values(), key=lambda t: order_of(t.name)):
        left = options.leave_output_tensor and info.name == mixes.OUTPUT
        if left or info.type.name in INTEGERS or not mixes.is_quantizable(info.name, info.shape):
            steps.append(Step(info, info.type, info.type, False))
            continue
        named = next(((p, t) for p, t in patterns if p.search(info.name)), None)
        unused.difference_update(p.pattern for p, _ in patterns if p.search(info.name))
        role = role_of(info.name)
        if role == "embedding" and embedding and not (named and info.name == PER_LAYER_EMBEDDING):
            wanted = embedding
        elif role == "output" and output:
            wanted = output
        elif named:
            wanted = named[1]
        elif wider.search(info.name) and mix.base.is_quantized:
            wanted = type_by_name("F16")
        elif options.pure:
            wanted = mix.base
        elif role == "embedding" and facts.tied and output:
            wanted = output
        else:
            wanted = chooser.type_for(info.name, info.shape)
        target = mixes.fitting(wanted, info.shape[-1])
        steps.append(Step(info, target, wanted, mixes.needs_importance(info.name, target, mix)))
    if unused:
        raise InvalidArgument(f"no tensor that is quantised has a name with {min(unused)!r}: a type for nothing")
    return Plan(mix, steps, facts.architecture)


def _made(name: str) -> GGMLType:
    kind = type_by_name(name)
    if kind.name not in MADE:
        raise InvalidArgument(
            f"{kind.name} is no type of weights that can be made; these are: {', '.join(sorted(MADE))}"
        )
    return kind


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as e:
        raise InvalidArgument(f"{pattern!r} is no regular expression: {e}") from None


def facts_of(reader: GGUFReader, has_importance: bool) -> Facts:
    """What the rules look at, from metadata and names. Counts that are missing are 0, a missing number of layers what
    the names have. Raises BadMetadata.
    """
    metadata = reader.metadata
    architecture = metadata.get("general.architecture", "")
    if not isinstance(architecture, str):
        raise BadMetadata("general.architecture", f"{architecture!r:.40} is not a name")

    def count(key: str) -> int:
        value = metadata.get(f"{architecture}.{key}", 0)
        if isinstance(value, np.ndarray) and value.size:  # one per layer: the first stands for all
            value = value[0].item()
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise BadMetadata(f"{architecture}.{key}", f"{value!r:.40} is not a count")
        return value

    names = reader.tensors
    heads = count("attention.head_count")
    heads_kv = count("attention.head_count_kv") if f"{architecture}.attention.head_count_kv" in metadata else heads
    return Facts(
        architecture=architecture,
        n_layer=count("block_count") or 1 + max(map(mixes.layer_of, names), default=-1),
        n_attn_v=sum(role_of(name) == "attn_v" for name in names),
        gqa=heads // heads_kv if heads_kv else 0,
        n_expert=count("expert_count"),
        tied=mixes.OUTPUT not in names,
        has_importance=has_importance,
    )


def importance_for(info: TensorInfo, importance: Importance | None) -> npt.NDArray[np.float32] | None:
    """The weights of a tensor's channels, float32 (matrices, C), or None where there are none. Raises BadImportance for
    another number of them, but for an embedding, whose rows are looked up and not multiplied.
    """
    if importance is None or (entry := importance.entries.get(info.name)) is None:
        return None
    weights, n, width = entry.mean(), math.prod(info.shape[:-2]), info.shape[-1]
    if weights.size == n * width:
        return weights.reshape(n, width)
    if role_of(info.name) == "embedding":
        return None
    raise BadImportance(
        importance.path, f"{weights.size} weights for {info.name!r}, whose shape {info.shape} has {n * width}"
    )


def without_importance(steps: Iterable[Step], importance: Importance) -> list[str]:
    """Names of tensors that are quantised without importance though a matrix is given; embeddings are no surprise."""
    return [
        s.name
        for s in steps
        if s.changes
        and s.target.is_quantized
        and role_of(s.name) not in ("embedding", "output")
        and importance_for(s.info, importance) is None
    ]
