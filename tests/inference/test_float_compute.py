"""Whole models whose float matrices are multiplied in bf16: who does it, what it says, and how near it stays."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from zigllama import errors
from zigllama.app import diff
from zigllama.foundation.native import isa_has_bf16, isa_variants
from zigllama.inference.model import Model

Find = Callable[[str], Path]
IDS = [int(i) for i in np.random.default_rng(11).integers(3, 200, 40)]
USABLE = [name for name, ok in isa_variants() if ok]
WITH = [name for name in USABLE if isa_has_bf16(name)]
WITHOUT = [name for name in USABLE if not isa_has_bf16(name)]
needs_bf16 = pytest.mark.skipif(not WITH, reason="the CPU has no AVX-512 BF16")


@needs_bf16
@pytest.mark.parametrize(
    ("name", "asked", "taken"),
    [
        ("llama-bf16", None, "bf16"), ("llama-bf16", "f32", "f32"), ("llama-bf16", "bf16", "bf16"),
        ("llama-f16", None, "f32"), ("llama-f16", "bf16", "bf16"), ("llama-f32", "bf16", "f32"),
    ],
)  # fmt: skip
def test_who_takes_bf16_and_says_so(name: str, asked: str | None, taken: str, small_model: Find) -> None:
    with Model(small_model(name), isa=WITH[0], float_compute=asked) as m:
        assert m.backend["float_compute"] == taken
        assert f" float={taken} " in m.fingerprint
        result = m.generate(IDS[:5], max_tokens=2, ignore_eos=True)
        assert result.fingerprint == m.fingerprint


@pytest.mark.parametrize("isa", WITHOUT)
def test_without_the_instruction(isa: str, small_model: Find) -> None:
    with Model(small_model("llama-bf16"), isa=isa) as m:
        assert " float=f32 " in m.fingerprint
    with pytest.raises(errors.ISAUnavailable, match="avx512bf16"):
        Model(small_model("llama-bf16"), isa=isa, float_compute="bf16")


def test_an_unknown_name(small_model: Find) -> None:
    with pytest.raises(errors.UnknownName, match="f16"):
        Model(small_model("llama-bf16"), float_compute="f16")


@needs_bf16
@pytest.mark.parametrize("name", ["llama-bf16", "llama-f16"])
def test_the_same_bits_however_it_is_run(name: str, small_model: Find) -> None:
    """Prefill in one piece, with other threads, from the mapped file, and row by row."""
    path = small_model(name)
    with Model(path, n_threads=1, isa=WITH[0], float_compute="bf16") as m:
        want = m.logits(IDS)
        alone = m.logits(IDS[:1])
    np.testing.assert_array_equal(alone[0], want[0])
    for n_threads, repack in ((3, True), (2, False)):
        with Model(path, isa=WITH[0], float_compute="bf16", n_threads=n_threads, repack=repack) as m:
            np.testing.assert_array_equal(m.logits(IDS), want)
    with Model(path, isa=WITH[0], float_compute="f32") as m:
        f32 = m.logits(IDS)
    assert not np.array_equal(f32, want)
    # 15 products lie behind a logit; each rounds x and W by at most 2^-9, independently of the others. The median over
    # rows, since where attention hangs in the balance a row can be further off.
    off = np.sqrt(((f32 - want) ** 2).mean(-1)) / f32.std(-1)
    assert np.median(off) < 15**0.5 * 2 * 2.0**-9


@needs_bf16
@pytest.mark.parametrize("name", ["llama-bf16", "llama-f16"])
def test_every_op_is_its_twins(name: str, small_model: Find) -> None:
    report = diff.model(small_model(name), IDS, a="reference", b=WITH[0], float_compute="bf16")
    assert report.ok, str(report)
    runs, same, _ = report.shares()["linear"]
    assert runs == same > 0
    with pytest.raises(errors.ISAUnavailable):
        diff.model(small_model(name), IDS, a="generic", b=WITH[0], float_compute="bf16")
