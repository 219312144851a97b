"""The only door to the C library: nothing else imports the extension, nothing else makes or follows a C pointer.

Here are `lib`, `ffi` and `check`, and what the library says of itself. Leaves of the same door: native_context.py
(`NativeContext`: threads, ISA variant; `NativeProgram`; memory as arrays), native_weights.py, native_cache.py (pages of
keys and values), native_formats.py (calls on number formats), native_strings.py (the byte loops of tokenizers) and
others. Nothing here needs NumPy, so that C can be set to work while NumPy is being imported (ready_memory.py).

What it is not: policy. Which ops run is `runtime.py`'s and the tape's business, how many threads `threading.py`'s.
"""

from __future__ import annotations

import difflib
import re
from typing import Any, Final, NoReturn

from zigllama import errors

try:
    from zigllama._ckernels import ffi as ffi
    from zigllama._ckernels import lib as lib
except ImportError as e:
    raise ImportError(
        "zigllama's C library is not built here: run `pip install .` in the checkout and start Python outside of it, "
        f"or `pip install --no-build-isolation -e .` to work on it ({e})"
    ) from e


# --- errors ----------------------------------------------------------------------------------------------------------


def error_text() -> str:
    """The C library's text about the calling thread's last error."""
    return str(ffi.string(lib.zl_error()).decode("utf-8", "replace"))


_EXCEPTIONS: Final[dict[int, type[errors.ZigllamaError]]] = {
    lib.ZL_E_ARG: errors.InvalidArgument,
    lib.ZL_E_SHAPE: errors.ShapeError,
    lib.ZL_E_TYPE: errors.DTypeError,
    lib.ZL_E_ISA_CPU: errors.ISAUnavailable,
    lib.ZL_E_THREAD: errors.NativeError,
    lib.ZL_E_FORK: errors.ForkedContext,
    lib.ZL_E_FAULT: errors.MappingFault,
    lib.ZL_E_BUSY: errors.ContextBusy,
    lib.ZL_E_BOUNDS: errors.InvalidArgument,
}


def check(status: int) -> None:
    """Raise the exception of a zl_status with the C library's own text; ZL_OK returns."""
    if status:
        raise_for(status)


def raise_for(status: int) -> NoReturn:
    """Raise the exception of a zl_status that is not ZL_OK."""
    text = error_text()
    if status == lib.ZL_E_MEMORY:
        found = re.fullmatch(r"(.*) needs (\d+) bytes", text)
        raise errors.OutOfMemory(found[1], int(found[2])) if found else errors.OutOfMemory(text, 0)
    if status == lib.ZL_E_BUDGET:
        found = re.fullmatch(r"(.*): (\d+) of (\d+)", text)
        what, have, limit = found.groups() if found else (text, 0, 0)
        raise errors.GrammarBudget(what, int(have), int(limit))
    if status == lib.ZL_E_ISA:
        name = text.partition("'")[2].rstrip("'")
        known = tuple(isa for isa, _ in isa_variants())
        raise errors.UnknownName("ISA variant", name, known, next(iter(difflib.get_close_matches(name, known)), None))
    raise _EXCEPTIONS.get(status, errors.NativeError)(text)


# --- what the library is ---------------------------------------------------------------------------------------------


def name_of(pointer: Any) -> str:
    """A name that C has."""
    return str(ffi.string(pointer).decode("ascii"))


def isa_variants() -> list[tuple[str, bool]]:
    """The ISA variants of this build, best first: name, and whether this CPU (and its operating system) can run it."""
    return [(name_of(lib.zl_isa_name(i)), bool(lib.zl_isa_usable(i))) for i in range(lib.zl_isa_count())]


def isa_has_bf16(name: str) -> bool:
    """Whether that ISA variant multiplies in bf16."""
    return any(name_of(lib.zl_isa_name(i)) == name and lib.zl_isa_bf16(i) for i in range(lib.zl_isa_count()))


def kernel_names() -> list[str]:
    """The kernels of the dispatch table."""
    return [name_of(lib.zl_kernel_name(i)) for i in range(lib.zl_kernel_count())]
