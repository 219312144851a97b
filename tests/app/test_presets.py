"""`estimate` of published shapes: the memory table of LLaMA, and what is advised for a machine of 16 GB."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import zigllama as zl
from zigllama.app.advice import advice, memory_from, usable, verdict
from zigllama.app.main import main
from zigllama.errors import InvalidArgument, ShapeError, UnknownName

GB = 10**9

# In GB: the table as it is published, and its figures that are not what the bytes of a file add up to (see the
# docstring of app/estimate.py): 30B counted as 30.0 B parameters, Q8_0 without the scales of its quant blocks.
SIZES = ("7b", "13b", "30b", "65b")
PUBLISHED = {
    "F32": (26.8, 52.0, 120.0, 260.8),
    "F16": (13.4, 26.0, 60.0, 130.4),
    "Q8_0": (6.7, 13.0, 30.0, 65.2),
    "Q4_0": (3.8, 7.3, 16.9, 36.7),
}
ARITHMETIC = {
    "F32": (26.95, 52.06, 130.12, 261.14),
    "F16": (13.48, 26.03, 65.06, 130.57),
    "Q8_0": (7.16, 13.83, 34.57, 69.37),
    "Q4_0": (3.79, 7.32, 18.30, 36.73),
}


@pytest.mark.parametrize("size", SIZES)
def test_the_memory_table(size: str) -> None:
    i = SIZES.index(size)
    for kind in PUBLISHED:
        found = zl.estimate(f"llama-{size}", 2048, type_name=kind).weights / GB
        assert found == pytest.approx(ARITHMETIC[kind][i], abs=0.006), kind
        agrees = size != "30b" and kind != "Q8_0"
        assert (found == pytest.approx(PUBLISHED[kind][i], rel=0.01)) == agrees, kind


@pytest.mark.parametrize(
    ("size", "gb", "published"), [("7b", 1.074, 1.0), ("13b", 1.678, 1.6), ("30b", 3.272, 3.2), ("65b", 5.369, 5.2)]
)
def test_the_cache_of_2048_positions(size: str, gb: float, published: float) -> None:
    found = zl.estimate(zl.ModelSize(f"llama-{size}"), 2048)["KV cache"] / GB
    assert found == pytest.approx(gb, abs=0.001)
    assert published <= found < 1.075 * published


def test_the_published_parts_of_7b_contradict_themselves() -> None:
    e = zl.estimate("llama-7b", 2048, type_name="Q4_0")
    assert (e["attention"] + e["feed-forward"]) / GB == pytest.approx(3.64, abs=0.01)  # published 2.9
    assert e["embedding"] / GB == e["output"] / GB == pytest.approx(0.0737, abs=0.0001)  # 0.5 and 0.3
    assert e["norms"] / GB == pytest.approx(0.001065, abs=1e-6)  # 0.02
    assert e.weights / GB == pytest.approx(3.8, abs=0.02)  # the published total, which has no cache in it


@pytest.mark.parametrize(
    ("size", "word"), [("7b", "comfortable"), ("13b", "feasible"), ("30b", "too large"), ("65b", "too large")]
)
def test_advice_for_16_gb(size: str, word: str) -> None:
    config = zl.ModelConfig.preset(f"llama-{size}")
    found = zl.estimate(config, 2048, type_name="Q4_0")
    assert verdict(found.total, 16 * GB) == word
    assert f"of 16.0 GB: {word}" in advice(found, 16 * GB, config)


def test_advice_names_what_would_fit() -> None:
    big, bigger = (zl.ModelConfig.preset(f"llama-{size}") for size in ("30b", "65b"))
    told = advice(zl.estimate(big, 2048, type_name="Q4_0"), 16 * GB, big)
    assert "feasible as IQ2_S" in told
    assert zl.estimate(big, 2048, type_name="IQ2_S").total <= usable(16 * GB)
    assert zl.estimate(big, 2048, type_name="IQ3_XXS").total > usable(16 * GB)
    told = advice(zl.estimate(bigger, 2048, type_name="Q4_0"), 16 * GB, bigger)
    assert "no number format brings it down to 14.0 GB with 2,048 positions" in told
    assert zl.estimate(bigger, 2048, type_name="IQ1_S").total > 16 * GB
    need = float(told.split("a machine with ")[1].split(" GB")[0]) * GB
    assert verdict(zl.estimate(bigger, 2048, type_name="Q4_0").total, int(need + 0.1 * GB)) == "feasible"
    file_like = advice(zl.estimate(bigger, 2048), 16 * GB)  # a file has its types: nothing narrower is named
    assert file_like.endswith("runs it")


def test_a_file_of_that_name_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert zl.estimate("llama-7b").architecture == "llama"
    (tmp_path / "llama-7b").write_bytes(b"no model")
    with pytest.raises(zl.errors.NotGGUF):
        zl.estimate("llama-7b")


def test_what_cannot_be() -> None:
    with pytest.raises(UnknownName, match="Q4_9"):
        zl.estimate("llama-7b", type_name="Q4_9")
    with pytest.raises(ShapeError, match="256"):
        zl.estimate(zl.ModelConfig(n_layer=2, n_embd=96, n_head=2, n_ff=256, n_vocab=10), type_name="Q4_K")
    with pytest.raises(InvalidArgument, match="for presets"):
        zl.estimate("model.gguf", type_name="Q4_0")
    with pytest.raises(InvalidArgument, match="16X"):
        memory_from("16X")
    assert [memory_from(t) for t in ("16G", "16 GB", "0.5k", "7")] == [16 * GB, 16 * GB, 500, 7]


def test_the_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", "llama-7b", "--type", "Q4_0", "-c", "2048", "--memory", "16G"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "6,738.4 M parameters; context 2,048" in out
    assert "4.9 GB of 16.0 GB: comfortable" in out
    assert main(["estimate", "-m", "codellama-34b", "--memory", "16G", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["n_ctx"] == 16_384
    assert "too large" in told["advice"]
    assert main(["estimate", "llama-7b", "--memory", "much"]) == 2
    assert main(["estimate", "llama-8b"]) == 2
    assert main(["estimate", "llama-7b", "-m", "llama-13b"]) == 2
