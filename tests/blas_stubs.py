"""Stand-ins for BLAS libraries, compiled from ckernels/tests/stub_blas.c: each kind's names, integers and thread
functions, with a count of what was called.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "ckernels" / "tests" / "stub_blas.c"
# name of the library file -> how it is compiled: what real libraries of that name look like
KINDS: dict[str, tuple[str, ...]] = {
    "libopenblas.so.0": (),
    "libscipy_openblas.so": ("-DSTUB_PREFIX=scipy_",),
    "libscipy_openblas64_.so": ("-DSTUB_PREFIX=scipy_", "-DSTUB_SUFFIX=64_", "-DSTUB_BITS=64"),
    "libopenblas64.so.0": ("-DSTUB_WIDTH",),
    "libmkl_rt.so.2": ("-DSTUB_SUFFIX=_64", "-DSTUB_BITS=64", "-DSTUB_THREADS=mkl"),
    "libAccelerate.so": ("-DSTUB_THREADS=accelerate",),
    "libsatlas.so.3": ("-DSTUB_THREADS=none",),
    "libblis.so.4": ("-DSTUB_THREADS=bli",),
    "libblis64.so.4": ("-DSTUB_THREADS=bli", "-DSTUB_BITS=64"),
    "libfortran.so": ("-DSTUB_FORTRAN", "-DSTUB_THREADS=none"),
    "libfortran64.so": ("-DSTUB_FORTRAN", "-DSTUB_SUFFIX=64_", "-DSTUB_BITS=64"),
    "libempty.so": ("-DSTUB_EMPTY",),
}


def build(folder: Path, file: str, flags: tuple[str, ...] | None = None) -> Path:
    """Compile one into `folder` and give back its path. Skips where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler makes a stand-in for a BLAS library")
    path = folder / file
    flags = KINDS[file] if flags is None else flags
    command = [compiler, "-shared", "-fPIC", "-O1", "-std=c11", *flags, "-o", str(path), str(SOURCE)]
    subprocess.run(command, check=True, timeout=60)
    return path


class Books:
    """What a stand-in has counted. The library is the one that is loaded already, if it is."""

    def __init__(self, path: Path) -> None:
        self._library = ctypes.CDLL(str(path))

    @property
    def calls(self) -> int:
        """Of its sgemm, in this process."""
        return int(self._library.stub_calls())

    @property
    def wide(self) -> int:
        """Of these, those that found it with more than one thread."""
        return int(self._library.stub_wide())

    @property
    def threads(self) -> int:
        """How many it has now; 4 when nobody holds it."""
        return int(self._library.stub_threads())
