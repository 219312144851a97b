"""Models split over several files: opened as one through the first, every mismatch of parts a typed error."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zigllama import gguf
from zigllama.errors import BadMetadata, BadTensor, ModelFileError, NotGGUF, Truncated
from zigllama.foundation.gguf_metadata import Typed, ValueType
from zigllama.foundation.gguf_split import part_path

ARRAYS = {f"blk.{i}.weight": np.full((2, 8), i, np.float32) for i in range(5)}


def split_keys(no: int, count: int, tensors: int) -> dict[str, Any]:
    return {
        "split.no": Typed(no, ValueType.UINT16),
        "split.count": Typed(count, ValueType.UINT16),
        "split.tensors.count": Typed(tensors, ValueType.INT32),
    }


@pytest.fixture
def parts(tmp_path: Path) -> list[str]:
    return gguf.write(tmp_path / "m.gguf", {"general.architecture": "llama"}, ARRAYS, max_part_tensors=2)


def refuse(path: str | Path, error: type[ModelFileError], says: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(error, match=says):
        gguf.open(path)
    assert len(os.listdir("/proc/self/fd")) == before


def rewrite(path: str, metadata: dict[str, Any], tensors: dict[str, Any]) -> None:
    """One part with keys of the test's choosing, which `write` itself would replace."""
    from zigllama.foundation.gguf_encode import typed_metadata
    from zigllama.foundation.gguf_writer import TensorData, _write_part

    with open(path, "wb") as f:
        _write_part(f, typed_metadata(metadata), [TensorData.from_array(n, a) for n, a in tensors.items()], 3, 32)


def test_parts_are_opened_as_one(parts: list[str]) -> None:
    assert [os.path.basename(p) for p in parts] == [f"m-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    with gguf.open(parts[0]) as r:
        assert r.paths == tuple(parts)
        assert r.n_bytes == sum(os.path.getsize(p) for p in parts)
        assert r.metadata["general.architecture"] == "llama"
        assert r.metadata["split.count"] == 3
        assert r.metadata["split.tensors.count"] == 5
        assert [t.part for t in r.tensors.values()] == [0, 0, 1, 1, 2]
        for name, a in ARRAYS.items():
            assert np.array_equal(r.tensor_bytes(name).view(np.float32).reshape(2, 8), a)
            t = r.tensors[name]
            assert Path(parts[t.part]).read_bytes()[t.offset : t.offset + t.n_bytes] == a.tobytes()
        r.release("blk.4.weight")
        assert np.all(r.tensor_bytes("blk.4.weight").view(np.float32) == 4)


def test_bytes_decide_too(tmp_path: Path) -> None:
    paths = gguf.write(tmp_path / "m.gguf", {}, {**ARRAYS, "large": np.zeros(1000, np.float32)}, max_part_bytes=200)
    with gguf.open(paths[0]) as r:
        assert [t.part for t in r.tensors.values()] == [0, 0, 0, 1, 1, 2]


def test_what_fits_one_part_is_a_plain_file(tmp_path: Path) -> None:
    (path,) = gguf.write(tmp_path / "m.gguf", split_keys(3, 7, 9), ARRAYS, max_part_tensors=5)
    assert path == str(tmp_path / "m.gguf")
    with gguf.open(path) as r:
        assert not any(k.startswith("split.") for k in r.metadata)


def test_one_part_of_one_needs_no_special_name(tmp_path: Path) -> None:
    rewrite(str(tmp_path / "m.gguf"), split_keys(0, 1, 5), ARRAYS)
    with gguf.open(tmp_path / "m.gguf") as r:
        assert len(r.tensors) == 5


def test_a_part_is_missing(parts: list[str]) -> None:
    os.unlink(parts[1])
    refuse(parts[0], BadMetadata, r"split.count.*part 2 of 3 is missing.*m-00002-of-00003")


def test_a_later_part_alone(parts: list[str]) -> None:
    refuse(parts[1], BadMetadata, r"split.no.*part 2 of 3.*first part")


def test_the_first_part_renamed(parts: list[str], tmp_path: Path) -> None:
    for name in ("m.gguf", "m-00001-of-00004.gguf", "m-00002-of-00003.gguf.bak.gguf"):
        shutil.copy(parts[0], tmp_path / name)
        refuse(tmp_path / name, BadMetadata, r"split.count.*should end in -00001-of-00003.gguf")


def test_parts_swapped(parts: list[str]) -> None:
    shutil.copy(parts[2], parts[1])
    refuse(parts[0], BadMetadata, r"split.no.*has 2, expected 1")


def test_parts_of_another_count(parts: list[str]) -> None:
    rewrite(parts[1], split_keys(1, 4, 5), {"blk.2.weight": ARRAYS["blk.2.weight"]})
    refuse(parts[0], BadMetadata, r"split.count.*has 4, expected 3")


def test_parts_of_another_model(parts: list[str]) -> None:
    rewrite(parts[1], split_keys(1, 3, 6), {"x": np.zeros(4, np.float32)})
    refuse(parts[0], BadMetadata, r"split.tensors.count.*has 6, expected 5")
    rewrite(parts[1], {**split_keys(1, 3, 5), "general.architecture": "gpt2"}, {"x": np.zeros(4, np.float32)})
    refuse(parts[0], BadMetadata, r"general.architecture.*another model")
    same = {"blk.2.weight": ARRAYS["blk.2.weight"], "blk.3.weight": ARRAYS["blk.3.weight"]}
    rewrite(parts[1], {**split_keys(1, 3, 5), "general.architecture": "llama"}, same)
    gguf.open(parts[0]).close()


def test_a_part_of_another_version(parts: list[str]) -> None:
    data = bytearray(Path(parts[1]).read_bytes())
    data[4] = 2
    Path(parts[1]).write_bytes(data)
    refuse(parts[0], BadMetadata, "version 2, the first part version 3")


def test_tensors_missing_or_twice(parts: list[str]) -> None:
    rewrite(parts[2], split_keys(2, 3, 5), {})
    refuse(parts[0], BadMetadata, r"split.tensors.count.*hold 4 tensors, expected 5")
    rewrite(parts[2], split_keys(2, 3, 5), {"blk.0.weight": ARRAYS["blk.0.weight"]})
    refuse(parts[0], BadTensor, r"blk.0.weight.*part 1 and in part 3")


def test_a_part_without_split_keys_or_broken(parts: list[str]) -> None:
    rewrite(parts[1], {}, {})
    refuse(parts[0], BadMetadata, r"split.no.*missing")
    Path(parts[1]).write_bytes(b"PK\3\4")
    refuse(parts[0], NotGGUF, "PK")
    Path(parts[1]).write_bytes(b"GG")
    refuse(parts[0], Truncated, "the file has 2")
    os.unlink(parts[1])
    os.mkfifo(parts[1])
    refuse(parts[0], NotGGUF, "fifo")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"split.count": 0}, "0 parts"),
        ({"split.count": (1 << 32) - 1}, "4294967295 parts"),
        ({"split.count": "3"}, "'3' is not a count"),
        ({"split.count": -3}, "-3 is not a count"),
        ({"split.count": True}, "True is not a count"),
        ({"split.count": [3]}, "is not a count"),
        ({"split.no": 1}, "part 2 of 3"),
        ({"split.no": 0.0}, "0.0 is not a count"),
        ({"split.tensors.count": "5"}, "'5' is not a count"),
        ({"split.count": 65535}, "should end in -00001-of-65535"),
    ],
)
def test_split_keys_that_make_no_sense(parts: list[str], changes: dict[str, Any], says: str) -> None:
    rewrite(parts[0], split_keys(0, 3, 5) | changes, {})
    refuse(parts[0], BadMetadata, says)


@pytest.mark.parametrize("absent", ["split.no", "split.tensors.count"])
def test_split_keys_that_are_missing(parts: list[str], absent: str) -> None:
    keys = split_keys(0, 3, 5)
    del keys[absent]
    rewrite(parts[0], keys, {})
    refuse(parts[0], BadMetadata, f"{absent}.*missing")


def test_names() -> None:
    assert part_path("a/m", 0, 3) == "a/m-00001-of-00003.gguf"
