"""Folders to files: what is written, what is refused and with which numbers, and that nothing half is left."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import safetensors_folder as writer
import seeded_weights
from architecture_models import GOLDEN, plain_tokenizer
from architecture_variants import all_variants

from zigllama import errors
from zigllama.app.main import main
from zigllama.foundation.gguf_format import GGUFReader
from zigllama.inference.model import Model
from zigllama.linear_algebra.quantization import dequantize
from zigllama.models.conversion.checkpoint import Checkpoint
from zigllama.models.conversion.convert import convert
from zigllama.models.conversion.recipes import joined, permute_rope, plus_one, rows, stacked, transposed
from zigllama.models.conversion.rope import rope_tensors
from zigllama.models.conversion.safetensors import MAX_TENSORS

ABOUT = json.loads((GOLDEN / "llama.json").read_text("utf-8"))
SHAPES = {name: tuple(shape) for name, shape in ABOUT["parameters"].items()}
CONFIG: dict[str, Any] = ABOUT["config"]
Weights = dict[str, npt.NDArray[Any]]


def weights() -> Weights:
    return dict(seeded_weights.weights("llama", SHAPES, all_variants()["llama"]))


def made(place: Path, config: dict[str, Any] | None = None, change: Weights | None = None, drop: str = "") -> Path:
    """The folder of the golden `llama`, with changes."""
    tensors = {k: v for k, v in (weights() | (change or {})).items() if k != drop}
    return writer.folder(place / "folder", CONFIG | (config or {}), tensors)


# --- what is written --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0"])
def test_types(tmp_path: Path, kind: str) -> None:
    """Matrices in the type, norms in F32, values as near as the type holds them; q's rows stand in another order."""
    seen: list[tuple[int, int]] = []
    done = convert(made(tmp_path), tmp_path / "o.gguf", kind, vocabulary=False, progress=lambda *at: seen.append(at))
    assert seen[-1] == (done.n_bytes, done.n_bytes)
    w = weights()
    with GGUFReader(done.path) as reader:
        assert (
            reader.metadata["general.architecture"] == "llama" and reader.metadata["tokenizer.ggml.model"] == "no_vocab"
        )
        assert {t.type.name for t in reader.tensors.values() if len(t.shape) == 2} == {kind}
        assert {t.type.name for t in reader.tensors.values() if len(t.shape) == 1} == {"F32"}
        for name, source in {
            "token_embd": "model.embed_tokens",
            "blk.1.ffn_down": "model.layers.1.mlp.down_proj",
        }.items():
            want = w[source + ".weight"]
            found = dequantize(reader.tensor_bytes(name + ".weight"), kind).reshape(want.shape)
            room = {"F32": 0, "F16": 2**-11, "BF16": 2**-8, "Q8_0": 0.5 / 127 + 2**-11}[kind]
            assert np.abs(found - want).max() <= room * np.abs(want).max()
        q = dequantize(reader.tensor_bytes("blk.0.attn_q.weight"), kind).reshape(4, 64, 256)
    half = w["model.layers.0.self_attn.q_proj.weight"].reshape(4, 64, 256)
    np.testing.assert_allclose(q[:, 1], half[:, 32], atol=0.01)  # the partner of channel 0
    np.testing.assert_allclose(q[:, 2], half[:, 1], atol=0.01)


def test_a_row_that_blocks_do_not_divide_becomes_f16(tmp_path: Path) -> None:
    config = {"intermediate_size": 500}
    change = {
        f"model.layers.{i}.mlp.{n}_proj.weight": np.ones((256, 500) if n == "down" else (500, 256), np.float32)
        for i in range(2)
        for n in ("gate", "up", "down")
    }
    done = convert(made(tmp_path, config, change), tmp_path / "o.gguf", "Q8_0", vocabulary=False)
    assert (
        done.tensors["blk.0.ffn_down.weight"][1].name == "F16" and done.tensors["blk.0.ffn_up.weight"][1].name == "Q8_0"
    )


def test_shards_give_the_same_file(tmp_path: Path) -> None:
    folder = made(tmp_path)
    convert(folder, tmp_path / "one.gguf", vocabulary=False)
    (folder / "model.safetensors").unlink()
    parts: list[Weights] = [{}, {}]
    for i, (name, x) in enumerate(weights().items()):
        parts[i % 2][name] = x
    for i, part in enumerate(parts):
        writer.safetensors(folder / f"model-{i}.safetensors", part)
    places = {name: f"model-{i}.safetensors" for i, part in enumerate(parts) for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    convert(folder, tmp_path / "two.gguf", vocabulary=False)
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "two.gguf").read_bytes()


def test_other_dtypes(tmp_path: Path) -> None:
    """F16 and F64 in the folder; integers too; BF16 by hand."""
    x = np.arange(-3, 5, dtype=np.float32)
    tensors: Weights = {k: x.astype(k) for k in ("float64", "float16", "int64", "int32")}
    bf16 = (x.view(np.uint32) >> 16).astype("<u2")
    head = writer.header(tensors)
    head["bf16"] = {
        "dtype": "BF16",
        "shape": [8],
        "data_offsets": [(n := sum(t.nbytes for t in tensors.values())), n + 16],
    }
    (tmp_path / "config.json").write_text("{}")
    writer.safetensors(tmp_path / "model.safetensors", tensors | {"bf16": bf16}, head)
    with Checkpoint(tmp_path) as c:
        assert len(c.names) == 5
        for name in c.names:
            np.testing.assert_array_equal(c.tensor(name), x)


def test_recipes() -> None:
    x = np.arange(24, dtype=np.float32).reshape(8, 3)
    np.testing.assert_array_equal(permute_rope(x[:, 0], 2) / 3, [0, 2, 1, 3, 4, 6, 5, 7])
    for recipe, arrays, want in [
        (transposed("a"), [x], x.T),
        (plus_one("a"), [x], x + 1),
        (rows("a", 2, 3), [x], x[2:5]),
        (joined("a", "b"), [x, x], np.concatenate([x, x])),
        (stacked(["a", "b"]), [x, x], np.stack([x, x])),
    ]:
        assert recipe.make is not None and recipe.shape_of(*(a.shape for a in arrays)) == want.shape
        np.testing.assert_array_equal(recipe.make(*arrays), want)
    with pytest.raises(errors.ShapeError, match="8 rows are no pairs of channels in 3 heads"):
        permute_rope(x, 3)
    with pytest.raises(errors.ShapeError, match="rows 6 to 9 of 8"):
        rows("a", 6, 3).shape_of((8, 3))
    with pytest.raises(errors.ShapeError, match="different shapes"):
        stacked(["a", "b"]).shape_of((8, 3), (8, 2))


def test_llama3_factors(tmp_path: Path) -> None:
    """Fast pairs keep their frequency, slow ones turn 8 times slower, and between them it rises."""
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope = {"rope_theta": 500000.0, "original_max_position_embeddings": 8192}
    with Checkpoint(made(tmp_path, {"rope_parameters": scaling | rope})) as c:
        make = rope_tensors(c.config, 128)["rope_freqs.weight"].make
    assert make is not None
    factors = make()
    assert factors[0] == 1 and factors[-1] == 8 and (np.diff(factors) >= 0).all()
    assert 10 < (factors == 1).sum() < (factors < 8).sum() < 50


# --- what is refused --------------------------------------------------------------------------------------------------


def refused(folder: Path, error: type[Exception], message: str, **options: Any) -> None:
    out = folder.parent / "refused.gguf"
    with pytest.raises(error, match=message):
        convert(folder, out, vocabulary=False, **options)
    assert not [p for p in folder.parent.iterdir() if "refused" in p.name]


def test_tensors_that_do_not_fit(tmp_path: Path) -> None:
    norm = "model.norm.weight"
    refused(made(tmp_path, drop=norm), errors.MissingTensor, norm)
    refused(
        made(tmp_path, change={"model.extra": np.ones(3, np.float32)}), errors.BadTensor, r"model\.extra.*nothing in"
    )
    bad = {norm: np.ones(255, np.float32)}
    refused(made(tmp_path, change=bad), errors.TensorShapeMismatch, r"output_norm.*\(256,\), found \(255,\)")
    refused(made(tmp_path, change={norm: np.full(256, np.nan, np.float32)}), errors.BadTensor, "output_norm")
    head = np.zeros((300, 256), np.float32)
    head[7, 3] = 70000
    refused(made(tmp_path, change={"lm_head.weight": head}), errors.BadTensor, "output.weight.*row")
    convert(tmp_path / "folder", tmp_path / "wide.gguf", "BF16", vocabulary=False)
    refused(
        made(tmp_path, {"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 86}),
        errors.BadTensor,
        "attn_q.*no pairs",
    )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"hidden_size": "256"}, "hidden_size or n_embd: '256' is not an integer"),
        ({"hidden_size": None}, "hidden_size or n_embd: missing"),
        ({"num_hidden_layers": 10**9}, "num_hidden_layers: 1000000000 is not an integer from 1 to 4096"),
        ({"num_hidden_layers": True}, "num_hidden_layers: True"),
        ({"rms_norm_eps": 1e300}, "rms_norm_eps: 1e[+]300 is not a finite number"),
        ({"rope_parameters": {"rope_type": "spiral"}}, "'spiral' is not supported"),
        ({"rope_parameters": 5}, "rope_parameters: 5 is not an object"),
        ({"attention_bias": 1}, "attention_bias: 1 is not true or false"),
        ({"architectures": []}, "names no class"),
        ({"architectures": "x"}, "is not a list"),
    ],
)
def test_configs_that_are_wrong(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    refused(made(tmp_path, config), errors.BadCheckpoint, message)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}}, r"by gptq \(.*bits 4\)"),
        ({"quantization_config": {"quant_method": "awq", "bits": 4, "version": "gemm"}}, "by awq"),
        ({"quantization_config": {"load_in_4bit": True, "load_in_8bit": False}}, r"by bitsandbytes \(.*load_in_4bit"),
        ({"quantization_config": {"quant_method": "fp8", "fmt": "e4m3"}}, r"by fp8 \(.*fmt 'e4m3'"),
        ({"text_config": {"quantization_config": {"quant_method": "torchao"}}}, "by torchao"),
        ({"compression_config": {"format": "pack-quantized"}}, "by an unnamed method .*'pack-quantized'"),
        ({"quantization_config": {"quant_method": ["x" * 10_000] * 100}}, "quantised by"),
    ],
)
def test_packed_weights(tmp_path: Path, config: dict[str, Any], message: str) -> None:
    """Named before anything is said about tensors, which have dtypes and names of their own."""
    head = {"model.embed_tokens.weight": entry("F8_E4M3")}
    writer.safetensors(made(tmp_path, config) / "model.safetensors", {}, head)
    with pytest.raises(errors.UnsupportedQuantization, match=message) as e:
        convert(tmp_path / "folder", tmp_path / "o.gguf", vocabulary=False)
    assert len(str(e.value)) < 500 and "convert the unquantised model" in str(e.value)


def test_a_config_that_packs_nothing(tmp_path: Path) -> None:
    for i, found in enumerate(({}, None, {"dtype": "float16", "quant_method": None})):
        made(tmp_path / str(i), {"quantization_config": found})
        convert(tmp_path / str(i) / "folder", tmp_path / f"{i}.gguf", vocabulary=False)
    with pytest.raises(errors.BadCheckpoint, match="quantization_config: 4 is not an object"):
        Checkpoint(made(tmp_path / "number", {"quantization_config": 4}))


def test_an_unknown_class_names_the_nearest(tmp_path: Path) -> None:
    folder = made(tmp_path, {"architectures": ["LamaForCausalLM"]})
    refused(folder, errors.UnsupportedArchitecture, "nearest is 'LlamaForCausalLM'")
    with pytest.raises(errors.UnknownName, match="Q4_0"):
        convert(folder, tmp_path / "o.gguf", "Q4_0")


def test_outputs_that_are_refused(tmp_path: Path) -> None:
    folder = made(tmp_path)
    for target in (folder / "model.safetensors", folder / "config.json"):
        with pytest.raises(errors.InvalidArgument, match="part of the input"):
            convert(folder, target, vocabulary=False, force=True)
    with pytest.raises(errors.InvalidArgument, match="there is no folder"):
        convert(folder, tmp_path / "nowhere" / "o.gguf", vocabulary=False)
    convert(folder, tmp_path / "o.gguf", vocabulary=False)
    with pytest.raises(errors.InvalidArgument, match="exists"):
        convert(folder, tmp_path / "o.gguf", vocabulary=False)
    os.link(folder / "model.safetensors", tmp_path / "link.gguf")
    with pytest.raises(errors.InvalidArgument, match="part of the input"):
        convert(folder, tmp_path / "link.gguf", vocabulary=False, force=True)


def entry(dtype: Any = "F32", shape: Any = (2,), ends: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": ends}


@pytest.mark.parametrize(
    ("head", "message"),
    [
        (b"", "no JSON"),
        (b"[]", "an object is expected, found list"),
        (b'{"a": 1}', "an object is expected, found int"),
        (b"{" * 60_000, "no JSON"),
        (b'{"a": {}, "a": {}}', "key 'a' appears twice"),
        ({"a": entry("F8_E4M3")}, "dtype 'F8_E4M3' is not read"),
        ({"a": entry(["F32"])}, r"dtype \['F32'\]"),
        ({"a": entry(shape=[-2])}, "shape"),
        ({"a": entry(shape=[2.0])}, "shape"),
        ({"a": entry(shape=[1] * 9)}, "shape"),
        ({"a": entry(shape=[1 << 63])}, "shape"),
        ({"a": entry(shape=[1 << 40, 1 << 40])}, "data_offsets span 8"),
        ({"a": entry(ends=[0])}, "no two byte numbers"),
        ({"a": entry(ends=[8, 0])}, "bytes 8 to 0 of 16"),
        ({"a": entry(ends=[12, 20])}, "bytes 12 to 20 of 16"),
        ({"a": entry(ends=[0, 4])}, "has 8 bytes, data_offsets span 4"),
        ({"a": entry(), "b": entry(ends=[4, 12])}, "'a' and 'b' overlap: one ends at byte"),
    ],
)
def test_hostile_safetensors(tmp_path: Path, head: Any, message: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    writer.safetensors(tmp_path / "model.safetensors", {"x": np.zeros(4, np.float32)}, head)
    with pytest.raises(errors.BadCheckpoint, match=message):
        Checkpoint(tmp_path)


def test_more_tensors_than_any_file_has(tmp_path: Path) -> None:
    """Counted before an object is made of any, and the most that are read are read within the bound."""
    (tmp_path / "config.json").write_text("{}")
    for n in (MAX_TENSORS, 330_000):
        head = {f"t{i}": {"dtype": "U8", "shape": [1], "data_offsets": [i, i + 1]} for i in range(n)}
        writer.safetensors(tmp_path / "model.safetensors", {"x": np.zeros(n, np.uint8)}, head)
        begin = time.process_time()  # of this process alone: the bound is for a machine that has time for it
        if n == MAX_TENSORS:
            assert len(Checkpoint(tmp_path).names) == n
        else:
            with pytest.raises(errors.BadCheckpoint, match="opens 330001 objects, and at most 65536 tensors"):
                Checkpoint(tmp_path)
        assert time.process_time() - begin < 20


@pytest.mark.parametrize("raw", [b"", b"\0" * 7, b"\xff" * 8, (100).to_bytes(8, "little") + b"{}"])
def test_headers_longer_than_the_file(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(raw)
    with pytest.raises(errors.BadCheckpoint, match=r"a header of .* bytes is announced"):
        Checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({"x": "../model.safetensors"}, "no name of a file in the folder"),
        ({"x": "/etc/passwd"}, "no name of a file in the folder"),
        ({"x": ".."}, "no name of a file in the folder"),
        ({"x": "x" * 300}, "no name of a file in the folder"),
        ({"x": "\ud800"}, "which the index lists"),
        ({"x": "sub"}, "not a regular file"),
        ({"x": "missing.safetensors"}, "has no file missing"),
        ({"y": "a.safetensors"}, "tensor 'y' is not in a.safetensors"),
        ({"x": 5}, "no object of file names"),
        (None, "no object of file names"),
    ],
)
def test_hostile_indexes(tmp_path: Path, places: Any, message: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "sub").mkdir()
    writer.safetensors(tmp_path / "a.safetensors", {"x": np.zeros(4, np.float32)})
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    with pytest.raises(errors.BadCheckpoint, match=message):
        Checkpoint(tmp_path)


def test_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(errors.BadCheckpoint, match="is no folder"):
        Checkpoint(tmp_path / "x")
    with pytest.raises(errors.BadCheckpoint, match=r"has no config\.json"):
        Checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(errors.BadCheckpoint, match=r"pytorch_model\.bin is a pickle"):
        Checkpoint(tmp_path)


# --- pooling, and the verb --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "pooling", "want"),
    [
        (
            ["Transformer", "Pooling", "Normalize"],
            {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False},
            1,
        ),
        (["Transformer", "Pooling"], {"pooling_mode_cls_token": True}, 2),
        (["Transformer", "Pooling"], {"pooling_mode": "lasttoken"}, 3),
        (["Transformer", "Pooling"], {"pooling_mode_max_tokens": True}, "pooling 'max' is not one of"),
        (["Transformer", "Pooling", "Dense"], {"pooling_mode": "mean"}, "a module of type Dense"),
    ],
)
def test_sentence_transformers_folders(
    tmp_path: Path, steps: list[str], pooling: dict[str, Any], want: int | str
) -> None:
    folder = made(tmp_path)
    modules = [{"type": f"sentence_transformers.models.{s}", "path": f"{i}_{s}"} for i, s in enumerate(steps)]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    if isinstance(want, str):
        refused(folder, errors.BadCheckpoint, want)
    else:
        done = convert(folder, tmp_path / "o.gguf", vocabulary=False)
        assert done.metadata["llama.pooling_type"] == want


PROMPTS = {"prompts": {"query": "query: ", "doc": "", "web": "web: "}, "default_prompt_name": "query"}
SETTINGS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("config_sentence_transformers", PROMPTS, ["'query: ' stands before every text", "knows prompts.*: web 'web: '"]),
    ("config_sentence_transformers", PROMPTS | {"default_prompt_name": "doc"}, ["query 'query: ', web 'web: '"]),
    ("config_sentence_transformers", {"prompts": {"doc": ""}, "default_prompt_name": None}, []),
    ("sentence_bert_config", {"max_seq_length": 256}, ["cut after 256 tokens there, .* of up to 512"]),
    ("sentence_bert_config", {"max_seq_length": 512, "do_lower_case": False}, []),
    ("sentence_bert_config", {"do_lower_case": True}, ["do_lower_case has no key"]),
]


@pytest.mark.parametrize(("name", "value", "words"), SETTINGS)
def test_what_is_done_to_texts_is_noted(
    tmp_path: Path, name: str, value: dict[str, Any], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """sentence-transformers' settings that a file has no key for, in the result and on the command line."""
    folder = made(tmp_path)
    (folder / f"{name}.json").write_text(json.dumps(value))
    done = convert(folder, tmp_path / "o.gguf", vocabulary=False)
    assert len(done.notes) == len(words)
    assert all(re.search(word, note) for word, note in zip(words, done.notes, strict=True))
    assert main(["convert", str(folder), str(tmp_path / "p.gguf"), "--no-vocab"]) == 0
    said = capsys.readouterr().err
    assert all(note in said for note in done.notes)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("config_sentence_transformers", {"prompts": 5}, "prompts: 5 is not an object"),
        ("config_sentence_transformers", {"default_prompt_name": "query"}, "query: missing"),
        ("config_sentence_transformers", {"prompts": {"query": 5}}, "query: 5 is not a string"),
        ("sentence_bert_config", {"max_seq_length": -1}, "max_seq_length: -1 is not an integer"),
        ("sentence_bert_config", {"do_lower_case": "no"}, "do_lower_case: 'no' is not true or false"),
    ],
)
def test_settings_for_texts_that_are_wrong(tmp_path: Path, name: str, value: Any, message: str) -> None:
    folder = made(tmp_path)
    (folder / f"{name}.json").write_text(json.dumps(value))
    refused(folder, errors.BadCheckpoint, message)


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = made(tmp_path), tmp_path / "o.gguf"
    assert main(["convert", str(folder), str(out), "--type", "q8_0", "--no-vocab", "--json", "-q"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["architecture"] == "llama" and facts["tokenizer"] == "no_vocab" and facts["tensors"] == 21
    with Model(out, tokenizer=plain_tokenizer(300)) as m:
        assert np.isfinite(m.logits([1, 2, 3])).all()
    assert main(["convert", str(folder), str(out), "--no-vocab"]) == 2  # it exists
    assert main(["convert", str(folder), str(out), "--force"]) == 3  # no tokenizer
    assert main(["convert", str(folder)]) == 2 and main(["convert", str(folder), str(out), "--type", "Q9"]) == 2
    assert "vocabulary=False (--no-vocab)" in capsys.readouterr().err
