"""Model files with a head and no data: shapes of many kinds, to choose types for. A hole of the right size follows.

    python tests/hollow_models.py FOLDER        writes all of them

tools/make_mixes_golden.py asks llama-quantize what it would make of each; the tests ask zigllama. What this file is
not: models that run (tests/small_models.py has those).
"""

from __future__ import annotations

import math
import re
import struct
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gguf_bytes import ALIGNMENT, TYPE_IDS, Value, metadata, string


@dataclass(frozen=True)
class Hollow:
    """Sizes of a model. `parts` are names of matrices per layer with their shapes in letters: C channels, F feed-
    forward, G the keys' channels, N experts, 3 three times C; a capital X stands for a vector, which no mix changes.
    """

    arch: str
    n_layer: int = 8
    n_embd: int = 512
    n_ff: int = 1024
    n_head: int = 8
    n_head_kv: int = 8
    n_expert: int = 0
    tied: bool = False
    parts: tuple[str, ...] = ()
    extra: dict[str, Value] = field(default_factory=dict)
    first: tuple[str, ...] = ()  # tensors of no layer beside the usual ones


ATTENTION = ("attn_norm:X", "attn_q:CC", "attn_k:GC", "attn_v:GC", "attn_output:CC", "ffn_norm:X")
DENSE = (*ATTENTION, "ffn_gate:FC", "ffn_up:FC", "ffn_down:CF")
EXPERTS = (*ATTENTION, "ffn_gate_inp:NC", "ffn_gate_exps:NFC", "ffn_up_exps:NFC", "ffn_down_exps:NCF")
SHARED = ("ffn_gate_shexp:FC", "ffn_up_shexp:FC", "ffn_down_shexp:CF")
JOINED = ("attn_norm:X", "attn_qkv:3C", "attn_output:CC", "ffn_up:FC", "ffn_down:CF")

RMS: dict[str, Value] = {"attention.layer_norm_rms_epsilon": 1e-5}
LN: dict[str, Value] = {"attention.layer_norm_epsilon": 1e-5}

MODELS = {
    "dense": Hollow("llama", 16, parts=DENSE, extra=RMS),
    "grouped": Hollow("llama", 11, n_head_kv=2, tied=True, parts=DENSE, extra=RMS),
    "narrow": Hollow("llama", 5, 192, 320, 3, 3, tied=True, parts=DENSE, extra=RMS),
    "odd": Hollow("llama", 2, 80, 144, 2, 1, parts=DENSE, extra=RMS),
    "eight-experts": Hollow("llama", 16, n_head_kv=2, n_expert=8, parts=EXPERTS, extra=RMS | {"expert_used_count": 2}),
    "many-experts": Hollow(
        "qwen2moe", 9, n_head_kv=4, n_expert=16, parts=EXPERTS + SHARED, extra=RMS | {"expert_used_count": 4}
    ),
    "falcon": Hollow("falcon", 16, n_head_kv=1, parts=JOINED, extra=LN),
    "gpt2": Hollow("gpt2", 8, tied=True, parts=JOINED, extra=LN, first=("position_embd:VC",)),
    "bert": Hollow(
        "bert", 6, tied=True, parts=DENSE[:5] + DENSE[-2:], extra=LN | {"attention.causal": False},
        first=("position_embd:VC", "token_types:2C"),
    ),
    "gemma3": Hollow(
        "gemma3", 6, 640, 2048, 4, 1, tied=True, parts=(*DENSE, "attn_q_norm:X", "post_ffw_norm:X"),
        extra=RMS | {"attention.sliding_window": 512},
    ),
    "mamba": Hollow(
        "mamba", 4, tied=True, parts=("attn_norm:X", "ssm_in:FC", "ssm_conv1d:F4", "ssm_x:6F", "ssm_out:CF"),
        extra=RMS | {"ssm.conv_kernel": 4, "ssm.inner_size": 1024, "ssm.state_size": 16, "ssm.time_step_rank": 32},
    ),
    "seventy": Hollow("llama", 80, 256, 256, 8, 1, parts=DENSE, extra=RMS),
}  # fmt: skip


def tensors(model: Hollow) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor, in an order of the file that is not the order of the layers' numbers."""
    sizes = {
        "C": model.n_embd,
        "F": model.n_ff,
        "G": model.n_embd // model.n_head * model.n_head_kv,
        "N": model.n_expert,
        "V": 256,
        "X": model.n_embd,
        "2": 2,
        "3": 3 * model.n_embd,
        "4": 4,
        "6": 64,
    }

    def shape(letters: str) -> tuple[int, ...]:
        return tuple(sizes[letter] for letter in letters)

    for name in ("token_embd:VC", "output_norm:X", *model.first, *(() if model.tied else ("output:VC",))):
        label, letters = name.split(":")
        yield f"{label}.weight", shape(letters)
    for i in sorted(range(model.n_layer), key=str):  # 0 1 10 11 2 ...
        for part in model.parts:
            label, letters = part.split(":")
            yield f"blk.{i}.{label}.weight", shape(letters)


def build(name: str, folder: Path, kind: str = "F16") -> Path:
    """Write one model's head, matrices as `kind`, and leave a hole for the data; returns the path."""
    model = MODELS[name]
    meta: dict[str, Value] = {"general.architecture": model.arch, "general.name": f"hollow {name}"}
    own: dict[str, Value] = {
        "block_count": model.n_layer,
        "context_length": 1024,
        "embedding_length": model.n_embd,
        "feed_forward_length": model.n_ff,
        "attention.head_count": model.n_head,
        "attention.head_count_kv": model.n_head_kv,
        "vocab_size": 256,
    }
    own |= {"expert_count": model.n_expert} if model.n_expert else {}
    meta |= {f"{model.arch}.{key}": value for key, value in (own | model.extra).items()}
    table, offset, n = [], 0, 0
    for label, shape in tensors(model):
        own_kind = kind if len(shape) > 1 else "F32"
        dims = struct.pack(f"<I{len(shape)}Q", len(shape), *reversed(shape))
        table.append(string(label) + dims + struct.pack("<IQ", TYPE_IDS[own_kind], offset))
        n_bytes = math.prod(shape) * (4 if own_kind == "F32" else 2)
        offset += -(-n_bytes // ALIGNMENT) * ALIGNMENT
        n += 1
    head = b"GGUF" + struct.pack("<IQQ", 3, n, len(meta))
    head += b"".join(string(key) + metadata(value) for key, value in meta.items()) + b"".join(table)
    path = folder / f"hollow-{name}.gguf"
    with open(path, "wb") as f:
        f.write(head)
        f.truncate(-(-len(head) // ALIGNMENT) * ALIGNMENT + offset)
    return path


def compact(types: Mapping[str, str]) -> dict[str, str]:
    """Types by tensor name -> the commonest one as "most", and per other type the tensors that have it.

    {"most": "Q4_K", "Q6_K": "output, attn_v 0-1 4"}: parts without `.weight`, with the layers where there are any.
    """
    most = Counter(types.values()).most_common(1)[0][0]
    groups: dict[str, dict[str, list[int]]] = {}
    for name, kind in types.items():
        if kind != most:
            match = re.fullmatch(r"blk\.(\d+)\.(.+)", name)
            part, layers = (match[2], [int(match[1])]) if match else (name, [])
            groups.setdefault(kind, {}).setdefault(part.removesuffix(".weight"), []).extend(layers)
    found = {"most": most}
    for kind in sorted(groups):
        found[kind] = ", ".join(f"{part} {_runs(layers)}".rstrip() for part, layers in sorted(groups[kind].items()))
    return found


def _runs(numbers: Iterable[int]) -> str:
    """1 2 3 5 -> "1-3 5"."""
    runs: list[list[int]] = []
    for n in sorted(numbers):
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return " ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for model_name in MODELS:
        print(build(model_name, target))
