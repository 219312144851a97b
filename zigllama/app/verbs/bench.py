"""Measure speed with llama-bench's tests: pp512 reads 512 random tokens, tg128 decodes 128 one by one, and so on.

Numbers may be lists (`-p 64,512`) or ranges (`1-4`, `8-64+8`, `1-32*2`), and flags may be repeated. With -npl batches
are measured as llama-batched-bench does: each of B sequences reads -p tokens, then all decode -n together.

    zigllama bench smollm2
    zigllama bench smollm2 -p 0 -n 64 -d 0,2048 -t 1,2 -o json
    zigllama bench smollm2 -p 128 -n 64 -npl 1-32*2
"""

from __future__ import annotations

import argparse
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from zigllama import __version__
from zigllama.app import bench, machine
from zigllama.app.bench_output import FORMATS, Printer
from zigllama.app.catalogue import CATALOGUE
from zigllama.app.console import UsageError, note
from zigllama.app.options import BLAS_HELP, CACHE_HELP, FLOAT_HELP, cache_type, model_path
from zigllama.foundation.gguf_format import GGUFReader
from zigllama.inference.engine import CHUNK
from zigllama.inference.model import Model

MOST = 10_000  # values that a range may have


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", help=f"a GGUF file, or a name: {', '.join(CATALOGUE)}")
    add = parser.add_argument
    add("-m", "--model", dest="models", action="append", metavar="MODEL", help="the same, as a flag; may be repeated")
    tests = parser.add_argument_group("tests").add_argument
    tests("-p", "--n-prompt", "-npp", dest="n_prompt", action="append", metavar="N", help="prompts (default: 512)")
    tests("-n", "--n-gen", "-ntg", dest="n_gen", action="append", metavar="N", help="tokens to decode (default: 128)")
    tests("-pg", dest="n_pg", action="append", metavar="P,N", help="a prompt and decoding, timed together")
    tests(
        "-d", "--n-depth", dest="n_depth", action="append", metavar="N", help="tokens in the cache before (default: 0)"
    )
    tests(
        "-npl", "--n-parallel", dest="n_seq", action="append", metavar="B", help="batches of so many sequences instead"
    )
    tests("-pps", "--pp-shared", dest="shared", action="store_true", help="with -npl: one prompt for all sequences")
    tests(
        "-r", "--repetitions", dest="repetitions", type=int, metavar="N", help="of each test (default: 5; batches: 1)"
    )
    tests("--no-warmup", dest="warmup", action="store_false", help="count the first run too")
    tests("-s", "--seed", type=int, default=0, metavar="N", help="of the random tokens")
    engine = parser.add_argument_group("engine").add_argument
    engine("-t", "--threads", dest="n_threads", action="append", metavar="N", help="threads (see `zigllama doctor`)")
    engine("-ub", "--ubatch-size", dest="rows", action="append", metavar="N", help="most rows of a step (default: 512)")
    engine("-ctk", "--cache-type-k", dest="type_k", default="f16", metavar="TYPE", help=CACHE_HELP)
    engine("-ctv", "--cache-type-v", dest="type_v", metavar="TYPE", help="of the values: the same")
    engine("--backend", choices=["native", "reference"], help="native kernels, or NumPy: slow, for comparison")
    engine("--isa", metavar="NAME", help="instruction set variant (default: the best that this CPU has)")
    engine("--blas", metavar="NAME", help=BLAS_HELP)
    engine("--float-compute", choices=["f32", "bf16"], help=FLOAT_HELP)
    add("-o", "--output", choices=FORMATS, default="md", help="form of the results (default: md)")
    add("--json", action="store_const", const="json", dest="output", help="the same as -o json")
    add("--progress", action="store_true", help="tell on stderr what is being measured")


ENGINE = ("backend", "isa", "blas", "float_compute")  # options that a Model takes as they are


def numbers(name: str, given: Sequence[str] | None, default: Sequence[int]) -> list[int]:
    """Lists and ranges as llama-bench reads them, none below 0.   ["1,8-32*2"] -> [1, 8, 16, 32]"""
    found: list[int] = []
    for word in ",".join(given or ()).split(",") if given else ():
        m = re.fullmatch(r"(\d+)(?:-(\d+)(?:([+*])(\d+))?)?", word.strip())
        if m is None:
            raise UsageError(
                f"{name} {word!r}: expected a number, a list or a range, as 512 or 64,512 or 8-64+8 or 1-32*2"
            )
        first, last, sign, by = int(m[1]), int(m[2] or m[1]), m[3] or "+", int(m[4] or 1)
        value = first
        while value <= last:
            found.append(value)
            after = value * by if sign == "*" else value + by
            if after <= value or len(found) > MOST:
                raise UsageError(f"{name} {word!r}: does not grow from {value} on, or has more than {MOST} values")
            value = after
    return found or list(default)


def pairs(given: Sequence[str] | None) -> list[tuple[int, int]]:
    """`-pg P,N`, as often as given."""
    found = []
    for word in given or ():
        values = numbers("-pg", [word], ())
        if len(values) != 2:
            raise UsageError(f"-pg {word!r}: expected two numbers, as 512,128")
        found.append((values[0], values[1]))
    return found


def models(args: argparse.Namespace) -> list[Path]:
    """The files that the arguments mean, each as `model_path` finds it."""
    given = [args.model] if args.model else []
    for word in args.models or ():
        given += [word] if Path(word).exists() else word.split(",")
    return [model_path(argparse.Namespace(model=word, model_flag=None)) for word in given or [None]]


def plan(args: argparse.Namespace) -> tuple[list[bench.Test], list[bench.BatchTest]]:
    """What the flags ask for: tests, or with -npl batches. Raises UsageError for flags that do not go together."""
    n_prompt, n_gen = numbers("-p", args.n_prompt, [512]), numbers("-n", args.n_gen, [128])
    if args.n_seq:
        if args.n_pg or args.n_depth:
            raise UsageError("-npl with -pg or -d: a batch has its depth from its prompts")
        n_seq = numbers("-npl", args.n_seq, [])
        return [], [bench.BatchTest(p, g, b, args.shared) for p in n_prompt for g in n_gen for b in n_seq]
    if args.shared:
        raise UsageError("-pps without -npl: only the sequences of a batch can share a prompt")
    tests: list[bench.Test] = []
    for depth in numbers("-d", args.n_depth, [0]):
        tests += [bench.Test(p, 0, depth) for p in n_prompt if p]
        tests += [bench.Test(0, g, depth) for g in n_gen if g]
        tests += [bench.Test(p, g, depth) for p, g in pairs(args.n_pg) if p or g]
    if not tests:
        raise UsageError("nothing to measure: -p, -n and -pg are all 0")
    return tests, []


def run(args: argparse.Namespace) -> int:
    tests, batches = plan(args)
    repetitions = args.repetitions if args.repetitions is not None else 1 if batches else 5
    if repetitions < 1:
        raise UsageError(f"-r {repetitions}: at least one repetition")
    cache_type(args.type_k, args.type_v)
    with Printer(args.output, batched=bool(batches)) as printer:
        for model, facts in _models(args, tests or batches):
            for rows in numbers("-ub", args.rows, [CHUNK]):
                runner = bench.Runner(model, rows, args.seed)
                own = facts | {"n_batch": rows, "n_ubatch": rows, "test_time": _now()}
                for test in tests:
                    _tell(args, own, test.name)
                    times = runner.measure(test, repetitions, warmup=args.warmup)
                    printer.row(own | {"test": test.name} | bench.figures(test, times))
                for batch in batches:
                    _tell(args, own, f"{batch.n_seq} x (pp{batch.n_prompt}+tg{batch.n_gen})")
                    reading, writing = runner.measure_batch(batch, repetitions, warmup=args.warmup)
                    printer.row(own | bench.batch_figures(batch, reading, writing))
    return 0


def _models(args: argparse.Namespace, tests: Sequence[Any]) -> Iterator[tuple[Model, dict[str, Any]]]:
    """Every model with every number of threads, loaded once for all tests, and what a result says about it."""
    n_ctx, n_seq = max(t.n_ctx for t in tests) + 1, max(getattr(t, "n_seq", 1) for t in tests)
    options = {name: value for name in ENGINE if (value := getattr(args, name)) is not None}
    for path in models(args):
        with GGUFReader(path) as reader:
            size = sum(t.n_bytes for t in reader.tensors.values())
        threads: list[int | None] = [*numbers("-t", args.n_threads, [])]
        for n_threads in threads or [None]:
            kind = args.type_k.upper()
            with Model(path, n_ctx, n_threads, cache_type=kind, n_seq=n_seq, keep=0, **options) as model:
                backend, info = model.backend, model.info
                yield (
                    model,
                    {
                        "build_commit": __version__,
                        "fingerprint": model.fingerprint,
                        "cpu_info": machine.cpu_name() or "unknown",
                        "backends": f"CPU {backend['isa'] or 'NumPy'}",
                        "execution": backend["execution"],
                        "blas": backend["blas"],
                        "model_filename": str(path),
                        "model_type": f"{info.architecture} {_short(info.n_params)} {info.quantisation}",
                        "model_size": size,
                        "model_n_params": info.n_params,
                        "n_threads": backend["n_threads"],
                        "type_k": args.type_k.lower(),
                        "type_v": args.type_k.lower(),
                    },
                )


def _short(n_params: int) -> str:
    """135M, 1.1B, 7B: the size of a model in its name."""
    return f"{n_params / 1e6:.0f}M" if n_params < 1e9 else f"{n_params / 1e9:.1f}B".replace(".0B", "B")


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _tell(args: argparse.Namespace, facts: dict[str, Any], what: str) -> None:
    if args.progress:
        note(f"{facts['model_type']}, {facts['n_threads']} threads: {what}")
