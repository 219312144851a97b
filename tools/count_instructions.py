"""Count the instructions of fixed kernels under callgrind and compare them with the committed figures.

    python tools/count_instructions.py                     build, count, compare
    python tools/count_instructions.py --update            ... and write the figures: after a change that is meant
    python tools/count_instructions.py --build FOLDER      count what is built there

What runs is ckernels/tests/count_kernels.c, on the avx2 variant, which is the best that valgrind knows. A count that
is more than 2% off its figure, up or down, is an error: up is a regression, and a figure that nobody corrected after an
improvement would hide the next one. The figures hold for one compiler, whose version is written with them; elsewhere
they say nothing, and the comparison is skipped aloud (exit code 3). Needs meson, ninja, gcc and valgrind.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FIGURES = Path(__file__).resolve().parent / "instruction_counts.json"
PROGRAM = "ckernels/count_kernels"
TOLERANCE = 0.02
# libc copies in a loop, or by one instruction that counts per byte, as the sizes of caches tell it: here in a loop.
LIBC = ":".join(f"glibc.cpu.x86_{name}_threshold={1 << 30}" for name in ("rep_movsb", "rep_stosb", "non_temporal"))
SKIPPED = 3


def skip(reason: str) -> None:
    """Say why nothing was compared, and end."""
    print(f"SKIPPED: {reason}")
    sys.exit(SKIPPED)


def parse(text: str) -> tuple[str, int] | None:
    """(name, instructions) of one of callgrind's files; None for the last, which is what ran after the last name."""
    name = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.MULTILINE)
    total = re.search(r"^summary: (\d+)$", text, re.MULTILINE) or re.search(r"^totals: (\d+)$", text, re.MULTILINE)
    return (name[1], int(total[1])) if name and total else None


def differences(want: dict[str, int], have: dict[str, int]) -> list[str]:
    """What is off: counts beyond the tolerance, calls that have no figure, figures without a call."""
    found = [f"{name}: no such call any more" for name in want.keys() - have.keys()]
    for name, n in have.items():
        if name not in want:
            found.append(f"{name}: {n:,} instructions, no figure")
        elif abs(n - want[name]) > TOLERANCE * want[name]:
            found.append(f"{name}: {n:,} instructions, the figure is {want[name]:,} ({n / want[name] - 1:+.1%})")
    return sorted(found)


def compiler(build: Path) -> str:
    """Name and version of the compiler that built it."""
    command = ["meson", "introspect", str(build), "--compilers"]
    about = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return "{id} {version}".format(**about["host"]["c"])


def count(build: Path) -> dict[str, int]:
    """The instructions of every call of the program."""
    if not shutil.which("valgrind"):
        skip("valgrind is not installed")
    made = subprocess.run(["ninja", "-C", str(build), PROGRAM], capture_output=True, text=True, check=False)
    if made.returncode:
        sys.exit(f"{PROGRAM} cannot be built (are valgrind's headers there?):\n{made.stdout[-2000:]}")
    with tempfile.TemporaryDirectory() as folder:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", str(build / PROGRAM)]
        environment = os.environ | {"GLIBC_TUNABLES": LIBC}
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if ran.returncode:
            sys.exit(f"{PROGRAM} failed under valgrind:\n{ran.stderr[-2000:]}")
        if (isa := ran.stdout.strip()) != "avx2":
            skip(f"the library runs its {isa} variant here, the figures are of avx2")
        parts: Iterable[tuple[str, int] | None] = (parse(p.read_text("utf-8")) for p in Path(folder).iterdir())
        return dict(sorted(part for part in parts if part))


def main() -> int:
    """Run it; see the file's text."""
    parser = argparse.ArgumentParser(description="count the instructions of fixed kernels")
    parser.add_argument("--build", type=Path, metavar="FOLDER", help="of meson, with -Dlibrary_only=true")
    parser.add_argument("--update", action="store_true", help="write the figures instead of comparing")
    args = parser.parse_args()
    build: Path = args.build or ROOT / "build" / "counts"
    if not (build / "build.ninja").exists():
        setup = ["meson", "setup", str(build), str(ROOT), "-Dlibrary_only=true"]
        subprocess.run(setup, stdout=subprocess.DEVNULL, check=True)
    have, by = count(build), compiler(build)
    if args.update:
        figures = {"compiler": by, "isa": "avx2", "counts": have}
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
        print(f"{len(have)} figures written to {FIGURES.relative_to(ROOT)}")
        return 0
    figures = json.loads(FIGURES.read_text("utf-8"))
    if by != figures["compiler"]:
        skip(f"built by {by}, the figures are of {figures['compiler']}")
    found = differences(figures["counts"], have)
    print("\n".join(found) or f"{len(have)} calls take the instructions that they should, {TOLERANCE:.0%} more or less")
    if found:
        print(f"where this is meant: python {Path(sys.argv[0]).name} --update, and say in the commit why")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
