"""Every architecture against transformers: small random models of all its variants, as converted from their folders.

tools/make_architecture_golden.py makes the golden files and says what is in them; tests/architecture_models.py builds
what is tested.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from architecture_models import GOLDEN, NAMES, Subject
from architecture_models import subject as subject  # the fixture
from architecture_variants import all_variants
from golden_measures import first_departure

from zigllama.app.quantize import quantize

# How far the logits of a quantised form may be from F32's, as a share of their deviation. A matrix is off by about 0.6%
# of its values' deviation in 8 bits (127 steps over 2 to 3 deviations, uniform rounding), 8% in 4 bits, and so are its
# activations in 8 bits; independent errors of the 4 to 7 products in a row of each of up to 3 layers add as squares:
# x 21^0.5. That much again is room for what softmax and norms make of it.
# F16 rounds the weights alone, to 2^-12 of each.
ROOM = 2 * 21**0.5
QUANTISED = {"F16": ROOM * 2**-12, "Q8_0": ROOM * 0.006, **dict.fromkeys(("Q4_0", "Q4_K", "IQ4_XS"), ROOM * 0.08)}
# How far they may be from the same file with `dequantize`, the same weights in float32: what is left is the rounding of
# activations, 0.6% however few bits the weights have. In the above, for 4 bits 13 times that, a defect could hide.
# Products of F16 are taken in float32, of the very same numbers: the same bits.
ROUNDED_ROWS = ROOM * 0.006
MIX = {"Q4_K": "Q4_K_S"}
N_QUANTISED = 48
START, STEPS = 60, 6


def test_golden_is_from_outside_and_of_these_variants(subject: Subject) -> None:
    """Who computed it; nothing idle; the variant's own config is in the folder's."""
    about = subject.about
    assert about["oracle"].startswith("transformers ") and "zigllama" not in str(about) and about["command"]
    assert about["class"] == subject.variant.hf and about["config"]["architectures"] == [subject.variant.hf]
    idle = [name for name, effect in about["effects"].items() if not effect >= 10 * subject.variant.atol]
    assert all(any(re.search(pattern, name) for pattern in subject.variant.idle) for name in idle)
    assert len(about["effects"]) >= 10 and sorted(subject.arrays) == sorted(subject.variant.lengths)


def test_every_variant_has_golden_files() -> None:
    assert sorted(all_variants()) == NAMES
    assert sorted(path.stem for path in GOLDEN.glob("*.npz")) == NAMES


def test_the_oracle_does_not_know_the_engine() -> None:
    """What the tool imports imports no zigllama."""
    tests = GOLDEN.parents[1]
    files = [tests / "seeded_weights.py", tests / "random_weights.py", *(tests / "architecture_variants").glob("*.py")]
    for path in [*files, tests.parent / "tools" / "make_architecture_golden.py"]:
        for node in ast.walk(ast.parse(Path(path).read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "zigllama" for name in names), path


def test_logits(subject: Subject) -> None:
    """Every run's rows, in float32."""
    for length, want in subject.arrays.items():
        ours = np.asarray(subject.run(subject.model, subject.ids[:length]))[subject.rows(length)]
        print(f"{subject.name}: {length} ids, largest difference {np.abs(ours - want).max():.2g}")
        np.testing.assert_allclose(ours, want, rtol=0, atol=subject.variant.atol)


def test_greedy(subject: Subject) -> None:
    """16 tokens through the cache, as transformers has them without one. Only two best logits closer than twice the
    tolerance excuse a departure, and the golden files have none that close."""
    if not subject.variant.prompt:
        assert subject.about["greedy"] == []
        return
    prompt, want = subject.ids[: subject.variant.prompt], subject.about["greedy"]
    assert min(subject.about["greedy_gaps"]) > 2 * subject.variant.atol
    result = subject.model.generate(prompt, max_tokens=len(want), temperature=0.0, ignore_eos=True)
    assert first_departure(list(result.token_ids), want) is None


def test_cached_and_in_company(subject: Subject) -> None:
    """Token by token, beside another sequence, the bits of reading it at once and alone."""
    if subject.variant.output != "logits":
        assert not subject.variant.prompt  # an encoder: nothing is cached, since all rows see all others
        return
    texts, m = [subject.ids[: START + STEPS], subject.ids[::-1][: START + STEPS]], subject.model
    cache = m.engine.cache
    sequences = [cache.add() for _ in texts]
    for sequence, text in zip(sequences, texts, strict=True):
        m.engine.run(cache.extend(sequence, text[:START]))
    rows: list[npt.NDArray[np.float32]] = []
    for i in range(START, START + STEPS):
        step = cache.step([(sequence, [text[i]]) for sequence, text in zip(sequences, texts, strict=True)])
        rows.append(np.array(m.engine.run(step)))
    for sequence in sequences:
        cache.remove(sequence)
    for i, text in enumerate(texts):
        np.testing.assert_array_equal([row[i] for row in rows], m.logits(text)[START:])


def test_reference(subject: Subject) -> None:
    """The twins say the same as the kernels, to a tenth of the tolerance."""
    ids = subject.ids[:START]
    with subject.open(backend="reference") as reference:
        want = subject.run(reference, ids)
    np.testing.assert_allclose(subject.run(subject.model, ids), want, rtol=0, atol=subject.variant.atol / 10)


@pytest.mark.parametrize("kind", QUANTISED)
def test_quantised(subject: Subject, kind: str, tmp_path: Path) -> None:
    """The model runs in five quantised forms, and says about the same as in F32; and nearly what the same weights say
    in float32.

    Of a mixture of experts the median row is judged: where two experts are nearly as good, rounding chooses the other
    one, and that row's logits are of another function.
    """
    path, ids = tmp_path / f"{kind}.gguf", subject.ids[:N_QUANTISED]
    plan = quantize(subject.path, path, MIX.get(kind, kind))
    assert sum(step.target.name == kind for step in plan.steps) >= 4
    exact = subject.run(subject.model, ids)
    with subject.open(path) as m:
        found = subject.run(m, ids)
    with subject.open(path, dequantize=True, cache_type="F16") as m:
        same_weights = subject.run(m, ids)
    judge = np.median if getattr(subject.model.spec, "experts", None) is not None else np.mean

    def off(want: npt.NDArray[np.float32]) -> float:
        return float(np.sqrt(judge(np.mean((found - want) ** 2, axis=-1))) / exact.std())

    print(f"{subject.name} {kind}: off by {off(exact):.3f} of the deviation, {off(same_weights):.4f} for its rows")
    assert 0 < off(exact) <= QUANTISED[kind]
    if kind == "F16":
        np.testing.assert_array_equal(found, same_weights)
    else:
        assert 0 < off(same_weights) <= ROUNDED_ROWS
