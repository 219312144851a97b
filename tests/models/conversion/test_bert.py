"""BERT's folders: what is not the encoder's is refused; what stays wider than 8 bits; metadata that cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors_folder
import seeded_weights
from architecture_variants import all_variants

from zigllama.app.main import main
from zigllama.app.quantize import quantize
from zigllama.errors import BadCheckpoint, BadMetadata, BadTensor, InvalidArgument
from zigllama.foundation.gguf_format import GGUFReader
from zigllama.models.config import HyperParameters
from zigllama.models.conversion.convert import convert
from zigllama.models.registry import architecture

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "architectures" / "bert.json"


def folder(place: Path, extra: str = "", **config: Any) -> Path:
    """The variant "bert", with another config or one more tensor."""
    about = json.loads(GOLDEN.read_text("utf-8"))
    shapes = {key: tuple(shape) for key, shape in about["parameters"].items()}
    weights = seeded_weights.weights("bert", shapes, all_variants()["bert"])
    if extra:
        weights[extra] = weights["pooler.dense.bias"]
    return safetensors_folder.folder(place, about["config"] | config, weights)


@pytest.mark.parametrize(
    ("key", "value"), [("hidden_act", "relu"), ("position_embedding_type", "relative_key"), ("is_decoder", True)]
)
def test_what_the_encoder_does_not_do(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(BadCheckpoint, match=key):
        convert(folder(tmp_path / "in", **{key: value}), tmp_path / "out.gguf", vocabulary=False)
    assert not (tmp_path / "out.gguf").exists()


def test_a_tensor_of_another_head(tmp_path: Path) -> None:
    with pytest.raises(BadTensor, match=r"cls\.predictions\.bias"):
        convert(folder(tmp_path / "in", "cls.predictions.bias"), tmp_path / "out.gguf", vocabulary=False)


def test_types(tmp_path: Path) -> None:
    """Tables and norms in F32, what attention averages in F16, the rest in 8 bits; keys as llama.cpp reads them."""
    convert(folder(tmp_path / "in"), tmp_path / "out.gguf", "Q8_0", vocabulary=False)
    with GGUFReader(tmp_path / "out.gguf") as reader:
        types = {name: t.type.name for name, t in reader.tensors.items()}
        metadata = reader.metadata
    assert types["position_embd.weight"] == types["token_types.weight"] == types["blk.0.attn_v.bias"] == "F32"
    assert types["blk.1.attn_v.weight"] == types["blk.0.attn_output.weight"] == "F16"
    assert types["blk.0.attn_q.weight"] == types["blk.1.ffn_down.weight"] == types["token_embd.weight"] == "Q8_0"
    assert metadata["bert.attention.causal"] is False and metadata["tokenizer.ggml.token_type_count"] == 2


def test_quantising_afterwards(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By a mix's name a file is what llama-quantize makes of it, and a note says what that costs; with `wider` it is
    what convert writes in one step."""
    convert(folder(tmp_path / "in"), tmp_path / "f32.gguf", "F32", vocabulary=False)
    convert(tmp_path / "in", tmp_path / "once.gguf", "Q8_0", vocabulary=False)

    def types(words: list[str]) -> dict[str, str]:
        out = tmp_path / "out.gguf"
        assert main(["quantize", str(tmp_path / "f32.gguf"), str(out), *words, "--force"]) == 0
        with GGUFReader(out) as reader:
            return {name: t.type.name for name, t in reader.tensors.items()}

    with GGUFReader(tmp_path / "once.gguf") as reader:
        once = {name: t.type.name for name, t in reader.tensors.items()}
        data = {name: bytes(reader.tensor_bytes(name)) for name in once}
    plain = types(["Q8_0"])
    assert {plain[name] for name, kind in once.items() if kind == "F16"} == {"Q8_0"}
    assert "4 tensors cost an encoder more than others in Q8_0" in capsys.readouterr().err
    assert types(["Q8_0", "--wider"]) == once
    with GGUFReader(tmp_path / "out.gguf") as reader:
        assert {name: bytes(reader.tensor_bytes(name)) for name in once} == data
    assert "cost an encoder" not in capsys.readouterr().err
    wide = types(["Q4_K_M", "--wider", "--tensor-type", "blk.0.attn_v=q6_k"])
    assert (wide["blk.0.attn_v.weight"], wide["blk.1.attn_v.weight"], wide["blk.0.attn_q.weight"]) == (
        "Q6_K",
        "F16",
        "Q4_K",
    )
    assert set(types(["F32", "--wider"]).values()) == {"F32"}


def test_wider_is_for_encoders(tmp_path: Path, small_model: Callable[[str], Path]) -> None:
    with pytest.raises(InvalidArgument, match="'llama' has no tensors that convert leaves wider than 8 bits"):
        quantize(small_model("llama-f32"), tmp_path / "q.gguf", "Q8_0", wider=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("bert.attention.causal", True),
        ("tokenizer.ggml.token_type_count", -1),
        ("tokenizer.ggml.token_type_count", "2"),
    ],
)
def test_metadata_that_cannot_be(key: str, value: Any) -> None:
    sizes = {"block_count": 1, "embedding_length": 32, "attention.head_count": 2, "feed_forward_length": 8}
    keys = {f"bert.{name}": number for name, number in (sizes | {"context_length": 16}).items()}
    metadata = {"general.architecture": "bert"} | keys
    architecture("bert").spec(HyperParameters(metadata), 10)
    with pytest.raises(BadMetadata, match=key):
        architecture("bert").spec(HyperParameters(metadata | {key: value}), 10)
