"""What a folder's config says about the rotation -> keys and tensors of the file.

    linear              rope.scaling.type and factor
    yarn                and original_context_length, the betas, attn_factor (what is on top of 0.1 ln(factor) + 1)
    llama3              rope_freqs.weight, one divisor per pair of channels
    longrope            rope_factors_short.weight and rope_factors_long.weight, original_context_length, attn_factor
    dynamic             refused: its rates depend on how long the text is, and no key of a GGUF file says so

Source of the formulas: neural_primitives/rope_scaling.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from zigllama.errors import BadCheckpoint
from zigllama.models.conversion.checkpoint import Config
from zigllama.models.conversion.recipes import Recipe, rope_parameters
from zigllama.neural_primitives.rope_scaling import Yarn, llama3_divisors, longrope_scale

DIVIDED = ("llama3", "longrope", "su")
KINDS = ("default", "linear", "yarn", *DIVIDED)


def rope_keys(config: Config, head_dim: int, layers: str | None = None, *, divisors: bool = False) -> dict[str, Any]:
    """rope.freq_base, rope.dimension_count, rope.scaling.*; `layers` as in `rope_parameters`. divisors: the family
    takes `rope_tensors`; where it does not, kinds that need them are refused. Raises BadCheckpoint."""
    rope, kind = _rope(config, layers)
    if kind in DIVIDED and not divisors:
        raise BadCheckpoint(
            config.path, f"rope_type {kind!r} is not supported for this class: its files have no divisors"
        )
    keys: dict[str, Any] = {"rope.freq_base": _base(config, rope), "rope.dimension_count": rope_dim(config, head_dim)}
    if kind == "linear":
        keys |= {"rope.scaling.type": kind, "rope.scaling.factor": rope.float("factor")}
    elif kind == "yarn":
        keys |= _yarn(config, rope)
    elif kind in ("longrope", "su"):
        original = _original(config, rope)
        factor = rope.float("factor", default=config.int("max_position_embeddings", high=1 << 30) / original)
        keys |= {
            "rope.scaling.type": "longrope",
            "rope.scaling.original_context_length": original,
            "rope.scaling.attn_factor": rope.float("attention_factor", default=longrope_scale(factor, original)),
        }
    return keys


def rope_tensors(config: Config, head_dim: int) -> dict[str, Recipe]:
    """The divisors of llama3 and of longrope, where the config has such. Raises BadCheckpoint."""
    rope, kind = _rope(config, None)
    dim = rope_dim(config, head_dim)
    if kind == "llama3":
        low, high, factor = rope.float("low_freq_factor"), rope.float("high_freq_factor"), rope.float("factor")
        original = _original(config, rope)
        if not (factor > 0 and high > low and dim >= 2):
            raise BadCheckpoint(config.path, f"rope_type llama3: factor {factor}, low {low}, high {high}, dim {dim}")
        return {"rope_freqs.weight": _vector(llama3_divisors(dim, _base(config, rope), factor, low, high, original))}
    if kind not in ("longrope", "su"):
        return {}
    tensors = {}
    for name in ("short", "long"):
        values = rope.list(f"{name}_factor")
        if len(values) != dim // 2 or not all(isinstance(v, int | float) and 0 < v < 1e30 for v in values):
            raise BadCheckpoint(config.path, f"{name}_factor: expected {dim // 2} numbers above 0, found {len(values)}")
        tensors[f"rope_factors_{name}.weight"] = _vector(values)
    return tensors


def rope_dim(config: Config, head_dim: int) -> int:
    """How many channels of a head are rotated; older configs spell the share rotary_pct, or say rotary_dim."""
    rope = rope_parameters(config)
    older = config.float("partial_rotary_factor", "rotary_pct", default=1.0)
    share = rope.float("partial_rotary_factor", default=older)
    return config.int("rotary_dim", default=int(head_dim * share), low=2)


def _base(config: Config, rope: Config) -> float:
    return rope.float("rope_theta", default=config.float("rope_theta", default=10000.0))


def _rope(config: Config, layers: str | None) -> tuple[Config, str]:
    rope = rope_parameters(config, layers)
    kind = rope.text("rope_type", default="default")
    if kind not in KINDS:
        raise BadCheckpoint(config.path, f"rope_type {kind!r} is not supported; {', '.join(KINDS)} are")
    return rope, kind


def _original(config: Config, rope: Config) -> int:
    keys = ("original_max_position_embeddings", "max_position_embeddings")
    return rope.int(keys[0], default=config.int(*keys, low=2, high=1 << 30), low=2, high=1 << 30)


def _yarn(config: Config, rope: Config) -> dict[str, Any]:
    original, factor = _original(config, rope), rope.float("factor")
    if not rope.bool("truncate", default=True):
        raise BadCheckpoint(config.path, "rope_type yarn without truncation is not supported: no key says so")
    if factor <= 0:
        raise BadCheckpoint(config.path, f"rope_type yarn: factor {factor}")
    usual, scale = Yarn(factor, original).scale, rope.float("attention_factor", default=0.0)
    one, all_dims = rope.float("mscale", default=0.0), rope.float("mscale_all_dim", default=0.0)
    if not scale:
        scale = _mscale(factor, one) / _mscale(factor, all_dims) if one and all_dims else usual
    keys: dict[str, Any] = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": factor,
        "rope.scaling.original_context_length": original,
        "rope.scaling.yarn_beta_fast": rope.float("beta_fast", default=32.0),
        "rope.scaling.yarn_beta_slow": rope.float("beta_slow", default=1.0),
    }
    return keys | ({} if scale == usual else {"rope.scaling.attn_factor": scale / usual})


def _mscale(factor: float, share: float) -> float:
    return 1.0 + share * (Yarn(factor, 1).scale - 1.0)


def _vector(values: Any) -> Recipe:
    array = np.asarray(values, np.float32)
    return Recipe((), lambda: array, lambda: array.shape)
