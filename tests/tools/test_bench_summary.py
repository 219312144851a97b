"""The benchmarks' method: medians and intervals, which pairs count, which peer is best, what a floor makes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import small_models
from bench import report
from bench.contestants import Job, batch_speed
from bench.pairs import Bench, Figure, Pair
from bench.probe import Probes
from bench.rows import ROWS, Row, choose
from bench.summary import Interval, bootstrap, table, verdict

DECODE = Row("m", "tg8", 1.2, 1.5, n_gen=8)
PREFILL = Row("m", "pp8", 1.2, 1.5, n_prompt=8)


class Runner:
    """A contestant with given speeds, one after another and again from the start; `order` is written by all."""

    def __init__(self, name: str, speeds: list[float], order: list[str]) -> None:
        self.name, self.speeds, self.order, self.n = name, speeds, order, 0

    def run(self, job: Job) -> float:
        self.order.append(self.name)
        self.n += 1
        return self.speeds[(self.n - 1) % len(self.speeds)]

    def describe(self) -> dict[str, Any]:
        return {"name": self.name}


def bench_with(probes: list[float]) -> Bench:
    """A bench whose probe gives these figures, then the last one for ever."""

    def values() -> Iterator[float]:
        yield from probes
        while True:
            yield probes[-1]

    found = values()
    return Bench(lambda: next(found), lambda text: None)


def job(row: Row) -> Job:
    return Job(row, Path("m.gguf"))


def test_the_interval_of_a_median() -> None:
    """Of equal values no width; of ten spread ones inside them, around the median, and wider for fewer."""
    assert bootstrap([1.5] * 8) == Interval(1.5, 1.5, 1.5)
    ten = [1.0 + i / 10 for i in range(10)]
    i = bootstrap(ten)
    assert i.median == median(ten) and 1.0 < i.low < i.median < i.high < 1.9
    assert i == bootstrap(ten)
    # The 2.5% quantile of a resampled median of 1, 2, 3: it is 1 with probability P(two or more ones) = 7/27.
    assert bootstrap([3.0, 1.0, 2.0]) == Interval(2.0, 1.0, 3.0)
    # Of eleven values the median is below the third smallest where six or more of eleven draws are among the two
    # smallest: 0.7%; below the fourth: 5.6%. So the 2.5% quantile is the third, and by symmetry the 97.5% the ninth.
    assert bootstrap([float(v) for v in range(1, 12)]) == Interval(6.0, 3.0, 9.0)
    with pytest.raises(ValueError, match="no values"):
        bootstrap([])


@pytest.mark.parametrize(
    ("value", "lower", "expected"),
    [
        (Interval(1.25, 1.0, 1.3), False, "met"),
        (Interval(1.24, 1.2, 1.26), False, "open"),
        (Interval(1.2, 1.1, 1.24), False, "missed"),
        (Interval(1.25, 1.0, 1.3), True, "met"),
        (Interval(1.26, 1.24, 1.3), True, "open"),
        (Interval(1.3, 1.26, 1.4), True, "missed"),
    ],
)
def test_a_floor_is_met_open_or_missed(value: Interval, lower: bool, expected: str) -> None:
    assert verdict(value, 1.25, lower_is_better=lower) == expected


def test_a_table_is_aligned() -> None:
    assert table(["a", "bb"], [["xyz", "1"]]) == "| a   | bb |\n|-----|----|\n| xyz | 1  |"


# --- pairs ---


def test_pairs_are_adjacent_and_their_order_alternates() -> None:
    order: list[str] = []
    bench = bench_with([10.0])
    bench.begin()
    kept, dropped = bench.pairs(Runner("o", [6.0], order), Runner("p", [4.0], order), job(PREFILL), 4)
    assert "".join(order) == "op" + "po" + "op" + "po"
    assert len(kept) == 4 and not dropped and {p.ratio for p in kept} == {1.5}


def test_a_figures_probe_is_the_mean_of_those_before_and_after() -> None:
    bench = bench_with([10.0, 12.0, 20.0])
    bench.begin()
    runner = Runner("o", [6.0], [])
    first, second = bench.figure(runner, job(DECODE)), bench.figure(runner, job(DECODE))
    assert (first, second) == (Figure(6.0, 10.0, 12.0), Figure(6.0, 12.0, 20.0))
    assert (first.probe, second.probe) == (11.0, 16.0)


def test_pairs_whose_probes_differ_are_dropped_where_memory_decides() -> None:
    """Each of its three counts: 10, 10, 13 and 10, 13, 10 are both too far apart."""
    for row, n_dropped in ((DECODE, 1), (PREFILL, 0)):
        bench = bench_with([10.0, 10.0, 13.0, 13.0])
        bench.begin()
        kept, dropped = bench.pairs(Runner("o", [6.0], []), Runner("p", [4.0], []), job(row), 3)
        assert (len(kept), len(dropped)) == (3, n_dropped)
    for probes in ((10.0, 11.0, 10.5), (11.0, 10.0, 10.5), (10.5, 10.0, 11.0)):
        pair = Pair(Figure(1, *probes[:2]), Figure(1, *probes[1:]))
        assert pair.drift == pytest.approx(1.1)


def test_patience_ends() -> None:
    bench = bench_with([10.0, 20.0] * 100)
    bench.begin()
    kept, dropped = bench.pairs(Runner("o", [6.0], []), Runner("p", [4.0], []), job(DECODE), 4)
    assert len(kept) == 0 and len(dropped) == 12
    bench = bench_with([10.0] * 7 + [10.0, 20.0] * 100)
    bench.begin()
    kept, dropped = bench.pairs(Runner("o", [6.0], []), Runner("p", [4.0], []), job(DECODE), 4)
    assert len(kept) == 3 and len(dropped) == 9


def test_of_a_restless_machine_all_pairs_are_shown() -> None:
    """None is kept, and what they all say stands beside it."""
    wild = [float(10 * (1 + 3 * (i // 2 % 2))) for i in range(1000)]  # 10 10 40 40 10 10 ...
    found = bench_with(wild).compare(Runner("o", [6.0], []), [Runner("p", [4.0], [])], job(DECODE), 2, tries=5)
    assert (found["n_pairs"], found["n_all"], found["ratios"]) == (0, 5, {})
    assert found["ratio_of_all"] == [1.5, 1.5, 1.5] and (found["ours"], found["theirs"]) == (6.0, 4.0)


def test_the_best_peer_is_found_and_the_warm_up_forgotten() -> None:
    """The first figure of each is far off and counts nowhere; `slow` is scouted and left; of two close peers the
    one with the lower ratio counts."""
    order: list[str] = []
    ours = Runner("o", [999.0, *[6.0] * 100], order)
    near = Runner("near", [1.0, *[4.0] * 100], order)
    best = Runner("best", [1.0, *[4.1] * 100], order)
    slow = Runner("slow", [100.0, *[3.0] * 100], order)
    result = bench_with([10.0]).compare(ours, [near, best, slow], job(DECODE), 8)
    assert order[:4] == ["o", "near", "best", "slow"]
    assert order.count("slow") == 1 + 3 and order.count("near") == order.count("best") == 1 + 3 + 8
    assert result["best_peer"] == "best" and result["ratio"] == pytest.approx([6 / 4.1] * 3)
    assert set(result["ratios"]) == {"near", "best"} and result["n_pairs"] == 8
    assert (result["ours"], result["theirs"], result["probe"], result["ours_per_probe"]) == (6.0, 4.1, 10.0, 0.6)
    assert result["pairs"]["best"] == {"kept": [[6.0, 4.1, 10.0, 10.0]] * 8, "dropped": []}


def test_scouts_of_decoding_are_judged_by_speed_per_probe() -> None:
    """Fast, but only while the memory was fast too; and a median, so that one disturbed figure decides nothing."""
    probes = [20.0, 20.0, 10.0, 10.0]
    a, b = Runner("a", [8.0, 8.0, 3.6], []), Runner("b", [5.0], [])
    bench = bench_with(probes)
    bench.begin()
    assert [p.name for p in bench.scout([a, b], job(DECODE))] == ["b"]  # medians of .4 .8 .36 and of .33 .5 .5
    bench = bench_with(probes)
    bench.begin()
    assert [p.name for p in bench.scout([Runner("a", [8.0, 8.0, 3.6], []), b], job(PREFILL))] == ["a"]


def test_ours_alone_without_peers() -> None:
    result = bench_with([10.0]).compare(Runner("o", [1.0, 5.0, 6.0, 7.0], []), [], job(DECODE), 3)
    assert result == {"ours": 6.0, "probe": 10.0, "ours_per_probe": 0.6, "samples": [5.0, 6.0, 7.0]}


def test_llama_batched_benchs_table_is_read() -> None:
    row = Row("m", "batch 8", 1, 1, n_prompt=32, n_gen=16, n_seq=8)
    head = "main: n_kv_max = 512\n|    PP |     TG |    B |   N_KV |\n|-------|--------|------|--------|\n"
    first = "|    32 |     16 |    8 |    384 |    1.000 |   256.00 |    2.000 |    64.00 |    3.000 |   128.00 |\n"
    second = first.replace("64.00", "65.50")
    other = first.replace(" 8 |", " 4 |").replace("64.00", "99.00")
    assert batch_speed(head + first + second + other, row) == 65.5
    for text in (head, head + first, head + other + other):
        with pytest.raises(SystemExit, match="expected 2"):
            batch_speed(text, row)


# --- rows and results ---


def test_rows_have_names_of_their_own_and_are_found_by_them() -> None:
    names = [row.name for row in ROWS]
    assert len(set(names)) == len(names)
    assert [r.name for r in choose(["smollm2 tg128"])] == ["smollm2 tg128"]
    assert [r.name for r in choose(["7b", "memory", "7b-q4_0 tg32"])] == [
        "7b-q4_0 tg32",
        "smollm2 memory",
        "1.1b-q4_0 memory",
    ]
    assert choose(None) == list(ROWS)
    with pytest.raises(SystemExit, match="no row is called 'pp9000'"):
        choose(["pp9000"])


def test_which_rows_the_memory_decides() -> None:
    bound = {row.test for row in ROWS if row.memory_bound}
    assert "tg128" in bound and "batch 8" in bound and not bound & {"pp512", "start", "memory", "python share"}


def test_results_are_kept_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    content = report.keep(path, report.load(path), "a", {"ours": 1})
    report.keep(path, content, "b", {"ours": 2})
    content = report.keep(path, report.load(path), "a", {"ours": 3})
    assert content["rows"] == {"a": {"ours": 3}, "b": {"ours": 2}} == json.loads(path.read_text())["rows"]
    assert [p.name for p in tmp_path.iterdir()] == ["table.json"]
    assert report.keep(None, {"rows": {}}, "a", {}) == {"rows": {"a": {}}}
    path.write_text("[1]")
    with pytest.raises(ValueError, match="no results of this tool"):
        report.load(path)


def test_what_a_token_costs(tmp_path: Path) -> None:
    """By hand: of a tied model every byte is read, of another all but the embedding."""
    for name in ("llama-q4_k", "llama-f32"):
        shape = small_models.MODELS[name]
        cost = report.work(small_models.build(name, tmp_path))
        q, kv = shape.n_head * shape.head_dim, shape.n_head_kv * shape.head_dim
        layer = shape.n_embd * (2 * q + 2 * kv + 3 * shape.n_ff)
        assert cost["operations"] == 2 * shape.n_layer * layer
        tokens = small_models.metadata(name, shape)["tokenizer.ggml.tokens"]
        assert isinstance(tokens, list)
        norms = (2 * shape.n_layer + 1) * shape.n_embd
        per_weight = {"Q4_K": 144 / 256, "F32": 4}[shape.kind]
        matrices = shape.n_layer * layer + len(tokens) * shape.n_embd
        assert cost["bytes"] == matrices * per_weight + 4 * norms


def result(**values: Any) -> dict[str, Any]:
    return {"ours_about": {"name": "zigllama", "version": "1"}, **values}


def test_lines_of_the_table() -> None:
    about = {"name": "ik", "version": "2", "flags": ["-rtr", "1"], "system_info": "AVX = 1"}
    rows = {
        "1.1b-q4_0 pp512": result(
            ours=500.0,
            theirs=400.0,
            best_peer="ik",
            ratio=[1.25, 1.2, 1.3],
            share=["int8", 0.456],
            peers=[about],
            n_pairs=8,
        ),
        "1.1b-q4_0 pp512 [avx2]": result(
            ours=5.0,
            theirs=4.0,
            best_peer="ik",
            ratio=[1.25, 1.2, 1.3],
            isa="avx2",
            n_pairs=5,
            n_all=9,
            ratio_of_all=[1.2, 1.1, 1.3],
        ),
        "smollm2 python share": result(ratio=[0.03, 0.025, 0.04]),
        "smollm2 memory": result(ours=170e6, ratio=[70.1, 69.0, 71.0]),
        "smollm2 start": result(ours=0.15, theirs=0.25, best_peer="llama-cpp-python", ratio=[0.6, 0.5, 0.7]),
        "gemma3-270m tg128": result(ours=12.0),
    }
    lines = report.show({"rows": rows}).splitlines()
    cells = [[c.strip() for c in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    assert cells == [
        ["row", "zigllama", "best peer", "ratio (95%)", "floor", "goal", "share", "floor is"],
        [
            "1.1b-q4_0 pp512",
            "500.0 t/s",
            "400.0 t/s ik",
            "1.25 (1.20 .. 1.30)",
            "1.40x",
            "60% of int8 peak",
            "46% of int8 peak",
            "missed",
        ],
        ["gemma3-270m tg128", "12.0 t/s", "", "", "1.00x", "1.05x", "", ""],
        ["smollm2 python share", "", "", "3% (2% .. 4%)", "5%", "2%", "", "met"],
        ["smollm2 start", "150 ms", "250 ms llama-cpp-python", "0.60 (0.50 .. 0.70)", "0.65x", "0.50x", "", "met"],
        ["smollm2 memory", "170 MB", "", "70 MB (69 MB .. 71 MB)", "64 MB", "48 MB", "", "missed"],
        [
            "1.1b-q4_0 pp512 [avx2]",
            "5.0 t/s",
            "4.0 t/s ik",
            "1.25 (1.20 .. 1.30), 5 pairs; of all 9: 1.20 (1.10 .. 1.30)",
            "1.00x",
            "60% of int8 peak",
            "",
            "open",
        ],
    ]
    assert lines[-2:] == ["zigllama: 1", "ik (flags -rtr 1): 2; AVX = 1"]
    assert report.show({"rows": {}}) == "no results yet"


def test_probes_measure_something() -> None:
    """Between what a computer of twenty years ago and one of the next ten could do."""
    with Probes() as probes:
        assert 0.1 < probes.read(1, megabytes=64, seconds=0.02) < 5_000
        int8, f32 = (probes.peak(kind, 1, seconds=0.05) for kind in ("int8", "f32"))
        assert 0.5 < f32 < 100_000 and 0.5 < int8 < 100_000  # on a busy machine either may be higher
        assert [c.n_threads for c in probes.contexts.values()] == [1]
    assert probes.contexts[1].closed
