"""Small random models as GGUF files, made in a second from a seed: whole-model tests without any download.

    python tests/small_models.py FOLDER        writes all of them

Every tensor is random, norms too, so that none is idle and a step left out or a tensor mixed up shows.  Sizes are
small and awkward: head counts that are no powers of two, more layers than one period of Gemma's windows, a vocabulary
that no panel divides.  Expected logits, computed by tools/make_small_golden.py without this package, are in
tests/golden/small.*; the same bytes come out on every machine (a digest of each file is kept there too).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import gguf_bytes
import random_weights
import small_vocabularies
from gguf_bytes import Data, Value


@dataclass(frozen=True)
class Shape:
    """One small model: sizes, the type of its matrices (or of some of them by name), and extra metadata."""

    arch: str
    kind: str  # type of every matrix not named in `kinds`
    n_embd: int = 256
    n_head: int = 4
    n_head_kv: int = 2
    head_dim: int = 64
    n_ff: int = 512
    n_layer: int = 2
    tied: bool = True
    kinds: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Value] = field(default_factory=dict)
    n_expert: int = 0  # 0: one feed-forward network


# Gemma's residual stream is of size one (embeddings times sqrt(C)), so that only an epsilon this large leaves a mark.
GEMMA: dict[str, Value] = {
    "attention.sliding_window": 24,
    "rope.freq_base": 1e6,
    "attention.layer_norm_rms_epsilon": 1e-3,
}
LLAMA: dict[str, Value] = {"rope.freq_base": 20000.0, "attention.layer_norm_rms_epsilon": 3e-5}
MODELS = {
    "llama-f32": Shape("llama", "F32", 96, 6, 2, 16, 176, 3, tied=False),
    "llama-f16": Shape("llama", "F16", 96, 3, 1, 32, 160, 2),
    "llama-bf16": Shape("llama", "BF16", 96, 3, 3, 32, 160, 2, tied=False),
    **{f"llama-{kind.lower()}": Shape("llama", kind) for kind in random_weights.BLOCK},
    # SmolLM2's and Gemma 3 270M's own mixes of types
    "llama-mix": Shape("llama", "Q4_1", 192, 3, 1, 64, 320, 2, kinds={"token_embd": "Q8_0"}),
    "gemma3-f32": Shape("gemma3", "F32", 80, 4, 1, 32, 144, 7),
    "gemma3-mix": Shape(
        "gemma3",
        "Q5_0",
        n_layer=4,
        head_dim=128,
        n_ff=768,
        kinds={"token_embd": "Q8_0", "attn_v": "Q8_0", "attn_output": "Q4_K", "ffn_down": "Q6_K"},
        extra={"attention.sliding_window_pattern": 3, "rope.freq_base_swa": 5000.0},
    ),
}
# Mixtures of experts, whose logits are held against transformers elsewhere (tests/architecture_variants/experts.py).
MIXTURES = {
    "mixture-f32": Shape(
        "llama", "F32", 96, 6, 2, 16, 64, 2, tied=False, n_expert=5, extra={"expert_count": 5, "expert_used_count": 2}
    ),
}


def metadata(name: str, shape: Shape) -> dict[str, Value]:
    """All keys of the file, the tokenizer's included."""
    own: dict[str, Value] = {
        "block_count": shape.n_layer,
        "context_length": 1024,
        "embedding_length": shape.n_embd,
        "feed_forward_length": shape.n_ff,
        "attention.head_count": shape.n_head,
        "attention.head_count_kv": shape.n_head_kv,
        "rope.dimension_count": shape.head_dim,
    }
    if shape.arch == "gemma3":
        own |= {"attention.key_length": shape.head_dim, "attention.value_length": shape.head_dim} | GEMMA
    else:
        own |= LLAMA
    own |= shape.extra
    vocabulary = small_vocabularies.spm() if shape.arch == "gemma3" else small_vocabularies.bpe()
    general: dict[str, Value] = {"general.architecture": shape.arch, "general.name": f"random {name}"}
    return general | {f"{shape.arch}.{key}": value for key, value in own.items()} | vocabulary


def tensors(name: str, shape: Shape, n_vocab: int) -> dict[str, tuple[str, tuple[int, ...], Data]]:
    """Every tensor of the file: name -> (type, shape, bytes)."""
    q, kv, c, f = shape.n_head * shape.head_dim, shape.n_head_kv * shape.head_dim, shape.n_embd, shape.n_ff
    gemma = shape.arch == "gemma3"
    out: dict[str, tuple[str, tuple[int, ...], Data]] = {}

    def matrix(label: str, rows: int, cols: int, gain: float = 1.0) -> None:
        kind = shape.kinds.get(label.rsplit(".", 1)[-1], shape.kind)
        data = random_weights.tensor(f"{name}/{label}", kind, (rows, cols), gain * cols**-0.5)
        out[label + ".weight"] = (kind, (rows, cols), data)

    def stack(label: str, rows: int, cols: int) -> None:
        matrix(label, shape.n_expert * rows, cols)
        kind, _, data = out[label + ".weight"]
        out[label + ".weight"] = (kind, (shape.n_expert, rows, cols), data)

    def norm(label: str, size: int, mean: float = 1.0) -> None:
        out[label + ".weight"] = (
            "F32",
            (size,),
            random_weights.tensor(f"{name}/{label}", "F32", (size,), 0.3 * mean, mean),
        )

    matrix("token_embd", n_vocab, c)
    norm("output_norm", c)
    if not shape.tied:
        matrix("output", n_vocab, c)
    for i in range(shape.n_layer):
        p = f"blk.{i}."
        norm(p + "attn_norm", c)
        # A gain on q and k makes attention look somewhere in particular instead of averaging everything.
        matrix(p + "attn_q", q, c, 1.0 if gemma else 1.5)
        matrix(p + "attn_k", kv, c, 1.0 if gemma else 1.5)
        matrix(p + "attn_v", kv, c)
        matrix(p + "attn_output", c, q)
        norm(p + "ffn_norm", c)
        if shape.n_expert:
            matrix(p + "ffn_gate_inp", shape.n_expert, c, 3.0)  # so that a few experts are clearly the best
            stack(p + "ffn_gate_exps", f, c)
            stack(p + "ffn_up_exps", f, c)
            stack(p + "ffn_down_exps", c, f)
        else:
            matrix(p + "ffn_gate", f, c)
            matrix(p + "ffn_up", f, c)
            matrix(p + "ffn_down", c, f)
        if gemma:
            norm(p + "attn_q_norm", shape.head_dim, 1.5)
            norm(p + "attn_k_norm", shape.head_dim, 1.5)
            norm(p + "post_attention_norm", c)
            norm(p + "post_ffw_norm", c)
    return out


def build(name: str, folder: Path) -> Path:
    """Write one model, give back its path."""
    shape = (MODELS | MIXTURES)[name]
    meta = metadata(name, shape)
    tokens = meta["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    path = folder / f"{name}.gguf"
    gguf_bytes.write(path, meta, tensors(name, shape, len(tokens)))
    return path


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    for model in MODELS:
        print(build(model, target))
