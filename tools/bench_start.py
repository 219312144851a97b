"""Time to the first token and peak memory, in turn with llama-cpp-python.

    python tools/bench_start.py MODEL.gguf --peer-python path/to/venv/bin/python --rounds 10 --json out.json

Start: a fresh interpreter imports, loads and gives the first token of a prompt of about 20 tokens; the clock runs
from before the process exists. Memory: VmHWM of `zigllama run -n 32 -c 2048`, beside 32 tokens by llama-cpp-python
with the same context, as multiples of the file. A first, unrecorded round warms the page cache.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from bench.summary import paired_ratio, table

SNIPPETS = Path(__file__).resolve().parent / "bench" / "snippets"
PROMPT = "Once upon a time there was a small lighthouse keeper who wrote a letter to the sea every"
STAGES = ("interpreter", "import", "load", "first token", "total")


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a snippet; its error is ours."""
    out = subprocess.run(command, text=True, capture_output=True, check=False)
    if out.returncode:
        raise SystemExit(f"{' '.join(command[:3])}: exit {out.returncode}\n{out.stderr[-2000:]}")
    return out


def start(python: str, snippet: str, model: Path, n_threads: int) -> tuple[list[float], str]:
    """Seconds of each stage, and the contestant's version."""
    before = time.monotonic()
    found = json.loads(run([python, str(SNIPPETS / snippet), str(model), str(n_threads), PROMPT]).stdout)
    stamps = [before, found["begin"], found["imported"], found["loaded"], found["first"]]
    return [b - a for a, b in itertools.pairwise(stamps)] + [stamps[-1] - before], found["version"]


def memory(command: list[str]) -> float:
    """VmHWM in bytes, from the last line of stderr."""
    line = next(x for x in reversed(run(command).stderr.splitlines()) if x.startswith("VmHWM"))
    return float(line.split()[1]) * 1024


def main() -> None:
    """Measure in turn, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has llama-cpp-python")
    parser.add_argument("--without-ours", action="store_true", help="measure the peer alone")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path, help="keep everything here")
    args = parser.parse_args()
    model, n = str(args.model), str(args.threads)
    snippets = {"zigllama": (sys.executable, "ours_start.py"), "llama-cpp-python": (args.peer_python, "llama_start.py")}
    options = ["-n", "32", "-c", "2048", "--temp", "0", "-t", n, "-p", PROMPT]
    remember = {
        "zigllama": [sys.executable, str(SNIPPETS / "ours_memory.py"), "run", model, *options],
        "llama-cpp-python": [args.peer_python, str(SNIPPETS / "llama_memory.py"), model, n, PROMPT],
    }
    if args.without_ours:
        del snippets["zigllama"], remember["zigllama"]
    times: dict[str, list[list[float]]] = {name: [] for name in snippets}
    versions = {}
    for turn in range(args.rounds + 1):
        for name, (python, snippet) in snippets.items():
            stages, versions[name] = start(python, snippet, args.model, args.threads)
            if turn:
                times[name].append(stages)
    file_bytes = args.model.stat().st_size
    peaks = {name: memory(command) / file_bytes for name, command in remember.items()}
    for name, version in versions.items():
        print(f"{name} {version}")
    rows = [
        [name, *(f"{1e3 * median(stage):.1f}" for stage in zip(*times[name], strict=True)), f"{peaks[name]:.3f}"]
        for name in times
    ]
    print(table(["ms, medians", *STAGES, "peak memory / file"], rows))
    if len(times) == 2:
        ratio, low, high = paired_ratio(*([stages[-1] for stages in times[name]] for name in times))
        print(f"total, zigllama / llama-cpp-python: {ratio:.3f} ({low:.3f} .. {high:.3f})")
    if args.json:
        content = {"model": args.model.name, "versions": versions, "stages": STAGES, "seconds": times, "peaks": peaks}
        args.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
