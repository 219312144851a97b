"""BLAS libraries: which are there, which is taken, and the way to it.

By default none is: `auto` takes our own kernels, whose bits are the same for any number of threads, any batch and any
prefill chunk. A library is used when it is named, and then for products of float32 and float16 weights with many rows
(prefill) and for `zl.kernels.matmul`; its results are equal within the rounding of float32 sums, not bit for bit. What
is named and cannot be had is an error and never a fallback.

    BlasConfig.resolve("auto")              what is wanted: an argument, else ZIGLLAMA_BLAS, else our own kernels
    BlasInterface(config)                   the choice, opened: name, file, symbol, the width of its integers
    BlasInterface.detect()                  what there is, without loading any of it
    BlasInterface.linked()                  what the build linked (meson's option `blas`)

How a library is opened and called is in C (ckernels/core/blas.c). What this module is not: a way to call BLAS routines
other than sgemm.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from zigllama.errors import BlasUnavailable, UnknownName

from . import blas_search
from .blas_search import FoundLibrary
from .native import check, error_text, ffi, lib
from .native_context import NativeContext

VARIABLE: Final = "ZIGLLAMA_BLAS"
GENERIC: Final = "generic"  # our own kernels
CHOICES: Final = ("auto", GENERIC, "linked", *blas_search.STEMS)


def is_path(name: str) -> bool:
    """Whether a choice is a file and not a name."""
    return os.sep in name or name.endswith((".so", ".dylib")) or ".so." in name


@dataclass(frozen=True)
class BlasConfig:
    """Which BLAS is wanted.

    name      "generic" (our own kernels), "linked", "openblas", "mkl", "accelerate", "atlas", "blis", or a path
    reason    where that comes from, in words
    folders   where a named library is looked for; None: LD_LIBRARY_PATH, this Python's packages, the loader's folders

    Raises UnknownName.
    """

    name: str = GENERIC
    reason: str = "auto takes our own kernels"
    folders: tuple[Path, ...] | None = None

    def __post_init__(self) -> None:
        if not is_path(self.name) and self.name not in CHOICES[1:]:
            near = next(iter(difflib.get_close_matches(self.name, CHOICES)), None)
            raise UnknownName("BLAS library", self.name, (*CHOICES, "/path/to.so"), near)

    @classmethod
    def resolve(cls, asked: str | None = None, folders: Sequence[Path] | None = None) -> BlasConfig:
        """An argument that names one, else ZIGLLAMA_BLAS, else our own kernels. None, "" and "auto" name none."""
        where = None if folders is None else tuple(folders)
        name, reason = (asked or "").strip(), "asked for"
        if name in ("", "auto"):
            name = os.environ.get(VARIABLE, "").strip()
            reason = f"{VARIABLE}={name}"
        return cls(folders=where) if name in ("", "auto") else cls(name, reason, where)


class BlasInterface:
    """A choice of BLAS, ready for contexts: our own kernels, or a library that was opened.

    config    a BlasConfig, or what BlasConfig.resolve takes

    Raises UnknownName; BlasUnavailable when the library is missing, is none, is for another machine, or has no sgemm.
    """

    def __init__(self, config: BlasConfig | str | None = None) -> None:
        self.config = config if isinstance(config, BlasConfig) else BlasConfig.resolve(config)
        self._pointer: Any = ffi.NULL
        self.file: str | None = None  # where its sgemm is; None for our own kernels
        self.symbol = self.version = ""
        self.int_bits = 0
        self.held: tuple[str, ...] = ()  # the functions by which its own threads are set to 1 while ours run
        if self.config.name != GENERIC:
            self._open(self._candidates())

    def _candidates(self) -> list[str | None]:
        """Paths to try, in order; None is the linked library."""
        name = self.config.name
        if name == "linked":
            return [None]
        if is_path(name):
            return [os.path.abspath(os.path.expanduser(name))]
        found = blas_search.find_libraries((name,), self.config.folders)[name]
        if not found:
            raise BlasUnavailable(name, ("no such library in the loader's folders or among this Python's packages",))
        return [f.path for f in found]

    def _open(self, candidates: Sequence[str | None]) -> None:
        out, why = ffi.new("zl_blas **"), []
        for path in candidates:
            status = lib.zl_blas_open(ffi.NULL if path is None else os.fsencode(path), out)
            if status == lib.ZL_OK:
                self._pointer = out[0]
                break
            if status != lib.ZL_E_BLAS:
                check(status)
            why.append(error_text())
        else:
            raise BlasUnavailable(self.config.name, tuple(why))
        info = ffi.new("zl_blas_info *")
        check(lib.zl_blas_describe(self._pointer, info))
        self.file, self.symbol, self.version = (_text(p) for p in (info.file, info.symbol, info.version))
        self.held = tuple(k for k in (_text(info.process_knob), _text(info.thread_knob)) if k)
        self.int_bits = int(info.int_bits)

    @property
    def name(self) -> str:
        """As it was chosen: "generic", "openblas", ..., or a path."""
        return self.config.name

    @property
    def label(self) -> str:
        """The name without folders and blanks, for a fingerprint."""
        return "_".join(os.path.basename(self.name).split())

    @property
    def is_library(self) -> bool:
        """Whether products leave our own kernels."""
        return self.file is not None

    def attach(self, context: NativeContext) -> None:
        """From now on the context's float products with many rows, and its `matmul`, are this library's (or our own).

        Each thread of its pool calls it for a slab of rows; `context.counters()["blas_calls"]` counts the calls.
        """
        with context.using() as pointer:
            check(lib.zl_ctx_set_blas(pointer, self._pointer))

    def facts(self) -> dict[str, Any]:
        """What it is, as plain values; for our own kernels the name and the reason alone."""
        chosen: dict[str, Any] = {"name": self.name, "reason": self.config.reason}
        if self.is_library:
            names = ("file", "symbol", "int_bits", "version", "held")
            chosen |= {name: getattr(self, name) for name in names} | {"held": list(self.held)}
        return chosen

    @staticmethod
    def detect(folders: Sequence[Path] | None = None) -> dict[str, list[FoundLibrary]]:
        """Name -> the libraries that are there, best first. None is loaded."""
        return blas_search.find_libraries(folders=folders)

    @staticmethod
    def linked() -> str | None:
        """The name of the library that the build linked, or None."""
        pointer = lib.zl_blas_linked()
        return None if pointer == ffi.NULL else _text(pointer)

    def __repr__(self) -> str:
        return f"<BlasInterface {self.name}{f' {self.symbol} in {self.file}' if self.is_library else ''}>"


def open_blas(asked: str | None = None) -> BlasInterface:
    """BlasInterface(asked), opened once per choice: for functions that are called on their own."""
    return _opened(BlasConfig.resolve(asked), os.environ.get("LD_LIBRARY_PATH"))


@lru_cache
def _opened(config: BlasConfig, loader_path: str | None) -> BlasInterface:
    return BlasInterface(config)


def _text(pointer: Any) -> str:
    return str(ffi.string(pointer).decode("utf-8", "replace"))
