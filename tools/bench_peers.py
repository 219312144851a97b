"""The table of speeds: zigllama against llama.cpp and ik_llama.cpp, in turn on the same files, beside a read probe.

    python tools/bench_peers.py --llama LLAMA/build/bin --ik IK/build/bin --models build/shapes --json table.json
    python tools/bench_peers.py ... --only "1.1b-q4_0 pp512" --only batch       a row, or all with this in the name
    python tools/bench_peers.py ... --only families                             every kind of architecture at 500M
    python tools/bench_peers.py ... --isa avx2                                  with peers that were built for AVX2
    python tools/bench_peers.py --json table.json --show                        the table of what was measured

Method: everyone runs once and is forgotten; peers are scouted; then at least 8 adjacent pairs of ours and each of the
fastest peers, the order alternating. Where the memory's speed decides, pairs whose probes differ by over 10% are
dropped. What counts is the median of the pairs' ratios with its bootstrap 95% interval: a floor is met where the median
reaches it, missed where the whole interval is below it (bench/pairs.py). ik_llama.cpp runs plain and with `-rtr 1`.

The programs are built beforehand (cmake, Release, GGML_NATIVE=ON): llama-bench and llama-batched-bench of each. Models:
smollm2 and gemma3-270m from the cache, the others from make_shape.py. The interpreter that runs this has zigllama
installed; --peer-python has llama-cpp-python. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from bench import report, single
from bench.contestants import IkLlamaCpp, Job, LlamaCpp, Ours
from bench.pairs import Bench
from bench.probe import Probes
from bench.rows import Row, choose

from zigllama.app.catalogue import CATALOGUE


def contestants(args: argparse.Namespace) -> list[LlamaCpp]:
    """The peers that were named."""
    peers: list[LlamaCpp] = []
    if args.llama:
        peers.append(LlamaCpp("llama.cpp", args.llama))
    if args.ik:
        peers.append(IkLlamaCpp("ik_llama.cpp", args.ik))
        peers.append(IkLlamaCpp("ik_llama.cpp -rtr", args.ik, ("-rtr", "1"), ("-rtr",)))
    return peers


def file_of(row: Row, folder: Path) -> Path:
    """The row's model. Raises SystemExit where it is not there, saying how it is made."""
    entry = CATALOGUE.get(row.model)
    path = entry.path if entry else folder / f"{row.model}.gguf"
    if not path.exists():
        shape, _, kind = row.model.rpartition("-")
        how = f"zigllama pull {row.model}" if entry else f"python tools/make_shape.py {shape} {kind} --folder {folder}"
        raise SystemExit(f"{path} is not there; `{how}` makes it")
    return path


def share(row: Row, path: Path, result: dict[str, Any], probes: Probes) -> tuple[str, float] | None:
    """Ours as a share of the machine's ceiling: of the read probe beside it, or of the peak measured now."""
    if row.special or row.n_seq:
        return None
    cost = report.work(path)
    if row.memory_bound:
        return "read", result["ours_per_probe"] * cost["bytes"] / 1e9
    ceiling = row.ceiling or "int8"
    return ceiling, result["ours"] * cost["operations"] / 1e9 / probes.peak(ceiling, row.n_threads)


def measure(row: Row, args: argparse.Namespace, probes: Probes) -> dict[str, Any]:
    """One row's result."""
    path, ours = file_of(row, args.models), Ours(args.isa)
    if row.special == "growth":
        result = single.growth(row, path, ours.env, args.pairs)
    elif row.special == "python":
        result = single.python_share(row, path, ours.env, args.pairs)
    elif row.special == "start":
        result = single.start(row, path, ours.env, args.pairs, args.peer_python)
    elif row.special == "memory":
        result = single.memory(row, path, ours.env, 3, args.peer_python)
    else:
        peers = [p for p in contestants(args) if not row.peers or p.name.startswith(row.peers)]
        bench = Bench(lambda: probes.read(row.n_threads), lambda text: print("   ", text, file=sys.stderr, flush=True))
        result = bench.compare(ours, peers, Job(row, path), args.pairs, args.tries)
        result |= {"ours_about": ours.describe(), "peers": [p.describe() for p in peers]}
    result.setdefault("ours_about", ours.describe())
    return result | {
        "share": share(row, path, result, probes),
        "model": path.name,
        "model_bytes": path.stat().st_size,
        "isa": args.isa,
        "n_threads": row.n_threads,
        "floor": report.floor_of(row, args.isa),
        "goal": row.goal,
        "verdict": report.judge(row, args.isa, result),
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "commit": commit(),
        "machine": f"{platform.machine()} {platform.system()} {platform.release()}",
    }


def commit() -> str:
    """What is checked out here, "" outside a clone."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    out = subprocess.run(command, text=True, capture_output=True, check=False)
    return out.stdout.strip() if out.returncode == 0 else ""


def main() -> None:
    """Measure the rows asked for, keep and show them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--llama", type=Path, help="folder with llama.cpp's llama-bench and llama-batched-bench")
    add("--ik", type=Path, help="the same of ik_llama.cpp")
    add("--models", type=Path, default=Path("build/shapes"), help="folder of make_shape.py (default: build/shapes)")
    add("--peer-python", help="interpreter with llama-cpp-python, for the rows `start` and `memory`")
    add(
        "--only",
        action="append",
        metavar="ROW",
        help="a row, every row with this in its name, or a group: families, others; may be repeated",
    )
    add("--pairs", type=int, default=report.PAIRS, help="pairs that are kept (default: 8)")
    add("--tries", type=int, help="pairs that are tried at most (default: 3 times --pairs)")
    add("--isa", help="measure this ISA variant of ours, as ZIGLLAMA_ISA")
    add("--json", type=Path, help="results, kept; rows that are there and not measured now stay")
    add("--show", action="store_true", help="measure nothing")
    args = parser.parse_args()
    if args.tries is not None and args.tries < 1:
        parser.error(f"--tries {args.tries}: at least one pair is needed")
    content, failed = report.load(args.json), []
    with Probes() as probes:
        for row in [] if args.show else choose(args.only):
            key = report.key_of(row, args.isa)
            print(key, file=sys.stderr, flush=True)
            try:
                result = measure(row, args, probes)
            except SystemExit as error:  # a row that cannot be measured keeps no other from it
                failed.append(f"{key}: {error}")
                print("   ", error, file=sys.stderr, flush=True)
                continue
            content = report.keep(args.json, content, key, result)
            print("   ", " | ".join(report.line(row, args.isa, result)), file=sys.stderr, flush=True)
    print(report.show(content))
    if failed:
        raise SystemExit("\n".join(["", *failed]))


if __name__ == "__main__":
    main()
