"""Coverage-guided fuzzing of tokenizers with atheris: vocabularies of every family, options, texts, all from its bytes.

    pip install atheris                                                # and clang, for coverage and ASan in C
    python tools/fuzz_tokenizers.py build build/editable --work DIR    # the byte loops of C, compiled for the fuzzer
    python tools/fuzz_run.py --work DIR -- python tools/fuzz_tokenizers.py run --work DIR
    python tools/fuzz_tokenizers.py run --work DIR FILE                # repeats a finding: crash-*, timeout-*
    python tools/fuzz_tokenizers.py merge --work DIR                   # what brings coverage, into the committed corpus

What is checked stands in tests/tokenizer_judge.py. Inputs that brought coverage are in DIR/corpus; a small choice of
them is committed in tests/corpus/tokenizers, which a test replays without atheris. Without `build` C is fuzzed as it is
installed, and only Python's branches count as coverage.
"""

from __future__ import annotations

import argparse
import importlib.machinery
import importlib.util
import itertools
import os
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "corpus" / "tokenizers"
LOOPS = ("words", "pairs", "unigram", "strings")  # of ckernels/core
FLAGS = (
    "-O1 -g -fPIC -std=c11 -D_GNU_SOURCE -fvisibility=hidden -fno-omit-frame-pointer -Ickernels -Ickernels/include"
    + " -fsanitize=address,fuzzer-no-link"
).split()
NAME = "zigllama._ckernels"
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


def build(meson: Path, work: Path) -> int:
    """The extension with the tokenizers' loops as clang instruments them, the rest as a meson build has it."""
    objects = list[Path]()
    for name in LOOPS:
        objects.append(work / f"{name}.o")
        subprocess.run(["clang", *FLAGS, "-c", f"ckernels/core/{name}.c", "-o", objects[-1]], cwd=ROOT, check=True)
    archives = [
        "-Wl,--start-group",
        *map(str, meson.glob("ckernels/*.a")),
        "-Wl,--end-group",
        "-lm",
        "-ldl",
        "-lpthread",
    ]
    command = ["clang", "-shared", "-o", str(work / "_ckernels.abi3.so"), *map(str, meson.glob("_ckernels*.p/*.o"))]
    return subprocess.run([*command, *map(str, objects), *archives], cwd=ROOT, check=True).returncode


def instrumented(work: Path) -> None:
    """Make what `build` has made the package's extension. It needs ASan loaded before all else: this starts again."""
    path = work / "_ckernels.abi3.so"
    if not path.exists():
        return
    import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

    preload = str(Path(atheris.path()) / "asan_with_fuzzer.so")
    if os.environ.get("LD_PRELOAD") != preload:
        options = "detect_leaks=0:quarantine_size_mb=16:allocator_may_return_null=1:symbolize=0"
        environment = {**os.environ, "LD_PRELOAD": preload, "ASAN_OPTIONS": options}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
    loader = importlib.machinery.ExtensionFileLoader(NAME, str(path))
    spec = importlib.util.spec_from_file_location(NAME, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    loader.exec_module(module)


def merge(work: Path) -> int:
    """Choose inputs that have all coverage among them. libFuzzer starts itself again by its first argument, so that has
    to be a program."""
    launcher = work / "child"
    line = shlex.join([sys.executable, str(Path(__file__).resolve()), "child", "--work", str(work), "--"])
    launcher.write_text(f'#!/bin/sh\nexec {line} "$@"\n')
    launcher.chmod(0o755)
    command = [str(launcher), "-set_cover_merge=1", str(CORPUS), str(work / "corpus")]
    return subprocess.run(command, check=False).returncode


def fuzz(work: Path, rest: list[str]) -> None:
    """Hand over to libFuzzer; never returns."""
    instrumented(work)
    import atheris

    names = ["special_tokens", "text_encoder", "space_normalizer", "vocabulary", "unicode_forms", "split_automaton"]
    names += ["tokenizer", *(f"tokenizer_{family}" for family in ("bpe", "spm", "unigram", "wordpiece"))]
    with atheris.instrument_imports(include=[f"zigllama.models.{name}" for name in names]):
        from tokenizer_judge import judge
    words = work / "words.dict"
    wanted = [
        "\u2581",
        " \u2581",
        "<1>",
        "ab",
        "\n",
        "\r\n",
        "  ",
        "'s",
        "123",
        "1234567",
        "\u00e9",
        "e\u0301",
        "\u4e16",
    ]
    wanted += ["\u1100\u1161\u11a8", "\U0001f642\u200d", "\u0130", "\ufb01", "\u0344"]
    lines = [
        '"' + "".join(f"\\x{b:02x}" for b in w.encode()) + '"\n'
        for w in [*wanted, "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")]
    ]
    words.write_text("".join(lines))
    limits = ["-max_len=1024", "-timeout=7200", "-rss_limit_mb=4096", f"-dict={words}", f"-artifact_prefix={work}/"]
    program = str(work / "child") if "-set_cover_merge=1" in rest else sys.argv[0]
    atheris.Setup([program, "-print_final_stats=1", *limits, *rest], judge)
    atheris.Fuzz()


def main() -> int:
    """Build, run or merge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("build", "run", "merge", "child"))
    parser.add_argument("place", nargs="?", type=Path, help="build: a build folder; run: an input to repeat")
    parser.add_argument("--work", type=Path, required=True)
    a, rest = parser.parse_args([*itertools.takewhile("--".__ne__, sys.argv[1:])]), sys.argv[1:]
    rest = rest[rest.index("--") + 1 :] if "--" in rest else []
    work = a.work.resolve()
    found = work / "corpus"
    found.mkdir(parents=True, exist_ok=True)
    CORPUS.mkdir(parents=True, exist_ok=True)
    if a.verb == "build":
        return build(a.place.resolve(), work)
    if a.verb == "merge":
        return merge(work)
    fuzz(work, rest if a.verb == "child" else [str(a.place)] if a.place else [str(found), str(CORPUS)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
