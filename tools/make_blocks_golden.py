"""Make tests/golden/blocks.json and blocks.npz: what torch's own layers and functions say of the blocks of
tests/block_cases.py, and of the pieces of layer 3.

    pip install numpy torch==2.13.0
    python tools/make_blocks_golden.py            (from the repository's root; seconds)

Everything is computed in float64 from the float32 weights and rounded once. Where torch has the layer it is taken:
TransformerEncoderLayer, TransformerDecoderLayer, MultiheadAttention; else scaled_dot_product_attention with a mask,
and, for a cap on scores, which that function has not, its definition. The engine takes no part.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import block_cases  # noqa: E402
from block_cases import CASES, Case, piece  # noqa: E402

KEPT = [0, 1, 19, 20, 21, 62, 63, 64, 66]  # rows, of those that a case has, and its last


def load(layer: torch.nn.Module, values: dict[str, Any]) -> torch.nn.Module:
    """A torch layer with these parameters, every one of them, ready to be asked."""
    layer = layer.double().eval()
    layer.load_state_dict({name: value.double() for name, value in values.items()}, strict=True)
    return layer


def packed(w: dict[str, Any], name: str, to: str) -> dict[str, Any]:
    """The parameters of an attention as torch.nn.MultiheadAttention has them."""
    out = {f"{to}.out_proj.weight": w[f"{name}.out.weight"], f"{to}.out_proj.bias": w[f"{name}.out.bias"]}
    for end in ("weight", "bias"):
        out[f"{to}.in_proj_{end}"] = torch.cat([w[f"{name}.{part}.{end}"] for part in "qkv"])
    return out


def torch_layer(case: Case, w: dict[str, Any], x: Any, memory: Any) -> Any:
    """An encoder's or decoder's layer as torch has it."""
    kind = torch.nn.TransformerDecoderLayer if case.memory else torch.nn.TransformerEncoderLayer
    layer = kind(
        case.width,
        case.heads,
        case.inner,
        dropout=0.0,
        activation={"standard": "relu", "gelu": "gelu"}[case.kind],
        layer_norm_eps=case.eps,
        batch_first=True,
        norm_first=not case.post_norm,
    )
    norms = ["attn_norm", "cross_norm", "ffn_norm"] if case.memory else ["attn_norm", "ffn_norm"]
    values = packed(w, "attention", "self_attn")
    if case.memory:
        values |= packed(w, "cross", "multihead_attn")
    for end in ("weight", "bias"):
        values |= {f"norm{i}.{end}": w[f"{name}.{end}"] for i, name in enumerate(norms, 1)}
        values |= {f"linear1.{end}": w[f"ffn.up.{end}"], f"linear2.{end}": w[f"ffn.down.{end}"]}
    layer = load(layer, values)
    mask = None if case.both_ways else torch.nn.Transformer.generate_square_subsequent_mask(len(x), dtype=torch.float64)
    if case.memory:
        return layer(x[None], memory[None], tgt_mask=mask)[0]
    return layer(x[None], src_mask=mask)[0]


def wide_memory(case: Case, w: dict[str, Any], x: Any, memory: Any) -> Any:
    """Cross-attention over a memory of another width, as torch has it."""
    layer = torch.nn.MultiheadAttention(
        case.width, case.heads, kdim=case.memory_width, vdim=case.memory_width, batch_first=True
    )
    values = {f"{part}_proj_weight": w[f"cross.{part}.weight"] for part in "qkv"}
    values["in_proj_bias"] = torch.cat([w[f"cross.{part}.bias"] for part in "qkv"])
    values |= {"out_proj.weight": w["cross.out.weight"], "out_proj.bias": w["cross.out.bias"]}
    return load(layer, values)(x[None], memory[None], memory[None], need_weights=False)[0][0]


def slopes(heads: int) -> Any:
    """ALiBi's slopes as its paper gives them, by the recipe for numbers that are no powers of two too."""
    if heads & (heads - 1) == 0:
        return [2.0 ** (-8.0 * (h + 1) / heads) for h in range(heads)]
    below = 2 ** (heads.bit_length() - 1)
    return slopes(below) + slopes(2 * below)[0::2][: heads - below]


def attention(case: Case, w: dict[str, Any], x: Any) -> Any:
    """Self-attention of torch's functions."""
    parts = {p: F.linear(x, w[f"attention.{p}.weight"], w.get(f"attention.{p}.bias")) for p in "qkv"}
    q, k, v = (parts[p].reshape(len(x), -1, case.head_dim).transpose(0, 1) for p in "qkv")
    k, v = (torch.repeat_interleave(y, case.heads // case.kv_heads, dim=0) for y in (k, v))
    at = torch.arange(len(x))
    seen = torch.ones(len(x), len(x), dtype=torch.bool) if case.both_ways else at[:, None] >= at[None, :]
    if case.window:
        seen &= at[:, None] - at[None, :] < case.window
    bias = torch.zeros(case.heads, len(x), len(x), dtype=torch.float64)
    if case.alibi:
        bias += torch.tensor(slopes(case.heads))[:, None, None] * (at[None, :] - at[:, None])
    bias = bias.masked_fill(~seen, float("-inf"))
    if case.softcap:
        scores = q @ k.transpose(1, 2) / case.head_dim**0.5
        o = torch.softmax(case.softcap * torch.tanh(scores / case.softcap) + bias, -1) @ v
    else:
        o = F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=bias[None])[0]
    o = o.transpose(0, 1).reshape(len(x), -1)
    return F.linear(o, w["attention.out.weight"], w.get("attention.out.bias"))


def feed_forward(case: Case, w: dict[str, Any], x: Any) -> Any:
    """The five kinds."""
    up = F.linear(x, w["ffn.up.weight"], w.get("ffn.up.bias"))
    if case.kind in ("standard", "gelu"):
        h = F.relu(up) if case.kind == "standard" else F.gelu(up)
    else:
        gate = F.linear(x, w["ffn.gate.weight"], w.get("ffn.gate.bias"))
        if case.kind == "glu":
            h = F.glu(torch.cat([up, gate], -1))
        else:
            h = (F.silu(gate) if case.kind == "swiglu" else F.gelu(gate, approximate="tanh")) * up
    return F.linear(h, w["ffn.down.weight"], w.get("ffn.down.bias"))


def own_block(case: Case, w: dict[str, Any], x: Any) -> Any:
    """A pre-norm block of torch's functions, its halves one after the other or side by side."""

    def norm(name: str, y: Any) -> Any:
        weight, bias = w[f"{name}.weight"], w.get(f"{name}.bias")
        if case.norm == "layer":
            return F.layer_norm(y, y.shape[-1:], weight, bias, case.eps)
        return F.rms_norm(y, y.shape[-1:], weight, case.eps)

    y = x + attention(case, w, norm("attn_norm", x))
    source = x if case.parallel else y
    return y + feed_forward(case, w, norm("attn_norm" if case.shared_norm else "ffn_norm", source))


def answer(label: str) -> Any:
    """The result of a case, all rows, float64."""
    case = CASES[label]
    w = {name: torch.from_numpy(value).double() for name, value in block_cases.weights(label).items()}
    x, memory = (None if a is None else torch.from_numpy(a).double() for a in block_cases.inputs(label))
    if case.alone:
        return wide_memory(case, w, x, memory) if case.memory else attention(case, w, x)
    classic = case.norm == "layer" and case.kind in ("standard", "gelu") and not case.parallel
    return torch_layer(case, w, x, memory) if classic else own_block(case, w, x)


def pieces() -> dict[str, Any]:
    """Norms, activations and embeddings of layer 3."""
    rows, wide = block_cases.PIECE_ROWS, block_cases.PIECE_WIDTH

    def t(name: str, *shape: int, **limits: float) -> Any:
        return torch.from_numpy(piece(name, *shape, **limits)).double()

    x, y, w, b = t("x", rows, wide), t("y", rows, wide), t("w", wide), t("b", wide)
    mean, var = t("mean", wide), t("var", wide, low=0.1, high=3.0)
    square = F.relu(x) ** 2
    return {
        "layer_norm": F.layer_norm(x, (wide,), w, b, 1e-3),
        "rms_norm": F.rms_norm(x, (wide,), w, 1e-3),
        "group_norm": F.group_norm(x, 4, w, b, 1e-3),
        "group_norm_plain": F.group_norm(x, 3),
        "batch_norm": F.batch_norm(x, mean, var, w, b, False, 0.0, 1e-3),
        "batch_norm_plain": F.batch_norm(x, mean, var, None, None, False, 0.0, 1e-5),
        "relu": F.relu(x),
        "gelu": F.gelu(x),
        "gelu_tanh": F.gelu(x, approximate="tanh"),
        "silu": F.silu(x),
        "tanh": torch.tanh(x),
        "sigmoid": torch.sigmoid(x),
        "relu_squared": square,
        "glu": F.glu(torch.cat([y, x], -1)),
        "geglu": F.gelu(x, approximate="tanh") * y,
        "swiglu": F.silu(x) * y,
    }


def main() -> None:
    """Ask torch, keep some rows, write."""
    torch.use_deterministic_algorithms(True)
    arrays = {f"piece/{name}": value.float().numpy() for name, value in pieces().items()}
    with torch.no_grad():
        for label, case in CASES.items():
            kept = [row for row in KEPT if row < case.rows - 1] + [case.rows - 1]
            arrays[f"block/{label}"] = answer(label)[kept].float().numpy()
    content = {
        "about": {
            "oracle": f"torch {torch.__version__} in float64, numpy {np.__version__}",
            "command": "python tools/make_blocks_golden.py",
        },
        "rows": KEPT,
        "cases": list(CASES),
    }
    golden = ROOT / "tests" / "golden"
    np.savez_compressed(golden / "blocks.npz", **arrays)
    (golden / "blocks.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    print(f"{len(arrays)} arrays, {sum(a.nbytes for a in arrays.values()):,} bytes")


if __name__ == "__main__":
    main()
