"""Mamba (Gu & Dao, 2023, arXiv 2312.00752) and Mamba 2 (Dao & Gu, 2024, arXiv 2405.21060).

No attention: each layer reads the sequence through a state of fixed size, and decides token by token what to keep.

    Mamba      every channel has its own 16 or so states, each with its own decay; FalconMamba normalises dt, B and C,
               with an epsilon of its own (ssm.dt_b_c_rms_epsilon, zigllama's key; else the layers', as in llama.cpp)
    Mamba 2    heads of 64 channels share a decay and have 128 states or so; a norm before the last product, over the
               heads that share B and C

In a file `ssm_a` is already -exp(A_log).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zigllama.errors import BadMetadata
from zigllama.models.config import MAX_LAYERS, HyperParameters
from zigllama.models.registry import Architecture, register
from zigllama.models.state_space_decoder import StateSpaceDecoder
from zigllama.models.tensors import Shape, TensorTable
from zigllama.transformers.state_space_block import StateSpaceSpec

MAX_TAPS, MAX_STATES = 16, 1 << 12


def _sizes(h: HyperParameters, n_vocab: int) -> dict[str, Any]:
    """What both have. The sizes of a state stay below 2^31."""
    return {
        "n_layer": h.int("block_count", high=MAX_LAYERS),
        "n_embd": h.int("embedding_length"),
        "n_inner": h.int("ssm.inner_size", high=1 << 18),
        "n_state": h.int("ssm.state_size", high=MAX_STATES),
        "n_conv": h.int("ssm.conv_kernel", low=2, high=MAX_TAPS),
        "n_vocab": n_vocab,
        "n_ctx": h.int("context_length", high=1 << 30),
        "norm_eps": h.float("attention.layer_norm_rms_epsilon", 1e-5),
    }


def spec(h: HyperParameters, n_vocab: int) -> StateSpaceSpec:
    """Keys: ssm.inner_size, ssm.state_size, ssm.conv_kernel, ssm.time_step_rank, ssm.dt_b_c_rms, its _epsilon."""
    norm = h.metadata.get(f"{h.prefix}.ssm.dt_b_c_rms", False)
    if not isinstance(norm, bool):
        raise BadMetadata(f"{h.prefix}.ssm.dt_b_c_rms", f"expected true or false, found {norm!r:.40}")
    sizes = _sizes(h, n_vocab)
    eps = h.float("ssm.dt_b_c_rms_epsilon", sizes["norm_eps"]) if norm else None
    return StateSpaceSpec(**sizes, dt_rank=h.int("ssm.time_step_rank"), dt_b_c_eps=eps)


def spec2(h: HyperParameters, n_vocab: int) -> StateSpaceSpec:
    """Keys: as `spec`; ssm.time_step_rank is the number of heads, ssm.group_count that of groups."""
    made = StateSpaceSpec(
        **_sizes(h, n_vocab), n_head=h.int("ssm.time_step_rank"), n_group=h.int("ssm.group_count", high=1 << 12)
    )
    for key, n, of in (
        ("ssm.time_step_rank", made.n_head, made.n_inner),
        ("ssm.group_count", made.n_group, made.n_head),
    ):
        if of % n:
            raise BadMetadata(f"{h.prefix}.{key}", f"{n} does not divide {of}")
    return made


def tensors(s: StateSpaceSpec) -> TensorTable:
    """ssm_in makes all that a mixer begins with, ssm_x what Mamba's scan is steered by: both are taken apart."""
    c, n, k, inner = s.n_embd, s.n_state, s.n_conv, s.n_inner
    required: dict[str, Shape] = {"token_embd.weight": (s.n_vocab, c), "output_norm.weight": (c,)}
    joined: dict[str, Sequence[tuple[str, int]]] = {}
    plain: set[str] = set()
    if s.n_head:
        parts = {"ssm_in": {"ssm_in_z": inner, "ssm_in_xbc": s.conv_dim, "ssm_in_dt": s.n_head}}
        own: dict[str, Shape] = {"ssm_dt.bias": (s.n_head,), "ssm_a": (s.n_head, 1), "ssm_d": (s.n_head, 1)}
        own["ssm_norm.weight"] = (s.n_group, inner // s.n_group)
    else:
        parts = {"ssm_in": {"ssm_in_x": inner, "ssm_in_z": inner}}
        parts["ssm_x"] = {"ssm_x_dt": s.dt_rank, "ssm_x_b": n, "ssm_x_c": n}
        own = {"ssm_x.weight": (s.dt_rank + 2 * n, inner), "ssm_dt.weight": (inner, s.dt_rank)}
        own |= {"ssm_dt.bias": (inner,), "ssm_a": (inner, n), "ssm_d": (inner,)}
    own |= {"attn_norm.weight": (c,), "ssm_in.weight": (sum(parts["ssm_in"].values()), c)}
    own |= {"ssm_conv1d.weight": (s.conv_dim, k), "ssm_conv1d.bias": (s.conv_dim,), "ssm_out.weight": (c, inner)}
    for i in range(s.n_layer):
        p = f"blk.{i}."
        required |= {p + name: shape for name, shape in own.items()}
        joined |= {
            f"{p}{whole}.weight": [(f"{p}{part}.weight", rows) for part, rows in of.items()]
            for whole, of in parts.items()
        }
        plain |= {p + name for name in ("ssm_conv1d.weight", "ssm_a", "ssm_d", "ssm_norm.weight")}
    return TensorTable(required, {"output.weight": (s.n_vocab, c)}, joined, plain)


register("mamba", Architecture(spec, tensors, StateSpaceDecoder))
register("mamba2", Architecture(spec2, tensors, StateSpaceDecoder))
