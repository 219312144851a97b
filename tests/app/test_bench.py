"""`bench`: what is run and what is timed is what llama-bench runs and times, and the figures follow from the times."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zigllama import errors
from zigllama.app import bench
from zigllama.app.bench import BatchTest, Runner
from zigllama.app.bench import Test as Single  # pytest collects what is called Test
from zigllama.app.bench_output import Printer
from zigllama.app.console import UsageError
from zigllama.app.main import main
from zigllama.app.verbs.bench import numbers, pairs
from zigllama.foundation.gguf_format import GGUFReader
from zigllama.foundation.runtime import F32, Step
from zigllama.inference.model import Model

Small = Callable[[str], Path]
Steps = list[tuple[list[int], list[int], list[int], list[int]]]  # tokens, positions, sequences, rows with logits


@pytest.fixture(scope="module")
def model(small_model: Small) -> Iterator[Model]:
    with Model(small_model("llama-mix"), 256, 1, cache_type="F16", n_seq=8, keep=0) as m:
        yield m


@pytest.fixture
def steps(model: Model, monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Every step that the engine runs from now on."""
    return watch(model, monkeypatch)


def watch(model: Model, monkeypatch: pytest.MonkeyPatch) -> Steps:
    seen: Steps = []

    def run(step: Step, run: Callable[[Step], F32] = model.engine.run) -> F32:
        logits = run(step)
        seen.append((step.tokens.tolist(), step.cache_pos.tolist(), step.seq.tolist(), step.out_rows.tolist()))
        assert len(logits) == len(step.out_rows)
        return logits

    monkeypatch.setattr(model.engine, "run", run)
    return seen


def test_names_are_llama_benchs() -> None:
    tests = Single(512, 0), Single(0, 128), Single(64, 16), Single(512, 0, 2048), Single(0, 8, 32), Single(4, 8, 16)
    expected = ["pp512", "tg128", "pp64+tg16", "pp512 @ d2048", "tg8 @ d32", "pp4+tg8 @ d16"]
    assert [t.name for t in tests] == expected


@pytest.mark.parametrize("wrong", [(0, 0), (-1, 2), (1, -1), (1, 1, -1)])
def test_a_test_of_nothing_is_an_error(wrong: tuple[int, ...]) -> None:
    with pytest.raises(errors.InvalidArgument, match="a test of"):
        Single(*wrong)


def test_prompts_are_read_in_chunks_and_only_the_last_row_has_logits(model: Model, steps: Steps) -> None:
    times = Runner(model, rows=32).measure(Single(70, 0), 2)
    assert len(times) == 2 and min(times) > 0
    assert [len(tokens) for tokens, *_ in steps] == [32, 32, 6] * 3  # the first three are the warm-up
    assert [out for *_, out in steps] == [[], [], [5]] * 3
    assert [p for _, positions, *_ in steps[3:6] for p in positions] == list(range(70))


def test_tokens_are_random_and_within_the_vocabulary(model: Model, steps: Steps) -> None:
    Runner(model).measure(Single(200, 0), 2, warmup=False)
    first, second = (tokens for tokens, *_ in steps)
    n_vocab = model.info.n_vocab
    assert first != second and 0 <= min(first) < n_vocab // 8 and 7 * n_vocab // 8 <= max(first) < n_vocab
    again: Steps = steps[:]
    Runner(model).measure(Single(200, 0), 2, warmup=False)
    assert steps[2:] == again
    Runner(model, seed=1).measure(Single(200, 0), 1, warmup=False)
    assert steps[4] != steps[0]


def test_decoding_starts_from_an_empty_cache_with_logits_for_each_token(model: Model, steps: Steps) -> None:
    Runner(model).measure(Single(0, 5), 2)
    assert [(p, out) for _, p, _, out in steps] == [([0], [0])] + 2 * [([i], [0]) for i in range(5)]


def test_depth_is_read_once_and_returned_to(model: Model, steps: Steps) -> None:
    Runner(model).measure(Single(0, 3, n_depth=100), 3, warmup=False)
    assert [p for _, p, *_ in steps] == [list(range(100))] + 3 * [[100], [101], [102]]
    steps.clear()
    Runner(model).measure(Single(10, 2, n_depth=100), 2, warmup=False)
    assert [p for _, p, *_ in steps] == [list(range(100))] + 2 * [list(range(100, 110)), [110], [111]]


def test_depth_beyond_a_window_is_read_again(small_model: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers that see 24 positions have given up what a shorter sequence would need: it is read anew, not guessed."""
    with Model(small_model("gemma3-mix"), 2048, 1, cache_type="F16", n_seq=1, keep=0) as m:
        steps = watch(m, monkeypatch)
        Runner(m).measure(Single(700, 0, n_depth=800), 2, warmup=False)
    assert [p[0] for _, p, *_ in steps] == 2 * [0, 512, 800, 1312]
    assert [len(p) for _, p, *_ in steps] == 2 * [512, 288, 512, 188]


def test_the_clock_runs_during_the_test_alone(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that ticks once per step of the engine: warm-up and depth cost nothing."""
    clock = 0

    def run(step: Step, run: Callable[[Step], F32] = model.engine.run) -> F32:
        nonlocal clock
        clock += 1
        return run(step)

    monkeypatch.setattr(model.engine, "run", run)
    monkeypatch.setattr("time.perf_counter_ns", lambda: clock)
    runner = Runner(model, rows=16)
    assert runner.measure(Single(64, 0, n_depth=100), 3) == [4, 4, 4]
    assert runner.measure(Single(0, 7, n_depth=100), 2) == [7, 7]
    assert runner.measure(Single(17, 3), 1) == [5]
    assert runner.measure_batch(BatchTest(24, 5, 4), 2) == ([6, 6], [5, 5])
    assert runner.measure_batch(BatchTest(24, 5, 4, shared=True), 1) == ([2], [5])


def test_it_is_the_models_own_arithmetic(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit the logits of the same tokens, however they are cut."""
    runner = Runner(model, rows=48)
    with runner.sequences(2) as (a, b):
        runner.read([a, b], 70)
        last = runner.write([a, b], 3).copy()
        for sequence, row in zip((a, b), last, strict=True):
            assert row.tobytes() == model.logits(sequence.tokens)[-1].tobytes()


def test_batches_read_their_prompts_and_decode_together(model: Model, steps: Steps) -> None:
    Runner(model, rows=16).measure_batch(BatchTest(6, 2, 3), 1, warmup=False)
    reading, writing = steps[:2], steps[2:]
    a, b, c = (int(slot) for slot in dict.fromkeys(steps[0][2]))
    assert [seq for _, _, seq, _ in reading] == [[a] * 6 + [b] * 6 + [c] * 4, [c, c]]
    assert [out for *_, out in reading] == [[5, 11], [1]]
    assert [(p, seq, out) for _, p, seq, out in writing] == [([i] * 3, [a, b, c], [0, 1, 2]) for i in (6, 7)]


def test_a_shared_prompt_is_read_once(model: Model, steps: Steps) -> None:
    Runner(model).measure_batch(BatchTest(70, 2, 3, shared=True), 1, warmup=False)
    assert [len(tokens) for tokens, *_ in steps] == [70, 3, 3]
    assert BatchTest(70, 2, 3, shared=True).n_kv == 76 and BatchTest(70, 2, 3).n_kv == 216


def test_everything_is_given_back(model: Model) -> None:
    runner = Runner(model)
    runner.measure(Single(100, 5, 30), 2)
    runner.measure_batch(BatchTest(40, 5, 8), 2)
    with pytest.raises(errors.OutOfMemory), runner.sequences(9):
        pass
    assert model.engine.cache.used_bytes == model.engine.cache.kept_bytes == 0
    with runner.sequences(8):
        pass


def test_numbers_that_are_none_are_no_measurement(small_model: Small, tmp_path: Path) -> None:
    whole = small_model("llama-mix")
    with GGUFReader(whole) as r:
        offset = r.tensors["blk.1.ffn_up.weight"].offset
    raw = bytearray(whole.read_bytes())
    raw[offset : offset + 2] = b"\x00\x7e"  # a half-float NaN
    broken = tmp_path / "nan.gguf"
    broken.write_bytes(raw)
    with Model(broken, 64, 1, cache_type="F16", n_seq=2, keep=0) as m:
        with pytest.raises(errors.NonFinite):
            Runner(m).measure(Single(8, 0), 1)
        with pytest.raises(errors.NonFinite):
            Runner(m).measure_batch(BatchTest(8, 1, 2), 1)
    assert main(["bench", str(broken), "-p", "8", "-n", "0", "-t", "1"]) == 3


@pytest.mark.parametrize("rows", [0, 513])
def test_rows_beyond_a_chunk(model: Model, rows: int) -> None:
    with pytest.raises(errors.InvalidArgument, match=f"{rows} rows in a step, want 1 to 512"):
        Runner(model, rows)


@pytest.mark.parametrize("wrong", [(0, 1, 1), (1, 0, 1), (1, 1, 0), (1, 1, 513)])
def test_batches_that_cannot_be(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(errors.InvalidArgument, match=f"a batch of {wrong[2]} sequences"):
        BatchTest(*wrong)


# --- figures and what is printed ---


def test_figures_by_hand() -> None:
    row = bench.figures(Single(10, 30, 5), [1_000_000_000, 4_000_000_000])
    assert row["samples_ns"] == [1_000_000_000, 4_000_000_000] and row["samples_ts"] == [40.0, 10.0]
    assert row["avg_ns"] == 2_500_000_000 and row["stddev_ns"] == 2_121_320_344  # 3 s / sqrt 2
    assert row["avg_ts"] == 25.0 and row["stddev_ts"] == pytest.approx(30 / 2**0.5)
    assert (row["n_prompt"], row["n_gen"], row["n_depth"]) == (10, 30, 5)
    assert bench.figures(Single(10, 0), [500_000_000])["stddev_ts"] == 0.0


def test_figures_of_a_batch_by_hand() -> None:
    row = bench.batch_figures(BatchTest(100, 10, 4), [400_000_000, 600_000_000], [100_000_000, 300_000_000])
    assert (row["pp"], row["tg"], row["pl"], row["n_kv"]) == (100, 10, 4, 440)
    assert (row["t_pp"], row["t_tg"], row["t"]) == pytest.approx((0.5, 0.2, 0.7))
    assert (row["speed_pp"], row["speed_tg"], row["speed"]) == pytest.approx((800.0, 200.0, 440 / 0.7))
    shared = bench.batch_figures(BatchTest(100, 10, 4, shared=True), [500_000_000], [200_000_000])
    assert (shared["n_kv"], shared["speed_pp"]) == (140, pytest.approx(200.0))


FACTS = {
    "build_commit": "1.2",
    "fingerprint": "isa=x",
    "backends": "CPU avx2",
    "model_type": "llama 7B Q4_0",
    "model_size": 3 << 30,
    "model_n_params": 6_738_415_616,
    "n_threads": 2,
    "test": "pp512",
}


def test_the_table_is_llama_benchs() -> None:
    """Header and widths as its md output has them."""
    out = io.StringIO()
    with Printer("md", out=out) as p:
        p.row(FACTS | {"avg_ts": 63.123, "stddev_ts": 0.456})
    head, rule, row, blank, last = out.getvalue().splitlines()
    assert head == (
        "| model                          |       size |     params | backend    | threads |            test |"
        "                  t/s |"
    )
    assert rule.startswith("| ------------------------------ | ---------: | ---------: | ---------- | ------: | ")
    assert row == (
        "| llama 7B Q4_0                  |   3.00 GiB |     6.74 B | CPU avx2   |       2 |           pp512 |"
        "         63.12 \u00b1 0.46 |"
    )
    assert blank == "" and last == "build: zigllama 1.2 (isa=x)"


def test_nothing_is_printed_before_there_is_a_result() -> None:
    out = io.StringIO()
    for form in ("md", "csv", "json", "jsonl"):
        with pytest.raises(KeyError), Printer(form, out=out):
            raise KeyError
    assert out.getvalue() == ""


def test_json_is_whole_after_an_error() -> None:
    out = io.StringIO()

    def fail_after_one() -> None:
        with Printer("json", out=out) as p:
            p.row({"avg_ts": 1.0})
            raise KeyError

    with pytest.raises(KeyError):
        fail_after_one()
    assert json.loads(out.getvalue()) == [{"avg_ts": 1.0}]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["bench", *words]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_the_verb(small_model: Small, capsys: pytest.CaptureFixture[str]) -> None:
    path = small_model("llama-mix")
    words = [str(path), "-p", "8,16", "-n", "4", "-pg", "4,2", "-d", "0,32", "-t", "1,2", "-r", "2"]
    rows = json.loads(run(capsys, *words, "-o", "json"))
    names = ["pp8", "pp16", "tg4", "pp4+tg2"]
    names += [f"{name} @ d32" for name in names]
    assert [(r["n_threads"], r["test"]) for r in rows] == [(n, name) for n in (1, 2) for name in names]
    first = rows[0]
    with GGUFReader(path) as reader:
        assert first["model_size"] == sum(t.n_bytes for t in reader.tensors.values())
        assert first["model_n_params"] == sum(int(np.prod(t.shape)) for t in reader.tensors.values())
    assert first["model_type"] == "llama 1M Q4_1" and first["model_filename"] == str(path)
    assert (first["type_k"], first["type_v"]) == ("f16", "f16")
    assert "cache=f16" in first["fingerprint"] and first["execution"] == "tape"
    for row in rows:
        n = row["n_prompt"] + row["n_gen"]
        assert len(row["samples_ns"]) == 2
        assert row["samples_ts"] == pytest.approx([1e9 * n / t for t in row["samples_ns"]])
        assert row["avg_ts"] == pytest.approx(np.mean(row["samples_ts"]))
    lines = [json.loads(line) for line in run(capsys, *words, "-o", "jsonl").splitlines()]
    assert [(r["n_threads"], r["test"]) for r in lines] == [(r["n_threads"], r["test"]) for r in rows]
    table = list(csv.DictReader(io.StringIO(run(capsys, *words, "-o", "csv"))))
    assert [r["test"] for r in table] == [r["test"] for r in rows]
    assert set(rows[0]) - set(table[0]) == {"samples_ns", "samples_ts"}
    shown = run(capsys, *words)
    assert shown.count(" tg4 @ d32 |") == 2 and "build: zigllama" in shown


def test_the_verb_with_batches(small_model: Small, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-m", str(small_model("llama-mix")), "-npp", "8", "-ntg", "4", "-npl", "1-4*2", "-t", "1"]
    rows = json.loads(run(capsys, *words, "--json"))
    assert [(r["pp"], r["tg"], r["pl"], r["n_kv"]) for r in rows] == [(8, 4, b, 12 * b) for b in (1, 2, 4)]
    for r in rows:
        assert r["speed_tg"] == pytest.approx(4 * r["pl"] / r["t_tg"]) and len(r["samples_tg_ns"]) == 1
    head, rule, *shown = run(capsys, *words).splitlines()
    names = "PP TG B N_KV T_PP_s S_PP_t/s T_TG_s S_TG_t/s T_s S_t/s"
    assert [name.strip().replace(" s", "_s").replace(" t", "_t") for name in head.split("|")[1:-1]] == names.split()
    assert set(rule) <= set("|-: ") and [line.split()[5] for line in shown[:3]] == ["1", "2", "4"]


def test_the_verb_measures_what_is_asked_for(small_model: Small, capsys: pytest.CaptureFixture[str]) -> None:
    """Several models, other engines, another cache, smaller steps: the result says what ran."""
    names = ["llama-mix", "llama-f32"]
    paths = [str(small_model(name)) for name in names]
    common = ["-p", "8", "-n", "0", "-r", "1", "-t", "1", "--json"]
    rows = json.loads(run(capsys, paths[0], "-m", paths[1], *common))
    assert [r["model_filename"] for r in rows] == paths and {r["type_k"] for r in rows} == {"f16"}
    assert json.loads(run(capsys, "-m", ",".join(paths), *common))[1]["model_filename"] == paths[1]
    (row,) = json.loads(run(capsys, paths[0], *common, "--isa", "generic", "-ctk", "f32", "-ctv", "F32", "-ub", "4"))
    assert row["backends"] == "CPU generic" and "isa=generic cache=f32" in row["fingerprint"]
    assert (row["type_k"], row["type_v"], row["n_ubatch"]) == ("f32", "f32", 4)
    (row,) = json.loads(run(capsys, paths[0], *common, "--backend", "reference"))
    assert row["backends"] == "CPU NumPy" and row["execution"] == "reference"
    assert main(["bench", paths[0], *common, "--progress"]) == 0
    assert "pp8" in capsys.readouterr().err


def test_defaults_are_llama_benchs(
    small_model: Small, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[Any, ...]] = []

    def measure(self: Runner, test: Any, repetitions: int, *, warmup: bool) -> Any:
        asked.append((getattr(test, "name", test), repetitions, warmup, self.rows))
        return [1] if isinstance(test, Single) else ([1], [1])

    monkeypatch.setattr(Runner, "measure", measure)
    monkeypatch.setattr(Runner, "measure_batch", measure)
    path = str(small_model("llama-mix"))
    run(capsys, path)
    run(capsys, path, "-npl", "2", "--no-warmup")
    assert asked == [
        ("pp512", 5, True, 512),
        ("tg128", 5, True, 512),
        (BatchTest(512, 128, 2), 1, False, 512),
    ]


def test_lists_and_ranges() -> None:
    assert numbers("-p", ["1,2", "3"], [9]) == [1, 2, 3]
    assert numbers("-p", None, [9]) == [9]
    assert numbers("-p", ["0"], [9]) == [0]
    assert numbers("-p", ["2-4,8-32*2,1-6+2"], []) == [2, 3, 4, 8, 16, 32, 1, 3, 5]
    assert pairs(["512,128", "4,0"]) == [(512, 128), (4, 0)]


@pytest.mark.parametrize("word", ["", "x", "-1", "1.5", "4-", "1-8*1", "0-4*2", "1-4+0", "1,,2", "1-1000000000"])
def test_bad_lists(word: str) -> None:
    with pytest.raises(UsageError, match="-p"):
        numbers("-p", [word], [9])


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-p", "0", "-n", "0"], "nothing to measure"),
        (["-p", "many"], "-p 'many'"),
        (["-pg", "512"], "-pg '512'"),
        (["-r", "0"], "-r 0"),
        (["-npl", "2", "-d", "4"], "-npl with"),
        (["-npl", "2", "-pg", "4,4"], "-npl with"),
        (["-npl", "0"], "a batch of 0 sequences"),
        (["-pps"], "-pps without -npl"),
        (["-ctk", "f16", "-ctv", "f32"], "one type"),
        (["-ctk", "q3_x"], "q3_x"),
        (["-ub", "4096"], "4096 rows"),
        (["-t", "0"], "0"),
        (["-o", "xml"], "xml"),
        (["--isa", "nonesuch"], "nonesuch"),
    ],
)
def test_wrong_commands(words: list[str], text: str, small_model: Small, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(small_model("llama-mix")), *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and text.lower() in err.lower()


def test_no_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench"]) == 2
    assert "which model?" in capsys.readouterr().err
