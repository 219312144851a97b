"""Whole small random models against golden logits of the float64 evaluation: every weight type, and no download.

tools/make_small_golden.py makes the golden files.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import small_models
from golden_measures import first_departure, kl

EXACT = 1e-4  # f32 sums of at most 768 products of size one, a few layers deep: measured references stay below 6e-5
# Two engines with equally good 8-bit activations differ in their mean divergence over 16 rows by chance: each row
# averages over at least 100 independent directions, so a mean over 16 has a deviation of sqrt(2 / 1600) = 3.5%, a
# ratio 5%.  1.1 and three of them:
KL_RATIO = 1.25
NAMES = list(small_models.MODELS)
ROUNDED = [name for name in NAMES if not name.endswith("-f32")]


@pytest.fixture(scope="module")
def golden(load_golden: Any) -> Any:
    """Figures and logits of every small model."""
    return load_golden("small")


@pytest.mark.parametrize("name", NAMES)
def test_generator_makes_the_same_bytes_everywhere(name: str, golden: Any, small_model: Any) -> None:
    """The golden logits belong to exactly these bytes."""
    assert hashlib.sha256(small_model(name).read_bytes()).hexdigest() == golden[0]["models"][name]["sha256"]


def test_golden_is_from_outside(golden: Any) -> None:
    """The golden logits come from the oracle, and say which."""
    about = golden[0]["about"]
    assert "tools/oracle" in about["oracle"] and "zigllama" not in str(about) and about["command"]


@pytest.mark.parametrize("name", NAMES)
def test_tokenizer(name: str, golden: Any, small_model: Any, model_class: Any) -> None:
    """The same ids as llama.cpp; decoding gives the text back."""
    about, want = golden[0], golden[0]["models"][name]["encoded"]
    with model_class(small_model(name)) as model:
        assert model.tokenizer.encode(about["text"]) == want
        text = model.tokenizer.decode(model.tokenizer.encode(about["text"], add_special=False))
    assert text == about["text"]


@pytest.mark.parametrize("name", NAMES)
def test_logits_on_float32_weights(name: str, golden: Any, small_model: Any, model_class: Any) -> None:
    """Dequantised weights, float32 activations and cache: the float64 logits to 1e-4."""
    about, arrays = golden
    with model_class(small_model(name), dequantize=not name.endswith("-f32")) as model:
        ours = np.asarray(model.logits(about["models"][name]["ids"]))[about["rows"]]
    np.testing.assert_allclose(ours, arrays[name], rtol=0, atol=EXACT)


@pytest.mark.parametrize("name", ROUNDED)
def test_divergence_on_the_native_path(name: str, golden: Any, small_model: Any, model_class: Any) -> None:
    """With quantised activations: no further from the float evaluation than llama.cpp is."""
    about, arrays = golden
    figures = about["models"][name]
    with model_class(small_model(name)) as model:
        ours = np.asarray(model.logits(figures["ids"]))[about["rows"]]
    assert kl(arrays[name], ours).mean() <= KL_RATIO * figures["peer"]["mean_kl_rows"]


@pytest.mark.parametrize("name", NAMES)
def test_greedy_on_float32_weights(name: str, golden: Any, small_model: Any, model_class: Any) -> None:
    """24 greedy tokens through the cache; only a tie closer than twice the logits' bound excuses a departure."""
    figures = golden[0]["models"][name]
    with model_class(small_model(name), dequantize=not name.endswith("-f32")) as model:
        n = len(figures["greedy"])
        result = model.generate(figures["ids"][:8], max_tokens=n, temperature=0.0, ignore_eos=True)
    departed = first_departure(list(result.token_ids), figures["greedy"])
    assert departed is None or figures["greedy_gaps"][departed] <= 2 * EXACT
