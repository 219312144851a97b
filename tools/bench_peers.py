"""Prefill and decode speed against llama-bench, in turn on the same file, with the memory's speed beside each.

    python tools/bench_peers.py MODEL.gguf --peer path/to/llama-bench --rounds 6 --json out.json python
    tools/bench_peers.py MODEL.gguf --peer "ik=path/to/llama-bench -rtr 1" --peer path/to/llama-bench python
    tools/bench_peers.py MODEL.gguf --peer A=path --peer B=path --without-ours      (two peers, or one against itself)

Every round measures everybody once, each in a fresh process with a read probe before it: the machine's bandwidth
moves by half with its neighbours, so a figure counts as a ratio within its round. Leave the machine alone meanwhile.
The interpreter that runs this must have zigllama installed; llama-bench is built beforehand (cmake, Release,
GGML_NATIVE=ON).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from bench.peers import LlamaBench
from bench.probe import ReadProbe
from bench.summary import paired_ratio, table

SNIPPETS = Path(__file__).resolve().parent / "bench" / "snippets"


class Ours:
    """zigllama, as installed for this interpreter."""

    name = "zigllama"

    def __init__(self) -> None:
        self.fingerprint = "not run yet"

    def describe(self) -> dict[str, Any]:
        """What really ran."""
        return {"name": self.name, "version": self.fingerprint}

    def run(self, model: Path, n_threads: int, n_prompt: int, n_gen: int) -> dict[str, float]:
        """Tokens per second: {"pp": .., "tg": ..}."""
        command = [sys.executable, str(SNIPPETS / "ours_speed.py"), str(model)]
        numbers = [str(n_threads), str(n_prompt), str(n_gen)]
        out = subprocess.run([*command, *numbers], text=True, capture_output=True, check=False)
        if out.returncode:
            raise SystemExit(f"zigllama: exit {out.returncode}\n{out.stderr[-2000:]}")
        found = json.loads(out.stdout)
        self.fingerprint = found.pop("fingerprint")
        return {key: float(value) for key, value in found.items()}


def report(results: dict[str, list[dict[str, float]]], file_bytes: int, n_prompt: int, n_gen: int) -> str:
    """Two tables: medians with the share of the memory's speed, and ratios of the first to each other contestant."""
    first, *others = results
    rows = []
    for name, rounds in results.items():
        probe, tg = median(r["probe"] for r in rounds), median(r["tg"] for r in rounds)
        share = median(r["tg"] * file_bytes / 1e9 / r["probe"] for r in rounds)
        rows.append([name, f"{median(r['pp'] for r in rounds):.1f}", f"{tg:.1f}", f"{probe:.1f}", f"{share:.0%}"])
    text = table(["", f"pp{n_prompt}", f"tg{n_gen}", "probe GB/s", "file bytes x tg / probe"], rows)
    rows = []
    for name in others:
        cells = [f"{first} / {name}"]
        for key in ("pp", "tg"):
            ratio, low, high = paired_ratio([r[key] for r in results[first]], [r[key] for r in results[name]])
            cells.append(f"{ratio:.3f} ({low:.3f} .. {high:.3f})")
        rows.append(cells)
    return text + "\n\n" + table(["ratio, 95% interval", f"pp{n_prompt}", f"tg{n_gen}"], rows)


def main() -> None:
    """Measure in turn, print, keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--peer", action="append", required=True, metavar="[NAME=]PATH [FLAGS]", type=LlamaBench)
    parser.add_argument("--without-ours", action="store_true", help="compare the peers only, the first with the others")
    parser.add_argument("-t", "--threads", type=int, default=2)
    parser.add_argument("-p", "--n-prompt", type=int, default=512)
    parser.add_argument("-n", "--n-gen", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--json", type=Path, help="keep everything here")
    args = parser.parse_args()
    contestants = [*([] if args.without_ours else [Ours()]), *args.peer]
    names = [c.name for c in contestants]
    if len(names) < 2 or len(set(names)) < len(names):
        parser.error(f"needs at least two contestants with different names, got {names}")
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with ReadProbe(args.threads) as probe:
        for turn in range(args.rounds):
            for contestant in contestants:
                before = probe.measure()
                found = contestant.run(args.model, args.threads, args.n_prompt, args.n_gen)
                found["probe"] = (before + probe.measure()) / 2
                results[contestant.name].append(found)
                line = ", ".join(f"{key} {value:.1f}" for key, value in found.items())
                print(f"round {turn + 1} of {args.rounds}: {contestant.name}: {line}", file=sys.stderr, flush=True)
    machine = f"{platform.machine()}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.2f} at the end"
    about = [c.describe() for c in contestants]
    file_bytes = args.model.stat().st_size
    print(
        f"{args.model.name}, {file_bytes / 1e6:.0f} MB, {args.threads} threads, {args.rounds} rounds in turn; {machine}"
    )
    for entry in about:
        print("  " + "; ".join(f"{key}: {value}" for key, value in entry.items()))
    print("\n" + report(results, file_bytes, args.n_prompt, args.n_gen))
    if args.json:
        content = {"model": args.model.name, "machine": machine, "contestants": about, "rounds": results}
        args.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
