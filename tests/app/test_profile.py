"""`profile`: what counts as a regression, that two runs of one build are none, and what it prints and keeps.

Nothing here depends on how fast this machine is: figures are given, or drawn from known distributions.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from zigllama.app import bench, sides
from zigllama.app.comparison import Figure, Interval, Pair, Turns, Verdict, bootstrap_ratio, judge_apart, judge_pairs
from zigllama.app.console import UsageError
from zigllama.app.main import main
from zigllama.app.sides import Baseline, Side
from zigllama.app.verbs import profile as verb
from zigllama.errors import BadMetadata, NativeError

Small = Callable[[str], Path]
F64 = npt.NDArray[np.float64]
ROUNDS, THRESHOLD, TRIALS = 10, 0.03, 400

# --- what counts as a regression --------------------------------------------------------------------------------------


def calm(rng: np.random.Generator, n: int) -> F64:
    """Seconds of a quiet machine: 2% to either side."""
    return 1 + 0.02 * rng.standard_normal(n)


def noisy(rng: np.random.Generator, n: int) -> F64:
    """Of a shared one: 8%."""
    return np.exp(0.08 * rng.standard_normal(n))


def disturbed(rng: np.random.Generator, n: int) -> F64:
    """Of one that is now and then taken away: every fifth run takes up to twice as long."""
    return calm(rng, n) * np.where(rng.random(n) < 0.2, 1 + rng.random(n), 1)


def pairs_of(a: Iterable[float], b: Iterable[float]) -> list[Pair]:
    return [Pair(Figure(1 / s, 1, 1), Figure(1 / t, 1, 1)) for s, t in zip(a, b, strict=True)]


@pytest.mark.parametrize("draw", [calm, noisy, disturbed])
def test_two_runs_of_one_build_are_no_regression(draw: Callable[[np.random.Generator, int], F64]) -> None:
    """Of 400 comparisons of ten pairs at most 1 in 100 may cry wolf; without the threshold, the interval alone, about
    the 2.5% that its lower end leaves (twice that is allowed: of ten pairs the bootstrap knows the spread roughly)."""
    rng = np.random.default_rng(1)
    verdicts = [judge_pairs(pairs_of(draw(rng, ROUNDS), draw(rng, ROUNDS)), THRESHOLD) for _ in range(TRIALS)]
    assert sum(v.regressed for v in verdicts) <= TRIALS // 100
    assert sum(v.improved for v in verdicts) <= TRIALS // 100
    assert 0 < sum(v.ratio.low > 1 for v in verdicts) <= TRIALS // 20


def test_a_tenth_slower_is_found() -> None:
    rng = np.random.default_rng(2)
    found = {
        draw.__name__: sum(
            judge_pairs(pairs_of(draw(rng, ROUNDS), 1.1 * draw(rng, ROUNDS)), THRESHOLD).regressed for _ in range(100)
        )
        for draw in (calm, disturbed)
    }
    assert found["calm"] == 100
    assert found["disturbed"] >= 25  # less surely, but not by chance: of equal builds it would be 1 at most


def test_the_wolf_is_not_hidden_by_the_order_of_turns() -> None:
    """The machine slows down steadily by a fifth over the pairs: both sides see it, the ratio does not."""
    drift = np.linspace(1, 1.2, ROUNDS)
    assert not judge_pairs(pairs_of(drift, drift), THRESHOLD).regressed
    assert judge_pairs(pairs_of(drift, 1.1 * drift), THRESHOLD).regressed


def test_apart_the_probe_stands_for_the_machine() -> None:
    rng = np.random.default_rng(3)
    then = [Figure(s, 50, 50) for s in 100 / calm(rng, ROUNDS)]
    slower_machine = [Figure(s, 25, 25) for s in 50 / calm(rng, ROUNDS)]
    slower_build = [Figure(s, 25, 25) for s in 50 / 1.1 / calm(rng, ROUNDS)]
    assert not judge_apart(then, slower_machine, THRESHOLD).regressed
    assert judge_apart(then, slower_build, THRESHOLD).regressed
    assert judge_apart(slower_build, then, THRESHOLD).improved
    assert bootstrap_ratio([3.0] * 5, [2.0] * 4) == Interval(1.5, 1.5, 1.5)
    with pytest.raises(ValueError, match="no values"):
        bootstrap_ratio([], [1.0])


def test_verdicts_in_words() -> None:
    assert "REGRESSED by more than 3%" in str(Verdict(Interval(1.1, 1.04, 1.2), 10, 0.03))
    assert "no regression" in str(Verdict(Interval(1.1, 1.02, 1.2), 10, 0.03))
    assert "improved" in str(Verdict(Interval(0.9, 0.8, 0.96), 10, 0.03))
    few = judge_pairs(pairs_of([1.0] * 4, [2.0] * 4), 0.03)
    assert few.undecided and not few.regressed and "undecided: 4 pairs" in str(few)
    assert judge_pairs([], 0.03).undecided


def test_turns_alternate_and_a_changed_machine_drops_a_pair() -> None:
    order: list[str] = []

    def runs(name: str) -> Callable[[], float]:
        return lambda: order.append(name) or 1.0  # type: ignore[func-returns-value]

    probes: Iterator[float] = itertools.chain([10, 10, 10, 10, 20], itertools.repeat(20.0))
    turns = Turns(lambda: next(probes), lambda text: None)
    turns.begin()
    kept, dropped = turns.in_turn(runs("a"), runs("b"), 3, drop=True, name="t")
    assert "".join(order) == "abbaabba" and len(kept) == 3
    assert [p.drift for p in dropped] == [2.0]  # the second pair


# --- sides and baselines ----------------------------------------------------------------------------------------------


def test_sides(tmp_path: Path) -> None:
    assert str(Side.parse([])) == "this build" and Side.parse([]).python == sys.executable
    side = Side.parse(["ZIGLLAMA_ISA=avx2", "ZIGLLAMA_TAPE=0"])
    assert str(side) == "ZIGLLAMA_ISA=avx2 ZIGLLAMA_TAPE=0"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    assert Side.parse([str(tmp_path), "A=1"]) == Side(str(tmp_path / "bin" / "python"), (("A", "1"),))
    for words, says in ((["/nowhere"], "neither NAME=VALUE"), ([sys.executable, sys.executable], "two interpreters")):
        with pytest.raises(UsageError, match=says):
            Side.parse(words)


def test_a_side_is_a_process_with_its_settings(small_model: Small) -> None:
    """Its settings reach it, its error is ours, its build has a digest."""
    path = small_model("llama-mix")
    assert Side().runner(path, bench.Test(8, 0), 1, ["-t", "1"])() > 0
    with pytest.raises(NativeError, match=r"ZIGLLAMA_ISA=nothing: exit code \d+ of .*unknown ISA variant 'nothing'"):
        Side(settings=(("ZIGLLAMA_ISA", "nothing"),)).runner(path, bench.Test(8, 0), 1, [])()
    build = Side().build()
    assert len(build["digest"]) == 64 and build["python"] == sys.executable


def baseline(**changes: object) -> Baseline:
    fields: dict[str, object] = {
        "build": {"version": "0", "digest": "x", "python": "/nowhere"},
        "model": {"file": "m.gguf", "n_bytes": 1},
        "machine": {"cpu": "c", "n_threads": 2},
        "settings": {},
        "flags": ["-t", "2"],
        "figures": {"pp8": [Figure(1.0, 2.0, 3.0)]},
        "probes": {"pp8": "int8"},
    }
    return Baseline(**(fields | changes))  # type: ignore[arg-type]


def test_a_baseline_is_kept_whole(tmp_path: Path) -> None:
    file = tmp_path / "base.json"
    baseline().save(file)
    assert Baseline.load(file) == baseline() and os.listdir(tmp_path) == ["base.json"]
    assert not baseline().still_there()
    assert baseline().differences({"file": "m.gguf", "n_bytes": 2}, {"cpu": "c", "n_threads": 2}) == [
        "model n_bytes: 1 then, 2 now"
    ]
    for text in (
        "",
        "[]",
        "{}",
        '{"format": 9}',
        '{"format": 1, "figures": {}}',
        '{"format": 1, "figures": {"a": [3]}}',
    ):
        file.write_text(text)
        with pytest.raises(BadMetadata, match="not a baseline"):
            Baseline.load(file)


# --- the verb ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def speeds(monkeypatch: pytest.MonkeyPatch) -> dict[str, Iterator[float]]:
    """By side (as text) the speeds that it gives, in turn; the probe always gives 10."""
    given: dict[str, Iterator[float]] = {}
    monkeypatch.setattr(sides.Side, "runner", lambda self, *rest: lambda: next(given[str(self)]))
    monkeypatch.setattr(sides.Side, "build", lambda self: {"version": "1", "digest": "d" * 64, "python": "/nowhere"})

    def probes(n_threads: int, tests: list[bench.Test]) -> dict[str, tuple[str, Callable[[], float]]]:
        return {t.name: ("read", lambda: 10.0) for t in tests}

    monkeypatch.setattr(verb, "machine_probes", lambda n, tests: nullcontext(probes(n, tests)))
    return given


def around(middle: float, seed: int) -> Iterator[float]:
    rng = np.random.default_rng(seed)
    while True:
        yield middle / float(calm(rng, 1)[0])


@pytest.mark.parametrize(("speed", "code"), [(100.0, 0), (90.0, 1), (112.0, 0)])
def test_exit_codes(
    speeds: dict[str, Iterator[float]],
    small_model: Small,
    capsys: pytest.CaptureFixture[str],
    speed: float,
    code: int,
) -> None:
    speeds |= {"this build": around(100.0, 1), "X=1": around(speed, 2)}
    words = ["profile", str(small_model("llama-mix")), "-p", "8", "-n", "4", "--b", "X=1", "--json"]
    assert main(words) == code
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert set(found["tests"]) == {"pp8", "tg4"}
    assert {t["regressed"] for t in found["tests"].values()} == {code == 1}
    assert found["method"] == "in turn" and "A: this build; B: X=1" in err


def test_a_baseline_whose_build_is_gone_is_compared_per_probe(
    speeds: dict[str, Iterator[float]], small_model: Small, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["profile", str(small_model("llama-mix")), "-p", "8", "-n", "0", "-t", "1"]
    file = str(tmp_path / "base.json")
    speeds["this build"] = around(100.0, 3)
    assert main([*words, "--save", file]) == 0
    assert capsys.readouterr().out == ""
    assert main([*words, "--baseline", file]) == 0
    out, err = capsys.readouterr()
    assert "no regression" in out and "is gone" in err and "weaker test" in err
    speeds["this build"] = around(90.0, 4)
    assert main([*words, "--baseline", file]) == 1
    assert "pp8: " in capsys.readouterr().out
    other = ["profile", str(small_model("llama-f32")), "-p", "8", "-n", "0", "-t", "1", "--baseline", file]
    assert main(other) == 2
    assert "is of something else: model file" in capsys.readouterr().err
    assert main([*words[:-1], "2", "--baseline", file]) == 2
    capsys.readouterr()
    assert main([*words, "-r", "5", "-ctk", "q8_0", "--baseline", file]) == 2
    assert "was made with -t 1 -r 3, this is -t 1 -ctk Q8_0 -r 5" in capsys.readouterr().err
    assert main([*words[:3], "16", "-n", "0", "-t", "1", "--baseline", file]) == 3
    assert "has no pp16; it has pp8" in capsys.readouterr().err


def test_too_restless_a_machine_is_said(
    speeds: dict[str, Iterator[float]],
    small_model: Small,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    speeds["this build"] = around(100.0, 5)
    values = itertools.cycle([10.0, 20.0])
    restless = {"pp8": ("read", lambda: next(values))}
    monkeypatch.setattr(verb, "machine_probes", lambda n, tests: nullcontext(restless))
    assert main(["profile", str(small_model("llama-mix")), "-p", "8", "-n", "0", "--compare"]) == 4
    assert "undecided: 0 pairs" in capsys.readouterr().out


def test_the_tables(small_model: Small, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["profile", str(small_model("llama-mix")), "-p", "16", "-n", "4", "-r", "2", "-t", "1"]
    assert main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for part in ("prefill: 32 tokens in 2 steps", "decode: 8 tokens in 8 steps", "linear output", "high-water mark"):
        assert part in out
    assert main([*words, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["decode"]["steps"] == 8 and found["n_threads"] == 1 and found["architecture"] == "llama"
    assert main([*words, "-ctk", "f32", "--float-compute", "f32"]) == 0
    assert "cache=f32 float=f32" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-p", "0", "-n", "0"], "nothing to measure"),
        (["--rounds", "0"], "--rounds"),
        (["--compare", "--rounds", "4"], "fewer than 5"),
        (["--save", "a", "--compare"], "one thing at a time"),
        (["--save", "a", "--baseline", "b"], "--save and --baseline"),
        (["--b", "/nowhere/python"], "neither NAME=VALUE"),
        (["-ctk", "f16", "-ctv", "f32"], "keys and values have one type"),
    ],
)
def test_wrong_commands(words: list[str], says: str, small_model: Small, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", str(small_model("llama-mix")), *words]) == 2
    assert says in capsys.readouterr().err


def test_a_baselines_side_has_its_settings_and_none_of_todays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIGLLAMA_ISA", "generic")
    monkeypatch.setenv("ZIGLLAMA_CACHE", "kept")
    made = Baseline({"python": sys.executable}, {}, {}, {"ZIGLLAMA_TAPE": "0"}, [])
    found = {n: v for n, v in made.side._environment().items() if n.startswith("ZIGLLAMA_")}
    assert found == {"ZIGLLAMA_TAPE": "0", "ZIGLLAMA_CACHE": "kept"}
    assert Side()._environment()["ZIGLLAMA_ISA"] == "generic"


def test_a_build_is_its_python_files_too(tmp_path: Path) -> None:
    """Two copies of the package that differ in one source are two builds."""
    found = []
    for name in ("a", "b"):
        package = tmp_path / name / "zigllama"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("__version__ = '0'\n")
        (package / "_ckernels.so").write_bytes(b"the same")
        (package / "_ckernels.py").write_text("")
        (package / "sampling.py").write_text(f"# {name}\n")
        code = f"import sys; sys.path.insert(0, {str(tmp_path / name)!r})\n" + sides._DIGEST
        command = [sys.executable, "-S", "-c", code]  # an editable install would come first
        out = subprocess.run(command, text=True, capture_output=True, check=True, cwd=tmp_path)
        found.append(json.loads(out.stdout)["digest"])
    assert found[0] != found[1]
