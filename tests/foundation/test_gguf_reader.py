"""What `GGUFReader` gives for good files: values of every type, strings without decoding, tensors without copying."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from gguf_hostile import ARRAY, F32, STRING, U8, U32, File, array, key, scalar, small, strings, tensor, text, u32, u64
from hypothesis import given
from hypothesis import strategies as st

from zigllama.errors import BadMetadata, ClosedError, MissingTensor
from zigllama.foundation import gguf_cursor
from zigllama.foundation.byte_source import BytesSource
from zigllama.foundation.gguf_format import GGUFReader
from zigllama.foundation.gguf_header import parse_header
from zigllama.foundation.gguf_metadata import StringArray, ValueType


@pytest.fixture
def path(tmp_path: Path) -> Path:
    p = tmp_path / "small.gguf"
    p.write_bytes(small())
    return p


def test_scalars_and_arrays_of_every_type(path: Path) -> None:
    with GGUFReader(path) as r:
        assert r.version == 3
        assert r.alignment == 64
        assert r.metadata["general.architecture"] == "llama"
        for kind in (0, 1, 2, 3, 4, 5, 10, 11):
            assert r.metadata[f"scalar.{kind}"] == 1
            assert type(r.metadata[f"scalar.{kind}"]) is int
        for kind in (6, 12):
            assert r.metadata[f"scalar.{kind}"] == 1.0
            assert type(r.metadata[f"scalar.{kind}"]) is float
        assert r.metadata["scalar.7"] is True
        dtypes = {0: "u1", 1: "i1", 2: "u2", 3: "i2", 4: "u4", 5: "i4", 6: "f4", 7: "?", 10: "u8", 11: "i8", 12: "f8"}
        for kind, dtype in dtypes.items():
            a = r.metadata[f"array.{kind}"]
            assert isinstance(a, np.ndarray)
            assert a.dtype == np.dtype(dtype)
            assert a.tolist() == [0, 1, 1]
            assert a.flags.aligned
            assert not a.flags.writeable
            assert r.metadata[f"array.{kind}"] is a  # made once
            assert r.metadata.type_of(f"array.{kind}") is ValueType.ARRAY
            assert r.metadata.element_type_of(f"array.{kind}") == kind
        assert len(r.metadata["array.empty"]) == 0  # type: ignore[arg-type]
        assert list(r.metadata["strings.empty"]) == []  # type: ignore[arg-type]
        assert "nothing" not in r.metadata
        assert r.metadata.get("nothing") is None


def test_the_extremes_of_every_number_type() -> None:
    extremes = {
        0: (0, 255), 1: (-128, 127), 2: (0, 65535), 3: (-32768, 32767), 4: (0, 2**32 - 1), 5: (-(2**31), 2**31 - 1),
        6: (-3.4028234663852886e38, 2.0**-149), 7: (False, True), 10: (0, 2**64 - 1), 11: (-(2**63), 2**63 - 1),
        12: (-1.7976931348623157e308, 5e-324),
    }  # fmt: skip
    keys = [key(f"{kind}.{i}", scalar(kind, v)) for kind, pair in extremes.items() for i, v in enumerate(pair)]
    keys += [key(f"{kind}", array(kind, *pair)) for kind, pair in extremes.items()]
    metadata = parse_header(BytesSource(File(keys).build())).metadata
    for kind, pair in extremes.items():
        assert (metadata[f"{kind}.0"], metadata[f"{kind}.1"]) == pair
        assert tuple(metadata[f"{kind}"].tolist()) == pair  # type: ignore[union-attr]


def test_strings_of_an_array(path: Path) -> None:
    with GGUFReader(path) as r:
        tokens = r.metadata["tokenizer.ggml.tokens"]
        assert isinstance(tokens, StringArray)
        assert tokens == ["<s>", "", "caf\u00e9", "\u2581the", "x" * 300]
        assert tokens[2] == "caf\u00e9"
        assert tokens[-1] == "x" * 300
        assert tokens[1:4:2] == ["", "\u2581the"]
        assert tokens.raw(2) == "caf\u00e9".encode()
        assert tokens.raw_list() == [s.encode() for s in tokens]
        assert tokens.lengths.tolist() == [3, 0, 5, 6, 300]
        for i, start, n in zip(range(5), tokens.starts, tokens.lengths, strict=True):
            assert tokens.data[start : start + n].tobytes() == tokens.raw(i)
        assert tokens != ["<s>"]
        for i in (5, -6):
            with pytest.raises(IndexError):
                tokens.raw(i)
        # the place it names is the place in the file
        at = tokens.file_offset + int(tokens.starts[2])
        assert path.read_bytes()[at : at + 3] == b"caf"


def test_a_token_that_is_not_utf8_has_bytes_but_no_text() -> None:
    data = File([key("k", strings("a", b"\xff\x00", "b"))]).build()
    tokens = parse_header(BytesSource(data)).metadata["k"]
    assert isinstance(tokens, StringArray)
    assert tokens.raw(1) == b"\xff\x00"
    assert tokens[2] == "b"
    with pytest.raises(BadMetadata, match=r"'k'.*string 1 is not UTF-8") as e:
        tokens[1]
    assert data[e.value.offset : e.value.offset + 2] == b"\xff\x00"
    with pytest.raises(BadMetadata, match="string 1"):
        list(tokens)


def test_tensors_are_views_of_the_file(path: Path) -> None:
    raw = path.read_bytes()
    with GGUFReader(path) as r:
        assert list(r.tensors) == ["a.weight", "b.bias"]
        a, b = r.tensors.values()
        assert (a.shape, a.type.name, a.n_bytes) == ((3, 64), "Q8_0", 3 * 68)  # ne is [64, 3] in the file
        assert (b.shape, b.type.name, b.n_bytes) == ((5,), "F32", 20)
        assert r.data_offset % 64 == 0
        for t in (a, b):
            view = r.tensor_bytes(t.name)
            assert view.dtype == np.uint8
            assert view.tobytes() == raw[t.offset : t.offset + t.n_bytes]
            assert not view.flags.writeable
            assert not view.flags.owndata
        assert np.shares_memory(r.tensor_bytes("a.weight"), r.mapping().view)
        with pytest.raises(MissingTensor, match="nothing"):
            r.tensor_bytes("nothing")
        assert r.paths == (str(path),)
        assert r.n_bytes == len(raw)


def test_after_close(path: Path) -> None:
    r = GGUFReader(path)
    view = r.tensor_bytes("b.bias")
    before = view.tobytes()
    r.close()
    r.close()
    assert view.tobytes() == before  # a view outlives the reader
    assert r.metadata["array.6"].tolist() == [0.0, 1.0, 1.0]  # type: ignore[union-attr]
    with pytest.raises(ClosedError):
        r.tensor_bytes("b.bias")


def test_version_2_is_read(tmp_path: Path) -> None:
    data = bytearray(small())
    data[4] = 2
    (tmp_path / "v2.gguf").write_bytes(data)
    with GGUFReader(tmp_path / "v2.gguf") as r:
        assert r.version == 2
        assert len(r.tensors) == 2


def test_gaps_and_trailing_bytes_are_no_error() -> None:
    data = File([], [tensor("a", (4,), 0, 32), tensor("b", (4,), 0, 128)], bytes(500)).build()
    header = parse_header(BytesSource(data))
    assert [t.offset - header.data_offset for t in header.tensors.values()] == [32, 128]


def test_no_tensors_at_all() -> None:
    """A vocabulary-only file ends with its metadata, without padding."""
    data = b"GGUF" + u32(3) + u64(0) + u64(1) + key("k", scalar(U8, 7))
    header = parse_header(BytesSource(data))
    assert dict(header.metadata) == {"k": 7}
    assert header.tensors == {}


def test_threads_share_a_reader(path: Path) -> None:
    with GGUFReader(path) as r:
        found: list[bytes] = []
        threads = [
            threading.Thread(target=lambda: found.append(r.tensor_bytes("a.weight").tobytes())) for _ in range(8)
        ]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert found == [bytes(range(204))] * 8


# --- the scan over strings --------------------------------------------------------------------------------------------

# Lengths around what the vectorised scan takes for granted, contents that look like length words.
tricky = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(
        [b"", b"\0", bytes(7), bytes(8), bytes(15), b"\x05" + bytes(7), b"a" * 255, b"a" * 256, b"\0" * 300]
    ),
    st.builds(lambda n: b"\x08" + bytes(7) + b"x" * n, st.integers(0, 9)),
)


@given(st.lists(tricky, max_size=400), st.integers(64, 4096), st.integers(1, 70))
def test_scan_finds_what_a_plain_walk_finds(items: list[bytes], window: int, hops: int) -> None:
    data = File([key("before", scalar(U8, 1)), key("k", strings(*items)), key("after", array(F32, 1.0))]).build()
    saved = gguf_cursor._WINDOW, gguf_cursor._HOPS
    gguf_cursor._WINDOW, gguf_cursor._HOPS = window, hops
    try:
        metadata = parse_header(BytesSource(data)).metadata
    finally:
        gguf_cursor._WINDOW, gguf_cursor._HOPS = saved
    found = metadata["k"]
    assert isinstance(found, StringArray)
    assert found.raw_list() == items
    assert found == StringArray.from_strings(items)
    assert list(metadata) == ["before", "k", "after"]


def test_a_large_vocabulary_in_windows() -> None:
    items = [b"token%d" % i if i % 5000 else b"y" * (i % 70_000) for i in range(60_000)]
    data = u32(ARRAY) + u32(STRING) + u64(len(items)) + b"".join(text(s) for s in items)
    header = parse_header(BytesSource(File([key("k", data), key("n", scalar(U32, 9))]).build()))
    assert header.metadata["k"].raw_list() == items  # type: ignore[union-attr]
    assert header.metadata["n"] == 9
