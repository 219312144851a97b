"""Metadata values as the bytes of a GGUF file, and the type a Python value gets where none is given. The reverse of
gguf_header.py.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zigllama.errors import DTypeError, InvalidArgument, ShapeError

from .gguf_header import MAX_NAME_BYTES
from .gguf_metadata import DTYPES, Metadata, StringArray, Typed, ValueType

_BY_DTYPE = {d.newbyteorder("="): t for t, d in DTYPES.items()}
_INTEGERS = (
    ValueType.UINT32,
    ValueType.INT32,
    ValueType.UINT64,
    ValueType.INT64,
)  # a single value: the first that fits
_ARRAY_INTEGERS = (ValueType.INT32, ValueType.INT64, ValueType.UINT64)  # what writers before us used for lists


def typed_metadata(metadata: Mapping[str, Any]) -> dict[str, Typed]:
    """Every value with its type: as it was in the file it was read from, as given by `Typed`, or inferred (see
    `infer`).
    """
    if isinstance(metadata, Metadata):
        return metadata.typed()
    return {key: value if isinstance(value, Typed) else infer(key, value) for key, value in metadata.items()}


def infer(key: str, value: Any) -> Typed:
    """The type a value gets in a file.

        bool, str             BOOL, STRING
        int                   UINT32, or the first of INT32, UINT64, INT64 that holds it
        float                 FLOAT32, which is what readers of hyper-parameters expect: rounded to 24 bits of precision
        NumPy scalar, array   the type of the same name, so np.float64(x) keeps its 53 bits; arrays have one dimension
        list, tuple           an array: of strings, BOOL, INT32 (or INT64, UINT64), or FLOAT32 if any item is a float

    Raises `DTypeError` for anything else, and for an empty list, whose type only `Typed` can tell.
    """
    if isinstance(value, StringArray):
        return Typed(value, ValueType.ARRAY, ValueType.STRING)
    if isinstance(value, np.ndarray | np.generic):
        found = _BY_DTYPE.get(value.dtype.newbyteorder("="))
        if found is None:
            raise DTypeError(f"metadata {key!r}: GGUF has no type for NumPy's {value.dtype}")
        return Typed(value.item(), found) if isinstance(value, np.generic) else Typed(value, ValueType.ARRAY, found)
    if isinstance(value, list | tuple) and value:
        return Typed(value, ValueType.ARRAY, _infer_items(key, value))
    if isinstance(value, bool | str | int | float):
        return Typed(value, _infer_items(key, [value], _INTEGERS))
    raise DTypeError(f"metadata {key!r}: no GGUF type is known for {value!r:.80}; Typed(value, type) can give one")


def _infer_items(key: str, items: Sequence[Any], integers: Sequence[ValueType] = _ARRAY_INTEGERS) -> ValueType:
    if all(isinstance(x, bool) for x in items):
        return ValueType.BOOL
    if all(isinstance(x, str) for x in items):
        return ValueType.STRING
    if all(isinstance(x, int) and not isinstance(x, bool) for x in items):
        for t in integers:
            if all(_fits(x, t) for x in items):
                return t
        raise InvalidArgument(f"metadata {key!r}: no GGUF integer type holds {max(items, key=abs)}")
    if all(isinstance(x, int | float) and not isinstance(x, bool) for x in items):
        return ValueType.FLOAT32
    raise DTypeError(f"metadata {key!r}: the items of {items!r:.80} have no common GGUF type")


def _fits(x: int, t: ValueType) -> bool:
    info = np.iinfo(DTYPES[t])
    return bool(info.min <= x <= info.max)


# --- bytes ------------------------------------------------------------------------------------------------------------


def encode_name(what: str, name: str) -> bytes:
    """A key or a tensor's name: u64 length and UTF-8. Raises `InvalidArgument` where it is empty or too long."""
    raw = encode_text(what, name)
    if not 8 < len(raw) <= 8 + MAX_NAME_BYTES:
        raise InvalidArgument(f"{what} {name!r:.80} has {len(raw) - 8} bytes, not 1 to {MAX_NAME_BYTES}")
    return raw


def encode_text(what: str, text: str) -> bytes:
    """u64 length and UTF-8. Raises `InvalidArgument` for lone surrogates."""
    try:
        raw = text.encode()
    except UnicodeEncodeError as e:
        raise InvalidArgument(f"{what}: {text!r:.80} is not Unicode text ({e.reason})") from None
    return struct.pack("<Q", len(raw)) + raw


def encode_entry(key: str, typed: Typed) -> bytes:
    """Key, type and value. Raises `InvalidArgument` (`DTypeError`, `ShapeError`) where the value does not fit its
    type.
    """
    head = encode_name("metadata key", key) + struct.pack("<I", typed.type)
    what = f"metadata {key!r}"
    if typed.type is ValueType.STRING:
        if not isinstance(typed.value, str):
            raise DTypeError(f"{what}: {typed.value!r:.80} is not a string")
        return head + encode_text(what, typed.value)
    if typed.type is not ValueType.ARRAY:
        return head + _encode_numbers(what, [typed.value], typed.type)
    element_type = typed.element_type
    if element_type is None or element_type is ValueType.ARRAY:
        raise DTypeError(f"{what}: an array needs an element type, which is not ARRAY")
    items = typed.value
    if isinstance(items, str) or not isinstance(items, Sequence | np.ndarray):
        raise DTypeError(f"{what}: {items!r:.80} is not an array")
    if isinstance(items, np.ndarray) and items.ndim != 1:
        raise ShapeError(f"{what}: an array of shape {items.shape}; metadata arrays have one dimension")
    head += struct.pack("<IQ", element_type, len(items))
    if element_type is not ValueType.STRING:
        return head + _encode_numbers(what, items, element_type)
    if isinstance(items, StringArray):
        return head + items.data.tobytes()
    if not all(isinstance(x, str) for x in items):
        raise DTypeError(f"{what}: an array of strings holds something else")
    return head + b"".join(encode_text(what, x) for x in items)


def _encode_numbers(what: str, items: Any, t: ValueType) -> bytes:
    dtype = DTYPES[t]
    if isinstance(items, np.ndarray):
        if items.dtype.newbyteorder("=") != dtype.newbyteorder("="):
            raise DTypeError(f"{what}: an array of {items.dtype} is not {t.name}")
        return items.astype(dtype, copy=False).tobytes()
    for x in items:
        if t is ValueType.BOOL:
            fits = isinstance(x, bool)
        elif dtype.kind in "iu":
            fits = isinstance(x, int) and not isinstance(x, bool) and _fits(x, t)
        else:
            fits = isinstance(x, int | float) and not isinstance(x, bool) and _is_finite_as(x, dtype)
        if not fits:
            raise InvalidArgument(f"{what}: {x!r:.80} does not fit {t.name}")
    return np.array(items, dtype).tobytes()


def _is_finite_as(x: float, dtype: np.dtype[Any]) -> bool:
    """True unless a finite number would become infinite."""
    try:
        return not math.isfinite(x) or abs(float(x)) <= float(np.finfo(dtype).max)
    except OverflowError:
        return False
