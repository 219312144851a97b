"""`Tensor`: a typed, shaped, row-major block of numbers; thin over a NumPy array, so that the ideas stay visible.

Element (i, j, k) of a tensor of shape (A, B, C) stands at i*B*C + j*C + k elements from the start: the last index moves
fastest. The factors (B*C, C, 1) are its strides. A transpose or a slice changes shape and strides and copies nothing.

What it is not: the type of the forward pass. Ops work on arrays and on native rows (see runtime.py); quantised matrices
are layer 2's, as is the fast and blocked product (matrix_ops.py). Here a product is plain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from zigllama.errors import DTypeError, IndexOutOfRange, InvalidArgument, ShapeError

DTYPES: dict[str, np.dtype[Any]] = {
    "f16": np.dtype(np.float16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "i8": np.dtype(np.int8),
    "i16": np.dtype(np.int16),
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
    "u8": np.dtype(np.uint8),
    "u16": np.dtype(np.uint16),
    "u32": np.dtype(np.uint32),
    "u64": np.dtype(np.uint64),
    "bool": np.dtype(np.bool_),
}
NAMES = {dtype: name for name, dtype in DTYPES.items()}

Index = int | slice | tuple[int | slice, ...]


def dtype_of(name: str) -> np.dtype[Any]:
    """The NumPy type of a name like "f32". Raises DTypeError."""
    if name not in DTYPES:
        raise DTypeError(f"unknown element type {name!r} (known: {', '.join(DTYPES)})")
    return DTYPES[name]


class Tensor:
    """Numbers of one type in a row-major shape.

    >>> t = Tensor.zeros((2, 3))
    >>> t[1, 2] = 5
    >>> t.shape, t.strides, t[1, 2]
    ((2, 3), (3, 1), 5.0)
    """

    __slots__ = ("array",)

    array: npt.NDArray[Any]

    def __init__(self, data: npt.ArrayLike, dtype: str = "f32") -> None:
        """A copy of `data` (nested lists, numbers, an array), row-major, as `dtype`. Raises DTypeError, ShapeError."""
        try:
            found = np.asarray(data)
        except ValueError as error:
            raise ShapeError(f"nested lists of different lengths have no shape: {error}") from error
        if found.dtype.kind not in "biuf":
            raise DTypeError(f"cannot make a tensor of elements of type {found.dtype}")
        self.array = np.array(_convert(found, dtype_of(dtype)), order="C")

    # --- making -----------------------------------------------------------------------------------------------------

    @classmethod
    def view(cls, array: npt.NDArray[Any]) -> Tensor:
        """A tensor over the memory of `array`, nothing copied. Raises DTypeError."""
        if array.dtype not in NAMES:
            raise DTypeError(f"element type {array.dtype} is none of {', '.join(DTYPES)}")
        made = cls.__new__(cls)
        made.array = array
        return made

    @classmethod
    def zeros(cls, shape: Sequence[int], dtype: str = "f32") -> Tensor:
        """All zero. Raises ShapeError, DTypeError."""
        return cls.view(np.zeros(_checked(shape), dtype_of(dtype)))

    @classmethod
    def full(cls, shape: Sequence[int], value: float, dtype: str = "f32") -> Tensor:
        """All `value`. Raises ShapeError, DTypeError, InvalidArgument where the type cannot hold the value."""
        made = cls.zeros(shape, dtype)
        made.fill(value)
        return made

    # --- what it is -------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    @property
    def dtype(self) -> str:
        """The element type's name: "f32", "i32", ..."""
        return NAMES[self.array.dtype]

    @property
    def ndim(self) -> int:
        return self.array.ndim

    @property
    def size(self) -> int:
        """How many elements: the product of the shape."""
        return self.array.size

    @property
    def nbytes(self) -> int:
        return self.array.nbytes

    @property
    def strides(self) -> tuple[int, ...]:
        """Elements, not bytes, from one index to the next along each dimension."""
        return tuple(s // self.array.itemsize for s in self.array.strides)

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements stand in memory in row-major order without gaps."""
        return bool(self.array.flags.c_contiguous)

    def __len__(self) -> int:
        if not self.shape:
            raise ShapeError("a tensor without dimensions has no length")
        return self.shape[0]

    # --- elements ---------------------------------------------------------------------------------------------------

    def __getitem__(self, index: Index) -> Any:
        """A number where every dimension has an index, else a tensor over the same memory. Raises IndexOutOfRange."""
        found = self.array[self._checked_index(index)]
        return Tensor.view(found) if isinstance(found, np.ndarray) else found.item()

    def __setitem__(self, index: Index, value: Any) -> None:
        """Raises IndexOutOfRange, ShapeError, InvalidArgument where the type cannot hold the value."""
        new = _convert(value.array if isinstance(value, Tensor) else np.asarray(value), self.array.dtype)
        target = self._checked_index(index)
        try:
            self.array[target] = new
        except ValueError as error:
            raise ShapeError(f"cannot put shape {new.shape} into {np.shape(self.array[target])}") from error

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def _checked_index(self, index: Index) -> tuple[int | slice, ...]:
        parts = index if isinstance(index, tuple) else (index,)
        if len(parts) > self.ndim:
            raise IndexOutOfRange(f"{len(parts)} indices for a tensor of shape {self.shape}")
        for axis, part in enumerate(parts):
            if isinstance(part, slice):
                continue
            if isinstance(part, bool) or not isinstance(part, int | np.integer):
                raise InvalidArgument(f"index {part!r} of dimension {axis} is neither an integer nor a slice")
            if not -self.shape[axis] <= part < self.shape[axis]:
                raise IndexOutOfRange(f"index {part} of dimension {axis}, which has {self.shape[axis]} elements")
        return parts

    def item(self) -> Any:
        """The one element as a Python number. Raises ShapeError."""
        if self.size != 1:
            raise ShapeError(f"item() needs one element, shape {self.shape} has {self.size}")
        return self.array.item()

    def tolist(self) -> Any:
        return self.array.tolist()

    def fill(self, value: float) -> None:
        """Set every element. Raises InvalidArgument where the type cannot hold the value."""
        self.array[...] = _convert(np.asarray(value), self.array.dtype)

    # --- other shapes and types -------------------------------------------------------------------------------------

    def reshape(self, *shape: int) -> Tensor:
        """The same elements in the same order; one dimension may be -1, to be worked out. Raises ShapeError."""
        try:
            return Tensor.view(self.array.reshape(shape))
        except ValueError as error:
            raise ShapeError(f"{self.size} elements of shape {self.shape} cannot be given shape {shape}") from error

    def transpose(self, *axes: int) -> Tensor:
        """The dimensions in another order (reversed without arguments): strides change places, nothing is copied."""
        if axes and sorted(axes) != list(range(self.ndim)):
            raise ShapeError(f"axes {axes} are not each of 0..{self.ndim - 1} once")
        return Tensor.view(self.array.transpose(axes or None))

    @property
    def T(self) -> Tensor:
        return self.transpose()

    def contiguous(self) -> Tensor:
        """Itself where it is row-major without gaps, else a copy that is."""
        return self if self.is_contiguous else Tensor.view(np.ascontiguousarray(self.array))

    def copy(self) -> Tensor:
        return Tensor.view(self.array.copy(order="C"))

    def astype(self, dtype: str) -> Tensor:
        """A copy as another type, rounding to it. Raises DTypeError, InvalidArgument where it cannot hold a value."""
        return Tensor.view(np.array(_convert(self.array, dtype_of(dtype)), order="C"))

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        return np.array(self.array, dtype=dtype, copy=copy)

    # --- product ----------------------------------------------------------------------------------------------------

    def matmul(self, other: Tensor) -> Tensor:
        """c[i, j] = sum over k of a[i, k] * b[k, j].   (M, K) @ (K, N) -> (M, N)

        Either side may be a vector (K,), which then has no dimension in the result. f16 is computed as f32 and gives
        f32. Raises ShapeError, DTypeError (integers and mixed types: convert first, so that nothing is rounded unseen).
        """
        a, b = self.array, other.array
        if a.dtype.kind != "f" or a.dtype != b.dtype:
            raise DTypeError(f"matmul of {self.dtype} and {other.dtype}: want two tensors of one float type")
        if not (1 <= a.ndim <= 2 and 1 <= b.ndim <= 2) or a.shape[-1] != b.shape[0]:
            raise ShapeError(f"matmul of shapes {a.shape} and {b.shape}: want (M, K) and (K, N)")
        wide = np.float64 if a.dtype == np.float64 else np.float32
        return Tensor.view(np.asarray(np.matmul(a.astype(wide, copy=False), b.astype(wide, copy=False))))

    def __matmul__(self, other: Tensor) -> Tensor:
        return self.matmul(other)

    # --- print ------------------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        numbers = np.array2string(self.array, threshold=64, edgeitems=3, precision=5, separator=", ", prefix="  ")
        return f"Tensor {self.dtype} {self.shape}\n  {numbers}"


def _checked(shape: Sequence[int]) -> tuple[int, ...]:
    if any(isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 0 for n in shape):
        raise ShapeError(f"shape {tuple(shape)} must be integers >= 0")
    if math.prod(shape) > 2**62:
        raise ShapeError(f"shape {tuple(shape)} has more than 2^62 elements")
    return tuple(int(n) for n in shape)


def _convert(values: npt.NDArray[Any], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """`values` as `dtype`; to an integer type only what it can hold. Floats round (towards zero for integers)."""
    if values.dtype.kind not in "biuf":
        raise DTypeError(f"cannot store elements of type {values.dtype} as {NAMES[dtype]}")
    if dtype.kind in "iu" and values.size and values.dtype != dtype:
        limits = np.iinfo(dtype)
        low, high = values.min(), values.max()  # NaN comes through as both
        if not (limits.min <= low.item() and high.item() <= limits.max):
            raise InvalidArgument(f"values {low} to {high} do not fit {NAMES[dtype]}, {limits.min} to {limits.max}")
    with np.errstate(over="ignore"):  # a float too large for a narrower float becomes infinite, as IEEE rounding says
        return values.astype(dtype, copy=False)
