"""Models that see images against transformers: small random ones, as converted from their folders into two files.

tools/make_multi_modal_golden.py makes the golden files and says what is in them; tests/multi_modal_models.py builds
what is tested.
"""

from __future__ import annotations

import ast
import re

import numpy as np
import pytest
from multi_modal_models import GOLDEN, Looker
from multi_modal_models import looker as looker  # the fixture
from multi_modal_variants import RUNS, VARIANTS, image

from zigllama.app.quantize import quantize
from zigllama.inference.images import stood_in
from zigllama.inference.streaming import StreamingGenerator
from zigllama.inference.vision import Vision
from zigllama.models.image_processing import process

# How far the rows of a projector, or logits, may be from F32's, as a share of their deviation: the weights' and the
# activations' errors of each product (0.6% in 8 bits, 8% in 4, 2^-12 in F16), of which a text model has 7 in each of 2
# layers, a tower 6 in each of up to 3 and 3 beside them, independent, and that much again for norms and softmax. The
# logits of a text behind an image carry what the text model alone adds.
ROOM = 2 * 21**0.5
STEP = {"F16": 2**-12, "Q8_0": 0.006, "Q4_0": 0.08}
PIXEL = 2**-22  # two units of the last place of a value between 1 and 2: the division may round otherwise


def test_every_variant_has_golden_files() -> None:
    for kind in ("json", "npz"):
        assert sorted(path.stem for path in GOLDEN.glob(f"*.{kind}")) == sorted(VARIANTS)


def test_the_oracle_does_not_know_the_engine() -> None:
    """What the tool imports imports no zigllama."""
    tests = GOLDEN.parents[1]
    for path in (tests / "multi_modal_variants.py", tests.parent / "tools" / "make_multi_modal_golden.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "zigllama" for name in names), path


def test_golden_is_from_outside_and_nothing_is_idle(looker: Looker) -> None:
    """Who computed it; every parameter matters, but for those that the variant says why they cannot."""
    about, variant = looker.about, looker.variant
    assert about["oracle"].startswith("transformers ") and "zigllama" not in str(about) and about["command"]
    assert about["class"] == variant.hf and about["config"]["architectures"] == [variant.hf]
    assert about["processor"]["image_processor_type"] == variant.processor.split(".")[1].removesuffix("Pil")
    assert len(about["effects"]) >= 40 and any("vision" in name for name in about["effects"])
    for name, effect in about["effects"].items():
        idle = any(re.search(pattern, name) for pattern in variant.idle)
        assert effect < variant.atol if idle else effect >= 10 * variant.atol, name


def test_pixels(looker: Looker) -> None:
    """Each image as the model's own processor makes it ready: the tiles, by their statistics and some of the values."""
    with Vision(looker.mmproj(), n_threads=1) as vision:
        for i, want in enumerate(looker.about["pixels"]):
            tiles = process(image(looker.name, i), vision.spec, looker.variant.fit == "pad")
            assert list(tiles.pixels.shape) == want["shape"] and len(tiles.pixels) == tiles.rows * tiles.columns + 1
            np.testing.assert_allclose(tiles.pixels.mean((2, 3), np.float64), want["mean"], rtol=0, atol=PIXEL)
            np.testing.assert_allclose(tiles.pixels.std((2, 3), np.float64), want["deviation"], rtol=0, atol=PIXEL)
            values = tiles.pixels.reshape(-1)[:: want["every"]]
            np.testing.assert_allclose(values, np.float32(want["values"]), rtol=0, atol=PIXEL)


def test_features(looker: Looker) -> None:
    """The first image's rows, after the projector; the twins say the same, to a tenth of the tolerance."""
    ours, want = np.concatenate(looker.seen[0]), looker.arrays["features"]
    print(f"{looker.name}: rows {ours.shape}, largest difference {np.abs(ours - want).max():.2g}")
    np.testing.assert_allclose(ours, want, rtol=0, atol=looker.variant.atol)
    twins = np.concatenate(looker.see(0, backend="reference"))
    np.testing.assert_allclose(ours, twins, rtol=0, atol=looker.variant.atol / 10)


@pytest.mark.parametrize("name", RUNS)
def test_logits(looker: Looker, name: str) -> None:
    """A text with one image in it, and one with two."""
    ours = looker.logits(looker.model, RUNS[name])
    assert len(ours) == RUNS[name].length
    ours, want = ours[looker.about["rows"][name]], looker.arrays[name]
    print(f"{looker.name}, {name}: largest difference {np.abs(ours - want).max():.2g}")
    np.testing.assert_allclose(ours, want, rtol=0, atol=looker.variant.atol)


def test_what_stands_for_an_image(looker: Looker) -> None:
    """The rows and the marks around them, in the order in which the class's processor writes them."""
    with Vision(looker.mmproj(), n_threads=1, fit=looker.variant.fit) as vision:
        for i, want in enumerate(looker.about["prompts"]):
            layout = vision.layout(vision.rows(image(looker.name, i)))
            assert "".join(part if isinstance(part, str) else "<image>" * part for part in layout) == want
            assert want.count("<image>") == looker.tiles[i] * looker.variant.n_out


def test_greedy(looker: Looker) -> None:
    """16 tokens behind two images, through the cache, as transformers has them without one; no two best logits are so
    close that rounding could choose."""
    ids, rows, places = looker.asked(RUNS["two"])
    prompt = stood_in(ids, rows, places, looker.model.spec.n_embd)
    assert min(looker.about["greedy_gaps"]) > 2 * looker.variant.atol
    request = looker.model.request(prompt, max_tokens=16, temperature=0.0, ignore_eos=True)
    result = StreamingGenerator(looker.model.scheduler, request).run()
    assert list(result.token_ids) == looker.about["greedy"] and len(looker.about["greedy"]) == 16


def test_the_image_matters(looker: Looker) -> None:
    """Without the two images' rows, or with those of each in the other's place, the text behind them is another."""
    run, n = RUNS["two"], len(looker.arrays["two"])
    ids = looker.about["ids"][: run.n_ids(looker.tiles, looker.variant.n_out)]
    last = looker.arrays["two"][n - 1]
    assert np.abs(looker.model.logits(ids)[-1] - last).max() > 10 * looker.variant.atol
    first, second = (tiles[0] for tiles in looker.seen)
    there, back = (looker.model.logits(ids, image=x, image_at=[3, 40])[-1] for x in ([first, second], [second, first]))
    assert np.abs(there - back).max() > 10 * looker.variant.atol


def test_reference(looker: Looker) -> None:
    """The twins say the same as the kernels behind images too."""
    with looker.open(backend="reference") as reference:
        want = looker.logits(reference, RUNS["two"])
    ours = looker.logits(looker.model, RUNS["two"])
    np.testing.assert_allclose(ours, want, rtol=0, atol=looker.variant.atol / 10)


@pytest.mark.parametrize("kind", ["F16", "Q8_0"])
def test_projectors_in_fewer_bits(looker: Looker, kind: str) -> None:
    with Vision(looker.mmproj(kind), n_threads=1) as vision:
        types = {t.type.name for t in vision._loader.reader.tensors.values()}
    assert types == {"F32", kind}
    exact, ours = np.concatenate(looker.seen[0]), np.concatenate(looker.see(0, kind))
    off = np.sqrt(np.mean((ours - exact) ** 2)) / exact.std()
    print(f"{looker.name} {kind}: rows off by {off:.4f} of the deviation")
    assert 0 < off <= ROOM * STEP[kind]


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_text_models_in_fewer_bits(looker: Looker, kind: str) -> None:
    path = looker.place / f"quantised-{kind}.gguf"
    quantize(looker.text(), path, kind)
    exact = looker.logits(looker.model, RUNS["two"])
    with looker.open(path) as m:
        ours = looker.logits(m, RUNS["two"])
    off = np.sqrt(np.mean((ours - exact) ** 2)) / exact.std()
    print(f"{looker.name} {kind}: logits off by {off:.3f} of the deviation")
    assert 0 < off <= ROOM * STEP[kind]
