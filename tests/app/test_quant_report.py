"""`zl.quant_report` and `zigllama inspect --errors`: figures by their formulas, KL as of a file that has the tensor."""

from __future__ import annotations

import gc
import json
import math
import tracemalloc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zigllama as zl
from zigllama import gguf
from zigllama.app import quant_report, tensor_slabs
from zigllama.app.main import main
from zigllama.app.quant_report import TEXT, Work
from zigllama.errors import (
    BadTensor,
    DTypeError,
    ImportanceNeeded,
    InvalidArgument,
    MissingTensor,
    TensorShapeMismatch,
    UnknownName,
)
from zigllama.inference.model import Model
from zigllama.inference.scoring import divergence
from zigllama.linear_algebra.iq_quantizers import NEED_IMPORTANCE
from zigllama.linear_algebra.quantizers import QUANTIZE
from zigllama.models.importance import Entry, Importance, write_importance

Small = Callable[[str], Path]


def write(path: Path, **tensors: np.ndarray) -> Path:
    gguf.write(path, {"general.architecture": "llama"}, {f"blk.0.{k}.weight": v for k, v in tensors.items()})
    return path


@pytest.fixture(scope="module")
def normal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two matrices of normal values, a norm and a bias."""
    rng = np.random.Generator(np.random.PCG64(7))
    made = {
        "attn_q": rng.standard_normal((12, 256)),
        "ffn_up": 0.1 * rng.standard_normal((24, 96)),
        "attn_norm": np.ones(96),
    }
    return write(tmp_path_factory.mktemp("report") / "n.gguf", **{k: v.astype(np.float32) for k, v in made.items()})


def values(path: Path, name: str) -> np.ndarray:
    with gguf.open(path) as r:
        t = r.tensors[name]
        data = r.tensor_bytes(name).reshape(t.shape[0], -1)
        return zl.dequantize(data, t.type.name).astype(np.float64)


def test_the_errors_by_their_formulas(normal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensor_slabs, "SLAB", 1000)  # a few rows at a time
    report = zl.quant_report(normal, ["Q4_0", "q8_0", "F32", "F16", "IQ4_XS"])
    assert [(r.tensor[6:-7], r.type) for r in report.rows] == [
        *(("attn_q", t) for t in ("Q4_0", "Q8_0", "F32", "F16", "IQ4_XS")),
        *(("ffn_up", t) for t in ("Q4_0", "Q8_0", "F32", "F16")),
    ]
    for r in report.rows:
        x = values(normal, r.tensor)
        y = zl.dequantize(zl.quantize_rows(x, r.type), r.type).astype(np.float64)
        assert r.rmse == pytest.approx(np.sqrt(((x - y) ** 2).mean()), rel=1e-9)
        assert r.relative_rmse == pytest.approx(np.sqrt(((x - y) ** 2).sum() / (x**2).sum()), rel=1e-9)
        assert r.max_error == np.abs(x - y).max()
        assert r.cosine == pytest.approx((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum()), rel=1e-12)
        bits = {"Q4_0": 4.5, "Q8_0": 8.5, "F32": 32, "F16": 16, "IQ4_XS": 4.25}
        assert (r.bits_per_weight, r.source_type, r.kl, r.weighted_rmse) == (bits[r.type], "F32", None, None)
    by_type = {s.type: s for s in report.by_type()}
    assert list(by_type) == ["IQ4_XS", "Q4_0", "Q8_0", "F16", "F32"]
    assert by_type["F32"].relative_rmse == 0 == by_type["F32"].max_error
    assert 0 < by_type["F16"].relative_rmse < 2.0**-11 < by_type["Q8_0"].relative_rmse
    assert 10 * by_type["Q8_0"].relative_rmse < by_type["Q4_0"].relative_rmse < 0.2
    assert by_type["IQ4_XS"].n_tensors == 1 and by_type["Q4_0"].n_tensors == 2
    rows = [r for r in report.rows if r.type == "Q4_0"]
    assert by_type["Q4_0"].highest == max(r.relative_rmse for r in rows)
    square = sum(r.rmse**2 * r.n_values for r in rows), sum(r.rms**2 * r.n_values for r in rows)
    assert by_type["Q4_0"].relative_rmse == pytest.approx(math.sqrt(square[0] / square[1]))
    reason = "its quant blocks of 256 do not divide rows of 96"
    assert [(s.tensor, s.type, s.reason) for s in report.skipped] == [("blk.0.ffn_up.weight", "IQ4_XS", reason)]
    assert report.notes() == [f"IQ4_XS is not measured for 1 tensors: {reason}"]


def test_all_that_can_be_made_by_default(normal: Path) -> None:
    report = zl.quant_report(normal, tensors="attn")
    found = {r.type for r in report.rows}
    assert {s.type for s in report.skipped} == set(NEED_IMPORTANCE)
    assert found | set(NEED_IMPORTANCE) == {name for name in QUANTIZE if gguf.GGML_TYPES[name].is_quantized}
    assert not found & set(NEED_IMPORTANCE)
    assert {r.tensor for r in zl.quant_report(normal, "Q4_0", "ffn_(up|gate)").rows} == {"blk.0.ffn_up.weight"}


def test_importance_is_used_and_weighs(normal: Path, tmp_path: Path) -> None:
    weights = np.linspace(0, 9, 256, dtype=np.float32) ** 2
    name, path = "blk.0.attn_q.weight", tmp_path / "i.gguf"
    write_importance(path, Importance({name: Entry(weights[None], np.ones(1, np.float32))}))
    plain = zl.quant_report(normal, ["IQ4_NL", "Q8_0"])
    weighed = zl.quant_report(normal, ["IQ4_NL", "Q8_0"], imatrix=path)
    x = values(normal, name)
    y = zl.dequantize(zl.quantize_rows(x, "IQ4_NL", weights), "IQ4_NL").astype(np.float64)
    w = weights.astype(np.float64)
    assert weighed.rows[0].weighted_rmse == pytest.approx(np.sqrt((w * (x - y) ** 2).sum() / (12 * w.sum())), rel=1e-9)
    assert weighed.rows[0].rmse > plain.rows[0].rmse
    assert weighed.rows[1].rmse == plain.rows[1].rmse  # of Q8_0 there is no other rounding
    assert [r.weighted_rmse is None for r in weighed.rows] == [False, False, True, True]
    both = zl.quant_report(normal, ["IQ2_XS", "Q4_0"], imatrix=path)
    assert [(r.tensor[6:-7], r.type) for r in both.rows] == [
        ("attn_q", "IQ2_XS"),
        ("attn_q", "Q4_0"),
        ("ffn_up", "Q4_0"),
    ]
    assert weighed.imatrix == str(path) and "weighted" in weighed.table()


def test_experts_are_one_tensor_with_importance_of_their_own(tmp_path: Path) -> None:
    rng = np.random.Generator(np.random.PCG64(9))
    x = rng.standard_normal((3, 8, 64)).astype(np.float32)
    weights = rng.uniform(0, 9, (3, 64)).astype(np.float32)
    name, path = "blk.0.ffn_up_exps.weight", tmp_path / "i.gguf"
    write_importance(path, Importance({name: Entry(weights, np.ones(3, np.float32))}))
    (row,) = zl.quant_report(write(tmp_path / "m.gguf", ffn_up_exps=x), ["IQ4_NL"], imatrix=path).rows
    data = [zl.quantize_rows(m, "IQ4_NL", w) for m, w in zip(x, weights, strict=True)]
    e = np.array([zl.dequantize(d, "IQ4_NL") for d in data]).astype(np.float64) - x
    assert (row.shape, row.bits_per_weight) == ((3, 8, 64), 4.5)
    assert row.rmse == pytest.approx(np.sqrt((e**2).mean()), rel=1e-9)
    w = weights[:, None].astype(np.float64)
    assert row.weighted_rmse == pytest.approx(np.sqrt((w * e**2).sum() / (8 * w.sum())), rel=1e-9)


@pytest.mark.parametrize("name", ["llama-f32", "llama-mix"])
def test_kl_is_that_of_a_file_that_has_the_tensor(name: str, small_model: Small, tmp_path: Path) -> None:
    source, text = small_model(name), "The first half of each window is only read."
    seen: list[tuple[Work, Work]] = []
    types = ["Q4_0", "Q8_0", "F32"]
    report = zl.quant_report(
        source, types, "blk.0.ffn_up|token", text=text, n_threads=2, progress=lambda *w: seen.append(w)
    )
    with Model(source, 64, 1) as m:
        ids = m.prompt_ids(text)
        base = m.logits(ids)
        own = {n: w.type.name for n, w in m.weights.items() if hasattr(w, "type") and w.name == n}
        cache = m.engine.cache.type_name  # which follows the largest type: not so in a trial
    assert report.n_tokens == len(ids) and report.fingerprint is not None
    assert len(report.rows) == 6
    for r in report.rows:
        target = tmp_path / f"{r.tensor}.{r.type}.gguf"
        keep = {"^" + t.replace(".", r"\.") + "$": k for t, k in own.items() if t != r.tensor}
        zl.quantize(source, target, "Q8_0", tensor_types={f"^{r.tensor}$": r.type} | keep, allow_requantize=True)
        with Model(target, 64, 1, cache_type=cache) as m:
            kls = [divergence(a, b) for a, b in zip(base, m.logits(ids), strict=True)]
        assert (r.kl, r.kl_max) == (float(np.mean(kls)), max(kls))
        if r.type == r.source_type:
            assert (r.kl, r.rmse, r.cosine) == (0, 0, 1)
        elif r.type != "F32":
            assert r.kl is not None and r.kl > 0
    by_ids = zl.quant_report(source, "Q4_0", "blk.0.ffn_up", text=ids)
    assert by_ids.rows == tuple(r for r in report.rows if (r.tensor, r.type) == ("blk.0.ffn_up.weight", "Q4_0"))
    per_type = {s.type: s for s in report.by_type()}
    mine = [r.kl for r in report.rows if r.type == "Q4_0"]
    assert per_type["Q4_0"].kl == pytest.approx(np.mean(np.array(mine, float)))
    assert seen[-1] == (Work(seen[-1][1].values, 6), Work(sum(r.n_values for r in report.rows), 6))
    assert [d.values + d.runs for d, _ in seen] == sorted(d.values + d.runs for d, _ in seen) and len(seen) == 12


def test_bytes_that_are_kept_are_those_of_one_tensor(
    small_model: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read from a file or made: once in memory, and gone when the next tensor is measured."""
    source = write(tmp_path / "m.gguf", ffn_up=np.ones((4096, 1024), np.float32))
    for target in ("F32", "Q8_0"):  # copied; made
        with monkeypatch.context() as patched, gguf.open(source) as r:
            patched.setattr(tensor_slabs, "SLAB", 1 << 14)
            info = r.tensors["blk.0.ffn_up.weight"]
            pair = quant_report._Pair(info, gguf.GGML_TYPES[target])
            tracemalloc.start()
            try:
                _, data = quant_report._measure(r, None, pair, None, 1, True)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert data is not None and data.shape == (4096, 4096 if target == "F32" else 1088)
            assert peak < data.nbytes + (1 << 20)
            assert np.array_equal(data, zl.quantize_rows(np.ones((4096, 1024), np.float32), target))

    kept: list[weakref.ref[np.ndarray]] = []
    measure = quant_report._measure

    def measured(*words: Any) -> Any:
        assert all(ref() is None for ref in kept)
        found = measure(*words)
        kept.append(weakref.ref(found[1]))
        return found

    monkeypatch.setattr(quant_report, "_measure", measured)
    gc.disable()  # which may come late: nothing may wait for it
    try:
        zl.quant_report(small_model("llama-f32"), ["Q4_0", "F32"], "blk.0.attn_(q|k)", text=[5, 17, 3])
    finally:
        gc.enable()
    assert len(kept) == 4


def test_a_file_as_it_is_beside_its_reference(small_model: Small, tmp_path: Path) -> None:
    source, target = small_model("llama-f32"), tmp_path / "q.gguf"
    zl.quantize(source, target, "Q4_0", tensor_types={"attn_k": "F32"}, pure=True)
    made = zl.quant_report(target, reference=source, logits=True, tensors="blk.0")
    asked = zl.quant_report(source, ["Q4_0", "F32", "F16"], logits=True, tensors="blk.0")
    assert made.reference == str(source) and 40 < made.n_tokens == asked.n_tokens
    by_pair = {(r.tensor, r.type): r for r in asked.rows}
    assert len(made.rows) == 7
    for r in made.rows:
        kind = "F32" if "attn_k" in r.tensor else "Q4_0" if r.shape[1] % 32 == 0 else "F16"
        assert r.type == kind
        assert r == by_pair[r.tensor, r.type]
    whole = zl.quant_report(source, reference=source)
    assert all((r.rmse, r.max_error, r.cosine, r.kl) == (0, 0, 1, None) for r in whole.rows)


def test_what_no_model_multiplies_is_left_out_before_the_long_run(small_model: Small, tmp_path: Path) -> None:
    """Of a file beside its reference: an F64 tensor has errors, and no model runs with it."""
    source, target = small_model("llama-f32"), tmp_path / "q.gguf"
    with gguf.open(source) as r:
        arrays = {n: r.tensor_bytes(n).view(np.float32).reshape(t.shape) for n, t in r.tensors.items()}
        odd, one = "blk.0.attn_k.weight", "blk.0.attn_q.weight"
        chosen = {n: a.astype(np.float64 if n == odd else np.float32) for n, a in arrays.items()}
        gguf.write(target, r.metadata, chosen)
    works: list[Work] = []
    report = zl.quant_report(
        target, tensors="blk.0.attn_[qk]", reference=source, text=[5, 9, 7], progress=lambda _, of: works.append(of)
    )
    assert [(r.tensor, r.kl) for r in report.rows] == [(one, 0)]
    reason = "no model is run with a matrix of this type"
    assert [vars(s) for s in report.skipped] == [{"tensor": odd, "type": "F64", "reason": reason}]
    assert set(works) == {Work(report.rows[0].n_values, 1)}
    plain = zl.quant_report(target, tensors="blk.0.attn_k", reference=source)
    assert [(r.type, r.rmse) for r in plain.rows] == [("F64", 0)]
    with pytest.raises(InvalidArgument, match=f"of 1 the first is '{odd}' as F64: {reason}"):
        zl.quant_report(target, tensors="blk.0.attn_k", reference=source, logits=True)


def test_what_is_refused(normal: Path, small_model: Small, tmp_path: Path) -> None:
    def refused(error: type[Exception], match: str, *words: Any, **options: Any) -> None:
        with pytest.raises(error, match=match):
            zl.quant_report(*words, **options)

    refused(UnknownName, "did you mean 'Q4_K'", normal, ["Q4_O"])
    refused(DTypeError, "no quantiser of Q8_1; there is one of: F32, F16", normal, ["Q8_1"])
    refused(ImportanceNeeded, "'blk.0.attn_q.weight' as IQ1_S needs importance", normal, ["Q4_0", "IQ1_S"])
    refused(InvalidArgument, "no types", normal, [])
    refused(
        InvalidArgument,
        r"none of the 2 tensors that may be quantised \(of 3\) has a name with 'gate'",
        normal,
        None,
        "gate",
    )
    refused(InvalidArgument, r"'\(' is no regular expression", normal, None, "(")
    refused(InvalidArgument, "IQ4_XS: its quant blocks of 256 do not divide rows of 96", normal, ["IQ4_XS"], "ffn")
    refused(InvalidArgument, "types with a reference", normal, ["Q4_0"], reference=normal)
    ones = np.ones((12, 256), np.float32)
    refused(MissingTensor, "ffn_up", normal, reference=write(tmp_path / "a.gguf", attn_q=ones))
    other = write(tmp_path / "b.gguf", attn_q=ones[:6], ffn_up=ones)
    refused(TensorShapeMismatch, r"expected shape \(12, 256\), found \(6, 256\)", normal, reference=other)
    large = ones.copy()
    large[3, 7] = 1e9
    refused(BadTensor, "row 3", write(tmp_path / "c.gguf", attn_q=large), ["Q4_0"])
    large[3, 7] = np.inf
    refused(BadTensor, "value 7 of row 3 is inf", write(tmp_path / "d.gguf", attn_q=large), ["Q4_0"])
    refused(
        BadTensor, "value 7 of row 3 is inf", tmp_path / "d.gguf", reference=write(tmp_path / "e.gguf", attn_q=ones)
    )


def test_zeros(tmp_path: Path) -> None:
    path = write(tmp_path / "z.gguf", attn_q=np.zeros((4, 64), np.float32))
    (row,) = zl.quant_report(path, ["Q4_0"]).rows
    assert (row.rmse, row.relative_rmse, row.cosine) == (0, 0, 1)
    changed = write(tmp_path / "o.gguf", attn_q=np.ones((4, 64), np.float32))
    report = zl.quant_report(changed, reference=path)
    assert report.rows[0].relative_rmse == math.inf and report.rows[0].cosine == 0
    told = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert told["rows"][0]["relative_rmse"] == told["by_type"][0]["relative_rmse"] == "inf"


# --- the verb ---------------------------------------------------------------------------------------------------------


def told(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main(["inspect", *map(str, words), "--errors"]) == 0
    return capsys.readouterr().out


def test_the_verb(normal: Path, small_model: Small, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = small_model("llama-f32")
    words = model, "--types", "q8_0,IQ4_XS", "--types", "Q4_0", "--only", "blk.0.ffn", "-p", "A text.", "-t", 2
    assert main(["inspect", *map(str, words), "--errors"]) == 0
    out, err = capsys.readouterr()
    report = zl.quant_report(model, ["Q8_0", "IQ4_XS", "Q4_0"], "blk.0.ffn", text="A text.")
    assert out == report.table() + "\n"
    assert "4 of 4 runs" in err and "IQ4_XS is not measured for 2 tensors" in err
    picture = tmp_path / "p.svg"
    got = json.loads(told(capsys, *words, "--json", "--picture", picture, "-q"))
    assert got == json.loads(json.dumps(report.to_json()))
    assert picture.read_text().startswith("<svg")
    keys = {
        "tensor",
        "shape",
        "source_type",
        "type",
        "rms",
        "rmse",
        "max_error",
        "cosine",
        "weighted_rmse",
        "kl",
        "kl_max",
    }
    assert all(set(r) == keys | {"bits_per_weight", "relative_rmse"} for r in got["rows"])
    assert set(got) == {"path", "reference", "imatrix", "n_tokens", "fingerprint", "rows", "by_type", "skipped"}

    plain = told(capsys, normal, "--types", "Q4_0")
    assert "KL" not in plain and "blk.0.attn_q.weight" in plain
    with_kl = json.loads(told(capsys, model, "--types", "Q4_0", "--only", "blk.1.attn_v", "--kl", "--json"))
    with Model(model, 512, 1) as m:
        assert with_kl["n_tokens"] == len(m.prompt_ids(TEXT))
    itself = json.loads(told(capsys, model, "--reference", model, "--only", "output", "--json"))
    assert itself["reference"] == str(model)
    assert [(r["type"], r["rmse"], r["kl"]) for r in itself["rows"]] == 4 * [("F32", 0, None)]


def test_the_verb_refuses(normal: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def refused(message: str, *words: object) -> None:
        assert main(["inspect", str(normal), *map(str, words)]) == 2
        out, err = capsys.readouterr()
        assert out == "" and message in err

    refused("--types is for --errors", "--types", "Q4_0")
    refused("-p is for --errors", "-p", "text")
    for flag, *value in (
        *(("--only", "x"), ("--reference", normal), ("--kl",), ("-f", "f"), ("-e",), ("--imatrix", "i"), ("-q",)),
        *(("--picture", "p.svg"), ("-t", 2), ("-t", 0), ("-p", ""), ("--only", "")),  # 0 and "" are given too
    ):
        refused(f"{flag} is for --errors", flag, *value)
    refused("--errors and --key: one or the other", "--errors", "--key", "")
    refused("--errors and --tensors: one or the other", "--errors", "--tensors")
    refused("the name must end in .svg", "--errors", "--picture", tmp_path / "x.png")
    refused("there is no folder", "--errors", "--picture", tmp_path / "no" / "x.svg")
    refused("two prompts", "--errors", "-p", "a", "-f", "b")
    refused("did you mean 'Q4_K'", "--errors", "--types", "Q4_O")
