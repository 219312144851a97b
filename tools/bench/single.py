"""Rows that are no comparison of tokens per second with llama-bench: how batches grow, Python's share of decoding, the
time to the first token, peak memory. Each gives the same kind of result as pairs.py: a dictionary for JSON."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from bench.contestants import execute
from bench.rows import Row
from bench.summary import bootstrap

SNIPPETS = Path(__file__).resolve().parent / "snippets"
PROMPT = "Once upon a time there was a small lighthouse keeper who wrote a letter to the sea every"  # 20 tokens
STAGES = ("interpreter", "import", "load", "first token")
BATCHES = (1, 2, 4, 8, 16, 32)


def snippet(python: str, name: str, *arguments: str, env: dict[str, str] | None = None) -> Any:
    """What a snippet prints, run by an interpreter."""
    return json.loads(execute([python, str(SNIPPETS / name), *arguments], env).stdout)


def growth(row: Row, path: Path, env: dict[str, str], n: int) -> dict[str, Any]:
    """Aggregate tokens per second of 2 B sequences by those of B, the least over B; as medians of n runs too."""
    sizes = ["-p", str(row.n_prompt), "-n", str(row.n_gen), "-npl", ",".join(map(str, BATCHES))]
    command = [sys.executable, "-P", "-m", "zigllama", "bench", str(path), "-t", str(row.n_threads), *sizes, "-r", "1"]
    runs = [json.loads(execute([*command, "--json"], env).stdout) for _ in range(n)]
    speeds = [[r["speed_tg"] for r in run] for run in runs]
    least = [min(b / a for a, b in itertools.pairwise(run)) for run in speeds]
    middle = [median(column) for column in zip(*speeds, strict=True)]
    first = runs[0][0]
    return {
        "ratio": bootstrap(least).to_json(),
        "speeds": dict(zip(map(str, BATCHES), middle, strict=True)),
        "ours_about": {"name": "zigllama", "version": first["build_commit"], "system_info": first["fingerprint"]},
    }


def python_share(row: Row, path: Path, env: dict[str, str], n: int) -> dict[str, Any]:
    """1 - (the C loop's time) / (generate's time), of n rounds in one process."""
    found = snippet(sys.executable, "python_share.py", str(path), str(row.n_threads), "128", str(n), env=env)
    shares = [1 - loop / whole for whole, loop in found["seconds"]]
    steps = [median(column) / 127 for column in zip(*found["seconds"], strict=True)]
    about = {"name": "zigllama", "version": found["version"], "system_info": found["about"]}
    return {"ratio": bootstrap(shares).to_json(), "ms_per_token": [1e3 * s for s in steps], "ours_about": about}


def _start(python: str, name: str, row: Row, path: Path, env: dict[str, str]) -> tuple[list[float], dict[str, Any]]:
    """Seconds of each stage, the clock running from before the process exists; what ran."""
    before = time.monotonic()
    found = snippet(python, name, str(path), str(row.n_threads), PROMPT, env=env)
    stamps = [before, found["begin"], found["imported"], found["loaded"], found["first"]]
    return [b - a for a, b in itertools.pairwise(stamps)], {"version": found["version"]}


def start(row: Row, path: Path, env: dict[str, str], n: int, peer_python: str | None) -> dict[str, Any]:
    """Import, load and first token of a prompt of 20 tokens: ours by llama-cpp-python's, n pairs, order alternating."""
    who = {"zigllama": (sys.executable, "ours_start.py")}
    if peer_python:
        who["llama-cpp-python"] = (peer_python, "llama_start.py")
    stages: dict[str, list[list[float]]] = {name: [] for name in who}
    about: dict[str, Any] = {}
    for turn in range(n + 1):
        for name in list(who)[:: -1 if turn % 2 else 1]:
            times, found = _start(*who[name], row, path, env)
            about[name] = {"name": name, **found}
            if turn:  # the first one warms the page cache
                stages[name].append(times)
    totals = {name: [sum(times) for times in found] for name, found in stages.items()}
    result: dict[str, Any] = {
        "ours": median(totals["zigllama"]),
        "stages_ms": {
            name: {stage: 1e3 * median(t) for stage, t in zip(STAGES, zip(*found, strict=True), strict=True)}
            for name, found in stages.items()
        },
        "ours_about": about["zigllama"],
    }
    if peer_python:
        peers = totals["llama-cpp-python"]
        ratio = bootstrap([a / b for a, b in zip(totals["zigllama"], peers, strict=True)])
        result |= {"theirs": median(peers), "best_peer": "llama-cpp-python", "ratio": ratio.to_json()}
        result["peers"] = [about["llama-cpp-python"]]
    return result


def memory(row: Row, path: Path, env: dict[str, str], n: int, peer_python: str | None) -> dict[str, Any]:
    """VmHWM with a full context of 512: the MB beyond the file's size where the floor counts MB, else by that size."""
    size = os.path.getsize(path)
    runs = [snippet(sys.executable, "ours_memory.py", str(path), str(row.n_threads), env=env) for _ in range(n)]
    peaks = [run["peak"] for run in runs]
    beyond = row.floor > 2
    result: dict[str, Any] = {
        "ratio": bootstrap([(p - size) / 1e6 if beyond else p / size for p in peaks]).to_json(),
        "ours": median(peaks),
        "ours_about": {"name": "zigllama", "version": runs[0]["version"], "system_info": runs[0]["about"]},
    }
    if peer_python:
        theirs = snippet(peer_python, "llama_memory.py", str(path), str(row.n_threads))
        result |= {"theirs": theirs["peak"], "best_peer": "llama-cpp-python"}
        about = {"version": theirs["version"], "system_info": theirs["about"]}
        result["peers"] = [{"name": "llama-cpp-python", **about}]
    return result
