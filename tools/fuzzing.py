"""What the fuzzers of texts share (fuzz_tokenizers.py, fuzz_templates.py, fuzz_grammars.py): libFuzzer through atheris,
the library in C compiled for it, the dictionary, the committed corpus.

    pip install atheris                                                     # and clang, for coverage in C
    python tools/fuzz_templates.py build build/editable --work DIR          # C, compiled for the fuzzer
    python tools/fuzz_templates.py seed --work DIR                          # real inputs into DIR/corpus, to begin with
    python tools/fuzz_run.py --work DIR -- python tools/fuzz_templates.py run --work DIR
    python tools/fuzz_templates.py run --work DIR FILE                      # repeats a finding: crash-*
    python tools/fuzz_templates.py replay --work DIR [--sanitizer address]  # all inputs so far, once
    python tools/fuzz_templates.py merge --work DIR                         # the committed corpus gets what is new

`--target` chooses where a tool has several. An execution takes milliseconds: it stays in one process, and C is built
twice, with UndefinedBehaviorSanitizer, which costs little, for the search, and with AddressSanitizer, which makes
Python three times as slow, for `replay` of what the search has found. Without `build` C is as it is installed, and only
Python's branches count as coverage.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.machinery
import importlib.util
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "corpus"
LOOPS = (
    *("words", "pairs", "pieces", "unigram", "wordpiece", "strings", "specials"),
    *("grammar_machine", "grammar_mask", "grammar_alike", "grammar_pushdown"),
    *("json_schema", "json_schema_places", "json_schema_bytes"),
)
FLAGS = [
    *("-O1", "-g", "-fPIC", "-std=c11", "-D_GNU_SOURCE", "-fvisibility=hidden", "-fno-omit-frame-pointer"),
    *("-Ickernels", "-Ickernels/include"),
]
SANITIZERS = {"undefined": "ubsan_with_fuzzer.so", "address": "asan_with_fuzzer.so"}  # atheris has their libraries
OPTIONS = {
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=16:allocator_may_return_null=1:symbolize=0",
}
NAME = "zigllama._ckernels"
HANG = 60.0  # seconds of CPU in one execution, after which it has hung; the judges have bounds of their own
Judge = Callable[[bytes], None]
Mutator = Callable[[bytes, int, int], bytes]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]


@dataclass(frozen=True)
class Target:
    """What is fuzzed.

    corpus      its folder in tests/corpus
    modules     packages and modules of Python whose branches count as coverage
    load        imports and gives the judge, which raises for what is wrong
    words       of its dictionary
    max_len     bytes of an input
    seeds       real inputs
    mutator     how an input is changed, of (input, most bytes, seed); None: as libFuzzer does
    """

    corpus: str
    modules: tuple[str, ...]
    load: Callable[[], Judge]
    words: tuple[bytes, ...]
    max_len: int
    seeds: Callable[[], Iterable[bytes]] = tuple
    mutator: Mutator | None = None

    @property
    def committed(self) -> Path:
        """The committed corpus."""
        return CORPUS / self.corpus


def dictionary(work: Path, words: Iterable[bytes]) -> Path:
    """libFuzzer's file of words to put in."""
    path = work / "words.dict"
    path.write_text("".join('"' + "".join(f"\\x{b:02x}" for b in w) + '"\n' for w in words))
    return path


def launcher(work: Path, tool: str, *arguments: str) -> Path:
    """A program that runs a tool: a merge starts itself again by its first argument, which has to be one."""
    path = (work / "child").resolve()
    line = shlex.join([sys.executable, str(Path(tool).resolve()), *arguments])
    path.write_text(f'#!/bin/sh\nexec {line} "$@"\n')
    path.chmod(0o755)
    return path


# --- C ----------------------------------------------------------------------------------------------------------------


def extension(work: Path, sanitizer: str) -> Path:
    """Where `build` puts the package's extension."""
    return work / sanitizer / "_ckernels.abi3.so"


def build(meson: Path, work: Path) -> None:
    """The extension with the loops of texts as clang instruments them, the rest as a meson build has it."""
    rest = [*map(str, meson.glob("_ckernels*.p/*.o"))]
    archives = ["-Wl,--start-group", *map(str, meson.glob("ckernels/*.a")), "-Wl,--end-group"]
    for sanitizer in SANITIZERS:
        made = extension(work, sanitizer)
        made.parent.mkdir(exist_ok=True)
        objects = list[str]()
        for name in LOOPS:
            objects.append(str(made.parent / f"{name}.o"))
            flags = [*FLAGS, f"-fsanitize={sanitizer},fuzzer-no-link"]
            command = ["clang", *flags, "-c", f"ckernels/core/{name}.c", "-o", objects[-1]]
            subprocess.run(command, cwd=ROOT, check=True)
        link = ["clang", "-shared", "-o", str(made), *rest, *objects, *archives, "-lm", "-ldl", "-lpthread"]
        subprocess.run(link, cwd=ROOT, check=True)


def use_extension(work: Path, sanitizer: str) -> None:
    """Make what `build` has made the package's extension. It needs its sanitizer loaded before all else: this starts
    again."""
    path = extension(work, sanitizer)
    if not path.exists():
        return
    import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

    preload = str(Path(atheris.path()) / SANITIZERS[sanitizer])
    if os.environ.get("LD_PRELOAD") != preload:
        environment = {**os.environ, **OPTIONS, "LD_PRELOAD": preload}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
    loader = importlib.machinery.ExtensionFileLoader(NAME, str(path))
    spec = importlib.util.spec_from_file_location(NAME, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    loader.exec_module(module)


# --- libFuzzer --------------------------------------------------------------------------------------------------------


def guarded(judge: Judge) -> Judge:
    """The judge, which is interrupted when it has hung, wherever in Python that is. libFuzzer's own clock runs on while
    a process is held; this one is the processor's."""

    def hung(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"no end after {HANG:.0f} s of CPU time")

    signal.signal(signal.SIGPROF, hung)

    def one(data: bytes) -> None:
        signal.setitimer(signal.ITIMER_PROF, HANG)
        try:
            judge(data)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    return one


def fuzz(target: Target, work: Path, sanitizer: str, arguments: list[str]) -> None:
    """Hand over to libFuzzer with the first argument and the rest of its command line; never returns."""
    use_extension(work, sanitizer)
    import atheris

    with atheris.instrument_imports(include=list(target.modules)):
        judge = target.load()
    limits = ["-print_final_stats=1", "-timeout=7200", "-rss_limit_mb=4096", f"-max_len={target.max_len}"]
    places = [f"-dict={dictionary(work, target.words)}", f"-artifact_prefix={work}/"]
    command = [arguments[0], *limits, *places, *arguments[1:]]
    if target.mutator is None:
        atheris.Setup(command, guarded(judge))
    else:
        atheris.Setup(command, guarded(judge), custom_mutator=target.mutator)
    atheris.Fuzz()


def main(targets: Mapping[str, Target], what: str | None) -> int:
    """The command line of a tool, whose docstring is `what`."""
    parser = argparse.ArgumentParser(description=what, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("build", "seed", "run", "replay", "merge", "child"))
    parser.add_argument("files", nargs="*", help="build: meson's folder; run: inputs to repeat; child: libFuzzer's own")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--target", choices=tuple(targets), default=next(iter(targets)))
    parser.add_argument("--sanitizer", choices=tuple(SANITIZERS), default=next(iter(SANITIZERS)))
    a, own = parser.parse_known_args()  # what is not known is libFuzzer's: -runs=1000
    target, work = targets[a.target], a.work.resolve()
    found = work / "corpus"
    for folder in (found, target.committed):
        folder.mkdir(parents=True, exist_ok=True)
    if a.verb == "build":
        build(Path(a.files[0]).resolve(), work)
    elif a.verb == "seed":
        for data in {data[: target.max_len] for data in target.seeds()}:
            (found / hashlib.sha1(data).hexdigest()).write_bytes(data)
    elif a.verb == "merge":
        same = ["--work", str(work), "--target", a.target, "--sanitizer", a.sanitizer]
        child = launcher(work, sys.argv[0], "child", *same)
        places = [str(target.committed), str(found)]
        return subprocess.run([str(child), "-set_cover_merge=1", *own, *places], check=False).returncode
    elif a.verb == "child":
        fuzz(target, work, a.sanitizer, [str(work / "child"), *own, *a.files])
    else:
        places = a.files or [str(found), str(target.committed)]
        fuzz(target, work, a.sanitizer, [sys.argv[0], *(["-runs=0"] if a.verb == "replay" else []), *own, *places])
    return 0
