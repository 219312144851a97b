"""Break the kernels one line at a time and see that the C selftest notices: a test that cannot fail is a defect.

    python tools/mutants.py                    all of tools/mutants/*.toml
    python tools/mutants.py rows -k rope       one family, mutants whose file or text contains "rope"

A mutant is a text that occurs exactly once in a C file, and what to put in its place: a sign turned, a tail forgotten,
a bound off by one. Each is compiled in a scratch copy and must make the selftest fail (or hang, or crash). Survivors
are printed, and the exit code is then 1. Needs meson, ninja and a C compiler.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LISTS = Path(__file__).resolve().parent / "mutants"


@dataclass(frozen=True)
class Mutant:
    """`find` in `file` (below ckernels/) becomes `replace`."""

    file: str
    find: str
    replace: str

    def __str__(self) -> str:
        return f"{self.file}: {self.find.strip()!r} -> {self.replace.strip()!r}"


def read_lists(families: list[str]) -> list[Mutant]:
    paths = [LISTS / f"{family}.toml" for family in families] if families else sorted(LISTS.glob("*.toml"))
    return [Mutant(**entry) for path in paths for entry in tomllib.loads(path.read_text("utf-8"))["mutant"]]


def apply(mutant: Mutant, source: str) -> str:
    """The mutated source. Raises SystemExit where the text is not there exactly once: the list must follow the code."""
    if source.count(mutant.find) != 1:
        sys.exit(f"{mutant.file}: {mutant.find!r} occurs {source.count(mutant.find)} times, want once")
    return source.replace(mutant.find, mutant.replace)


def run(command: list[str], where: Path, timeout: float = 600) -> bool:
    try:
        return subprocess.run(command, cwd=where, capture_output=True, timeout=timeout, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description="break each kernel in turn; the selftest must notice")
    parser.add_argument("families", nargs="*", help="lists in tools/mutants/ (default: all)")
    parser.add_argument("-k", default="", metavar="TEXT", help="only mutants whose file or text contains this")
    parser.add_argument("--timeout", type=float, default=120, help="seconds a selftest may take; a hang is noticed")
    args = parser.parse_args()
    mutants = [m for m in read_lists(args.families) if args.k in f"{m.file} {m.find} {m.replace}"]
    survivors = []
    with tempfile.TemporaryDirectory(prefix="zl-mutants-") as scratch:
        copy = Path(scratch) / "source"
        copy.mkdir()
        for name in ("meson.build", "meson.options"):
            shutil.copy(ROOT / name, copy)
        for name in ("ckernels", "tools"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        build = Path(scratch) / "build"
        setup = ["meson", "setup", str(build), str(copy), "-Dlibrary_only=true", "-Doptimization=1"]
        compile_it = ["ninja", "-C", str(build), "ckernels/selftest"]
        selftest = [str(build / "ckernels" / "selftest")]
        for step in (setup, compile_it, selftest):
            if not run(step, copy, 3600):
                sys.exit(f"the unbroken library fails at: {' '.join(step)}")
        for i, mutant in enumerate(mutants, 1):
            path = copy / "ckernels" / mutant.file
            source = path.read_text("utf-8")
            path.write_text(apply(mutant, source), "utf-8")
            if not run(compile_it, copy):
                verdict = "does not compile"
            elif run(selftest, copy, args.timeout):
                verdict = "SURVIVED"
            else:
                verdict = "caught"
            path.write_text(source, "utf-8")
            print(f"{i:3}/{len(mutants)} {verdict:10} {mutant}", flush=True)
            if verdict != "caught":
                survivors.append(mutant)
    print(f"{len(mutants) - len(survivors)} of {len(mutants)} mutants caught")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
