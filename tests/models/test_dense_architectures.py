"""What the dense architectures' pages say beyond their logits: contexts, windows, scalings, and what they refuse."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from architecture_models import Subject

from zigllama.errors import BadMetadata, BadTensor, ContextOverflow
from zigllama.models.config import HyperParameters
from zigllama.models.gguf import GGUFLoader
from zigllama.models.registry import architecture
from zigllama.transformers.spec import Spec

Open = Callable[[str], Subject]


@pytest.fixture(scope="module")
def variant() -> Iterator[Open]:
    """Variants by name, each made once."""
    made: dict[str, Subject] = {}
    with tempfile.TemporaryDirectory() as folder:

        def get(name: str) -> Subject:
            if name not in made:
                made[name] = Subject(name, Path(folder, name))
                made[name].place.mkdir()
            return made[name]

        yield get
        for subject in made.values():
            subject.close()


# --- contexts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gpt2", "starcoder"])
def test_learned_positions_end(variant: Open, name: str) -> None:
    """There are as many positions as rows: a longer context is refused before anything is read."""
    subject = variant(name)
    for backend in ("native", "reference"):
        with pytest.raises(ContextOverflow) as e:
            subject.open(n_ctx=321, backend=backend)
        assert (e.value.need, e.value.have) == (321, 320)
    assert subject.model.n_ctx == 320 and len(subject.model.logits([1] * 320)) == 320
    with pytest.raises(ContextOverflow):
        subject.model.logits([1] * 321)


def test_rotations_do_not(variant: Open) -> None:
    """Any other model may be asked for more than it was trained for."""
    with variant("llama").open(n_ctx=700) as m:
        assert np.isfinite(m.logits([1] * 600)[-1]).all()


def test_longrope_is_chosen_by_the_context(variant: Open) -> None:
    """Opened for 256 positions, its original context, a model has the rates for short ones, which transformers takes
    for each text of up to 256 ids; opened for more those for long ones, for every text: here transformers would take
    the short ones again for a text this short, and rates that change as a text grows do not fit keys in the cache."""
    subject = variant("phi3-longrope-short")
    rope_parameters = subject.about["config"]["rope_parameters"]
    factors = {name: np.array(rope_parameters[f"{name}_factor"]) for name in ("short", "long")}
    base = 10000.0 ** (-np.arange(0, 48, 2) / 48)
    for n_ctx, name in ((1, "short"), (256, "short"), (257, "long"), (1024, "long"), (None, "long")):
        with subject.open(n_ctx=n_ctx) as m:
            rope = m.decoder.blocks[1].attention.rope
            assert rope is not None
            inv_freq = rope.inv_freq
        np.testing.assert_allclose(inv_freq, base / factors[name], rtol=1e-6)
    with subject.open(n_ctx=1024) as m:
        long = m.logits(subject.ids[:64])[subject.rows(64)]
    assert np.abs(long - subject.arrays[64]).max() > 0.1


# --- windows ----------------------------------------------------------------------------------------------------------


def hyper(arch: str, /, n_ctx: int | None = None, tensors: tuple[str, ...] = (), **keys: Any) -> HyperParameters:
    """Hyper-parameters of a small model; `a__b` is the key a.b."""
    sizes = {"block_count": 4, "embedding_length": 64, "feed_forward_length": 96, "context_length": 512}
    own = sizes | {"attention.head_count": 4} | {key.replace("__", "."): value for key, value in keys.items()}
    names = {f"{arch}.{key}": value for key, value in own.items()}
    return HyperParameters({"general.architecture": arch} | names, tensors, n_ctx)


def spec(arch: str = "llama", /, **keys: Any) -> Spec:
    """The spec that an architecture makes of them."""
    made: Spec = architecture(arch).spec(hyper(arch, **keys), 100)
    return made


WINDOW, PATTERN = "attention__sliding_window", "attention__sliding_window_pattern"


@pytest.mark.parametrize("arch", ["llama", "mistral", "phi3", "qwen", "qwen2", "qwen3", "starcoder2"])
def test_a_window_in_the_file_is_honoured(arch: str) -> None:
    def windows(**keys: Any) -> list[int]:
        return [layer.window for layer in spec(arch, **keys).layers]

    assert windows() == windows(**{WINDOW: 0}) == [0, 0, 0, 0]
    assert windows(**{WINDOW: 24}) == [24] * 4
    assert windows(**{WINDOW: 24, PATTERN: 2}) == [24, 0, 24, 0]
    assert windows(**{WINDOW: 24, PATTERN: np.array([False, False, True, True])}) == [0, 0, 24, 24]


def test_gemmas_patterns() -> None:
    assert [layer.window for layer in spec("gemma2", **{WINDOW: 24}).layers] == [24, 0, 24, 0]
    layers = spec("gemma3", block_count=7, **{WINDOW: 24}).layers
    assert [layer.window for layer in layers] == [24, 24, 24, 24, 24, 0, 24]
    assert [layer.rope and layer.rope.base for layer in layers[4:6]] == [1e4, 1e6]


@pytest.mark.parametrize("flags", [[True], [True] * 5, [0, 1, 2, 0], "all", 0.5, True, -1, []])
def test_patterns_that_cannot_be(flags: Any) -> None:
    with pytest.raises(BadMetadata, match="sliding_window_pattern"):
        spec(**{WINDOW: 24, PATTERN: flags})


# --- scalings ---------------------------------------------------------------------------------------------------------

YARN: dict[str, Any] = {
    "rope__scaling__type": "yarn",
    "rope__scaling__factor": 4.0,
    "rope__scaling__original_context_length": 128,
}


def test_yarn_keys() -> None:
    """attn_factor comes on top of 0.1 ln(factor) + 1, as in llama.cpp; yarn_attn_factor, which its converter writes
    and its loader overwrites, is what the model's authors multiply with and stands in its place."""
    usual = 0.1 * np.log(4.0) + 1

    def scale(**keys: Any) -> float:
        rope = spec(**YARN, **keys).layers[0].rope
        assert rope is not None and rope.yarn is not None
        assert (rope.yarn.factor, rope.yarn.n_ctx_orig, rope.factor) == (4.0, 128, 1.0)
        return rope.scale

    assert scale() == pytest.approx(usual)
    assert scale(rope__scaling__attn_factor=1.5) == pytest.approx(1.5 * usual)
    assert scale(rope__scaling__yarn_attn_factor=1.5) == 1.5
    betas: dict[str, Any] = {"rope__scaling__yarn_beta_fast": 8.0, "rope__scaling__yarn_beta_slow": 2.0}
    rope = spec(**YARN, **betas).layers[0].rope
    assert rope is not None and rope.yarn is not None and (rope.yarn.beta_fast, rope.yarn.beta_slow) == (8.0, 2.0)


@pytest.mark.parametrize(
    ("key", "keys"),
    [
        ("rope.scaling.factor", {"rope__scaling__type": "yarn"}),
        ("rope.scaling.factor", YARN | {"rope__scaling__factor": 0.0}),
        ("rope.scaling.factor", {"rope__scaling__factor": -1.0}),
        ("rope.scaling.type", {"rope__scaling__type": 3}),
        ("rope.scaling.type", {"rope__scaling__type": "dynamic"}),
        ("rope.scaling.yarn_ext_factor", YARN | {"rope__scaling__yarn_ext_factor": 0.5}),
        ("rope.scaling.yarn_log_multiplier", YARN | {"rope__scaling__yarn_log_multiplier": 0.1}),
        ("rope.scaling.yarn_beta_fast", YARN | {"rope__scaling__yarn_beta_fast": 0.0}),
        ("rope.scaling.original_context_length", YARN | {"rope__scaling__original_context_length": 0}),
        ("rope.scaling.attn_factor", {"rope__scaling__attn_factor": float("nan")}),
        ("rope.freq_base", {"rope__freq_base": 0.0}),
    ],
)
def test_scalings_that_cannot_be(key: str, keys: dict[str, Any]) -> None:
    with pytest.raises(BadMetadata) as e:
        spec(**keys)
    assert e.value.key == f"llama.{key}"


def test_rope_divisors() -> None:
    long, short = "rope_factors_long.weight", "rope_factors_short.weight"
    original = {"rope__scaling__original_context_length": 128}
    for arch in ("llama", "phi3"):
        assert spec(arch).rope_divisors == ()
        assert spec(arch, tensors=("rope_freqs.weight",)).rope_divisors == ("rope_freqs.weight",)
        assert spec(arch, tensors=(long,), **original).rope_divisors == (long, short)
        assert spec(arch, rope__scaling__type="longrope", n_ctx=128, **original).rope_divisors == (short, long)
        table = architecture(arch).tensors(spec(arch, rope__scaling__type="longrope", **original))
        assert table.required[long] == table.required[short] == (8,)


def test_divisors_that_cannot_be(variant: Open) -> None:
    with GGUFLoader(variant("llama3").path) as loader:
        weights = dict(loader.weights())
        weights["rope_freqs.weight"] = np.zeros(64, np.float32)
        with pytest.raises(BadTensor, match=r"rope_freqs\.weight.*divisors must be finite and > 0"):
            loader.architecture.model(loader.spec, weights)


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_falcon_with_alibi_is_refused() -> None:
    with pytest.raises(BadMetadata, match="falcon-rw"):
        spec("falcon", attention__max_alibi_bias=8.0)


def test_parallel_residual_is_true_or_false() -> None:
    assert spec("gptneox").parallel and not spec("gptneox", use_parallel_residual=False).parallel
    with pytest.raises(BadMetadata, match="use_parallel_residual"):
        spec("gptneox", use_parallel_residual=1)


def test_27b_models_divide_by_the_stream() -> None:
    """Gemma 2 and 3 of 27B are told by their layers, unless the file says what to multiply with."""
    sizes = {"attention__key_length": 32, "embedding_length": 64}
    for arch, layers in (("gemma2", 46), ("gemma3", 62)):
        assert spec(arch, block_count=layers, **sizes).scale == pytest.approx(16**-0.5)
        assert spec(arch, block_count=layers - 1, **sizes).scale == pytest.approx(32**-0.5)
        assert spec(arch, block_count=layers, attention__scale=0.25, **sizes).scale == 0.25
