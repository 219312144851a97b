"""Coverage-guided fuzzing of the GGUF reader with atheris: no crash, hang, or memory beyond the file's size, whatever
the bytes.

    pip install atheris
    python tools/fuzz_gguf.py seed smollm2.gguf gemma3.gguf     # heads of real models, shortened, into the corpus
    python tools/fuzz_gguf.py run --work DIR                    # 10 million executions, 10 minutes without news
    python tools/fuzz_gguf.py merge --work DIR                  # what brings coverage, into the committed corpus

What is checked stands in tests/gguf_judge.py; the committed corpus (tests/corpus/gguf) is replayed by a test, without
atheris. A finding is left in the work folder as crash-*, and `python tools/fuzz_gguf.py run --work DIR FILE` repeats
it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from fuzzing import CORPUS as ALL
from fuzzing import dictionary, launcher

CORPUS = ALL / "gguf"
MAX_LEN = 2048
REPORT_EVERY = 50_000  # executions between two notes of the child
MEMORY_EVERY = 256  # tracing every allocation takes several times as long, so only some executions are
TWICE_EVERY = 4  # parsing a second time without the fast scan over strings, likewise
WORDS = (
    [b"GGUF", b"general.alignment", b"general.architecture", b"llama", b"split.count", b"tokenizer.ggml.tokens"]
    + [n.to_bytes(4, "little") for n in (*range(14), 31, 39, 41, 42, 64)]
    + [n.to_bytes(8, "little") for n in (0, 1, 2, 4, 32, 64, 256, 1 << 31, 1 << 32, 1 << 61, 1 << 63, (1 << 64) - 1)]
)


# --- the child: libFuzzer in this process -----------------------------------------------------------------------------


def fuzz(arguments: list[str]) -> None:
    """Hand over to libFuzzer with the launcher's path and the rest of its command line; never returns."""
    import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

    with atheris.instrument_imports(include=["zigllama.foundation"]):
        import zigllama.foundation.gguf_header  # noqa: F401
    from gguf_judge import judge, judge_twice

    done = 0

    def one(data: bytes) -> None:
        nonlocal done
        (judge if done % TWICE_EVERY else judge_twice)(data, memory=done % MEMORY_EVERY == 0)
        done += 1
        if done % REPORT_EVERY == 0:
            print(f"executions {done}", file=sys.stderr, flush=True)

    atheris.Setup(arguments, one)
    atheris.Fuzz()


def child(work: Path, *arguments: str) -> list[str]:
    """The command line of a child."""
    # The limits of libFuzzer are nets for what never ends: its clock runs on while the process is held, and atheris
    # itself keeps some 130 bytes of every execution. The judge measures CPU time and the heap of each.
    limits = ["-timeout=300", "-rss_limit_mb=8192"]
    common = [f"-max_len={MAX_LEN}", f"-dict={dictionary(work, WORDS)}", f"-artifact_prefix={work}/", *limits]
    program = str(launcher(work, __file__, "child", str((work / "child").resolve())))
    return [program, *common, *arguments]


# --- the parent: when to stop -----------------------------------------------------------------------------------------


def run(work: Path, executions: int, quiet: float, files: list[str]) -> int:
    """Fuzz until both limits are met; prints a line a minute. Exit code 1 if something was found."""
    grown = work / "corpus"
    grown.mkdir(parents=True, exist_ok=True)
    arguments = files or ["-print_final_stats=1", str(grown), str(CORPUS)]
    process = subprocess.Popen(child(work, *arguments), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    start = newest = noted = time.monotonic()
    done = coverage = 0
    status = ""
    for line in process.stderr:
        now = time.monotonic()
        if m := re.search(r"^executions (\d+)", line):
            done = int(m[1])
        elif m := re.search(r"cov: (\d+) (ft: \d+ corp: \S+)", line):
            status = f"cov {m[1]} {m[2]}"
            if int(m[1]) > coverage:
                coverage, newest = int(m[1]), now
        elif not re.match(r"#\d|\s*(INFO|NEW_FUNC)", line):
            print(line, end="", flush=True)
        if now - noted > 60:
            noted = now
            print(f"{now - start:7.0f} s  {done:>10,} executions  {status}  new {now - newest:.0f} s ago", flush=True)
        if not files and done >= executions and now - newest >= quiet:
            process.terminate()
            print(f"stopped: {done:,} executions, {now - newest:.0f} s without new coverage, {status}", flush=True)
            for _ in process.stderr:
                pass
            process.wait()
            return 0
    return 1 if process.wait() else 0


# --- the corpus -------------------------------------------------------------------------------------------------------


def seed(models: list[str]) -> None:
    """Heads of real models with 8 tokens and two small tensors, the builder's small file and its hostile ones."""
    from gguf_hostile import hostile_cases, small

    from zigllama import gguf
    from zigllama.gguf import StringArray, TensorData, Typed

    CORPUS.mkdir(parents=True, exist_ok=True)
    (CORPUS / "small").write_bytes(small())
    for case in hostile_cases():
        if len(case.data) <= MAX_LEN:
            (CORPUS / f"hostile_{case.name}").write_bytes(case.data)
    for path in models:
        with gguf.open(path) as r:
            short = {}
            for key, typed in r.metadata.typed().items():
                value = typed.value
                if isinstance(value, StringArray):
                    value = StringArray.from_strings([value.raw(i) for i in range(min(8, len(value)))])
                elif isinstance(value, str | np.ndarray):
                    value = value[:8]
                short[key] = Typed(value, typed.type, typed.element_type)
            tensors = []
            for t in list(r.tensors.values())[:2]:
                shape = (*[1 for _ in t.shape[1:]], t.type.block_size)
                tensors.append(TensorData(t.name, shape, t.type, bytes(t.type.block_bytes)))
            target = CORPUS / f"head_{r.metadata['general.architecture']}"
            gguf.write(target, short, tensors)
            print(target, target.stat().st_size)


def merge(work: Path) -> int:
    """Add to the committed corpus what brings coverage that it does not have."""
    return subprocess.run(child(work, "-merge=1", str(CORPUS), str(work / "corpus")), check=False).returncode


def main() -> int:
    if sys.argv[1:2] == ["child"]:
        fuzz(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    p = verbs.add_parser("seed")
    p.add_argument("models", nargs="*")
    p = verbs.add_parser("run")
    p.add_argument("--work", type=Path, required=True)
    p.add_argument("--executions", type=int, default=10_000_000)
    p.add_argument("--quiet", type=float, default=600, help="seconds without new coverage")
    p.add_argument("files", nargs="*", help="inputs to repeat instead of fuzzing")
    p = verbs.add_parser("merge")
    p.add_argument("--work", type=Path, required=True)
    a = parser.parse_args()
    if a.verb == "seed":
        seed(a.models)
        return 0
    a.work.mkdir(parents=True, exist_ok=True)
    return merge(a.work) if a.verb == "merge" else run(a.work, a.executions, a.quiet, a.files)


if __name__ == "__main__":
    sys.exit(main())
