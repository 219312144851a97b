"""`Tensor`: shapes, strides, indices, types and errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zigllama.errors import DTypeError, IndexOutOfRange, InvalidArgument, ShapeError
from zigllama.foundation.tensor import DTYPES, Tensor

SHAPES = st.lists(st.integers(0, 5), max_size=4).map(tuple)


@given(SHAPES, st.sampled_from(sorted(DTYPES)))
def test_row_major(shape: tuple[int, ...], dtype: str) -> None:
    t = Tensor.zeros(shape, dtype)
    assert (t.shape, t.dtype, t.ndim, t.size) == (shape, dtype, len(shape), int(np.prod(shape)))
    assert t.nbytes == t.size * DTYPES[dtype].itemsize
    assert t.is_contiguous
    if t.size:
        assert t.strides == tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_an_element_stands_where_the_strides_say(shape: list[int], data: st.DataObject) -> None:
    t = Tensor(np.arange(np.prod(shape)).reshape(shape), "i32")
    index = tuple(data.draw(st.integers(0, n - 1)) for n in shape)
    place = sum(i * s for i, s in zip(index, t.strides, strict=True))
    assert t[index] == place
    assert t.T[index[::-1]] == place
    t[index] = -7
    assert t.array.reshape(-1)[place] == -7
    assert (t.array == -7).sum() == 1


def test_views_share_memory_and_copies_do_not() -> None:
    t = Tensor([[1, 2, 3], [4, 5, 6]])
    t[1][0] = 40
    t[:, 1:3][0, 1] = 30
    assert t.tolist() == [[1, 2, 30], [40, 5, 6]]
    flipped = t.T
    assert not flipped.is_contiguous
    assert flipped.strides == (1, 3)
    assert flipped.contiguous().strides == (2, 1)
    assert t.contiguous() is t
    flipped.copy()[0, 0] = 9
    assert t[0, 0] == 1
    assert [row.tolist() for row in t] == t.tolist()
    assert t.reshape(3, -1).tolist() == [[1, 2], [30, 40], [5, 6]]


def test_fill_and_full() -> None:
    t = Tensor.full((2, 2), 1.5, "f16")
    assert t.tolist() == [[1.5, 1.5], [1.5, 1.5]]
    t.fill(-2)
    assert set(t.array.ravel().tolist()) == {-2.0}


@pytest.mark.parametrize("value", [256, -1, float("nan"), float("inf")])
def test_a_value_that_an_integer_type_cannot_hold(value: float) -> None:
    t = Tensor.zeros((3,), "u8")
    with pytest.raises(InvalidArgument, match="u8"):
        t.fill(value)
    with pytest.raises(InvalidArgument, match="u8"):
        t[0] = value
    assert t.tolist() == [0, 0, 0]


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_matmul(m: int, k: int, n: int) -> None:
    rng = np.random.default_rng(m * 36 + k * 6 + n)
    a, b = rng.normal(size=(m, k)), rng.normal(size=(k, n))
    want = [[sum(a[i, q] * b[q, j] for q in range(k)) for j in range(n)] for i in range(m)]
    got = Tensor(a, "f64") @ Tensor(b, "f64")
    assert got.shape == (m, n)
    np.testing.assert_allclose(got.array, np.reshape(want, (m, n)), atol=1e-14)
    half = Tensor(a, "f16").matmul(Tensor(b, "f16"))
    assert half.dtype == "f32"
    if k:
        assert (Tensor(a, "f32") @ Tensor(b[:, 0] if n else np.zeros(k), "f32")).shape == (m,)


@pytest.mark.parametrize(
    ("a", "b", "error"),
    [
        (((2, 3), "f32"), ((2, 3), "f32"), ShapeError),
        (((2, 3, 4), "f32"), ((4, 2), "f32"), ShapeError),
        (((), "f32"), ((), "f32"), ShapeError),
        (((2, 3), "f32"), ((3, 2), "f64"), DTypeError),
        (((2, 3), "i32"), ((3, 2), "i32"), DTypeError),
    ],
)
def test_matmul_errors(a: tuple[tuple[int, ...], str], b: tuple[tuple[int, ...], str], error: type) -> None:
    with pytest.raises(error):
        Tensor.zeros(*a).matmul(Tensor.zeros(*b))


def test_errors() -> None:
    t = Tensor.zeros((2, 3))
    bad_indices: list[int | tuple[int, ...]] = [2, -3, (0, 3), (0, 0, 0)]
    for bad in bad_indices:
        with pytest.raises(IndexOutOfRange):
            t[bad]
    with pytest.raises(IndexError):
        t[5] = 1
    with pytest.raises(InvalidArgument):
        t[1.5]  # type: ignore[index]
    with pytest.raises(ShapeError):
        t[0] = [1, 2]
    with pytest.raises(ShapeError):
        t.reshape(4, 2)
    with pytest.raises(ShapeError):
        t.transpose(0, 0)
    with pytest.raises(ShapeError):
        t.item()
    with pytest.raises(ShapeError):
        len(Tensor(1.0))
    with pytest.raises(ShapeError):
        Tensor([[1, 2], [3]])
    with pytest.raises(ShapeError):
        Tensor.zeros((2, -1))
    with pytest.raises(ShapeError):
        Tensor.zeros((2**40, 2**40))
    with pytest.raises(DTypeError):
        Tensor.zeros((2,), "f31")
    with pytest.raises(DTypeError):
        Tensor(["a"])
    with pytest.raises(DTypeError):
        Tensor.view(np.zeros(2, np.complex64))


def test_types_convert_and_print() -> None:
    t = Tensor([1.25, -2.75, 3])
    assert t.astype("i8").tolist() == [1, -2, 3]
    assert t.astype("f64").dtype == "f64"
    assert Tensor(7, "i64").item() == 7
    assert np.asarray(t).dtype == np.float32
    assert repr(t) == "Tensor f32 (3,)\n  [ 1.25, -2.75,  3.  ]"
    assert len(repr(Tensor.zeros((1000, 1000)))) < 2000
    assert Tensor([3e38], "f64").astype("f16").tolist() == [float("inf")]
