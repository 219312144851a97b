"""`tools/bench_peers.py` from end to end: ours on small models, against programs that print what llama-bench would."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench_peers
import pytest
from bench import contestants
from bench.contestants import IkLlamaCpp, Job, LlamaCpp, Ours
from bench.probe import Probes
from bench.rows import Row
from bench.single import python_share

import zigllama as zl
from zigllama.app.catalogue import CATALOGUE

# Programs that answer as llama.cpp's do, always with the same speed: what they were asked for, they say they measured.
BENCH = """#!{python}
import json, sys
a = dict(zip(sys.argv[1::2], sys.argv[2::2]))
p, n, d = int(a["-p"]), int(a["-n"]), int(a.get("-d", 0))
if "-gp" in a:
    p, n = map(int, a["-gp"].split(","))
row = {{"build_commit": "abc", "build_number": 7, "cpu_info": "a cpu", "n_prompt": p, "n_gen": n,
        "samples_ts": [1.0, {speed}, {speed}]}}
if {depth}:
    row["n_depth"] = d
print("a line before")
print(json.dumps([row]))
"""
BATCH = """#!{python}
import sys
words = [w for w in sys.argv[1:] if w != "-pps"]
a = dict(zip(words[::2], words[1::2]))
assert len(words) == len(sys.argv) - 2
open("llama.log", "w").close()
assert int(a["-c"]) >= int(a["-npl"].split(",")[0]) * (int(a["-npp"]) + int(a["-ntg"]))
for i, b in enumerate(a["-npl"].split(",")):
    print(f"| {{a['-npp']}} | {{a['-ntg']}} | {{b}} | 9 | 1.0 | 1.0 | 1.0 | {{i + 0.5}} | 1.0 | 1.0 |")
"""


def program(path: Path, text: str, **values: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text.format(python=sys.executable, **values))
    path.chmod(0o755)


@pytest.fixture
def peers(tmp_path: Path) -> Path:
    for name, speed, depth in (("llama", 0.01, True), ("ik", 0.02, False)):
        program(tmp_path / name / "llama-bench", BENCH, speed=speed, depth=depth)
        program(tmp_path / name / "llama-batched-bench", BATCH)
    return tmp_path


@pytest.fixture
def small(small_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a small model stands for the 1.1B one, and a cache where it stands for SmolLM2."""
    data = small_model("llama-mix").read_bytes()
    monkeypatch.setenv("ZIGLLAMA_CACHE", str(tmp_path / "cache"))
    for path in (tmp_path / "1.1b-q4_0.gguf", CATALOGUE["smollm2"].path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_peers.py", *map(str, words)])
    bench_peers.main()


def test_a_row_from_end_to_end(
    peers: Path, small: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Probes, "read", lambda self, n_threads: 10.0)  # the machine that runs tests has company
    out = small / "table.json"
    words = ["--models", small, "--json", out, "--pairs", "2", "--llama", peers / "llama", "--ik", peers / "ik"]
    run(monkeypatch, *words, "--only", "1.1b-q4_0 tg64")
    run(monkeypatch, "--models", small, "--json", out, "--pairs", "1", "--only", "1.1b-q4_0 pp512", "--isa", "generic")
    kept = json.loads(out.read_text())["rows"]
    assert list(kept) == ["1.1b-q4_0 tg64", "1.1b-q4_0 pp512 [generic]"]
    row = kept["1.1b-q4_0 tg64"]
    assert row["theirs"] == 0.02 and row["best_peer"].startswith("ik_llama.cpp")
    assert row["verdict"] == "open"  # two pairs are too few
    assert row["ratio"][0] == pytest.approx(row["ours"] / 0.02, rel=0.5) and row["share"][0] == "read"
    assert set(row["ratios"]) == {"ik_llama.cpp", "ik_llama.cpp -rtr"}
    assert [p["flags"] for p in row["peers"]] == [[], [], ["-rtr", "1"]]
    assert all(p["version"] == "build 7 (abc), a cpu" for p in row["peers"])
    assert row["peers"][0]["command"].startswith("llama-bench -m 1.1b-q4_0.gguf -t 2 -r 1 -p 0 -n 64")
    assert row["ours_about"]["command"].startswith("zigllama bench 1.1b-q4_0.gguf -t 2 -r 1 -p 0 -n 64 -d 0")
    alone = kept["1.1b-q4_0 pp512 [generic]"]
    assert "isa=generic" in alone["ours_about"]["system_info"] and alone["verdict"] == ""
    assert alone["share"][0] == "int8" and 0 < alone["share"][1] < 1
    shown = capsys.readouterr().out
    run(monkeypatch, "--json", out, "--show")
    assert capsys.readouterr().out.splitlines()[-1] in shown
    assert "ik_llama.cpp -rtr (flags -rtr 1): build 7 (abc), a cpu" in shown


def test_depth_and_batches_are_asked_for_as_each_peer_knows_them(
    peers: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small)
    path = small / "1.1b-q4_0.gguf"
    depth = Job(Row("m", "tg8 @ d64", 1, 1, n_gen=8, n_depth=64), path)
    batch = Job(Row("m", "batch 4", 1, 1, n_prompt=8, n_gen=4, n_seq=4), path)
    llama, ik = LlamaCpp("llama.cpp", peers / "llama"), IkLlamaCpp("ik", peers / "ik", ("-x", "1"), ("-y", "2"))
    assert llama.run(depth) == 0.01 and "-p 0 -n 8 -d 64" in llama.describe()["command"]
    assert ik.run(depth) == 0.02 and "-p 0 -n 0 -gp 64,8" in ik.describe()["command"]
    assert llama.run(batch) == ik.run(batch) == 1.5
    assert ik.describe()["command"] == (
        "llama-batched-bench -m 1.1b-q4_0.gguf -c 48 -t 2 -npp 8 -ntg 4 -npl 4,4 -pps -y 2"
    )
    assert not (small / "llama.log").exists()
    ours = Ours()
    assert ours.run(depth) > 0 and "-d 64" in ours.describe()["command"]
    assert ours.run(batch) > 0 and "-npl 4 -pps" in ours.describe()["command"]


def test_a_peer_that_measures_something_else_is_an_error(peers: Path, small: Path) -> None:
    wrong = BENCH.replace("p, n, d = int", "p, n, d = 1 + int")
    program(peers / "llama" / "llama-bench", wrong, speed=1.0, depth=True)
    job = Job(Row("m", "pp8", 1, 1, n_prompt=8), small / "1.1b-q4_0.gguf")
    with pytest.raises(SystemExit, match="asked for pp8, it measured"):
        LlamaCpp("llama.cpp", peers / "llama").run(job)


def test_a_program_that_fails_or_is_not_there(peers: Path, small: Path) -> None:
    program(peers / "llama" / "llama-bench", "#!{python}\nimport sys\nsys.exit('out of luck')\n")
    job = Job(Row("m", "pp8", 1, 1, n_prompt=8), small / "1.1b-q4_0.gguf")
    with pytest.raises(SystemExit, match=r"exit 1(.|\n)*out of luck"):
        LlamaCpp("llama.cpp", peers / "llama").run(job)
    with pytest.raises(SystemExit, match="no llama-bench here"):
        LlamaCpp("llama.cpp", peers)
    assert contestants.system_info(peers) == "no libllama.so near the programs to ask"


def test_a_model_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIGLLAMA_CACHE", str(tmp_path))
    with pytest.raises(SystemExit, match=r"`python tools/make_shape.py 7b q4_0 --folder .*` makes it"):
        run(monkeypatch, "--models", tmp_path, "--only", "7b")
    with pytest.raises(SystemExit, match="`zigllama pull smollm2` makes it"):
        run(monkeypatch, "--models", tmp_path, "--only", "smollm2 pp512")


def test_rows_of_another_kind(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Growth, Python's share, start and memory of the small model; llama-cpp-python is a module that does nothing."""
    (small / "llama_cpp.py").write_text(
        "__version__ = '0.fake'\n"
        "def llama_print_system_info(): return b'FAKE = 1 '\n"
        "class Llama:\n"
        "    def __init__(self, path, **options): pass\n"
        "    def n_vocab(self): return 9\n"
        "    def create_completion(self, prompt, **options): pass\n"
        "    def generate(self, tokens, temp):\n"
        "        assert len(tokens) == 448\n"
        "        while True: yield 1\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(small))
    out = small / "table.json"
    words = ["--models", small, "--json", out, "--pairs", "2", "--peer-python", sys.executable]
    run(monkeypatch, *words, "--only", "growth", "--only", "python", "--only", "start", "--only", "memory")
    rows = json.loads(out.read_text())["rows"]
    size = (small / "1.1b-q4_0.gguf").stat().st_size
    assert rows["smollm2 memory"]["ratio"][0] == pytest.approx((rows["smollm2 memory"]["ours"] - size) / 1e6)
    assert rows["1.1b-q4_0 memory"]["ratio"][0] == pytest.approx(rows["1.1b-q4_0 memory"]["ours"] / size)
    assert rows["smollm2 memory"]["ours"] > size and rows["smollm2 memory"]["theirs"] > 1e6
    speeds = rows["smollm2 batch growth"]["speeds"]
    assert list(speeds) == ["1", "2", "4", "8", "16", "32"] and min(speeds.values()) > 0
    assert {row["ours_about"]["version"] for row in rows.values()} == {zl.__version__}
    share = rows["smollm2 python share"]
    assert min(share["ms_per_token"]) > 0 and share["ratio"][0] < 1  # which is quicker is for a machine left alone
    start = rows["smollm2 start"]
    assert set(start["stages_ms"]) == {"zigllama", "llama-cpp-python"}
    assert sum(start["stages_ms"]["zigllama"].values()) == pytest.approx(1e3 * start["ours"], rel=0.3)
    assert start["peers"] == [{"name": "llama-cpp-python", "version": "0.fake FAKE = 1"}]


def test_the_share_of_python_is_the_median_of_its_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"seconds": [[10.0, 9.5], [10.0, 8.0], [20.0, 18.0]], "version": "1", "about": "a cpu"}
    monkeypatch.setattr("bench.single.snippet", lambda *arguments, **more: found)
    share = python_share(Row("smollm2", "python share", 5, 2), Path("m.gguf"), {}, 3)
    assert share["ratio"][0] == pytest.approx(0.1)  # of 0.05, 0.2 and 0.1
    assert share["ms_per_token"] == pytest.approx([1e3 * 10.0 / 127, 1e3 * 9.5 / 127])
