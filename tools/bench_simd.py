"""What vectors are worth: the float32 product in scalar C against the vector kernel, one thread each, side by side.

    python tools/bench_simd.py [--size 512] [--rounds 7] [--floor 4.0]

Scalar and every usable ISA variant take turns (A B C A B C ...), so that a busy machine slows all of them; the ratio of
medians is the figure. Exits 1 when the best variant is below `--floor` times the scalar loop.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from zigllama.foundation.native import isa_variants
from zigllama.foundation.native_context import NativeContext, matmul
from zigllama.linear_algebra.matrix_ops import matmul_scalar


def main() -> int:
    parser = argparse.ArgumentParser(description="scalar against SIMD, float32 matrix product, one thread")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--floor", type=float, default=4.0)
    args = parser.parse_args()
    n = args.size
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=(n, n)).astype(np.float32) for _ in range(2))
    forms: dict[str, Callable[[], object]] = {"scalar": lambda: matmul_scalar(a, b)}
    for name, usable in isa_variants():
        if usable:
            forms[name] = partial(matmul, NativeContext(n_threads=1, isa=name), a, b)
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for form in forms.values():
        form()  # warm: pages touched, clocks up
    for _ in range(args.rounds):
        for name, form in forms.items():
            start = time.perf_counter()
            form()
            seconds[name].append(time.perf_counter() - start)
    median = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"{n} x {n} x {n}, medians of {args.rounds} turns, one thread")
    for name, t in median.items():
        print(f"{name:>8}  {2 * n**3 / t / 1e9:8.2f} GFLOP/s   {median['scalar'] / t:6.2f} x scalar")
    best = max(median["scalar"] / t for name, t in median.items() if name != "scalar")
    return 0 if best >= args.floor else 1


if __name__ == "__main__":
    sys.exit(main())
