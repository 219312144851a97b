"""Whole models with a BLAS library: it is called and counted, prefill alone goes through it, and the logits agree.

How far they may be apart: op by op on the same inputs each product is within its derived bound, and end to end both
stay within what golden/test_small_models.py derives for a float32 evaluation of these models.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blas_stubs import Books

from zigllama import errors
from zigllama.app import diff
from zigllama.foundation.blas_integration import BlasInterface
from zigllama.foundation.runtime import F32
from zigllama.inference.model import Model

Find = Callable[[str], Path]
IDS = [int(i) for i in np.random.default_rng(11).integers(3, 200, 100)]
EXACT = 1e-4  # of a float32 evaluation from the exact logits: golden/test_small_models.py


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZIGLLAMA_BLAS", raising=False)


@pytest.fixture(params=["openblas", "mkl", "stand-in"])
def library(request: pytest.FixtureRequest, stub_blas: Find) -> str:
    """A library that is here, by its name; or a stand-in, by its path."""
    if request.param == "stand-in":
        return str(stub_blas("libAccelerate.so"))
    try:
        BlasInterface(request.param)
    except errors.BlasUnavailable:
        pytest.skip(f"BLAS library {request.param} is not here")
    return str(request.param)


def calls(m: Model) -> int:
    assert m.engine.context is not None
    return int(m.engine.context.counters()["blas_calls"])


def logits(path: Path, **options: Any) -> tuple[F32, int]:
    with Model(path, **options) as m:
        return m.logits(IDS), calls(m)


@pytest.mark.parametrize("name", ["llama-f32", "gemma3-f32"])
def test_logits_of_f32_models_agree(library: str, name: str, small_model: Find) -> None:
    path = small_model(name)
    want, none = logits(path, n_threads=2)
    assert none == 0
    for options in ({"n_threads": 1}, {"n_threads": 2}, {"n_threads": 3}, {"n_threads": 2, "repack": False}):
        got, n = logits(path, blas=library, **options)
        assert n > 0
        np.testing.assert_allclose(got, want, rtol=0, atol=2 * EXACT)


@pytest.mark.parametrize("name", ["llama-f32", "llama-f16"])
def test_every_product_is_within_its_bound(library: str, name: str, small_model: Find) -> None:
    report = diff.model(small_model(name), IDS, a=library, b="generic", n_threads=2)
    assert report.ok and not report.notes, str(report)
    assert (report.a, report.b.partition(" ")[0]) == (library, "native")
    assert "linear" in report.shares()


def test_tape_and_eager_call_it_alike(library: str, small_model: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same products, the same slabs: the same bits on both."""
    path = small_model("llama-f16")
    tape, n = logits(path, n_threads=2, blas=library)
    monkeypatch.setenv("ZIGLLAMA_TAPE", "0")
    eager, m = logits(path, n_threads=2, blas=library)
    np.testing.assert_array_equal(eager, tape)
    assert n == m > 0


def test_decoding_stays_with_our_own_kernels(library: str, small_model: Find) -> None:
    with Model(small_model("llama-f32"), n_threads=2, blas=library) as m:
        m.generate(IDS[:40], max_tokens=1, temperature=0.0, ignore_eos=True, reuse=False)
        prefill = calls(m)
        m.generate(IDS[:40], max_tokens=20, temperature=0.0, ignore_eos=True, reuse=False)
        assert calls(m) == 2 * prefill > 0


def test_quantised_matrices_are_not_touched(library: str, small_model: Find) -> None:
    """A model without float matrices has the bits of our own kernels; dequantised it goes through the library."""
    path = small_model("llama-q4_k")
    want, _ = logits(path, n_threads=2)
    got, n = logits(path, n_threads=2, blas=library)
    np.testing.assert_array_equal(got, want)
    assert n == 0
    assert logits(path, n_threads=2, blas=library, dequantize=True)[1] > 0


def test_what_the_model_says(stub_blas: Find, small_model: Find, monkeypatch: pytest.MonkeyPatch) -> None:
    stub, path = stub_blas("libsatlas.so.3"), small_model("llama-f32")
    with Model(path, n_threads=1) as m:
        assert m.backend["blas"] == "generic" and m.backend["blas_library"] is None
        assert m.fingerprint.endswith(" blas=generic")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(stub.parent))
    with Model(path, n_threads=1, blas="atlas") as m:
        assert m.backend["blas"] == "atlas"
        assert m.backend["blas_library"]["file"] == str(stub)
        assert m.fingerprint.endswith(" blas=atlas")
        books = Books(stub)
        before, counted = books.calls, calls(m)
        result = m.generate(IDS, max_tokens=1, ignore_eos=True)
        assert result.fingerprint == m.fingerprint
        assert books.calls - before == calls(m) - counted > 0
    monkeypatch.setenv("ZIGLLAMA_BLAS", str(stub))
    with Model(path, n_threads=1) as m:
        assert m.backend["blas"] == str(stub)
        assert m.fingerprint.endswith(" blas=libsatlas.so.3")
    with Model(path, n_threads=1, blas="generic") as m:
        assert m.backend["blas"] == "generic"
    with Model(path, backend="reference") as m:  # NumPy brings its own
        assert m.backend["blas"] == "numpy"


def test_a_session_is_not_continued_by_another_library(stub_blas: Find, small_model: Find, tmp_path: Path) -> None:
    path, file = small_model("llama-f32"), str(tmp_path / "s.zls")
    with Model(path, n_threads=1) as m, m.session() as s:
        s.save(file)
    with (
        Model(path, n_threads=1, blas=str(stub_blas("libblis.so.4"))) as m,
        m.session() as s,
        pytest.raises(errors.SessionMismatch, match="blas=libblis"),
    ):
        s.load(file)


def test_errors(small_model: Find, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small_model("llama-f32")
    with pytest.raises(errors.UnknownName, match="'openbla'; did you mean 'openblas'"):
        Model(path, blas="openbla")
    with pytest.raises(errors.BlasUnavailable, match="No such file"):
        Model(path, blas=str(tmp_path / "libblas.so"))
    with pytest.raises(errors.InvalidArgument, match="backend='reference'"):
        Model(path, backend="reference", blas="openblas")
    monkeypatch.setenv("ZIGLLAMA_BLAS", str(tmp_path / "libblas.so"))
    with pytest.raises(errors.BlasUnavailable, match="No such file"):
        Model(path)
