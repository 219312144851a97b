"""Read the machine code of the kernels: each ISA variant holds the instructions it is there for, and no others.

    python tools/disassembly.py build-c/ckernels                      the static libraries of a build
    python tools/disassembly.py zigllama/_ckernels.abi3.so            the kernels of an extension, by their names

Four things are looked at. A variant's products hold its instructions (WANTED): given wrong flags, or a wrong body in
the table, every test of values would still pass. No variant holds what its CPU may lack (FOREIGN), nor does the core,
which runs everywhere: one such instruction outside a dispatched kernel ends the process on an older CPU. Every variant
has every kernel. And no variant's kernel is the generic one under another name. Exit code 1 where one of these does not
hold. Needs objdump of the target's binutils.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

CORE = "core"
VARIANTS = ("avx512bf16", "avx512", "avx2", "dotprod", "neon", "generic")

PRODUCTS = r"linear_quant"
FLOATS = r"\w+_float|matmul|attention_span|unary|rms_norm"
# variant -> (names of kernels, what some instruction of each must match): mnemonic and operands as objdump writes them
WANTED: dict[str, list[tuple[str, str]]] = {
    "avx512": [(PRODUCTS, r"vpdpbusd .*%zmm"), (FLOATS, r"vfn?madd\w+ .*%zmm")],
    "avx512bf16": [("linear_float", r"vfn?madd\w+ .*%zmm"), ("linear_float", r"vdpbf16ps .*%zmm")],
    "avx2": [(PRODUCTS, r"vpmaddubsw .*%ymm"), (PRODUCTS, r"vfmadd\w+ .*%ymm"), (FLOATS, r"vfn?madd\w+ .*%ymm")],
    "dotprod": [(PRODUCTS, r"sdot\s+v\d+\.4s"), (FLOATS, r"fml[as]\s+v\d+\.4s")],
    "neon": [(PRODUCTS, r"smull2?\s+v\d+\.8h"), (FLOATS, r"fml[as]\s+v\d+\.4s")],
    "generic": [],
}
# A variant that shares another one's kernels has only these of its own.
OWN = {"avx512bf16": ("linear_float", "interleave_group", "interleave_bf16")}
# What a variant must not hold. AVX-512 shows by its registers: zmm, masks, and vector registers from 16 on.
_AVX512 = r"%zmm|%k[0-7]\b|%[xy]mm(1[6-9]|2\d|3[01])\b|vpdpbusd"
_AVX = rf"{_AVX512}|%ymm|^v[a-z0-9]+( |$)"
FOREIGN = {
    "avx512bf16": r"%tmm",
    "avx512": r"vdpbf16ps|%tmm",
    "avx2": _AVX512,
    "dotprod": r"smmla|bfdot|bfmmla|\bz\d+\.",
    "neon": r"[su]dot\s|smmla|bfdot|bfmmla|\bz\d+\.",
    "generic": rf"{_AVX}|[su]dot\s|smmla|bfdot|bfmmla|\bz\d+\.",
}
FOREIGN[CORE] = FOREIGN["generic"]
# NEON is part of aarch64, so there `generic` has it too: kernels that no intrinsic is written for are the same code.
SAME = {"neon": {"pack", "pack_wide", "rope_table", "add", "mul", "scale", "top_k", "probe_read"}}
SAME["dotprod"] = SAME["neon"]


@dataclass
class Function:
    """A function's instructions, free of addresses, and the functions it calls."""

    name: str
    body: list[str] = field(default_factory=list)
    calls: list[Key] = field(default_factory=list)


Key = tuple[str, str, int]  # of a function: archive member, name, address
Variant = Mapping[Key, Function]


def objdump_of(path: Path) -> str | None:
    """The objdump that knows this file's machine, or None."""
    for name in ("objdump", "aarch64-linux-gnu-objdump"):
        if shutil.which(name):
            asked = subprocess.run([name, "-f", str(path)], capture_output=True, text=True, check=False)
            if asked.returncode == 0 and "UNKNOWN" not in asked.stdout:
                return name
    return None


def parse(text: str) -> dict[Key, Function]:
    """The functions of objdump's output, without addresses and without the variant's own name in the instructions."""
    functions: dict[Key, Function] = {}
    member, current = "", Function("")
    for line in text.splitlines():
        if head := re.fullmatch(r"([0-9a-f]+) <(.+)>:", line):
            current = functions.setdefault((member, head[2], int(head[1], 16)), Function(head[2]))
        elif head := re.match(r"(\S+):\s+file format", line):
            member = head[1]
        elif line.startswith(" ") and "\t" in line:
            word = line.split("\t", 1)[1].split("#")[0].strip()
            if (to := re.search(r"([0-9a-f]+) <([^>+]*)(?:\+0x([0-9a-f]+))?>", word)) and to[2] != current.name:
                current.calls.append((member, to[2], int(to[1], 16) - int(to[3] or "0", 16)))
            word = re.sub(r"[0-9a-f]+ <([^>+]*)(\+0x[0-9a-f]+)?>", r"<\1\2>", word)
            word = re.sub(r"-?0x[0-9a-f]+\(%rip\)", "(%rip)", word)
            current.body.append(re.sub(rf"_({'|'.join(VARIANTS)})\b", "", re.sub(r"\s+", " ", word)))
    return functions


def disassemble(path: Path, objdump: str) -> dict[Key, Function]:
    """The functions of a file."""
    command = [objdump, "-d", "-w", "--no-show-raw-insn", str(path)]
    return parse(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def reached(functions: Variant, name: str) -> dict[Key, Function]:
    """The function of that name, and those of its file that it calls, directly or not; nothing if it is not there."""
    found: dict[Key, Function] = {}
    waiting = [key for key in functions if key[1] == name]
    while waiting:
        key = waiting.pop()
        if key in functions and key not in found:
            found[key] = functions[key]
            waiting += reversed(functions[key].calls)
    return found


def code(functions: Variant, name: str) -> list[str]:
    """The instructions of a kernel, with what it calls."""
    return [word for f in reached(functions, name).values() for word in f.body]


# --- what must hold -------------------------------------------------------------------------------------------------


def missing(isa: str, functions: Variant, kernels: list[str]) -> Iterator[str]:
    """Kernels that lack the instructions that they are there for."""
    for names, pattern in WANTED[isa]:
        chosen = [kernel for kernel in kernels if re.fullmatch(names, kernel)]
        if not chosen:
            yield f"{isa}: no kernel is called {names!r}"
        for kernel in chosen:
            body = code(functions, f"{kernel}_{isa}")
            if not any(re.search(pattern, word) for word in body):
                yield f"{kernel}_{isa}: none of its {len(body)} instructions is {pattern!r}"


def foreign(isa: str, functions: Variant) -> Iterator[str]:
    """Functions that hold instructions which the variant's CPU may lack."""
    for f in functions.values():
        if found := next((word for word in f.body if re.search(FOREIGN[isa], word)), None):
            yield f"{f.name} in {isa}: {found!r}"


def copies(isa: str, functions: Variant, generic: Variant, kernels: list[str]) -> Iterator[str]:
    """Kernels that a variant lacks, and those that are the generic body under another name."""
    for kernel in OWN.get(isa, kernels):
        mine, theirs = code(functions, f"{kernel}_{isa}"), code(generic, f"{kernel}_generic")
        if not mine:
            yield f"{kernel}: there is no {kernel}_{isa}"
        elif isa != "generic" and mine == theirs and kernel not in SAME.get(isa, ()):
            yield f"{kernel}_{isa} is {kernel}_generic, instruction by instruction"


def problems(variants: Mapping[str, Variant], kernels: list[str]) -> list[str]:
    """What does not hold. `variants`: variant, or CORE, -> its functions."""
    found = []
    for isa, functions in variants.items():
        found += foreign(isa, functions)
        if isa != CORE:
            found += missing(isa, functions, kernels)
            found += copies(isa, functions, variants["generic"], kernels)
    return found


# --- files ----------------------------------------------------------------------------------------------------------


def kernel_names(root: Path) -> list[str]:
    """All kernels, from the lists in ckernels/kernels/*.h."""
    text = "".join(path.read_text("utf-8") for path in sorted((root / "ckernels" / "kernels").glob("*.h")))
    return re.findall(r"^\s*X\(\w+, (\w+), \(", text, re.MULTILINE)


def read(path: Path, objdump: str, kernels: list[str]) -> dict[str, dict[Key, Function]]:
    """Variant -> functions: of a folder of static libraries, or of an extension from its kernels on."""
    if path.is_dir():
        libraries = {isa: p for isa in VARIANTS if (p := path / f"libzl_{isa}.a").exists()}
        return {isa: disassemble(p, objdump) for isa, p in {**libraries, CORE: path / "libzl.a"}.items()}
    everything, found = disassemble(path, objdump), {}
    for isa in VARIANTS:
        if any(name.endswith(f"_{isa}") for _, name, _ in everything):
            found[isa] = {k: f for kernel in kernels for k, f in reached(everything, f"{kernel}_{isa}").items()}
    return found


def main() -> int:
    """Run it; see the file's text."""
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    path = Path(sys.argv[1])
    objdump = objdump_of(path / "libzl_generic.a" if path.is_dir() else path)
    if objdump is None:
        print("SKIPPED: no objdump reads this file")
        return 3
    kernels = kernel_names(Path(__file__).resolve().parent.parent)
    variants = read(path, objdump, kernels)
    found = problems(variants, kernels)
    sizes = ", ".join(f"{isa} {sum(len(f.body) for f in v.values()):,}" for isa, v in variants.items())
    print("\n".join(found) or f"every variant holds its own instructions and no others: {sizes}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
