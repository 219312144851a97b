"""The reader and the writer against PyPI's gguf, on real models and on files that each makes for the other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zigllama import gguf
from zigllama.gguf import GGUFReader, StringArray, TensorData

peer = pytest.importorskip("gguf", reason="gguf is not installed")


def plain(value: Any) -> Any:
    """A value as Python's own types, strings as bytes."""
    if isinstance(value, StringArray):
        return value.raw_list()
    return value.tolist() if isinstance(value, np.ndarray) else value


def peers_value(field: Any) -> Any:
    """The peer's value of a field, likewise."""
    if field.types[-1] == peer.GGUFValueType.STRING:
        strings = [bytes(field.parts[i]) for i in field.data]
        return strings if len(field.types) > 1 else strings[0].decode()
    items = [item for i in field.data for item in field.parts[i].tolist()]
    return items if len(field.types) > 1 else items[0]


def compare(ours: GGUFReader, path: Path) -> None:
    """Every key, type, value, tensor, place and byte."""
    theirs = peer.GGUFReader(path)
    fields = {k: f for k, f in theirs.fields.items() if not k.startswith("GGUF.")}
    assert list(ours.metadata) == list(fields)
    for key, field in fields.items():
        assert ours.metadata.type_of(key) == field.types[0]
        assert ours.metadata.element_type_of(key) == (field.types[-1] if len(field.types) > 1 else None)
        assert plain(ours.metadata[key]) == peers_value(field), key
    assert ours.alignment == theirs.alignment
    assert ours.data_offset == theirs.data_offset
    assert list(ours.tensors) == [t.name for t in theirs.tensors]
    for t in theirs.tensors:
        info = ours.tensors[t.name]
        assert info.type.name == t.tensor_type.name
        assert info.shape[::-1] == tuple(t.shape.tolist())
        assert (info.offset, info.n_bytes) == (t.data_offset, t.n_bytes)
        assert np.array_equal(ours.tensor_bytes(t.name), t.data.reshape(-1).view(np.uint8)), t.name


@pytest.mark.parametrize("model", ["smollm2_path", "gemma3_path"])
def test_real_models(model: str, request: pytest.FixtureRequest) -> None:
    path: Path = request.getfixturevalue(model)
    if model == "gemma3_path" and not os.environ.get("ZIGLLAMA_HEAVY"):
        pytest.skip("the peer takes a minute for 262,144 strings; ZIGLLAMA_HEAVY=1 runs it")
    with gguf.open(path) as r:
        compare(r, path)


@pytest.mark.parametrize("model", ["smollm2_path", "gemma3_path"])
def test_real_models_written_again_are_the_same_file(
    model: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    path: Path = request.getfixturevalue(model)
    with gguf.open(path) as r:
        tensors = [TensorData(t.name, t.shape, t.type, r.tensor_bytes(t.name)) for t in r.tensors.values()]
        gguf.write(tmp_path / "copy.gguf", r.metadata, tensors)
    assert (tmp_path / "copy.gguf").read_bytes() == path.read_bytes()
    (tmp_path / "copy.gguf").unlink()


def test_the_peer_reads_what_we_write(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    metadata = {
        "general.architecture": "llama",
        "llama.block_count": 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "tokenizer.ggml.tokens": ["a", "", "caf\u00e9"],
        "tokenizer.ggml.scores": [0.0, -1.5, 2.0],
        "flag": True,
        "large": 1 << 40,
    }
    listed = {t.name for t in peer.GGMLQuantizationType} - {"Q8_1"}  # whose size the peer has from an older ggml
    tensors = [
        TensorData(t.name, (3, 256), t, rng.bytes(3 * 256 // t.block_size * t.block_bytes))
        for t in gguf.GGML_TYPES.values()
        if t.name in listed
    ]
    tensors.append(TensorData.from_array("f", rng.standard_normal((5, 7)).astype(np.float32)))
    for alignment in (32, 256):
        (path,) = gguf.write(tmp_path / "m.gguf", metadata, tensors, alignment=alignment)
        with gguf.open(path) as r:
            compare(r, Path(path))


def test_we_read_what_the_peer_writes(tmp_path: Path) -> None:
    path = tmp_path / "peer.gguf"
    w = peer.GGUFWriter(path, "llama")
    w.add_custom_alignment(64)
    w.add_uint8("u8", 255)
    w.add_int8("i8", -128)
    w.add_uint16("u16", 65535)
    w.add_int16("i16", -32768)
    w.add_uint32("u32", (1 << 32) - 1)
    w.add_int32("i32", -(1 << 31))
    w.add_uint64("u64", (1 << 64) - 1)
    w.add_int64("i64", -(1 << 63))
    w.add_float32("f32", 0.1)
    w.add_float64("f64", 0.1)
    w.add_bool("yes", True)
    w.add_bool("no", False)
    w.add_string("text", "caf\u00e9 \u2581")
    w.add_token_list(["a", b"\xff\xfe", "", "x" * 300])
    w.add_array("floats", [0.5, 1.5])
    w.add_array("ints", [1, -2])
    w.add_tensor("a", np.arange(12, dtype=np.float32).reshape(3, 4))
    w.add_tensor("b", np.arange(5, dtype=np.int8))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    with gguf.open(path) as r:
        compare(r, path)
        assert r.metadata["f64"] == 0.1
        assert r.metadata["u64"] == (1 << 64) - 1
        assert np.array_equal(r.tensor_bytes("a").view(np.float32), np.arange(12))
