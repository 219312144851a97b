"""Finding BLAS libraries: the loader's folders, this Python's packages, which file is which library, none loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zigllama.foundation import blas_search
from zigllama.foundation.blas_search import find_libraries, loader_folders, python_folders


def fill(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(name)  # each another file
    return folder


def found(name: str, *folders: Path) -> list[str]:
    return [Path(f.path).name for f in find_libraries((name,), folders)[name]]


@pytest.fixture(autouse=True)
def _no_loader_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)


def test_each_library_by_its_files(tmp_path: Path) -> None:
    names = [
        "libopenblas.so.0", "libscipy_openblas.so", "libopenblas64_.so.0", "libmkl_rt.so.2", "libsatlas.so.3",
        "libblis.so.4", "libblis-mt.so.4", "libAccelerate.so", "libblas.so.3", "libmkl_core.so.2", "libopenblas.a",
        "libopenblas.so.bak", "openblas.so", "libopenblasq.so",
    ]  # fmt: skip
    fill(tmp_path, *names)
    assert found("openblas", tmp_path) == ["libscipy_openblas.so", "libopenblas.so.0", "libopenblas64_.so.0"]
    assert found("mkl", tmp_path) == ["libmkl_rt.so.2"]
    assert found("atlas", tmp_path) == ["libsatlas.so.3"]
    assert found("blis", tmp_path) == ["libblis.so.4", "libblis-mt.so.4"]
    assert found("accelerate", tmp_path) == ["libAccelerate.so"]
    assert set(find_libraries(folders=[tmp_path])) == set(blas_search.STEMS)


def test_the_highest_version_first_and_links_once(tmp_path: Path) -> None:
    fill(tmp_path, "libmkl_rt.so.2", "libmkl_rt.so.10", "libmkl_rt.so.3.1")
    (tmp_path / "libmkl_rt.so").symlink_to("libmkl_rt.so.10")
    (tmp_path / "libmkl_rt.so.3").symlink_to("libmkl_rt.so.3.1")
    assert found("mkl", tmp_path) == ["libmkl_rt.so.10", "libmkl_rt.so.3.1", "libmkl_rt.so.2"]


def test_cblas_is_atlas_only_beside_atlas(tmp_path: Path) -> None:
    alone, debian = fill(tmp_path / "a", "libcblas.so.3"), fill(tmp_path / "b", "libcblas.so.3", "libatlas.so.3")
    assert found("atlas", alone) == []
    assert found("atlas", alone, debian) == ["libcblas.so.3", "libatlas.so.3"]


def test_folders_come_in_order_and_may_be_missing(tmp_path: Path) -> None:
    one, two = fill(tmp_path / "1", "libopenblas.so.0"), fill(tmp_path / "2", "libscipy_openblas.so")
    fill(tmp_path / "file", "x")
    where = [tmp_path / "none", one, two, one, tmp_path / "file" / "x"]
    assert found("openblas", *where) == ["libopenblas.so.0", "libscipy_openblas.so"]


def test_the_loaders_folders(tmp_path: Path) -> None:
    conf = fill(tmp_path / "etc" / "ld.so.conf.d")
    (tmp_path / "etc" / "ld.so.conf").write_text(
        "# first\n/opt/math/lib # beside\n\ninclude /etc/ld.so.conf.d/*.conf\ninclude ld.so.conf.d/*.more\nrubbish\n"
    )
    (conf / "b.conf").write_text("/opt/b\n")
    (conf / "a.conf").write_text("/opt/a\ninclude /etc/ld.so.conf\n")  # which includes this one again: it ends
    (conf / "c.more").write_bytes(b"/opt/\xff\n/opt/c\n")
    folders = [str(f.relative_to(tmp_path)) for f in loader_folders(tmp_path)]
    assert folders[0] == "opt/math/lib"
    assert [f for f in dict.fromkeys(folders) if f in ("opt/a", "opt/b", "opt/c")] == ["opt/a", "opt/b", "opt/c"]
    assert "usr/lib" in folders
    assert loader_folders(tmp_path / "nowhere")[-1] == tmp_path / "nowhere/usr/local/lib"


def test_the_loaders_path_goes_before_packages_and_they_before_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [fill(tmp_path / name, "libblis.so.4") for name in ("asked", "second", "package", "system")]
    for i, folder in enumerate(folders):
        (folder / "libblis.so.4").write_text(str(i))
    monkeypatch.setenv("LD_LIBRARY_PATH", f"{folders[0]}::{folders[1]}:")
    monkeypatch.setattr(blas_search, "python_folders", lambda: [folders[2]])
    monkeypatch.setattr(blas_search, "loader_folders", lambda: [folders[3]])
    assert [f.path for f in find_libraries(("blis",))["blis"]] == [str(folder / "libblis.so.4") for folder in folders]


def test_packages_of_this_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = fill(tmp_path / "scipy_openblas32", "__init__.py")
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    folders = python_folders()
    assert folders[0] == package / "lib"
    assert Path(sys.prefix) / "lib" in folders


def test_detection_loads_nothing() -> None:
    code = (
        "from zigllama.foundation.blas_integration import BlasInterface\n"
        "before = open('/proc/self/maps').read()\n"
        "found = BlasInterface.detect()\n"
        "maps = open('/proc/self/maps').read()\n"
        "assert not [f for v in found.values() for f in v if f.path in maps and f.path not in before]\n"
        "print(len(found))"
    )
    if not Path("/proc/self/maps").exists():
        code = code.replace("/proc/self/maps", os.devnull)
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == str(len(blas_search.STEMS))
