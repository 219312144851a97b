"""Which tensors a decoder needs, and their shapes: checked against a file before anything is read."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from zigllama.errors import BadTensor, MissingTensor, TensorShapeMismatch
from zigllama.transformers.spec import Spec

Shape = tuple[int, ...]


class TensorTable:
    """Names and shapes: those that must be there, those that may."""

    def __init__(self, required: Mapping[str, Shape], optional: Mapping[str, Shape]) -> None:
        self.required, self.optional = dict(required), dict(optional)

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
    """The tensors of a decoder with gated feed-forward, by what its spec says. Matrices are (rows, cols) = (out,
    in)."""
    c, f, d = spec.n_embd, spec.n_ff, spec.head_dim
    q, kv = spec.n_head * d, spec.n_head_kv * d
    required: dict[str, Shape] = {"token_embd.weight": (spec.n_vocab, c), "output_norm.weight": (c,)}
    optional: dict[str, Shape] = {"output.weight": (spec.n_vocab, c)}  # absent: tied to token_embd
    for i in range(spec.n_layer):
        block: dict[str, Shape] = {
            "attn_norm.weight": (c,),
            "attn_q.weight": (q, c),
            "attn_k.weight": (kv, c),
            "attn_v.weight": (kv, c),
            "attn_output.weight": (c, q),
            "ffn_norm.weight": (c,),
            "ffn_gate.weight": (f, c),
            "ffn_up.weight": (f, c),
            "ffn_down.weight": (c, f),
        }
        if spec.qk_norm:
            block |= {"attn_q_norm.weight": (d,), "attn_k_norm.weight": (d,)}
        if spec.post_norm:
            block |= {"post_attention_norm.weight": (c,), "post_ffw_norm.weight": (c,)}
        required |= {f"blk.{i}.{name}": shape for name, shape in block.items()}
        biases: dict[str, Shape] = {
            "attn_q.bias": (q,),
            "attn_k.bias": (kv,),
            "attn_v.bias": (kv,),
            "attn_output.bias": (c,),
        }
        optional |= {f"blk.{i}.{name}": shape for name, shape in biases.items()}
    return TensorTable(required, optional)
