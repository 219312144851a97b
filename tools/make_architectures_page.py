"""Make docs/architectures.md: one table of how the architectures differ, read off the specs that really run.

    python tools/make_architectures_page.py

Every variant of tests/architecture_variants/ that has golden files is converted in thought: its config gives the file's
keys, its parameters the file's tensors, and these the `Spec` that the decoder runs. Variants of an architecture whose
rows say the same share one. Architectures with a forward pass of their own have no `Spec` and stand elsewhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zigllama.models.config import HyperParameters
from zigllama.models.conversion.checkpoint import Config
from zigllama.models.conversion.recipes import conversion_of
from zigllama.models.decoder import Decoder
from zigllama.models.registry import architecture, names
from zigllama.neural_primitives.embeddings import ROPE_INTERLEAVED, RoPE
from zigllama.transformers.spec import Spec

ROOT = Path(__file__).resolve().parent.parent
TARGET, GOLDEN = ROOT / "docs" / "architectures.md", ROOT / "tests" / "golden" / "architectures"
QWEN1 = {  # transformers has no class for it, so there is no golden file
    "architectures": ["QWenLMHeadModel"], "vocab_size": 300, "hidden_size": 256, "intermediate_size": 1024,
    "num_hidden_layers": 2, "num_attention_heads": 4, "seq_length": 512,
}  # fmt: skip
GATED = {"silu": "SwiGLU", "gelu_tanh": "GeGLU, tanh form", "gelu": "GeGLU"}
PLAIN = {"gelu_tanh": "GELU, tanh form", "gelu": "GELU, exact", "silu": "SiLU", "relu": "ReLU"}
HEAD = ("variants", "norm", "position", "attention", "window", "feed-forward", "residual", "biases", "in the file")

TEXT = """# How the architectures differ

Made by `tools/make_architectures_page.py` from the specs of the models that the tests hold against `transformers`
(`tests/architecture_variants/`); a test fails when this page is out of date. All of them run in one decoder,
`zigllama/models/decoder.py`; an architecture is a page beside it that fills in a `Spec`
(`zigllama/transformers/spec.py`). A row is what one page says for one kind of file, `variants` names the small models
that have it. Numbers of windows are those of the small models. Not in the table, since their forward passes are their
own: BERT (`zigllama/models/bert.py`, run by `encoder.py`), Mamba 1 and 2 (`mamba.py`, run by `state_space_decoder.py`)
and the vision towers (`multi_modal.py`, which stand before a llama model).

- position: which channels rotate together (interleaved: 2i and 2i + 1; half-split: i and i + D/2), how many of a
  head's, the base, and how longer contexts are reached.
- attention: query heads per key/value head.
- residual: "sequential" adds attention before the feed-forward network reads, "parallel" gives both the same input.
- in the file: matrices that the file joins and the loader takes apart.

"""


def specs() -> Iterator[tuple[str, str, Spec, list[str]]]:
    """(variant, architecture, spec, names of the file's tensors)"""
    found = [(path.stem, json.loads(path.read_text("utf-8"))) for path in sorted(GOLDEN.glob("*.json"))]
    for name, about in [*found, ("qwen", {"config": QWEN1, "parameters": None})]:
        config, parameters = Config(about["config"]), about["parameters"]
        family = conversion_of(config)
        if family.arch not in names() or architecture(family.arch).model is not Decoder:
            continue
        recipes = family.tensors(config)
        tensors = [n for n, r in recipes.items() if not r.optional or all(x in parameters for x in r.names)]
        keys = {f"{family.arch}.{key}": value for key, value in family.metadata(config).items()}
        hyper = HyperParameters({"general.architecture": family.arch} | keys, tensors)
        spec = architecture(family.arch).spec(hyper, config.int("vocab_size"))
        if type(spec) is Spec:
            yield name, family.arch, spec, tensors


def cells(spec: Spec, tensors: list[str]) -> tuple[str, ...]:
    """A row of the table, without its first cell."""
    return (
        _norm(spec),
        _position(spec),
        _attention(spec),
        _window(spec),
        _feed_forward(spec),
        _residual(spec),
        _biases(tensors),
        _file(spec, tensors),
    )


def _norm(spec: Spec) -> str:
    kind = {"rms": "RMSNorm", "layer": "LayerNorm"}[spec.norm]
    more = [(spec.post_norm, "after each half too"), (spec.qk_norm, "on each head of q and k")]
    more.append((spec.embedding_norm, "on the embeddings"))
    return ", ".join([kind, *(text for there, text in more if there)])


def _position(spec: Spec) -> str:
    if spec.learned_positions:
        return "learned"
    if spec.alibi:
        return "ALiBi"
    ropes = list(dict.fromkeys(layer.rope for layer in spec.layers))
    return "; ".join("none" if rope is None else _rope(spec, rope) for rope in ropes)


def _rope(spec: Spec, rope: RoPE) -> str:
    text = ["interleaved" if rope.mode == ROPE_INTERLEAVED else "half-split"]
    if rope.dim < spec.head_dim:
        text.append(f"{rope.dim} of {spec.head_dim} channels")
    text.append(f"base {rope.base:,.0f}")
    if rope.factor != 1:
        text.append(f"linear / {rope.factor:g}")
    if rope.yarn is not None:
        betas = (rope.yarn.beta_fast, rope.yarn.beta_slow)
        text.append(
            f"YaRN x {rope.yarn.factor:g}" + ("" if betas == (32, 1) else f" from {betas[0]:g} to {betas[1]:g}")
        )
    if spec.rope_divisors:
        text.append("LongRoPE" if len(spec.rope_divisors) == 2 else "a divisor per pair")
    return ", ".join(text)


def _attention(spec: Spec) -> str:
    per = spec.n_head // spec.n_head_kv
    text = ["multi-head" if per == 1 else "multi-query" if spec.n_head_kv == 1 else f"grouped, {per}"]
    if not spec.causal:
        text.append("both ways")
    if spec.attn_softcap:
        text.append(f"capped at {spec.attn_softcap:g}")
    if abs(spec.scale * spec.head_dim**0.5 - 1) > 1e-6:
        text.append(f"q . k / sqrt({spec.scale**-2:.0f})")
    return ", ".join(text)


def _window(spec: Spec) -> str:
    windows = [layer.window for layer in spec.layers]
    if len(set(windows)) == 1:
        return f"{windows[0]}" if windows[0] else ""
    which = ", ".join(str(i + 1) for i, window in enumerate(windows) if window)
    return f"{max(windows)} in layers {which} of {len(windows)}"


def _feed_forward(spec: Spec) -> str:
    kind, experts = (GATED if spec.gated else PLAIN)[spec.activation], getattr(spec, "experts", None)
    if experts is None:
        return kind
    return f"{kind}, {experts.n_used} of {experts.n_expert} experts" + (
        " and a shared one" if experts.n_ff_shared else ""
    )


def _residual(spec: Spec) -> str:
    kind = "sequential" if not spec.parallel else f"parallel, {'two norms' if spec.ffn_norm else 'one norm'}"
    scaled = [f"embeddings x {spec.embedding_scale:g}"] if spec.embedding_scale != 1 else []
    return ", ".join([kind, *scaled, *([f"logits capped at {spec.logit_softcap:g}"] if spec.logit_softcap else [])])


def _biases(tensors: list[str]) -> str:
    found = {re.sub(r"blk\.\d+\.|\.bias$", "", n) for n in tensors if n.endswith(".bias") and "norm" not in n}
    names = {"attn_qkv": "q, k, v", "attn_q": "q, k, v", "attn_output": "attention's output", "output": "logits"}
    names |= {"ffn_gate": "feed-forward", "ffn_up": "feed-forward"}
    return ", ".join(dict.fromkeys(text for name, text in names.items() if name in found))


def _file(spec: Spec, tensors: list[str]) -> str:
    joined = [(spec.fused_qkv, "q + k + v"), (spec.fused_gate, "gate + up")]
    joined.append(("output.weight" not in tensors, "output = embedding"))
    return ", ".join(text for there, text in joined if there)


def page() -> str:
    """The whole page."""
    rows: dict[tuple[Any, ...], list[str]] = {}
    for name, arch, spec, tensors in specs():
        rows.setdefault((arch, *cells(spec, tensors)), []).append(name)
    lines = ["| architecture | " + " | ".join(HEAD) + " |", "|" + "---|" * (len(HEAD) + 1)]
    for (arch, *row), alike in sorted(rows.items()):
        lines.append(f"| {' | '.join([arch, ', '.join(alike), *row])} |".replace("|  |", "| |").replace("|  |", "| |"))
    return TEXT + "\n".join(lines) + "\n"


if __name__ == "__main__":
    TARGET.write_text(page(), "utf-8")
