"""Importance files: both forms go round, what they mean is the same, and nothing hostile gets through."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zigllama import gguf
from zigllama.errors import BadImportance, InvalidArgument, ModelFileError
from zigllama.models.importance import (
    Entry,
    Importance,
    combined,
    read_importance,
    write_importance,
    write_legacy_importance,
)


def example() -> Importance:
    """Two matrices, one of them a stack of three, whose second expert no input met."""
    rng = np.random.default_rng(1)
    sums = (rng.random((3, 8)).astype(np.float32) * 100).astype(np.float32)
    sums[1] = 0
    entries = {
        "blk.0.ffn_up_exps.weight": Entry(sums, np.array([40, 0, 100], np.float32)),
        "blk.0.attn_q.weight": Entry(rng.random((1, 4)).astype(np.float32), np.array([128], np.float32)),
    }
    return Importance(entries, ("a.txt", "b.txt"), n_chunks=4, chunk_size=32)


def test_the_gguf_form_goes_round(tmp_path: Path) -> None:
    path, given_ = tmp_path / "i.gguf", example()
    write_importance(path, given_)
    found = read_importance(path)
    assert (found.datasets, found.n_chunks, found.chunk_size) == (("a.txt", "b.txt"), 4, 32)
    assert found.path == str(path)
    assert list(found.entries) == sorted(given_.entries)
    for name, entry in given_.entries.items():
        assert np.array_equal(found.entries[name].sums, entry.sums)
        assert np.array_equal(found.entries[name].counts, entry.counts)
    with gguf.open(path) as r:
        assert r.metadata["general.type"] == "imatrix"
        assert r.tensors["blk.0.ffn_up_exps.weight.in_sum2"].shape == (3, 8)
        assert r.tensors["blk.0.ffn_up_exps.weight.counts"].shape == (3, 1)


def test_the_mean_is_the_formula() -> None:
    entry = example().entries["blk.0.ffn_up_exps.weight"]
    mean = entry.mean()
    assert mean.dtype == np.float32
    assert np.array_equal(mean[0], entry.sums[0] / np.float32(40))
    assert np.array_equal(mean[1], np.ones(8, np.float32))
    assert np.array_equal(mean[2], entry.sums[2] / np.float32(100))


def test_the_legacy_form_means_the_same(tmp_path: Path) -> None:
    path, given_ = tmp_path / "i.dat", example()
    write_legacy_importance(path, given_)
    found = read_importance(path)
    assert (found.datasets, found.n_chunks) == (("b.txt",), 4)
    for name, entry in given_.entries.items():
        # a product and a quotient, each rounded: one part in 2^23 together
        expected = entry.mean().reshape(-1)
        assert np.abs(found.entries[name].mean().reshape(-1) - expected).max() <= 2.0**-23 * expected.max()
    raw = path.read_bytes()
    assert raw[:4] == struct.pack("<i", 2)
    assert raw.endswith(struct.pack("<ii", 4, 5) + b"b.txt")
    assert struct.unpack_from("<ii", raw, 8 + len("blk.0.attn_q.weight")) == (4, 4)  # 128 inputs are 4 calls of 32


def test_the_legacy_form_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "i.dat"
    head = struct.pack("<ii1siiff", 1, 1, b"w", 5, 2, 10, 20)
    path.write_bytes(head)  # nothing behind the entries
    assert read_importance(path).entries["w"].mean().tolist() == [[2, 4]]
    assert read_importance(path).n_chunks == 0
    path.write_bytes(head + struct.pack("<ii", 7, 0))
    assert read_importance(path).n_chunks == 7
    path.write_bytes(struct.pack("<ii1siiff", 1, 1, b"w", 0, 2, 10, 20))  # no calls: values are taken as they are
    assert read_importance(path).entries["w"].mean().tolist() == [[10, 20]]


def test_entries_that_no_input_met_are_left_out_of_the_legacy_form(tmp_path: Path) -> None:
    nothing = Entry(np.zeros((1, 4), np.float32), np.zeros(1, np.float32))
    entries = {"a": example().entries["blk.0.attn_q.weight"], "b": nothing}
    write_legacy_importance(tmp_path / "i.dat", Importance(entries, chunk_size=1))
    assert list(read_importance(tmp_path / "i.dat").entries) == ["a"]
    with pytest.raises(BadImportance, match="chunk size, this is 0"):
        write_legacy_importance(tmp_path / "j.dat", Importance({}))
    assert not (tmp_path / "j.dat").exists()


def F(values: list[float]) -> npt.NDArray[np.float32]:
    """Floats as files of importance hold them."""
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("metadata", "tensors", "says"),
    [
        ({"general.type": "model"}, {"a.in_sum2": F([1]), "a.counts": F([1])}, "general.type 'model', not 'imatrix'"),
        ({}, {}, "general.type None"),
        ({"general.type": "imatrix"}, {}, "no entries"),
        ({"general.type": "imatrix"}, {"a.in_sum2": F([1])}, "'a.in_sum2' has no counts"),
        ({"general.type": "imatrix"}, {"a.counts": F([1])}, "'a.counts' counts sums that are not there"),
        ({"general.type": "imatrix"}, {"a.in_sum2": F([1, 2, 3]), "a.counts": F([1, 1])}, "3 sums, 2 counts"),
        ({"general.type": "imatrix"}, {"a.in_sum2": np.array([1, 2]), "a.counts": F([1])}, "is I64, expected F32"),
        ({"general.type": "imatrix"}, {"a.in_sum2": F([1, -2]), "a.counts": F([1])}, "sums of 'a' hold -2"),
        ({"general.type": "imatrix"}, {"a.in_sum2": F([1, np.nan]), "a.counts": F([1])}, "sums of 'a' hold nan"),
        ({"general.type": "imatrix"}, {"a.in_sum2": F([1]), "a.counts": F([np.inf])}, "counts of 'a' hold inf"),
        ({"general.type": "imatrix", "imatrix.datasets": 3}, {"a.in_sum2": F([1]), "a.counts": F([1])}, "no array of"),
        ({"imatrix.chunk_count": "x"}, {"a.in_sum2": F([1]), "a.counts": F([1])}, r"\['x', 0\], not counts"),
    ],
)  # fmt: skip
def test_gguf_files_that_are_none(
    tmp_path: Path, metadata: dict[str, object], tensors: dict[str, np.ndarray], says: str
) -> None:
    gguf.write(tmp_path / "i.gguf", metadata, tensors)
    with pytest.raises(BadImportance, match=says):
        read_importance(tmp_path / "i.gguf")


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "at byte 0: the number of entries of 4 bytes, 0 are left"),
        (struct.pack("<i", 0), "number of entries is 0, not 1 to"),
        (struct.pack("<i", -1), "number of entries is -1"),
        (struct.pack("<i", 1 << 30), "number of entries is 1073741824"),
        (struct.pack("<ii", 1, 0), "length of a name is 0"),
        (struct.pack("<ii", 1, 1 << 30), "length of a name is 1073741824"),
        (struct.pack("<ii", 1, 9), "a name of 9 bytes, 0 are left"),
        (struct.pack("<ii1s", 1, 1, b"\xff"), "at byte 8: a name that is not UTF-8"),
        (struct.pack("<ii1sii", 1, 1, b"w", 1, 0), "number of values of 'w' is 0"),
        (struct.pack("<ii1sii", 1, 1, b"w", 1, (1 << 31) - 1), "values of 'w' of 8589934588 bytes, 0 are left"),
        (struct.pack("<ii1siif", 1, 1, b"w", 1, 1, np.nan), "sums of 'w' hold nan"),
        (struct.pack("<i", 2) + struct.pack("<i1siif", 1, b"w", 1, 1, 1) * 2, "'w' appears twice"),
        (struct.pack("<ii1siifi", 1, 1, b"w", 1, 1, 1, -1), "number of chunks is -1"),
        (struct.pack("<ii1siifii", 1, 1, b"w", 1, 1, 1, 1, 9), "dataset's name of 9 bytes, 0 are left"),
        (struct.pack("<ii1siifh", 1, 1, b"w", 1, 1, 1, 1), "number of chunks of 4 bytes, 2 are left"),
    ],
)
def test_legacy_files_that_are_none(tmp_path: Path, raw: bytes, says: str) -> None:
    (tmp_path / "i.dat").write_bytes(raw)
    with pytest.raises(BadImportance, match=says):
        read_importance(tmp_path / "i.dat")


def test_every_truncation_of_either_form_is_an_error_or_whole_entries(tmp_path: Path) -> None:
    path = tmp_path / "i"
    write_importance(path, example())
    raw = path.read_bytes()
    for n in range(0, len(raw) - 32, 7):  # the last 32 bytes may be padding
        path.write_bytes(raw[:n])
        with pytest.raises(ModelFileError):
            read_importance(path)
    write_legacy_importance(path, example())
    raw = path.read_bytes()
    entries = len(raw) - 8 - len("b.txt")
    for n in range(len(raw)):
        path.write_bytes(raw[:n])
        if n in (entries, entries + 4):  # what stands behind the entries may be missing
            assert len(read_importance(path).entries) == 2
            continue
        with pytest.raises(ModelFileError):
            read_importance(path)


@given(raw=st.binary(max_size=200), start=st.sampled_from([b"", b"GGUF", struct.pack("<ii", 1, 3)]))
def test_random_bytes(tmp_path_factory: pytest.TempPathFactory, raw: bytes, start: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "random-importance"
    path.write_bytes(start + raw)
    try:
        found = read_importance(path)
    except ModelFileError:
        return
    assert all(np.isfinite(e.mean()).all() for e in found.entries.values())


def one(sums: list[list[float]], counts: list[float], path: str = "p", **more: Any) -> Importance:
    return Importance({"w": Entry(np.array(sums, np.float32), np.array(counts, np.float32))}, path=path, **more)


def test_sums_and_counts_of_several_are_added() -> None:
    other = Importance({"v": Entry(F([5]).reshape(1, 1), F([4]))}, ("b",), path="v")
    both = combined([one([[1, 2]], [64], datasets=("a",)), one([[3, 4]], [32], datasets=("c",)), other], 32)
    assert both.entries["w"].sums.tolist() == [[4, 6]]
    assert both.entries["w"].counts.tolist() == [96]
    assert both.entries["v"].sums.tolist() == [[5]]
    assert (both.datasets, both.n_chunks, both.chunk_size, both.per_call) == (("a", "c", "b"), 3, 32, False)
    assert combined([one([[1, 2]], [64])], 32).entries["w"].sums.dtype == np.float32


def test_a_legacy_part_counts_in_windows(tmp_path: Path) -> None:
    """Written in the legacy form, read, and combined: the same sums and counts, to the rounding of its means."""
    given_ = example()
    write_legacy_importance(tmp_path / "i.dat", given_)
    found = combined([read_importance(tmp_path / "i.dat")], 32)
    entry, want = found.entries["blk.0.attn_q.weight"], given_.entries["blk.0.attn_q.weight"]
    assert entry.counts.tolist() == want.counts.tolist() == [128]
    np.testing.assert_allclose(entry.sums, want.sums, rtol=2.0**-22)
    # of a stack one count is left; with a part that has one for each, that is each one's
    stack = given_.entries["blk.0.ffn_up_exps.weight"]
    both = combined([read_importance(tmp_path / "i.dat"), given_], 32).entries["blk.0.ffn_up_exps.weight"]
    assert both.counts.tolist() == [128 + 40, 128 + 0, 128 + 100]
    assert both.sums.shape == stack.sums.shape
    reversed_ = combined([given_, read_importance(tmp_path / "i.dat")], 32).entries["blk.0.ffn_up_exps.weight"]
    assert np.array_equal(reversed_.sums, both.sums)


def test_what_does_not_fit_together_is_refused() -> None:
    with pytest.raises(BadImportance, match="file q: 'w' has 1 x 3 sums, the parts before it 1 x 2"):
        combined([one([[1, 2]], [1]), one([[1, 2, 3]], [1], "q")], 32)
    with pytest.raises(BadImportance, match="'w' has 3 x 2 sums, the parts before it 2 x 3"):
        combined([one([[1, 2, 3], [4, 5, 6]], [1, 1]), one([[1, 2], [3, 4], [5, 6]], [1, 1, 1])], 32)
    with pytest.raises(BadImportance, match=r"file q: a sum of 'w' becomes 6e\+38, beyond float32"):
        combined([one([[3e38]], [1]), one([[3e38]], [1], "q")], 32)
    with pytest.raises(InvalidArgument, match="windows of 0 tokens"):
        combined([one([[1]], [1])], 0)
