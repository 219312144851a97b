"""Our float32 product beside OpenBLAS's, in turn: A B, B A, A B, ...

    python tools/bench_gemm.py --blas LIBOPENBLAS.so [--shape 512 2048 2048] [--pairs 8] [--threads 2]

Two products of ours: `matmul` (row-major, nothing packed before) and `linear` (a model's F32 weight, whose panels were
packed when it was loaded: what prefill runs). Two ways to call the library: by our thread pool, a slab of rows for each
thread (what ZIGLLAMA_BLAS does), and NumPy's own OpenBLAS with its own threads. Each of ours is judged by the median of
the pairs' ratios to the faster of the two, with its bootstrap interval. Exits 1 where `linear` is below --floor.

The library: PyPI's scipy-openblas32 has one, and so has Debian's libopenblas0.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def rate(form: Callable[[], Any], operations: float, seconds: float) -> float:
    """GFLOP/s of the best of the calls that fit in some seconds, at least three."""
    best, end, n = float("inf"), time.perf_counter() + seconds, 0
    while n < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        form()
        best, n = min(best, time.perf_counter() - start), n + 1
    return operations / best / 1e9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blas", required=True, help="path of an OpenBLAS, or a name as ZIGLLAMA_BLAS takes it")
    parser.add_argument("--shape", type=int, nargs=3, default=[512, 2048, 2048], metavar=("M", "K", "N"))
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.5, help="of one run (default: 0.5)")
    parser.add_argument("--floor", type=float, default=0.9)
    parser.add_argument("--json", type=Path, help="where the figures go")
    args = parser.parse_args()
    os.environ["OPENBLAS_NUM_THREADS"] = str(args.threads)  # before NumPy loads its own
    import numpy as np

    import zigllama as zl
    from zigllama.app.comparison import bootstrap
    from zigllama.foundation.native_probe import peak
    from zigllama.foundation.runtime import EagerRuntime, Step
    from zigllama.foundation.shared_context import shared_context
    from zigllama.linear_algebra.linear import Weight, linear

    m, k, n = args.shape
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
    context = shared_context(None, args.threads)
    weight = Weight.from_array(b.T)
    weight.prepare(context)
    runtime = EagerRuntime(context, Step.of_rows(m))
    x = runtime.rows(a)
    ours: dict[str, Callable[[], Any]] = {
        "matmul": lambda: zl.kernels.matmul(a, b, n_threads=args.threads),
        "linear": lambda: linear(x, weight),
    }
    theirs: dict[str, Callable[[], Any]] = {
        "slabs": lambda: zl.kernels.matmul(a, b, n_threads=args.threads, blas=args.blas),
        "numpy": lambda: a @ b,
    }
    want = a.astype(np.float64) @ b.astype(np.float64)
    for name, form in (ours | theirs).items():
        made = form()
        off = float(np.abs(np.asarray(getattr(made, "array", made)) - want).max())
        if off > 1e-2:
            raise SystemExit(f"{name} is off by {off}")
    operations = 2.0 * m * k * n
    found: dict[str, list[float]] = {name: [] for name in ours | theirs}
    for turn in range(args.pairs + 1):
        forms = list((ours | theirs).items())
        for name, form in forms if turn % 2 else forms[::-1]:
            speed = rate(form, operations, args.seconds)
            if turn:  # the first is forgotten
                found[name].append(speed)
    ceiling = peak(context, "f32", 0.5) / 1e9
    about = f"{args.threads} threads, {context.isa}, medians of {args.pairs}; f32 peak {ceiling:.0f} GFLOP/s"
    print(f"{m} x {k} x {n}, {about}")
    for name, speeds in found.items():
        middle = statistics.median(speeds)
        print(f"{name:>8}  {middle:8.1f} GFLOP/s  {middle / ceiling:5.0%} of the peak")
    best = max(theirs, key=lambda name: statistics.median(found[name]))
    ratios = {}
    for name in ours:
        ratio = bootstrap([x / y for x, y in zip(found[name], found[best], strict=True)])
        ratios[name] = ratio.to_json()
        print(f"{name} by {best}: {ratio.median:.2f} ({ratio.low:.2f} .. {ratio.high:.2f})")
    if args.json:
        args.json.write_text(
            json.dumps({"shape": args.shape, "isa": context.isa, "speeds": found, "ratios": ratios}, indent=1)
        )
    return int(ratios["linear"][2] < args.floor)


if __name__ == "__main__":
    sys.exit(main())
