"""Run a model, or a kernel, in two ways side by side and show the first op that differs beyond its bound.

The two ways are --a and --b: `reference` (NumPy), `native` (the best instruction set, or --isa), an instruction set by
name, or a BLAS library by name or path (beside one, `generic` is our own kernels). Exit code 1 when something is beyond
its bound.

    zigllama diff smollm2
    zigllama diff smollm2 --a avx2 --b generic -p "once upon a time"
    zigllama diff model-f16.gguf --a openblas --b generic
    zigllama diff --kernel softmax
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import numpy.typing as npt

from zigllama.app import diff
from zigllama.app.console import UsageError, nearest, note
from zigllama.app.options import add_model, model_path
from zigllama.errors import UnknownName


def configure(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add = parser.add_argument
    add("--a", default="reference", metavar="WAY", help="one side (default: reference)")
    add("--b", default="native", metavar="WAY", help="the other side (default: native)")
    add("--isa", metavar="NAME", help="instruction set of a side that is `native` (default: the best)")
    add("--blas", metavar="NAME", help="BLAS library of a side that is `native` (default: none, our own kernels)")
    add("--float-compute", choices=["f32", "bf16"], help="how both sides multiply F16 and BF16 matrices of a model")
    add("-t", "--threads", dest="n_threads", type=int, metavar="N", help="threads of native sides")
    add("-p", "--prompt", metavar="TEXT", help="what the model reads; every op runs on it (default: two sentences)")
    add(
        "--bound",
        type=float,
        metavar="X",
        help="bound end to end, in place of the measured one: rms of the difference over the logits' deviation",
    )
    add("--kernel", metavar="NAME", help="compare one kernel of zl.kernels on random input, or `all`, and no model")
    add("--json", action="store_true", help="print as JSON")


def run(args: argparse.Namespace) -> int:
    sides: dict[str, Any] = {"a": args.a, "b": args.b, "isa": args.isa, "n_threads": args.n_threads, "blas": args.blas}
    if args.kernel is not None:
        if args.model or args.model_flag:
            raise UsageError("either a model or --kernel")
        return _kernels(args, sides)
    names = ("prompt", "bound", "float_compute")
    options = {name: value for name in names if (value := getattr(args, name)) is not None}
    path = model_path(args)
    if "reference" in (args.a, args.b):
        note("the reference side is NumPy: this takes a while on a large model")
    report = diff.model(path, **options, **sides)
    print(json.dumps(report.to_json(), indent=2) if args.json else report)
    return 0 if report.ok else 1


def _normal(*shape: int, seed: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def samples() -> dict[str, tuple[tuple[Any, ...], dict[str, Any]]]:
    """Random input for each kernel, the same every time: rows that no vector divides, more than one page of keys."""
    x, w, b = _normal(13, 331, seed=1), _normal(331, seed=2), _normal(331, seed=3)
    heads, keys, values = _normal(13, 6, 48, seed=4), _normal(150, 2, 48, seed=5), _normal(150, 2, 48, seed=6)
    codes = np.random.default_rng(7).integers(-127, 128, (37, 12, 34)).astype(np.int8).view(np.uint8)
    codes[..., :2] = np.array([0.01], np.float16).view(np.uint8)  # a block of Q8_0 begins with its scale
    return {
        "quant_matmul": ((_normal(13, 384, seed=8), codes.reshape(37, -1), "Q8_0"), {}),
        "matmul": ((x, _normal(331, 45, seed=9)), {}),
        "attention": ((heads, keys, values), {}),
        "rope": ((heads, np.arange(0, 13 * 900, 900)), {}),
        "rms_norm": ((x, w), {}),
        "layer_norm": ((x, w, b), {}),
        "softmax": ((8 * x,), {}),
        "silu": ((8 * x,), {}),
        "gelu": ((8 * x,), {}),
        "gelu_tanh": ((8 * x,), {}),
        "top_k": ((np.round(8 * x), 40), {}),
    }


def _kernels(args: argparse.Namespace, sides: dict[str, Any]) -> int:
    """Each kernel that was asked for, on its sample."""
    known = samples()
    if args.kernel != "all" and args.kernel not in known:
        raise UnknownName("kernel", args.kernel, tuple(known), nearest(args.kernel, known))
    reports = {}
    for name in known if args.kernel == "all" else [args.kernel]:
        arguments, params = known[name]
        reports[name] = diff.kernel(name, *arguments, **params, **sides)
    if args.json:
        print(json.dumps({name: report.to_json() for name, report in reports.items()}, indent=2))
    else:
        for name, report in reports.items():
            share = report.ops[0].share
            found = report.first_divergence or f"within its bound, at {share:.3g} of it" if share else "the same bits"
            print(f"{name}: {report.a} and {report.b}: {found}")
            for text in report.notes:
                print(f"note: {text}")
    return 0 if all(report.ok for report in reports.values()) else 1
