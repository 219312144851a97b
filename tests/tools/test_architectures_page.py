"""docs/architectures.md is what tools/make_architectures_page.py makes of the specs, those of every dense page."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import make_architectures_page as made

from zigllama.models.registry import names
from zigllama.transformers.spec import Spec


def test_the_page_is_up_to_date() -> None:
    assert made.TARGET.read_text("utf-8") == made.page(), "run tools/make_architectures_page.py"


def test_every_decoder_of_a_spec_is_in_it() -> None:
    """All architectures that the one decoder runs, under the names that files have."""
    there = {arch for _, arch, _, _ in made.specs()}
    dense = {"bloom", "falcon", "gemma", "gemma2", "gemma3", "gpt2", "gptj", "gptneox", "llama", "phi2", "phi3"}
    dense |= {"qwen", "qwen2", "qwen3", "starcoder", "starcoder2"}
    assert dense <= there <= set(names())
    models = Path(made.ROOT, "zigllama", "models")
    assert all((models / f"{page}.py").exists() for page in ("llama", "falcon", "gpt_neox", "phi", "starcoder"))


def test_what_differs_shows() -> None:
    """A spec that differs in any field which changes what is computed has another row."""
    _, _, spec, tensors = next(x for x in made.specs() if x[0] == "llama")
    changes: dict[str, Any] = {
        "norm": "layer", "activation": "gelu_tanh", "gated": False, "parallel": True, "attn_scale": 0.3,
        "attn_softcap": 9.0,
        "logit_softcap": 9.0, "qk_norm": True, "post_norm": True, "embedding_scale": 2.0, "embedding_norm": True,
        "learned_positions": True, "alibi": True, "fused_qkv": True, "fused_gate": True, "n_head_kv": 1,
        "causal": False,
        "rope_divisors": ("a",), "layers": (spec.layers[0]._replace(window=9), *spec.layers[1:]),
    }  # fmt: skip
    plain = made.cells(spec, tensors)
    for field, value in changes.items():
        with_it = dataclasses.replace(spec, **{field: value, **({"activation": "gelu"} if field == "gated" else {})})
        assert made.cells(with_it, tensors) != plain, field
    sizes = {"n_layer", "n_embd", "n_head", "n_ff", "n_vocab", "n_ctx", "head_dim", "norm_eps"}
    same = sizes | {"biases", "ffn_norm", "norm_names"}
    experts = {"experts"}  # a row of them says how many
    assert {f.name for f in dataclasses.fields(Spec)} - experts == same | changes.keys()
