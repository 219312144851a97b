"""`zl.quantize` and `zigllama quantize`: what is written, said and refused. How a write may fail:
test_quantize_whole.py; which type each tensor gets: test_mixes.py.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import random_weights

import zigllama as zl
from zigllama import gguf
from zigllama.app import tensor_slabs as module
from zigllama.app.main import main
from zigllama.app.quantize import plan_quantize
from zigllama.app.quantize_plan import Options
from zigllama.errors import (
    BadImportance,
    BadTensor,
    DTypeError,
    ImportanceNeeded,
    InvalidArgument,
    NoSpace,
    RequantizeRefused,
    UnknownName,
)
from zigllama.linear_algebra.number_formats import quantize_rows
from zigllama.linear_algebra.quantizers import QUANTIZE
from zigllama.models.importance import Entry, Importance, write_importance

Small = Callable[[str], Path]


def told(words: list[str], capsys: pytest.CaptureFixture[str], code: int = 0) -> tuple[str, str]:
    """Runs the verb; what it says on stdout and stderr, after checking the exit code."""
    assert main(["quantize", *map(str, words)]) == code
    out, err = capsys.readouterr()
    return out, err


def floats(reader: gguf.GGUFReader, name: str) -> np.ndarray:
    """A tensor's values, float32 (rows, C)."""
    info = reader.tensors[name]
    rows = math.prod(info.shape[:-1])
    return zl.dequantize(reader.tensor_bytes(name).reshape(rows, -1), info.type.name)


# --- what is written --------------------------------------------------------------------------------------------------


def test_each_tensor_is_quantised_by_rows_and_the_rest_is_kept(small_model: Small, tmp_path: Path) -> None:
    source, target = small_model("llama-f32"), tmp_path / "q.gguf"
    plan = zl.quantize(source, target, "Q8_0")
    with gguf.open(source) as before, gguf.open(target) as after:
        assert set(after.tensors) == set(before.tensors)
        assert list(after.tensors) == [s.name for s in plan.steps]
        for name, info in before.tensors.items():
            kind = after.tensors[name].type.name
            assert after.tensors[name].shape == info.shape
            if len(info.shape) == 1:
                assert kind == "F32"
                assert after.tensor_bytes(name).tobytes() == before.tensor_bytes(name).tobytes()
            else:
                assert kind == ("Q8_0" if info.shape[-1] % 32 == 0 else "F16"), name
                expected = zl.quantize_rows(floats(before, name), kind)
                assert after.tensor_bytes(name).tobytes() == expected.tobytes()
        changed = {"general.file_type": 7, "general.quantization_version": 2}
        assert {k: after.metadata[k] for k in changed} == changed
        kept = [k for k in before.metadata if k not in changed]
        assert [k for k in after.metadata if k not in changed] == kept
        assert all(after.metadata.type_of(k) == before.metadata.type_of(k) for k in kept)
        assert plan.n_bytes == sum(t.n_bytes for t in after.tensors.values())
        assert plan.n_bytes_before == sum(t.n_bytes for t in before.tensors.values())
        assert plan.bits_per_weight == 8 * plan.n_bytes / plan.n_values


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_plain_numbers(small_model: Small, tmp_path: Path, kind: str) -> None:
    source, target = small_model("llama-f32"), tmp_path / "q.gguf"
    zl.quantize(source, target, kind)
    with gguf.open(source) as before, gguf.open(target) as after:
        name = "blk.0.ffn_down.weight"
        assert after.tensors[name].type.name == kind
        assert after.metadata["general.file_type"] == {"F32": 0, "F16": 1, "BF16": 32}[kind]
        x = floats(before, name)
        bits = {"F32": 24, "F16": 11, "BF16": 8}[kind]
        assert (np.abs(floats(after, name) - x) <= 2.0**-bits * np.abs(x) + 2.0**-25).all()


def test_slabs_and_threads_make_no_difference(
    small_model: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = small_model("llama-f32")
    zl.quantize(source, tmp_path / "a.gguf", "Q4_0", n_threads=1)
    monkeypatch.setattr(module, "SLAB", 1000)  # a few rows at a time, the last slab of a tensor shorter
    zl.quantize(source, tmp_path / "b.gguf", "Q4_0", n_threads=3)
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


def test_a_split_model_becomes_one_file(small_model: Small, tmp_path: Path) -> None:
    source = small_model("llama-f32")
    with gguf.open(source) as r:
        tensors = [gguf.TensorData(t.name, t.shape, t.type, r.tensor_bytes(t.name)) for t in r.tensors.values()]
        first, *rest = gguf.write(tmp_path / "m.gguf", r.metadata, tensors, max_part_tensors=7)
    assert rest
    zl.quantize(first, tmp_path / "a.gguf", "Q8_0")
    zl.quantize(source, tmp_path / "b.gguf", "Q8_0")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
    with pytest.raises(InvalidArgument, match="is the input"):
        zl.quantize(first, rest[0], "Q8_0", force=True)


def test_it_runs(small_model: Small, tmp_path: Path) -> None:
    zl.quantize(small_model("llama-f32"), tmp_path / "q.gguf", "Q8_0")
    ids = [1, 5, 9, 30]
    with zl.Model(small_model("llama-f32")) as wide, zl.Model(tmp_path / "q.gguf") as narrow:
        a, b = wide.logits(ids), narrow.logits(ids)
    # Q8_0 moves a weight by 1/254 of its block's largest: the logits stay close, and are not the same
    assert 0 < np.abs(a - b).max() < 0.1 * np.abs(a).max()


# --- importance -------------------------------------------------------------------------------------------------------


def stack(path: Path, rows: int = 6, experts: int = 3, width: int = 64) -> dict[str, Any]:
    """A file with a stack of matrices, one per expert, and one plain matrix; returns its tensors."""
    rng = random_weights.Stream("stack")
    tensors = {
        "blk.0.ffn_up_exps.weight": rng.uniform(-1, 1, experts, rows, width).astype(np.float32),
        "blk.0.attn_q.weight": rng.uniform(-1, 1, rows, width).astype(np.float32),
        "token_embd.weight": rng.uniform(-1, 1, rows, width).astype(np.float32),
    }
    gguf.write(path, {"general.architecture": "llama", "llama.expert_count": experts}, tensors)
    return tensors


def weigh(path: Path, **sizes: tuple[int, int]) -> Importance:
    """An importance matrix of (experts, C) per tensor, written to `path`."""
    rng = random_weights.Stream("importance")
    entries = {
        f"blk.0.{name}.weight": Entry(rng.uniform(0, 9, *size).astype(np.float32), np.full(size[0], 2, np.float32))
        for name, size in sizes.items()
    }
    importance = Importance(entries, ("text.txt",), n_chunks=3, chunk_size=32)
    write_importance(path, importance)
    return importance


def test_each_expert_has_its_own_importance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = stack(tmp_path / "m.gguf")
    importance = weigh(tmp_path / "i.gguf", ffn_up_exps=(3, 64), attn_q=(1, 64))
    seen: list[tuple[np.ndarray, str, np.ndarray | None]] = []
    real = quantize_rows

    def spy(x: np.ndarray, name: str, importance: np.ndarray | None, *, n_threads: int | None) -> np.ndarray:
        seen.append((x.copy(), name, importance))
        return real(x, name, importance, n_threads=n_threads)

    monkeypatch.setattr(module, "quantize_rows", spy)
    monkeypatch.setattr(module, "SLAB", 4 * 64)  # slabs of 4 rows: 4 and 2 of each expert, never of two
    zl.quantize(tmp_path / "m.gguf", tmp_path / "q.gguf", "Q4_0", imatrix=tmp_path / "i.gguf", pure=True)
    means = importance.entries["blk.0.ffn_up_exps.weight"].mean()
    up = tensors["blk.0.ffn_up_exps.weight"]
    places = [(e, r) for e in range(3) for r in (0, 4)]
    found = [s for s in seen if s[2] is not None and any(np.array_equal(s[2], m) for m in means)]
    assert len(found) == len(places)
    for (x, name, weights), (e, r) in zip(found, places, strict=True):
        assert name == "Q4_0"
        assert np.array_equal(x, up[e, r : r + 4])
        assert weights is not None and np.array_equal(weights, means[e])
    assert sum(s[2] is None for s in seen) == 2  # the embedding, which has none


def test_importance_is_told_in_the_metadata(tmp_path: Path) -> None:
    stack(tmp_path / "m.gguf")
    weigh(tmp_path / "i.gguf", attn_q=(1, 64))
    zl.quantize(tmp_path / "m.gguf", tmp_path / "q.gguf", "Q4_0", imatrix=tmp_path / "i.gguf")
    with gguf.open(tmp_path / "q.gguf") as r:
        found = {k: (v, r.metadata.type_of(k).name) for k, v in r.metadata.items() if k.startswith("quantize")}
    assert found == {
        "quantize.imatrix.file": (str(tmp_path / "i.gguf"), "STRING"),
        "quantize.imatrix.dataset": ("text.txt", "STRING"),
        "quantize.imatrix.entries_count": (1, "UINT32"),
        "quantize.imatrix.chunks_count": (3, "UINT32"),
    }


def test_types_that_need_importance_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, out, weights = (str(tmp_path / name) for name in ("m.gguf", "q.gguf", "i.gguf"))
    stack(Path(model), width=256)
    with pytest.raises(ImportanceNeeded, match=r"'blk\.0\.attn_q\.weight' as IQ2_XXS needs importance: give") as caught:
        zl.quantize(model, out, "IQ2_XXS")
    assert (caught.value.tensor, caught.value.type_name) == ("blk.0.attn_q.weight", "IQ2_XXS")
    weigh(Path(weights), attn_q=(1, 256))
    with pytest.raises(ImportanceNeeded, match=r"'blk\.0\.ffn_up_exps\.weight' as IQ2_XXS.*has none for it"):
        zl.quantize(model, out, "IQ2_XXS", imatrix=weights)
    with pytest.raises(ImportanceNeeded, match="as Q2_K needs"):
        zl.quantize(model, out, "Q2_K_S")
    _, err = told([model, out, "IQ1_S"], capsys, 2)
    assert "as IQ1_S needs importance: give an importance matrix (--imatrix)" in err
    told(["--dry-run", model, "IQ1_S"], capsys)
    weigh(Path(weights), attn_q=(1, 255))
    with pytest.raises(BadImportance, match=r"255 weights for 'blk\.0\.attn_q\.weight'.*has 256"):
        zl.quantize(model, out, "Q4_0", imatrix=weights)
    assert not os.path.exists(out)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_the_input_is_no_output(small_model: Small, tmp_path: Path) -> None:
    source = tmp_path / "m.gguf"
    source.write_bytes(small_model("llama-f32").read_bytes())
    (tmp_path / "soft.gguf").symlink_to(source)
    os.link(source, tmp_path / "hard.gguf")
    before = source.read_bytes()
    for name in ("m.gguf", "soft.gguf", "hard.gguf"):
        with pytest.raises(InvalidArgument, match="is the input"):
            zl.quantize(source, tmp_path / name, "Q8_0", force=True)
    weigh(tmp_path / "i.gguf", attn_q=(1, 96))
    with pytest.raises(InvalidArgument, match=r"is the input .*i\.gguf"):
        zl.quantize(source, tmp_path / "i.gguf", "Q8_0", imatrix=tmp_path / "i.gguf", force=True)
    assert source.read_bytes() == before


def test_an_existing_file_is_replaced_only_when_asked_to(
    small_model: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = str(small_model("llama-f32")), tmp_path / "q.gguf"
    target.write_bytes(b"old")
    _, err = told([source, str(target), "Q8_0"], capsys, 2)
    assert "exists" in err and "--force" in err
    assert target.read_bytes() == b"old"
    told([source, str(target), "Q8_0", "--force", "-q"], capsys)
    assert target.read_bytes()[:4] == b"GGUF"
    with pytest.raises(InvalidArgument, match="there is no folder"):
        zl.quantize(source, tmp_path / "nowhere" / "q.gguf", "Q8_0")


def test_requantising_is_asked_for(small_model: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, target = str(small_model("llama-q8_0")), tmp_path / "q.gguf"
    with pytest.raises(RequantizeRefused, match="is Q8_0 already; making it Q4_0 loses more") as caught:
        zl.quantize(source, target, "Q4_0", pure=True)
    assert (caught.value.source, caught.value.target) == ("Q8_0", "Q4_0")
    _, err = told([source, str(target), "F16"], capsys, 2)
    assert "--allow-requantize" in err
    told([source, str(target), "Q8_0", "-q"], capsys)  # nothing changes: a copy
    told([source, str(target), "Q4_0", "--pure", "-q", "--force", "--allow-requantize"], capsys)
    with gguf.open(source) as before, gguf.open(target) as after:
        name = "blk.0.ffn_up.weight"
        expected = zl.quantize_rows(floats(before, name), "Q4_0")
        assert after.tensor_bytes(name).tobytes() == expected.tobytes()


def test_a_type_that_nothing_makes_is_refused_before_any_work(
    small_model: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(QUANTIZE, "Q8_0")
    with pytest.raises(DTypeError, match=r"'\S+' would become Q8_0, and there is no quantiser of it"):
        zl.quantize(small_model("llama-f16"), tmp_path / "q.gguf", "Q8_0")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("value", "kind"), [(np.nan, "F32"), (-np.inf, "F16")])
def test_a_value_that_is_not_finite_is_named(tmp_path: Path, value: float, kind: str) -> None:
    x = np.ones((5, 64), np.dtype("f4" if kind == "F32" else "f2"))
    x[3, 7] = value
    gguf.write(tmp_path / "m.gguf", {"general.architecture": "llama"}, {"blk.0.attn_q.weight": x, "output.weight": x})
    with pytest.raises(BadTensor, match=r"value 7 of row 3 is (nan|-inf), not finite"):
        zl.quantize(tmp_path / "m.gguf", tmp_path / "q.gguf", "Q8_0")
    with pytest.raises(BadTensor, match="value 7 of row 3"):  # copied tensors are looked at too
        zl.quantize(tmp_path / "m.gguf", tmp_path / "q.gguf", kind)
    assert os.listdir(tmp_path) == ["m.gguf"]


def test_a_value_too_large_for_the_type_is_named(tmp_path: Path) -> None:
    x = np.ones((5, 64), np.float32)
    x[3, 7] = 70000
    gguf.write(tmp_path / "m.gguf", {"general.architecture": "llama"}, {"blk.0.attn_q.weight": x})
    with pytest.raises(BadTensor, match=r"'blk\.0\.attn_q\.weight': in the rows from 0: .*row 3, column 7 is 70000"):
        zl.quantize(tmp_path / "m.gguf", tmp_path / "q.gguf", "F16")
    zl.quantize(tmp_path / "m.gguf", tmp_path / "q.gguf", "BF16")


def test_no_room_is_seen_before_anything_is_written(
    small_model: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(NoSpace, match="has 1000 bytes free; nothing half is left") as caught:
        zl.quantize(small_model("llama-f32"), tmp_path / "q.gguf", "Q8_0")
    assert caught.value.need > 1000
    told([str(small_model("llama-f32")), str(tmp_path / "q.gguf"), "Q8_0"], capsys, 4)
    assert os.listdir(tmp_path) == []


# --- the command ------------------------------------------------------------------------------------------------------


def test_dry_run_shows_the_plan(small_model: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = str(small_model("llama-f16"))
    out, err = told([source, "Q4_K_M", "--dry-run"], capsys)
    assert "blk.1.ffn_down.weight" in out
    assert "bits per weight" in out
    assert "Q4_K became Q5_0" in err
    words = [source, "ignored.gguf", "Q8_0", "--dry-run", "--json", "--tensor-type", "attn_v=F32"]
    made = json.loads(told(words, capsys)[0])
    by_name = {t["name"]: t for t in made["plan"]}
    assert by_name["blk.0.attn_v.weight"]["type"] == "F32"
    assert by_name["blk.0.attn_q.weight"] == {
        "name": "blk.0.attn_q.weight", "shape": [96, 96], "type_before": "F16", "type": "Q8_0",
        "bytes_before": 96 * 96 * 2, "bytes": 96 * 3 * 34,
    }  # fmt: skip
    assert made["bytes"] == sum(t["bytes"] for t in made["plan"])
    told([str(small_model("llama-q8_0")), "Q4_0", "--dry-run"], capsys)
    assert plan_quantize(source, "Q8_0", Options({"attn_v": "F32"})).n_bytes == made["bytes"]
    assert os.listdir(tmp_path) == []


def test_the_real_thing_shows_a_bar_and_a_sum(
    small_model: Small, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = str(small_model("llama-f32")), str(tmp_path / "q.gguf")
    out, err = told([source, target, "Q4_K_M"], capsys)
    assert out.startswith(f"{target}: Q4_K_M, ")
    assert out.count("\n") == 1
    assert "100%" in err
    assert "rows that their type's quant blocks do not divide" in err
    made = json.loads(told([source, target, "Q8_0", "--force", "--json", "-q"], capsys)[0])
    assert made["path"] == target
    assert made["file_type"] == 7
    with gguf.open(target) as r:
        assert made["bytes"] == sum(t.n_bytes for t in r.tensors.values())


def test_progress_counts_the_source(small_model: Small, tmp_path: Path) -> None:
    seen: list[int] = []
    plan = zl.quantize(small_model("llama-f32"), tmp_path / "q.gguf", "Q8_0", progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == plan.n_bytes_before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["m.gguf", "Q8_0"], "expected IN OUT TYPE"),
        (["m.gguf", "--dry-run"], "expected IN OUT TYPE"),
        (["a", "b", "c", "d"], "found 4 words"),
        (["m.gguf", "q.gguf", "Q4_K_Q"], "unknown mix 'Q4_K_Q'"),
        (["m.gguf", "q.gguf", "Q8_0", "--tensor-type", "attn_v"], "expected PATTERN=TYPE"),
        (["m.gguf", "q.gguf", "Q8_0", "--tensor-type", "=Q8_0"], "expected PATTERN=TYPE"),
        (["m.gguf", "q.gguf", "Q8_0", "--tensor-types", "a=Q8_0"], "did you mean --tensor-type?"),
    ],
)
def test_commands_that_are_wrong(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert says in told(words, capsys, 2)[1]


def test_notes_name_tensors_without_importance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stack(tmp_path / "m.gguf")
    weigh(tmp_path / "i.gguf", attn_q=(1, 64))
    words = [str(tmp_path / "m.gguf"), str(tmp_path / "q.gguf"), "Q4_0", "--imatrix", str(tmp_path / "i.gguf")]
    said = told(words, capsys)[1]
    assert "no importance for 1 tensors: blk.0.ffn_up_exps.weight" in said
    assert "importance makes no difference to tensors of these types: Q4_0" in said


def test_a_name_that_is_no_mix(small_model: Small, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="Q4_K_M"):
        zl.quantize(small_model("llama-f32"), tmp_path / "q.gguf", "Q4")


def test_integers_are_kept(tmp_path: Path) -> None:
    table = np.arange(128, dtype=np.int32).reshape(2, 64)
    gguf.write(tmp_path / "m.gguf", {"general.architecture": "llama"}, {"blk.0.table.weight": table})
    zl.quantize(tmp_path / "m.gguf", tmp_path / "q.gguf", "Q8_0")
    with gguf.open(tmp_path / "q.gguf") as r:
        assert r.tensors["blk.0.table.weight"].type.name == "I32"
        assert r.tensor_bytes("blk.0.table.weight").tobytes() == table.tobytes()
