"""Show what each op and layer takes, in bytes, operations and as a share of the machine's measured limits; or compare.

Without more flags the model reads -p random tokens, decodes -n, and the tables go to stdout. To compare two builds they
run in turn, A B, B A, ..., each figure from a process of its own, and the median ratio's 95% interval decides. Exit
code 1: B is slower by more than --threshold at the near end of that interval; 4: the machine is too restless to say.

    zigllama profile smollm2
    zigllama profile smollm2 --compare                              this build with itself: nothing should be found
    zigllama profile smollm2 --a OLD/.venv                          this build (B) with another environment's (A)
    zigllama profile smollm2 --b ZIGLLAMA_ISA=avx2                  a setting (B) with none (A)
    zigllama profile smollm2 --save base.json                       figures of this build, for later
    zigllama profile smollm2 --baseline base.json                   in turn with that build if it is still there, else
                                                                    with its figures, each per a probe of the machine
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zigllama.app import bench
from zigllama.app.comparison import FEWEST, Verdict
from zigllama.app.console import UsageError, note
from zigllama.app.options import BLAS_HELP, CACHE_HELP, FLOAT_HELP, add_model, cache_type, model_path
from zigllama.app.sides import Baseline, Comparison, Side, about_machine, is_setting
from zigllama.inference.model import Model
from zigllama.inference.profiling import MOST_PROBED, profile

ROUNDS, THRESHOLD = 10, 0.03


def configure(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add = parser.add_argument
    add("-p", "--n-prompt", dest="n_prompt", type=int, default=512, metavar="N", help="tokens to read (default: 512)")
    add("-n", "--n-gen", dest="n_gen", type=int, default=64, metavar="N", help="tokens to decode (default: 64)")
    add("-r", "--repetitions", type=int, default=3, metavar="N", help="of each test (default: 3)")
    add("-t", "--threads", dest="n_threads", type=int, metavar="N", help="threads (default: see `zigllama doctor`)")
    add("--isa", metavar="NAME", help="instruction set variant (default: the best that this CPU has)")
    add("--blas", metavar="NAME", help=BLAS_HELP)
    add("-ctk", "--cache-type-k", dest="type_k", metavar="TYPE", help=CACHE_HELP)
    add("-ctv", "--cache-type-v", dest="type_v", metavar="TYPE", help="of the values: the same")
    add("--float-compute", choices=["f32", "bf16"], help=FLOAT_HELP)
    add("--json", action="store_true", help="print as JSON")
    two = parser.add_argument_group("comparing").add_argument
    side = "an interpreter, a virtual environment's folder, or NAME=VALUE; may be repeated (default: this build)"
    two("--compare", action="store_true", help="compare A with B, both this build unless --a or --b say more")
    two("--a", action="append", metavar="SIDE", help=f"what is compared with: {side}")
    two("--b", action="append", metavar="SIDE", help="what may have regressed: the same")
    two("--save", metavar="FILE", help="measure this build and keep its figures")
    two("--baseline", metavar="FILE", help="compare with figures that were kept: they are A")
    two("--rounds", type=int, default=ROUNDS, metavar="N", help=f"figures of each side (default: {ROUNDS})")
    two("--threshold", type=float, default=THRESHOLD, metavar="X", help=f"what is too slow (default: {THRESHOLD})")


def run(args: argparse.Namespace) -> int:
    tests = [bench.Test(p, n) for p, n in ((args.n_prompt, 0), (0, args.n_gen)) if p > 0 or n > 0]
    if not tests or min(args.n_prompt, args.n_gen) < 0:
        raise UsageError("-p and -n: nothing to measure")
    if min(args.repetitions, args.rounds) < 1 or args.threshold < 0:
        raise UsageError("-r and --rounds are at least 1, --threshold is at least 0")
    sides = args.compare or args.a or args.b
    modes = [
        name
        for name, on in (("--compare, --a or --b", sides), ("--save", args.save), ("--baseline", args.baseline))
        if on
    ]
    if len(modes) > 1:
        raise UsageError(f"{' and '.join(modes)}: one thing at a time")
    if modes and args.rounds < FEWEST:
        raise UsageError(f"--rounds {args.rounds}: fewer than {FEWEST} figures of each side can give no verdict")
    path = model_path(args)
    return _compare(args, path, tests) if modes else _profile(args, path, tests)


# --- a profile --------------------------------------------------------------------------------------------------------


ENGINE = {"isa": "--isa", "blas": "--blas", "float_compute": "--float-compute", "cache_type": "-ctk"}


def _options(args: argparse.Namespace) -> dict[str, str]:
    """What was said of the engine, as `Model` takes it."""
    said = {name: getattr(args, name, None) for name in ENGINE} | {"cache_type": cache_type(args.type_k, args.type_v)}
    return {name: value for name, value in said.items() if value is not None}


def _profile(args: argparse.Namespace, path: Path, tests: list[bench.Test]) -> int:
    options: dict[str, Any] = _options(args)
    with Model(path, max(t.n_ctx for t in tests) + 1, args.n_threads, n_seq=1, keep=0, **options) as model:
        runner = bench.Runner(model)
        for test in tests:
            runner.measure(test, 1, warmup=False)  # what is first is slower: pages, clocks
        with profile(model) as p:
            for test in tests:
                runner.measure(test, args.repetitions, warmup=False)
        if args.json:
            info = {
                "model": str(path),
                "architecture": model.info.architecture,
                "quantisation": model.info.quantisation,
            }
            print(json.dumps(info | p.to_json(), indent=2))
        else:
            print(f"{path.name}: {model.fingerprint}, {model.backend['n_threads']} threads\n{p}")
    return 0


# --- a comparison -----------------------------------------------------------------------------------------------------


@contextmanager
def machine_probes(n_threads: int, tests: list[bench.Test]) -> Iterator[dict[str, tuple[str, Callable[[], float]]]]:
    """By test the probe that stands for the machine: reading memory where that decides, else int8 products."""
    from zigllama.foundation import native_probe
    from zigllama.foundation.native import isa_variants
    from zigllama.foundation.native_context import NativeContext

    best = next(name for name, usable in isa_variants() if usable)
    with NativeContext(n_threads, best) as context:

        def read() -> float:
            return native_probe.read(context, MOST_PROBED, 0.3) / 1e9

        def peak() -> float:
            return native_probe.peak(context, "int8", 0.3) / 1e9

        yield {t.name: ("read", read) if t.n_gen else ("int8", peak) for t in tests}


def _compare(args: argparse.Namespace, path: Path, tests: list[bench.Test]) -> int:
    from zigllama.foundation.threading import default_threads

    n_threads = default_threads().n_threads if args.n_threads is None else args.n_threads
    flags = ["-t", str(n_threads)]
    for name, value in _options(args).items():
        flags += [ENGINE[name], value]
    with machine_probes(n_threads, tests) as probes:
        how = Comparison(path, tests, args.rounds, args.repetitions, flags, probes, note)
        model = {"file": path.name, "n_bytes": path.stat().st_size}
        about: dict[str, Any] = {"model": model, "machine": about_machine(n_threads)}
        if args.save:
            return _save(args, how, about)
        if args.baseline:
            verdicts, about = _with_baseline(args, how, about)
        else:
            a, b = Side.parse(args.a or []), Side.parse(args.b or [])
            about |= {"method": "in turn", "a": str(a), "b": str(b)}
            note(f"A: {a}; B: {b}; in turn, {args.rounds} pairs of each test")
            verdicts = how.in_turn(a, b, args.threshold)
    return _tell(args, verdicts, about)


def _save(args: argparse.Namespace, how: Comparison, about: dict[str, Any]) -> int:
    side = Side()
    settings = _settings()
    names = {name: kind for name, (kind, _) in how.probes.items()}
    made = Baseline(side.build(), about["model"], about["machine"], settings, how.conditions, how.figures(side), names)
    made.save(args.save)
    note(f"{args.save}: {args.rounds} figures of {' and '.join(made.figures)}, build {made.build['digest'][:12]}")
    return 0


def _settings() -> dict[str, str]:
    """The environment's settings that the engine reads."""
    return {n: v for n, v in sorted(os.environ.items()) if is_setting(n)}


def _with_baseline(
    args: argparse.Namespace, how: Comparison, about: dict[str, Any]
) -> tuple[dict[str, Verdict], dict[str, Any]]:
    base, side = Baseline.load(args.baseline), Side()
    if wrong := base.differences(about["model"], about["machine"]):
        raise UsageError(f"{args.baseline} is of something else: {'; '.join(wrong)}")
    if base.flags != how.conditions:
        raise UsageError(f"{args.baseline} was made with {' '.join(base.flags)}, this is {' '.join(how.conditions)}")
    if base.still_there():
        note("the baseline's build is still there: it runs in turn with this one")
        return how.in_turn(base.side, side, args.threshold), about | {"method": "in turn", "a": str(base.side)}
    note(
        f"the baseline's build {base.build['digest'][:12]} is gone: its figures and today's are compared per "
        "probe of the machine, which is a weaker test than running both in turn"
    )
    return how.apart(base, side, args.threshold), about | {"method": "per probe", "a": args.baseline}


def _tell(args: argparse.Namespace, verdicts: dict[str, Verdict], about: dict[str, Any]) -> int:
    if args.json:
        print(json.dumps(about | {"tests": {name: v.to_json() for name, v in verdicts.items()}}, indent=2))
    else:
        for name, verdict in verdicts.items():
            print(f"{name}: {verdict}")
    if any(v.regressed for v in verdicts.values()):
        return 1
    return 4 if any(v.undecided for v in verdicts.values()) else 0
