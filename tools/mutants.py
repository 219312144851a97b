"""Break the C library one line at a time and see that its selftest notices: a test that cannot fail is a defect.

    python tools/mutants.py                    all of tools/mutants/*.toml
    python tools/mutants.py rows -k rope       one list, mutants whose file or text contains "rope"
    python tools/mutants.py -j 2               two at a time (the selftest itself has up to three threads)

A mutant is a text that occurs exactly once in a C file, and what to put in its place: a sign turned, a tail forgotten,
a bound off by one. It must make the selftest fail (or hang, or crash). Survivors are printed; the exit code is then 1.

What makes it quick: the library is compiled once, at -O1. A mutant compiles the objects that its file is part of one by
one, small ones first, variant after variant, and after each that became another one runs the suites that drive its
file, up to the first check that fails. What passes all of these meets every suite before it counts as a survivor.

A broken kernel is not trusted: all of this happens in processes that can write into a scratch folder only (confine.py),
and whatever one of them started ends with it. Needs meson, ninja, a C compiler, and Linux 5.13 for the confinement;
`--unconfined` does without, aloud.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from confine import confine

ROOT = Path(__file__).resolve().parent.parent
LISTS = Path(__file__).resolve().parent / "mutants"

# Which suites drive a file: the first that its name (below ckernels/) begins with. Others follow when these pass.
SUITES = {
    "core/alloc": ["core"],
    "core/blas": ["blas"],
    "core/ctx": ["core", "program", "pool"],
    "core/dispatch": ["core", "program"],
    "core/errors": ["core"],
    "core/formats": ["linear", "dequantize", "bounds"],
    "core/guard": ["core", "bounds"],
    "core/matmul": ["rows", "blas"],
    "core/mapping": ["core", "linear", "numa"],
    "core/numa": ["numa"],
    "core/pairs": ["pairs"],
    "core/words": ["words"],
    "core/wordpiece": ["wordpiece"],
    "core/utf8": ["words", "wordpiece"],
    "core/trie": ["unigram", "wordpiece"],
    "core/ops_attention": ["attention"],
    "core/ops_experts": ["experts"],
    "core/ops_linear": ["linear", "bounds", "blas"],
    "core/ops_rows": ["rows"],
    "core/scan": ["scan"],
    "core/ops_state": ["state"],
    "core/probe": ["probe"],
    "core/program": ["program", "bounds", "experts"],
    "core/quantize": ["quantize_plain", "quantize_iq"],
    "core/pieces": ["strings"],
    "core/specials": ["unigram"],
    "core/step": ["program", "attention", "state"],
    "core/strings": ["strings"],
    "core/grammar": ["grammar"],
    "core/json_schema_places": ["json_places"],
    "core/json_schema": ["json_schema", "json_places"],
    "core/threadpool": ["pool", "core"],
    "core/unigram": ["unigram"],
    "core/weight": ["linear", "bounds", "numa", "experts"],
    "kernels/attention": ["attention"],
    "kernels/book_loads": ["wide"],
    "kernels/codebook_lists": ["quantize_iq"],
    "kernels/codebooks": ["dequantize"],
    "kernels/dequantize": ["linear", "dequantize"],
    "kernels/formats_wide": ["wide"],
    "kernels/linear_wide": ["wide"],
    "kernels/lone": ["wide"],
    "kernels/widen": ["wide"],
    "kernels/matmul": ["rows"],
    "kernels/probe": ["probe"],
    "kernels/quantize_eight": ["quantize_iq", "quantize_k"],
    "kernels/quantize_iq": ["quantize_iq"],
    "kernels/quantize_k": ["quantize_k"],
    "kernels/quantize_low": ["quantize_low"],
    "kernels/quantize_weighted": ["quantize_iq"],
    "kernels/quantize": ["quantize_plain", "quantize_iq"],
    "kernels/rows_scan": ["scan"],
    "kernels/rows_top_k": ["scan", "rows"],
    "kernels/rows": ["rows"],
    "kernels/state": ["state"],
    "kernels/simd": ["rows", "scan", "linear", "attention"],
    "kernels/": ["linear", "bounds"],
}
# Those that call kernels. What no kernel can break need not run again, nor with other numbers of threads.
KERNEL_SUITES = [
    "rows",
    "scan",
    "state",
    "linear",
    "dequantize",
    "wide",
    "attention",
    "bounds",
    "blas",
    "numa",
    "probe",
    "quantize_iq",
    "quantize_k",
    "quantize_plain",
    "quantize_low",
]


@dataclass(frozen=True)
class Mutant:
    """`find` in `file` (below ckernels/) becomes `replace`. `isa`: the variant whose code it is, "" for that of all."""

    file: str
    find: str
    replace: str
    isa: str = ""

    def __str__(self) -> str:
        where = f"{self.file} ({self.isa})" if self.isa else self.file
        return f"{where}: {self.find.strip()!r} -> {self.replace.strip()!r}"


def read_lists(families: list[str]) -> list[Mutant]:
    paths = [LISTS / f"{family}.toml" for family in families] if families else sorted(LISTS.glob("*.toml"))
    return [Mutant(**entry) for path in paths for entry in tomllib.loads(path.read_text("utf-8"))["mutant"]]


def apply(mutant: Mutant, source: str) -> str:
    """The mutated source. Raises ValueError where the text is not there exactly once: the list must follow the code."""
    if source.count(mutant.find) != 1:
        raise ValueError(f"{mutant.file}: {mutant.find!r} occurs {source.count(mutant.find)} times, want once")
    return source.replace(mutant.find, mutant.replace)


def suites_of(file: str) -> list[str]:
    return next(suites for start, suites in SUITES.items() if file.startswith(start))


def run(command: list[str], where: Path, timeout: float, temporary: Path) -> tuple[int, str]:
    """Exit code (minus the signal that ended it, a timeout too) and output. What it started ends with it."""
    environment = {**os.environ, "TMPDIR": str(temporary), "HOME": str(temporary)}
    with (temporary / "output").open("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(
            command, cwd=where, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            code = -signal.SIGKILL
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # a session of its own: nobody else is in it
            process.wait()
        output.seek(0)
        return code, output.read()


@dataclass(frozen=True)
class Library:
    """The unbroken library, compiled: how each object of the selftest was made, and of which files."""

    scratch: Path
    compiler: list[str]
    commands: dict[str, list[str]]  # object -> its command, without what names its files
    sources: dict[str, str]  # object -> its C file, below ckernels/
    parts: dict[str, frozenset[str]]  # object -> all files that it is made of, below ckernels/
    variants: tuple[str, ...]  # that run here, the plainest first

    @property
    def build(self) -> Path:
        return self.scratch / "build"


def variant_of(target: str) -> str:
    """The ISA variant of a kernel's object; "" for those of the core, of the tables and of the selftest."""
    folder = target.split("/")[1]
    name = folder.removeprefix("libzl_").removesuffix(".a.p")
    return "" if name in (folder.removesuffix(".a.p"), "codebooks") else name


def compile_library(scratch: Path) -> Library:
    """Copies the sources into scratch, compiles them, runs the selftest. Raises RuntimeError where something fails."""
    copy, build = scratch / "source", scratch / "build"
    copy.mkdir()
    for name in ("meson.build", "meson.options"):
        shutil.copy(ROOT / name, copy)
    for name in ("ckernels", "tools"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    setup = ["meson", "setup", str(build), str(copy), "-Dlibrary_only=true", "-Doptimization=1"]
    for step in (setup, ["ninja", "-C", str(build)], ["ckernels/selftest"]):
        code, output = run(step, build if step[0] == "ckernels/selftest" else copy, 3600, scratch)
        if code:
            raise RuntimeError(f"the unbroken library fails at: {' '.join(step)}\n{output[-2000:]}")
    variants = [line.split()[0] for line in output.splitlines() if " threads " in line]
    commands, sources = {}, {}
    for entry in json.loads((build / "compile_commands.json").read_text("utf-8")):
        target = entry["output"]
        if target.startswith(("ckernels/libzl", "ckernels/selftest.p/")):
            words = shlex.split(entry["command"])
            compiler = words[: next(i for i, word in enumerate(words) if word.startswith("-"))]
            for option in ("-MQ", "-MF", "-o"):
                del words[words.index(option) : words.index(option) + 2]
            for word in ("-MD", "-c", entry["file"]):
                words.remove(word)
            commands[target], sources[target] = words, below_ckernels(copy, build, entry["file"]) or ""
    _, listing = run(["ninja", "-t", "deps"], build, 60, scratch)
    parts: dict[str, set[str]] = {}
    files: set[str] = set()
    for line in listing.splitlines():
        if line and not line.startswith(" "):
            files = parts.setdefault(line.split(":")[0], set())
        elif part := below_ckernels(copy, build, line.strip()):
            files.add(part)
    made_of = {target: frozenset(parts[target]) for target in commands}
    return Library(scratch, compiler, commands, sources, made_of, tuple(reversed(dict.fromkeys(variants))))


def below_ckernels(copy: Path, build: Path, name: str) -> str | None:
    path = Path(os.path.normpath(build / name))
    return path.relative_to(copy / "ckernels").as_posix() if path.is_relative_to(copy / "ckernels") else None


# --- one mutant -------------------------------------------------------------------------------------------------------


class Workshop:
    """A worker's own copy of the sources, and its own objects."""

    def __init__(self, library: Library) -> None:
        self.library = library
        self.folder = Path(tempfile.mkdtemp(prefix="worker-", dir=library.scratch))
        shutil.copytree(library.scratch / "source", self.folder / "source")

    def compile(self, target: str) -> Path | None:
        """The object of the sources as they are here, or None where they do not compile."""
        made = self.folder / target.replace("/", "+")
        old, new = (
            f"{os.path.relpath(self.library.scratch / 'source', self.library.build)}",
            str(self.folder / "source"),
        )
        words = [word.replace(old, new) for word in self.library.commands[target]]
        source = self.folder / "source" / "ckernels" / self.library.sources[target]
        code, _ = run([*words, "-c", str(source), "-o", str(made)], self.library.build, 600, self.folder)
        return None if code else made

    def selftest(self, made: dict[str, Path], arguments: list[str], timeout: float) -> str:
        """With these objects in the places of the unbroken ones: "" where the selftest passes, "caught" or "hangs"."""
        objects = [str(made.get(target, target)) for target in self.library.commands]
        program = str(self.folder / "selftest")
        libraries = ["-pthread", "-lm", "-ldl"]
        code, output = run(
            [*self.library.compiler, *objects, "-o", program, *libraries], self.library.build, 600, self.folder
        )
        if code:
            raise RuntimeError(f"linking fails: {output[-2000:]}")
        start = time.monotonic()
        code, output = run([program, "--first", *arguments], self.folder, timeout, self.folder)
        if code == 2:
            raise RuntimeError(f"the selftest does not know {arguments}: {output}")
        if not code:
            return ""
        return "hangs" if code == -signal.SIGKILL and time.monotonic() - start >= timeout else "caught"

    def size(self, target: str) -> int:
        return (self.library.build / target).stat().st_size

    def verdict(self, mutant: Mutant, timeout: float) -> str:
        path = (self.folder / "source" / "ckernels" / mutant.file).resolve()
        if not path.is_relative_to(self.folder / "source" / "ckernels"):
            raise ValueError(f"{mutant.file} is not below ckernels/")
        source = path.read_text("utf-8")
        path.write_text(apply(mutant, source), "utf-8")
        try:
            return self._verdict(mutant, timeout)
        finally:
            path.write_text(source, "utf-8")

    def _verdict(self, mutant: Mutant, timeout: float) -> str:
        affected = [t for t, files in self.library.parts.items() if mutant.file in files and "selftest.p" not in t]
        if mutant.isa and mutant.isa not in self.library.variants:
            return "cannot run"
        here = ("", mutant.isa) if mutant.isa else ("", *self.library.variants)
        made: dict[str, Path] = {}
        for variant in here:
            which = ["--isa", variant] if variant else []
            for target in sorted((t for t in affected if variant_of(t) == variant), key=self.size):
                done = self.compile(target)
                if done is None:
                    return "does not compile"
                if done.read_bytes() == (self.library.build / target).read_bytes():
                    continue  # nothing of it is in this object
                made[target] = done
                if said := self.selftest(made, ["--slow", *which, *suites_of(mutant.file)], timeout):
                    return said
        if not made:
            return "no change"
        every = [] if mutant.file.startswith("core/") else ["--slow", *KERNEL_SUITES]
        return self.selftest(made, every, 5 * timeout) or "SURVIVED"


# --- all of them ------------------------------------------------------------------------------------------------------

_workshop: Workshop | None = None


def enter(scratch: Path, confined: bool) -> None:
    if confined:
        confine(scratch)


def judge(library: Library, timeout: float, mutant: Mutant) -> str:
    global _workshop
    if _workshop is None:
        _workshop = Workshop(library)
    return _workshop.verdict(mutant, timeout)


def verdicts(mutants: list[Mutant], jobs: int, timeout: float, confined: bool) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="zl-mutants-") as folder:
        scratch = Path(folder).resolve()
        with ProcessPoolExecutor(jobs, get_context("spawn"), enter, (scratch, confined)) as workers:
            library = workers.submit(compile_library, scratch).result()
            yield from workers.map(partial(judge, library, timeout), mutants)


def main() -> int:
    parser = argparse.ArgumentParser(description="break each kernel in turn; the selftest must notice")
    parser.add_argument("families", nargs="*", help="lists in tools/mutants/ (default: all)")
    parser.add_argument(
        "-k", action="append", metavar="TEXT", help="only mutants whose file or text contains this or another -k"
    )
    parser.add_argument("--from", dest="first", type=int, default=1, metavar="N", help="begin with the Nth of them")
    parser.add_argument("-j", type=int, default=1, metavar="N", help="mutants at a time (default: 1)")
    parser.add_argument("--timeout", type=float, default=120, help="seconds a selftest may take; a hang is noticed")
    parser.add_argument("--unconfined", action="store_true", help="run broken code without confinement to a folder")
    args = parser.parse_args()
    wanted = args.k or [""]
    mutants = [m for m in read_lists(args.families) if any(k in f"{m.file} {m.find} {m.replace}" for k in wanted)]
    mutants = mutants[args.first - 1 :]
    if args.unconfined:
        print("unconfined: a broken kernel may write to any file that you may write to")
    count = {"caught": 0, "hangs": 0, "cannot run": 0}
    judged = zip(mutants, verdicts(mutants, args.j, args.timeout, not args.unconfined), strict=True)
    for i, (mutant, said) in enumerate(judged, args.first):
        print(f"{i:3}/{args.first - 1 + len(mutants)} {said:10} {mutant}", flush=True)
        count[said] = count.get(said, 0) + 1
    here, caught = len(mutants) - count["cannot run"], count["caught"] + count["hangs"]
    print(
        f"{caught} of {here} mutants caught ({count['hangs']} of them hang); "
        f"{count['cannot run']} are of variants that cannot run here"
    )
    if not here:
        print("nothing was judged: no mutant is called that, or none can run here")
        return 2
    return 0 if caught == here else 1


if __name__ == "__main__":
    sys.exit(main())
