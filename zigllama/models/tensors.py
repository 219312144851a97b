"""Which tensors a decoder needs, and their shapes: checked against a file before anything is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from zigllama.errors import BadTensor, MissingTensor, TensorShapeMismatch
from zigllama.transformers.spec import Spec

Shape = tuple[int, ...]


class TensorTable:
    """Names and shapes: those that must be there, those that may.

    joined   tensors that the model takes apart: name in the file -> the parts, (name, rows) each, in their order. What
             is required is the whole; the parts are what `GGUFLoader.weights` yields.
    plain    of more than one dimension, but not multiplied by: the model takes them as float32 arrays, as vectors
    rows     of one dimension, but multiplied by: the model takes them as matrices of one row
    """

    def __init__(
        self,
        required: Mapping[str, Shape],
        optional: Mapping[str, Shape],
        joined: Mapping[str, Sequence[tuple[str, int]]] | None = None,
        plain: Collection[str] = (),
        rows: Collection[str] = (),
    ) -> None:
        self.required, self.optional, self.joined = dict(required), dict(optional), dict(joined or {})
        self.plain, self.rows = frozenset(plain), frozenset(rows)

    def is_matrix(self, name: str, dimensions: int) -> bool:
        """Whether the model multiplies by a tensor of so many dimensions, and so takes it as a `Weight`."""
        return name in self.rows or (dimensions > 1 and name not in self.plain)

    def check(self, found: Mapping[str, Shape], ignored: Collection[str] = ()) -> None:
        """Raises MissingTensor, TensorShapeMismatch, or BadTensor for a tensor that is in no table."""
        for name, shape in self.required.items():
            if name not in found:
                raise MissingTensor(name, shape)
        for name, shape in found.items():
            expected = self.required.get(name) or self.optional.get(name)
            if expected is None:
                if name in ignored:
                    continue
                raise BadTensor(name, "the architecture has no tensor of this name")
            if shape != expected:
                raise TensorShapeMismatch(name, expected, shape)


def decoder_tensors(spec: Spec) -> TensorTable:
    """The tensors of a decoder, by what its spec says. Matrices are (rows, cols) = (out, in)."""
    c, v = spec.n_embd, spec.n_vocab
    required: dict[str, Shape] = {"token_embd.weight": (v, c)} | _norm(spec, "output_norm", c)
    optional: dict[str, Shape] = {"output.weight": (v, c)}  # absent: tied to token_embd
    (required if "output" in spec.biases else optional)["output.bias"] = (v,)
    if spec.learned_positions:
        required["position_embd.weight"] = (spec.n_ctx, c)
    if spec.embedding_norm:
        required |= _norm(spec, "token_embd_norm", c)
    pairs = [layer.rope.dim // 2 for layer in spec.layers if layer.rope is not None]
    required |= dict.fromkeys(spec.rope_divisors, tuple(pairs[:1]))
    joined: dict[str, Sequence[tuple[str, int]]] = {}
    rows: set[str] = set()
    for i in range(spec.n_layer):
        p = f"blk.{i}."
        for name, shape in _products(spec, i).items():
            required[f"{p}{name}.weight"] = shape
            if len(shape) == 1:
                rows.add(f"{p}{name}.weight")
            if len(shape) != 2 or name == "ffn_gate_inp":
                continue
            (required if name in spec.biases else optional)[f"{p}{name}.bias"] = shape[:1]
        for name, parts in _parts(spec).items():
            for kind in ("weight", "bias"):
                joined[f"{p}{name}.{kind}"] = [(f"{p}{part}.{kind}", n) for part, n in parts]
        for name, size in _norms(spec).items():
            required |= _norm(spec, p + name, size)
    return TensorTable(required, optional, joined, rows=rows)


def _norm(spec: Spec, name: str, size: int) -> dict[str, Shape]:
    """A norm's scale, and the shift that LayerNorm has."""
    return {f"{name}.{kind}": (size,) for kind in ("weight", "bias")[: 2 if spec.norm == "layer" else 1]}


def _norms(spec: Spec) -> dict[str, int]:
    """The norms of a block, and how many channels each has."""
    norms = dict.fromkeys(spec.norm_names[: 2 if spec.ffn_norm else 1], spec.n_embd)
    if spec.qk_norm:
        norms |= {"attn_q_norm": spec.head_dim, "attn_k_norm": spec.head_dim}
    if spec.post_norm:
        norms |= {"post_attention_norm": spec.n_embd, "post_ffw_norm": spec.n_embd}
    return norms


def _products(spec: Spec, i: int) -> dict[str, Shape]:
    """The matrices of layer i, as the file has them; of experts stacks of E matrices, and the shared expert's
    router, a row."""
    c, f = spec.n_embd, spec.n_ff
    q, kv = spec.n_head * spec.head_dim, spec.n_head_kv * spec.head_dim
    qkv: dict[str, Shape] = {"attn_q": (q, c), "attn_k": (kv, c), "attn_v": (kv, c)}
    if spec.fused_qkv:
        qkv = {"attn_qkv": (q + 2 * kv, c)}
    if spec.experts is not None and i not in spec.experts.dense:
        e, f, s = spec.experts.n_expert, spec.experts.n_ff, spec.experts.n_ff_shared
        out = qkv | {"attn_output": (c, q), "ffn_gate_inp": (e, c)}
        out |= {"ffn_gate_exps": (e, f, c), "ffn_up_exps": (e, f, c), "ffn_down_exps": (e, c, f)}
        shared: dict[str, Shape] = {"ffn_gate_shexp": (s, c), "ffn_up_shexp": (s, c), "ffn_down_shexp": (c, s)}
        return out | shared | {"ffn_gate_inp_shexp": (c,)} if s else out
    gate: dict[str, Shape] = {"ffn_gate": (f, c)} if spec.gated and not spec.fused_gate else {}
    up = 2 * f if spec.fused_gate else f
    return qkv | {"attn_output": (c, q)} | gate | {"ffn_up": (up, c), "ffn_down": (c, f)}


def _parts(spec: Spec) -> dict[str, list[tuple[str, int]]]:
    """What the fused matrices of a block are taken apart into."""
    q, kv = spec.n_head * spec.head_dim, spec.n_head_kv * spec.head_dim
    parts: dict[str, list[tuple[str, int]]] = {}
    if spec.fused_qkv:
        parts["attn_qkv"] = [("attn_q", q), ("attn_k", kv), ("attn_v", kv)]
    if spec.fused_gate:
        parts["ffn_up"] = [("ffn_gate", spec.n_ff), ("ffn_up", spec.n_ff)]
    return parts
