"""The writer: what it writes is read back, from one file or many; a failure leaves nothing behind."""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from gguf_hostile import small
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zigllama import gguf
from zigllama.errors import DTypeError, InvalidArgument, ShapeError
from zigllama.foundation.ggml_types import GGML_TYPES
from zigllama.foundation.gguf_metadata import DTYPES
from zigllama.gguf import StringArray, TensorData, Typed, ValueType

# --- round trips ------------------------------------------------------------------------------------------------------

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
texts = st.text(st.characters(codec="utf-8"), max_size=40)


def numbers(t: ValueType) -> st.SearchStrategy[Any]:
    dtype = DTYPES[t]
    if t is ValueType.BOOL:
        return st.booleans()
    if dtype.kind == "f":
        return st.floats(width=8 * dtype.itemsize)  # type: ignore[arg-type]
    info = np.iinfo(dtype)
    return st.integers(int(info.min), int(info.max))


def singles() -> st.SearchStrategy[Typed]:
    return st.sampled_from(list(DTYPES)).flatmap(lambda t: st.builds(Typed, numbers(t), st.just(t), st.none()))


def arrays() -> st.SearchStrategy[Typed]:
    def of(t: ValueType) -> st.SearchStrategy[Typed]:
        return st.builds(Typed, hnp.arrays(DTYPES[t], st.integers(0, 9)), st.just(ValueType.ARRAY), st.just(t))

    strings = st.builds(Typed, st.lists(texts, max_size=9), st.just(ValueType.ARRAY), st.just(ValueType.STRING))
    return st.one_of(st.sampled_from(list(DTYPES)).flatmap(of), strings)


values = st.one_of(singles(), st.builds(Typed, texts, st.just(ValueType.STRING), st.none()), arrays())


@st.composite
def tensor_data(draw: st.DrawFn, name: str) -> TensorData:
    t = draw(st.sampled_from(list(GGML_TYPES.values())))
    outer = draw(st.lists(st.integers(1, 3), max_size=3))
    shape = (*outer, t.block_size * draw(st.integers(1, 3)))
    n = math.prod(shape) // t.block_size * t.block_bytes
    return TensorData(name, shape, t, np.random.default_rng(draw(st.integers(0, 99))).bytes(n))


@st.composite
def models(draw: st.DrawFn) -> tuple[dict[str, Typed], list[TensorData]]:
    keys = draw(
        st.lists(names.filter(lambda k: not k.startswith(("split.", "general.alignment"))), unique=True, max_size=6)
    )
    tensor_names = draw(st.lists(names, unique=True, max_size=6))
    return {k: draw(values) for k in keys}, [draw(tensor_data(n)) for n in tensor_names]


def same(a: Any, b: Any) -> bool:
    """Equal in type and bits: NaN equals itself, -0.0 does not equal 0.0."""
    if isinstance(a, float) and isinstance(b, float):
        return np.float64(a).tobytes() == np.float64(b).tobytes() or (math.isnan(a) and math.isnan(b))
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.tobytes() == b.tobytes()
    if isinstance(a, StringArray):
        return list(a) == list(b)
    return type(a) is type(b) and bool(a == b)


@given(
    models(), st.sampled_from([2, 3]), st.sampled_from([8, 32, 64, 4096]), st.one_of(st.none(), st.integers(1, 4)),
    st.one_of(st.none(), st.integers(1, 2000)),
)  # fmt: skip
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    model: tuple[dict[str, Typed], list[TensorData]],
    version: int,
    alignment: int,
    part_tensors: int | None,
    part_bytes: int | None,
) -> None:
    metadata, tensors = model
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # what a power cut leaves is not the question here
    folder = tmp_path_factory.mktemp("m")
    paths = gguf.write(
        folder / "m.gguf", metadata, tensors, version=version, alignment=alignment,
        max_part_tensors=part_tensors, max_part_bytes=part_bytes,
    )  # fmt: skip
    assert sorted(os.listdir(folder)) == sorted(os.path.basename(p) for p in paths)
    with gguf.open(paths[0]) as r:
        assert r.paths == tuple(paths)
        assert (r.version, r.alignment) == (version, alignment)
        own = {k for k in r.metadata if k.startswith("split.") or k == "general.alignment"}
        assert [k for k in r.metadata if k not in own] == list(metadata)
        for k, typed in metadata.items():
            assert r.metadata.type_of(k) is typed.type
            assert r.metadata.element_type_of(k) is typed.element_type
            found = r.metadata[k]
            assert same(list(found) if isinstance(found, StringArray) else found, typed.value), (k, found, typed)
        assert list(r.tensors) == [t.name for t in tensors]
        for t in tensors:
            info = r.tensors[t.name]
            assert (info.shape, info.type, info.n_bytes) == (t.shape, t.type, t.n_bytes)
            assert info.offset % alignment == 0
            assert r.tensor_bytes(t.name).tobytes() == t.data
        # and once more, through what the reader gives
        again = [TensorData(i.name, i.shape, i.type, r.tensor_bytes(i.name)) for i in r.tensors.values()]
        copy = gguf.write(folder / "copy.gguf", r.metadata, again, version=version)[0]
        if len(paths) == 1:
            assert Path(copy).read_bytes() == Path(paths[0]).read_bytes()


def test_a_file_from_elsewhere_is_copied_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(small())
    with gguf.open(tmp_path / "a.gguf") as r:
        tensors = [TensorData(t.name, t.shape, t.type, r.tensor_bytes(t.name)) for t in r.tensors.values()]
        gguf.write(tmp_path / "b.gguf", r.metadata, tensors)
    padding = bytes(-len(small()) % 64)  # which a last tensor may go without
    assert (tmp_path / "b.gguf").read_bytes() == small() + padding
    with gguf.open(tmp_path / "b.gguf") as r, gguf.open(tmp_path / "a.gguf") as a:
        assert {k: r.metadata.type_of(k) for k in r.metadata} == {k: a.metadata.type_of(k) for k in a.metadata}
        assert all(same(r.metadata[k], a.metadata[k]) for k in a.metadata)


def test_types_of_python_values(tmp_path: Path) -> None:
    values: dict[str, tuple[Any, ValueType, ValueType | None]] = {
        "bool": (True, ValueType.BOOL, None),
        "text": ("x", ValueType.STRING, None),
        "int": (7, ValueType.UINT32, None),
        "negative": (-7, ValueType.INT32, None),
        "large": (1 << 40, ValueType.UINT64, None),
        "largest": ((1 << 64) - 1, ValueType.UINT64, None),
        "very negative": (-(1 << 63), ValueType.INT64, None),
        "float": (1e-5, ValueType.FLOAT32, None),
        "double": (np.float64(1e-5), ValueType.FLOAT64, None),
        "short": (np.uint16(3), ValueType.UINT16, None),
        "ints": ([1, 2], ValueType.ARRAY, ValueType.INT32),
        "long ints": ([1, 1 << 40], ValueType.ARRAY, ValueType.INT64),
        "longest ints": ((1 << 64) - 1, ValueType.UINT64, None),
        "floats": ([1, 0.5], ValueType.ARRAY, ValueType.FLOAT32),
        "bools": ([True, False], ValueType.ARRAY, ValueType.BOOL),
        "strings": (("a", "b"), ValueType.ARRAY, ValueType.STRING),
        "array": (np.array([1, 2], ">i8"), ValueType.ARRAY, ValueType.INT64),
        "tokens": (StringArray.from_strings([b"\xff", "a"]), ValueType.ARRAY, ValueType.STRING),
    }
    (path,) = gguf.write(tmp_path / "m.gguf", {k: v[0] for k, v in values.items()}, {})
    with gguf.open(path) as r:
        for k, (_, t, e) in values.items():
            assert (r.metadata.type_of(k), r.metadata.element_type_of(k)) == (t, e), k
        assert r.metadata["float"] == float(np.float32(1e-5))
        assert r.metadata["double"] == 1e-5
        assert r.metadata["array"].tolist() == [1, 2]  # type: ignore[union-attr]
        assert r.metadata["tokens"].raw_list() == [b"\xff", b"a"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ([], DTypeError),
        (None, DTypeError),
        (b"x", DTypeError),
        ({"a": 1}, DTypeError),
        ([1, "a"], DTypeError),
        ([True, 1], DTypeError),
        (np.float16(1), DTypeError),
        (np.zeros((2, 2), np.float32), ShapeError),
        (1 << 64, InvalidArgument),
        (1e300, InvalidArgument),
        ([1 << 70], InvalidArgument),
        ("\ud800", InvalidArgument),
        (["ok", "\ud800"], InvalidArgument),
        (Typed(256, ValueType.UINT8), InvalidArgument),
        (Typed(-1, ValueType.UINT32), InvalidArgument),
        (Typed(True, ValueType.UINT32), InvalidArgument),
        (Typed(1, ValueType.BOOL), InvalidArgument),
        (Typed(10**400, ValueType.FLOAT64), InvalidArgument),
        (Typed(1, ValueType.STRING), DTypeError),
        (Typed([1], ValueType.ARRAY), DTypeError),
        (Typed([[1]], ValueType.ARRAY, ValueType.ARRAY), DTypeError),
        (Typed("ab", ValueType.ARRAY, ValueType.STRING), DTypeError),
        (Typed(["a", 1], ValueType.ARRAY, ValueType.STRING), DTypeError),
        (Typed(np.zeros(2, np.float32), ValueType.ARRAY, ValueType.INT32), DTypeError),
    ],
)
def test_values_that_have_no_place_in_a_file(tmp_path: Path, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="'k'"):
        gguf.write(tmp_path / "m.gguf", {"k": value}, {})
    assert os.listdir(tmp_path) == []


# --- tensors ----------------------------------------------------------------------------------------------------------


def test_arrays_of_plain_numbers(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    arrays: dict[str, npt.NDArray[Any]] = {
        dtype: rng.integers(-9, 9, (3, 4)).astype(dtype)
        for dtype in ("f4", "f2", "f8", "i1", "i2", "i4", "i8", ">f4", ">i2")
    }
    arrays["strided"] = np.arange(24, dtype=np.float32).reshape(4, 6)[:, ::2]
    (path,) = gguf.write(tmp_path / "m.gguf", {}, arrays)
    with gguf.open(path) as r:
        for name, a in arrays.items():
            little = a.dtype.newbyteorder("<")
            assert np.array_equal(r.tensor_bytes(name).view(little).reshape(a.shape), a)
            assert r.tensors[name].shape == a.shape
    for bad in (np.zeros(3, bool), np.zeros(3, np.complex64), np.array(["a"]), np.zeros(3, np.uint8)):
        with pytest.raises(DTypeError, match="'bad'"):
            gguf.write(tmp_path / "n.gguf", {}, {"bad": bad})


def test_data_is_made_when_its_turn_comes(tmp_path: Path) -> None:
    order: list[str] = []
    f32 = GGML_TYPES["F32"]

    def pieces(name: str) -> Iterator[bytes]:
        for i in range(4):
            order.append(f"{name}{i}")
            yield bytes([i]) * 1000

    tensors = [TensorData(n, (10, 100), f32, lambda n=n: pieces(n)) for n in "ab"]  # type: ignore[misc]
    (path,) = gguf.write(tmp_path / "m.gguf", {}, tensors)
    assert order == ["a0", "a1", "a2", "a3", "b0", "b1", "b2", "b3"]
    with gguf.open(path) as r:
        assert r.tensor_bytes("b").tobytes() == b"".join(bytes([i]) * 1000 for i in range(4))


@pytest.mark.parametrize(
    ("shape", "type_name", "data", "error", "says"),
    [
        ((4,), "F32", bytes(15), InvalidArgument, "15 bytes of data.*16"),
        ((4,), "F32", bytes(17), InvalidArgument, "at least 17 bytes"),
        ((31,), "Q8_0", bytes(34), ShapeError, "31 elements"),
        ((), "F32", bytes(4), ShapeError, "1 to 4 dimensions"),
        ((1, 1, 1, 1, 1), "F32", bytes(4), ShapeError, "1 to 4 dimensions"),
        ((0, 4), "F32", b"", ShapeError, "1 or more"),
        ((1 << 32, 1 << 31), "F32", b"", ShapeError, "1 or more"),
    ],
)
def test_tensors_that_make_no_valid_file(
    tmp_path: Path, shape: tuple[int, ...], type_name: str, data: bytes, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        gguf.write(tmp_path / "m.gguf", {}, [TensorData("t", shape, GGML_TYPES[type_name], data)])
    assert os.listdir(tmp_path) == []


def test_arguments_that_make_no_valid_file(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    one = {"t": np.zeros(4, np.float32)}
    for arguments, says in (
        ({"version": 1}, "version 1"),
        ({"version": 4}, "version 4"),
        ({"alignment": 0}, "alignment 0"),
        ({"alignment": 4}, "alignment 4"),
        ({"alignment": 48}, "alignment 48"),
        ({"alignment": 1 << 22}, "alignment"),
        ({"max_part_tensors": 0}, "max_part_tensors"),
        ({"max_part_bytes": 0}, "max_part_bytes"),
    ):
        with pytest.raises(InvalidArgument, match=says):
            gguf.write(path, {}, one, **arguments)
    with pytest.raises(InvalidArgument, match="alignment -1"):
        gguf.write(path, {"general.alignment": "32"}, one)
    with pytest.raises(InvalidArgument, match="twice"):
        gguf.write(path, {}, [TensorData.from_array("t", one["t"])] * 2)
    with pytest.raises(InvalidArgument, match="65536 bytes"):
        gguf.write(path, {"k" * 65536: 1}, one)
    with pytest.raises(InvalidArgument, match="0 bytes"):
        gguf.write(path, {"": 1}, one)
    with pytest.raises(InvalidArgument, match="65534 keys and 1 tensors"):
        gguf.write(path, {f"{i}": 1 for i in range(65534)}, one)
    with pytest.raises(InvalidArgument, match="0 keys and 65537 tensors"):
        gguf.write(path, {}, {f"{i}": one["t"] for i in range(65537)})
    with pytest.raises(InvalidArgument, match="65536 parts"):
        gguf.write(
            path, {}, [TensorData(f"{i}", (1,), GGML_TYPES["F32"], bytes(4)) for i in range(65536)], max_part_tensors=1
        )
    assert os.listdir(tmp_path) == []


# --- whole or not at all ----------------------------------------------------------------------------------------------


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"old")

    def fail() -> Iterator[bytes]:
        yield bytes(8)
        raise KeyboardInterrupt

    tensors = [TensorData("a", (4,), GGML_TYPES["F32"], bytes(16)), TensorData("b", (4,), GGML_TYPES["F32"], fail)]
    for limit in (None, 1):
        with pytest.raises(KeyboardInterrupt):
            gguf.write(path, {}, tensors, max_part_tensors=limit)
        assert os.listdir(tmp_path) == ["m.gguf"]
        assert path.read_bytes() == b"old"
    gguf.write(path, {}, tensors[:1])
    assert path.read_bytes()[:4] == b"GGUF"
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode  # as any new file, not a temporary file's 0600


def test_the_input_is_no_output(tmp_path: Path) -> None:
    path, other = tmp_path / "m.gguf", tmp_path / "other.gguf"
    path.write_bytes(small())
    other.symlink_to(path)
    os.link(path, tmp_path / "hard.gguf")
    with gguf.open(path) as r:
        tensors = [TensorData(t.name, t.shape, t.type, r.tensor_bytes(t.name)) for t in r.tensors.values()]
        for target in (path, other, tmp_path / "hard.gguf"):
            with pytest.raises(InvalidArgument, match="open for reading"):
                gguf.write(target, r.metadata, tensors)
    assert path.read_bytes() == small()
    gguf.write(path, {}, tensors)  # closed: now it may be replaced, and the arrays still hold the old file's bytes
    with gguf.open(path) as r:
        assert r.tensor_bytes("b.bias").tobytes() == small()[-20:]


def test_only_regular_files_are_replaced(tmp_path: Path) -> None:
    """All targets are the test's own: with the check broken, a rename over /dev/null would break the machine."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(tmp_path / "socket"))
        for name in ("folder", "fifo", "link", "socket"):
            before = os.lstat(tmp_path / name)
            with pytest.raises(InvalidArgument, match="no regular file"):
                gguf.write(tmp_path / name, {}, {})
            assert os.lstat(tmp_path / name).st_ino == before.st_ino
    with pytest.raises(FileNotFoundError):
        gguf.write(tmp_path / "nowhere" / "m.gguf", {}, {})
