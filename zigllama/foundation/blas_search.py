"""Where BLAS libraries are: in the loader's folders and among this Python's packages. Files are looked for, none is
loaded: loading one would start its threads.

    OpenBLAS     libopenblas.so.0; from PyPI `scipy-openblas32` and `scipy-openblas64`, libscipy_openblas.so
    MKL          libmkl_rt.so.2; from PyPI `mkl`, in the environment's lib folder
    ATLAS        libsatlas.so.3 (serial), libtatlas.so.3, or libcblas.so.3 beside libatlas.so.3, as Debian has it
    BLIS         libblis.so.4, libblis-mt.so.4
    Accelerate   macOS's framework; elsewhere there is none, and libAccelerate.so is taken for a stand-in

What it is not: a choice (blas_integration.py).
"""

from __future__ import annotations

import importlib.util
import os
import re
import site
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

# name -> the libraries that are it, best first; lib<stem>.so, .so.<number>, .dylib
STEMS: Final[dict[str, tuple[str, ...]]] = {
    "openblas": ("scipy_openblas", "openblas", "scipy_openblas64_", "openblas64_", "openblas64"),
    "mkl": ("mkl_rt",),
    "accelerate": ("Accelerate", "accelerate"),
    "atlas": ("satlas", "tatlas", "cblas", "atlas"),
    "blis": ("blis", "blis-mt", "blis64"),
}
BESIDE: Final = {"cblas": "atlas"}  # a name that others use, too: it counts where that one is in the same folder
FRAMEWORK: Final = "/System/Library/Frameworks/Accelerate.framework/Accelerate"  # macOS keeps it in no file
PACKAGES: Final = ("scipy_openblas32", "scipy_openblas64")  # of PyPI; the library is in their lib folder


class FoundLibrary(NamedTuple):
    """A file that should be the BLAS library of this name."""

    name: str
    path: str


def asked_folders() -> list[Path]:
    """Where the user wants the dynamic loader to look first: LD_LIBRARY_PATH."""
    return [Path(p) for p in os.environ.get("LD_LIBRARY_PATH", "").split(":") if p]


def loader_folders(root: Path | str = "/") -> list[Path]:
    """Where the dynamic loader looks otherwise: the folders of /etc/ld.so.conf, the defaults. A test can give another
    root, and a file that is missing or malformed never raises."""
    base = Path(root)
    found = [base / folder.lstrip("/") for folder in _conf(base, base / "etc/ld.so.conf", 0)]
    return found + [base / p for p in ("lib", "usr/lib", "lib64", "usr/lib64", "usr/local/lib")]


def _conf(base: Path, file: Path, depth: int) -> Iterator[str]:
    try:
        text = file.read_text("utf-8", "replace")
    except OSError:
        return
    for raw in text.splitlines():
        line = raw.partition("#")[0].strip()
        if line.startswith("include ") and depth < 4:
            for pattern in line.split()[1:]:
                where = base if pattern.startswith("/") else file.parent
                try:
                    files = sorted(where.glob(pattern.lstrip("/")))
                except (ValueError, OSError):
                    continue
                for included in files:
                    yield from _conf(base, included, depth + 1)
        elif line.startswith("/"):
            yield line


def python_folders() -> list[Path]:
    """Where this Python's packages keep libraries: those of PyPI, and the environment's own lib (PyPI's mkl, conda)."""
    found = []
    for package in PACKAGES:
        spec = importlib.util.find_spec(package)  # of a package without a parent: nothing is imported
        found += [Path(p) / "lib" for p in (spec.submodule_search_locations if spec else None) or ()]
    return [*found, Path(sys.prefix) / "lib", Path(site.getuserbase()) / "lib"]


def find_libraries(
    names: Sequence[str] = tuple(STEMS), folders: Sequence[Path] | None = None
) -> dict[str, list[FoundLibrary]]:
    """Name -> its libraries, best first: by folder, then as STEMS has them, then the highest version. `folders` None:
    LD_LIBRARY_PATH, this Python's, the loader's. A link to a file that is listed already is left out.
    """
    if folders is None:
        folders = [*asked_folders(), *python_folders(), *loader_folders()]
    listings = [(folder, _files(folder)) for folder in dict.fromkeys(folders)]
    out: dict[str, list[FoundLibrary]] = {}
    for name in names:
        seen: set[str] = set()
        out[name] = [FoundLibrary(name, FRAMEWORK)] if name == "accelerate" and sys.platform == "darwin" else []
        for folder, files in listings:
            for stem in STEMS[name]:
                if stem in BESIDE and not _of_stem(BESIDE[stem], files):
                    continue
                for file in _of_stem(stem, files):
                    real = os.path.realpath(folder / file)
                    if real not in seen:
                        seen.add(real)
                        out[name].append(FoundLibrary(name, str(folder / file)))
    return out


def _files(folder: Path) -> list[str]:
    try:
        return [f for f in os.listdir(folder) if f.startswith("lib") and (".so" in f or f.endswith(".dylib"))]
    except OSError:
        return []


def _of_stem(stem: str, files: Sequence[str]) -> list[str]:
    """The files of a library, the highest version first: lib<stem>.so.3.10 before .so.3 before .so, then .dylib."""
    pattern = re.compile(rf"lib{re.escape(stem)}(?:\.so((?:\.\d{{1,9}})*)|((?:\.\d{{1,9}})*)\.dylib)")
    matches = [m for m in map(pattern.fullmatch, files) if m]
    matches.sort(key=lambda m: [int(n) for n in (m[1] or m[2] or "").split(".") if n], reverse=True)
    return [m[0] for m in matches]
