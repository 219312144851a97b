"""BLAS libraries: what is chosen, what is refused, and that the one that is named is called, with its threads held.

The libraries are stand-ins (blas_stubs.py); those of PyPI are compared with in linear_algebra/test_blas_products.py.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import blas_stubs
import numpy as np
import pytest
import tolerances
from blas_stubs import Books

from zigllama.errors import BlasUnavailable, UnknownName
from zigllama.foundation.blas_integration import BlasConfig, BlasInterface, open_blas
from zigllama.foundation.native_context import NativeContext, matmul

Stub = Callable[[str], Path]
# file -> (name it is found by, symbol, bits of its integers, functions that hold its threads)
LIBRARIES = {
    "libopenblas.so.0": ("openblas", "cblas_sgemm", 32, ("openblas_set_num_threads",)),
    "libscipy_openblas.so": ("openblas", "scipy_cblas_sgemm", 32, ("openblas_set_num_threads",)),
    "libscipy_openblas64_.so": ("openblas", "scipy_cblas_sgemm64_", 64, ("openblas_set_num_threads",)),
    "libopenblas64.so.0": ("openblas", "cblas_sgemm", 64, ("openblas_set_num_threads",)),
    "libmkl_rt.so.2": ("mkl", "cblas_sgemm_64", 64, ("MKL_Set_Num_Threads_Local",)),
    "libAccelerate.so": ("accelerate", "cblas_sgemm", 32, ("BLASSetThreading",)),
    "libsatlas.so.3": ("atlas", "cblas_sgemm", 32, ()),
    "libblis.so.4": ("blis", "cblas_sgemm", 32, ("bli_thread_set_num_threads",)),
    "libblis64.so.4": ("blis", "cblas_sgemm", 64, ("bli_thread_set_num_threads",)),
    "libfortran.so": (None, "sgemm_", 32, ()),
    "libfortran64.so": (None, "sgemm_64_", 64, ("openblas_set_num_threads",)),
}


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZIGLLAMA_BLAS", raising=False)
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)


# --- what is wanted ---------------------------------------------------------------------------------------------------


def test_the_argument_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for nothing in (None, "", "auto", " auto "):
        assert BlasConfig.resolve(nothing) == BlasConfig("generic", "auto takes our own kernels")
    assert BlasConfig.resolve("mkl") == BlasConfig("mkl", "asked for")
    monkeypatch.setenv("ZIGLLAMA_BLAS", "openblas")
    assert BlasConfig.resolve("auto") == BlasConfig("openblas", "ZIGLLAMA_BLAS=openblas")
    assert BlasConfig.resolve("generic") == BlasConfig("generic", "asked for")
    monkeypatch.setenv("ZIGLLAMA_BLAS", "auto")
    assert BlasConfig.resolve().name == "generic"
    monkeypatch.setenv("ZIGLLAMA_BLAS", "cuda")
    with pytest.raises(UnknownName, match="'cuda'"):
        BlasConfig.resolve()


def test_a_name_that_does_not_exist_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown BLAS library 'openblass'; did you mean 'openblas'") as caught:
        BlasInterface("openblass")
    assert caught.value.nearest == "openblas"
    assert "/path/to.so" in caught.value.known


def test_auto_takes_our_own_kernels_whatever_there_is(stub_blas: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    file = stub_blas("libopenblas.so.0")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(file.parent))
    assert str(file) in [f.path for f in BlasInterface.detect()["openblas"]]
    chosen = BlasInterface()
    assert (chosen.name, chosen.is_library, chosen.facts()["reason"]) == (
        "generic",
        False,
        "auto takes our own kernels",
    )
    books, a = Books(file), np.ones((20, 20), np.float32)
    before = books.calls
    with NativeContext(1) as context:
        chosen.attach(context)
        assert (matmul(context, a, a) == 20).all()
        assert context.counters()["blas_calls"] == 0
    assert books.calls == before


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_library_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    for name in ("openblas", "mkl", "accelerate", "atlas", "blis"):
        with pytest.raises(BlasUnavailable, match=f"'{name}' cannot be used: no such library"):
            BlasInterface(BlasConfig(name, folders=(tmp_path,)))
    with pytest.raises(BlasUnavailable, match=r"no\.so.*No such file"):
        BlasInterface(str(tmp_path / "no.so"))


def test_a_file_that_is_no_library_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "libopenblas.so").write_text("not an ELF file, but long enough to have a header of one\n" * 9)
    for choice in (BlasConfig("openblas", folders=(tmp_path,)), str(tmp_path / "libopenblas.so")):
        with pytest.raises(BlasUnavailable, match=r"libopenblas\.so: invalid ELF header") as caught:
            BlasInterface(choice)
        assert len(caught.value.why) == 1
    (tmp_path / "libmkl_rt.so").mkdir()
    with pytest.raises(BlasUnavailable, match="mkl"):
        BlasInterface(BlasConfig("mkl", folders=(tmp_path,)))


def test_a_library_without_sgemm_is_an_error(stub_blas: Stub) -> None:
    with pytest.raises(BlasUnavailable, match="neither cblas_sgemm nor sgemm_"):
        BlasInterface(str(stub_blas("libempty.so")))


def test_a_broken_candidate_is_passed_over_for_the_next_of_the_same_name(stub_blas: Stub, tmp_path: Path) -> None:
    good = stub_blas("libblis.so.4")
    (tmp_path / "libblis.so").write_text("broken")
    assert BlasInterface(BlasConfig("blis", folders=(tmp_path, good.parent))).file == str(good)
    shutil.copy(stub_blas("libempty.so"), tmp_path / "libblis-mt.so")
    with pytest.raises(BlasUnavailable) as caught:  # every file that was tried is named
        BlasInterface(BlasConfig("blis", folders=(tmp_path,)))
    assert [w.partition(":")[0] for w in caught.value.why] == [
        str(tmp_path / "libblis.so"),
        str(tmp_path / "libblis-mt.so"),
    ]


def test_linked_is_what_the_build_says() -> None:
    name = BlasInterface.linked()
    if name is None:
        with pytest.raises(BlasUnavailable, match="no BLAS library is linked in this build"):
            BlasInterface("linked")
    else:
        assert BlasInterface("linked").symbol


# --- libraries of every kind ------------------------------------------------------------------------------------------


@pytest.fixture(params=list(LIBRARIES))
def library(request: pytest.FixtureRequest, stub_blas: Stub) -> Iterator[tuple[BlasInterface, Books]]:
    """One opened by its name, or by its path where no name finds it; left as it was found."""
    path = stub_blas(request.param)
    name, symbol, bits, held = LIBRARIES[request.param]
    made = BlasInterface(BlasConfig(name, folders=(path.parent,)) if name else str(path))
    assert (made.file, made.symbol, made.int_bits, made.held) == (str(path), symbol, bits, held)
    books = Books(path)
    wide = books.wide
    yield made, books
    assert books.threads == 4
    assert books.wide == wide or not held  # it was only ever called with one thread, where that can be had


def test_products_of_every_kind(library: tuple[BlasInterface, Books]) -> None:
    """Shapes with tails and of one row or column, 1 to 3 threads: within the bound, one call per thread with rows."""
    made, books = library
    rng = np.random.default_rng(0)
    for n_threads in (1, 2, 3):
        with NativeContext(n_threads) as context:
            made.attach(context)
            for m, k, n in ((1, 1, 1), (1, 50, 9), (7, 33, 1), (40, 65, 31), (2, 7, 3)):
                a, b = (rng.normal(size=s).astype(np.float32) for s in ((m, k), (k, n)))
                before, of_stub = context.counters()["blas_calls"], books.calls
                got = matmul(context, a, b)
                want = a.astype(np.float64) @ b
                assert (np.abs(got - want) <= tolerances.product(a.astype(np.float64), b.astype(np.float64))).all()
                calls = context.counters()["blas_calls"] - before
                per_thread = -(-m // n_threads)
                assert calls == books.calls - of_stub == -(-m // per_thread)


def test_threads_are_held_while_several_contexts_run(library: tuple[BlasInterface, Books]) -> None:
    """Contexts in many threads begin and end at any time; none gives the library its threads back too early."""
    made, books = library
    before, errors = books.calls, []
    a = np.random.default_rng(1).normal(size=(30, 40)).astype(np.float32)
    want = a @ a.T

    def work() -> None:
        try:
            with NativeContext(2) as context:
                made.attach(context)
                for _ in range(200):
                    np.testing.assert_allclose(matmul(context, a, np.ascontiguousarray(a.T)), want, atol=1e-4)
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not errors
    assert books.calls - before == 4 * 200 * 2


def test_our_own_kernels_again(stub_blas: Stub) -> None:
    made, books = BlasInterface(str(stub_blas("libopenblas.so.0"))), Books(stub_blas("libopenblas.so.0"))
    a = np.random.default_rng(2).normal(size=(33, 33)).astype(np.float32)
    with NativeContext(2) as context:
        want = matmul(context, a, a)
        made.attach(context)
        matmul(context, a, a)
        before = books.calls
        BlasInterface("generic").attach(context)
        assert matmul(context, a, a).tobytes() == want.tobytes()
        assert books.calls == before


def test_paths(stub_blas: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative ones, those without a folder, and a home folder; the label has neither folders nor blanks."""
    path = stub_blas("libscipy_openblas.so")
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv("HOME", str(path.parent))
    for name in (str(path), f"./{path.name}", path.name, f"~/{path.name}", f"../{path.parent.name}/{path.name}"):
        made = BlasInterface(name)
        assert made.is_library and made.file is not None and Path(made.file).samefile(path), name
        assert made.label == path.name
    assert BlasInterface("generic").label == "generic"
    monkeypatch.setenv("ZIGLLAMA_BLAS", str(path))
    assert open_blas() is open_blas() and open_blas().file == str(path)


def test_one_library_for_several_names(stub_blas: Stub, tmp_path: Path) -> None:
    """A cover (libblas.so.3 over the real one) shares its knob: it is held once, and given back once."""
    real = blas_stubs.build(tmp_path, "libopenblas.so.0")
    (tmp_path / "libblas.so.3").symlink_to(real)
    one, two = BlasInterface(str(real)), BlasInterface(str(tmp_path / "libblas.so.3"))
    a, books = np.ones((8, 8), np.float32), Books(real)
    with NativeContext(1) as x, NativeContext(1) as y:
        for library, context in ((one, x), (two, y)):
            library.attach(context)
            matmul(context, a, a)
    assert (books.calls, books.wide, books.threads) == (2, 0, 4)


def test_facts_are_plain(stub_blas: Stub) -> None:
    path = stub_blas("libscipy_openblas64_.so")
    assert BlasInterface(str(path)).facts() == {
        "name": str(path), "reason": "asked for", "file": str(path), "symbol": "scipy_cblas_sgemm64_", "int_bits": 64,
        "version": "OpenBLAS 0.0.0 stub", "held": ["openblas_set_num_threads"],
    }  # fmt: skip
    assert BlasInterface(str(stub_blas("libmkl_rt.so.2"))).version == "stub of MKL"
    assert BlasInterface(str(stub_blas("libblis.so.4"))).version == "BLIS 0.0.0"
    assert "cblas_sgemm" in repr(BlasInterface(str(stub_blas("libblis.so.4"))))
