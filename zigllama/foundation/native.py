"""The only door to the C library: everything that touches a C pointer is here.

Gives `lib`, `ffi` and `check` to the layers of this package, and small owners for what C allocates: a context (threads and ISA
variant), weights, programs, memory. What it is not: policy. Which ops run on what is `runtime.py`'s business, how many threads
`threading.py`'s.
"""

from __future__ import annotations

from zigllama import errors

try:
    from zigllama._ckernels import ffi, lib
except ImportError as e:
    raise ImportError(
        "zigllama's C library is not built here: run `pip install .` in the checkout and start Python outside of it, "
        f"or `pip install --no-build-isolation -e .` to work on it ({e})"
    ) from e

__all__ = ["check", "error_text", "ffi", "lib"]


def error_text() -> str:
    """The C library's text about the calling thread's last error."""
    return str(ffi.string(lib.zl_error()).decode("utf-8", "replace"))


def check(status: int) -> None:
    """Raise the exception of a zl_status, with the C library's own text; 0 returns."""
    if status:
        raise_status(status)


def raise_status(status: int) -> None:
    """See `check`."""
    text: str = error_text()
    table: dict[int, type[errors.ZigllamaError]] = {
        lib.ZL_E_ARG: errors.InvalidArgument,
        lib.ZL_E_SHAPE: errors.ShapeError,
        lib.ZL_E_TYPE: errors.DTypeError,
        lib.ZL_E_ISA_CPU: errors.ISAUnavailable,
        lib.ZL_E_FORK: errors.ForkedContext,
        lib.ZL_E_FAULT: errors.MappingFault,
        lib.ZL_E_BUSY: errors.ContextBusy,
        lib.ZL_E_BOUNDS: errors.InvalidArgument,
    }
    raise table.get(status, errors.NativeError)(text)


def isa_variants() -> list[tuple[str, bool]]:
    """ISA variants in this build, best first: name, and whether this CPU runs it."""
    return [(str(ffi.string(lib.zl_isa_name(i)).decode()), bool(lib.zl_isa_usable(i))) for i in range(lib.zl_isa_count())]


