"""The lists of mutants follow the code: each applies once, every kernel is broken, in each variant that has code of its
own. Whether they are caught is `tools/mutants.py`'s to say; here is what would make it say less than it seems to."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import mutants
import pytest
from confine import landlock
from mutants import LISTS, ROOT, SUITES, Mutant, apply, read_lists, suites_of, variant_of

CKERNELS = ROOT / "ckernels"
NAMES = sorted(path.stem for path in LISTS.glob("*.toml"))
# Functions whose body is another file's business, and headers without code.
WITHOUT_CODE = {"kernels/kernels.h", "kernels/rows.h", "kernels/attention.h", "kernels/dequantize.h", "core/program.h",
                "kernels/codebooks.h", "kernels/codebook_lists.h", "kernels/quantize.h", "kernels/probe.h",
                "kernels/state.h",
                "core/blas.h", "core/core.h", "core/json_schema.h", "core/ctx.h", "kernels/table.c"}  # fmt: skip


def source_of(mutant: Mutant) -> str:
    return (CKERNELS / mutant.file).read_text("utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_each_mutant_applies_once_and_changes_code(name: str) -> None:
    """Comments do not count: a mutant that only changes one would always survive."""

    def code(text: str) -> str:
        return re.sub(r"\s+|/\*.*?\*/", "", text, flags=re.DOTALL)

    for mutant in read_lists([name]):
        source = source_of(mutant)
        assert code(apply(mutant, source)) != code(source), mutant


def test_no_mutant_stands_twice() -> None:
    seen = [(m.file, m.find, m.replace) for m in read_lists([])]
    assert len(seen) == len(set(seen))


def test_a_text_that_is_not_there_once_is_refused() -> None:
    for find in ("not there", "a"):
        with pytest.raises(ValueError, match="want once"):
            apply(Mutant("x.c", find, ""), "a = a;")


def function_bodies(source: str) -> dict[str, tuple[int, int]]:
    """Kernel -> where its definition `... ZL_FN(name)(`, or ZL_FLOAT_FN, begins and ends: a brace in column 1."""
    bodies = {}
    for found in re.finditer(r"^\w[^\n;]*?\bZL_(?:FLOAT_)?FN\((\w+)\)\(", source, re.MULTILINE):
        line_end = source.index("\n", found.start())
        one_line = source[found.start() : line_end].rstrip().endswith("}")
        bodies[found[1]] = (found.start(), line_end if one_line else source.index("\n}", found.start()))
    return bodies


def called(source: str, start: int, end: int, names: set[str]) -> set[str]:
    return {word for word in re.findall(r"\w+", source[start:end]) if word in names}


def functions(source: str) -> dict[str, tuple[int, int]]:
    """Every function and macro of a file that begins in the first column -> where it is."""
    found = {}
    for line in re.finditer(
        r"^(?:#define (\w+)\(|(?:ZL_INLINE|static)\b[^\n;=]*?\b(\w+)\([^\n;]*)", source, re.MULTILINE
    ):
        if line[1]:
            end = line.start()
            while source[end := source.index("\n", end)] and source[end - 1] == "\\":
                end += 1
        else:
            line_end = source.index("\n", line.start())
            end = line_end if source[:line_end].endswith("}") else source.find("\n}", line.start())
        found[line[1] or line[2]] = (line.start(), end)
    return found


def kernels() -> dict[str, str]:
    """Kernel -> the list that declares it."""
    declared = {}
    for header in ("linear.h", "rows.h", "attention.h", "state.h"):
        text = (CKERNELS / "kernels" / header).read_text("utf-8")
        declared.update(dict.fromkeys(re.findall(r"\bX\(\w+, (\w+), \(", text), header))
    return declared


def test_every_kernel_of_the_dispatch_table_is_broken() -> None:
    """By a mutant in its body, or in a function or macro of its file that it goes through."""
    wanted, broken = kernels(), set()
    assert len(wanted) > 20
    places = [(m.file, source_of(m).index(m.find)) for m in read_lists([])]
    for path in sorted((CKERNELS / "kernels").glob("*.c")):
        source, file = path.read_text("utf-8"), f"kernels/{path.name}"
        helpers = functions(source)
        for kernel, (start, end) in function_bodies(source).items():
            reached, todo = set(), called(source, start, end, set(helpers))
            while todo:
                reached.add(name := todo.pop())
                todo |= called(source, *helpers[name], set(helpers)) - reached
            spans = [(start, end), *(helpers[name] for name in reached)]
            if any(f == file and low <= at < high for f, at in places for low, high in spans):
                broken.add(kernel)
    assert set(wanted) - broken == set()


def test_every_file_with_code_is_broken() -> None:
    files = {
        p.relative_to(CKERNELS).as_posix() for folder in ("core", "kernels") for p in (CKERNELS / folder).iterdir()
    }
    assert files - {m.file for m in read_lists([])} - WITHOUT_CODE == set()


def test_every_primitive_of_every_variant_is_broken() -> None:
    """Of simd.h: what a variant's branch defines has a mutant there, on the same line or below the same name."""
    source = (CKERNELS / "kernels" / "simd.h").read_text("utf-8")
    lines = source.splitlines()
    hit = {source[: source.index(m.find)].count("\n") for m in read_lists(["simd"]) if m.file == "kernels/simd.h"}
    missing, name, began = [], "", 0
    for i, line in enumerate([*lines, "ZL_INLINE end_(void)"]):
        found = re.match(r"ZL_INLINE [\w ]*?\*?(\w+)\(", line)
        if found:
            if name and not hit & set(range(began, i)):
                missing.append(f"{began + 1}: {name}")
            name, began = found[1], i
    assert set(missing) == set()


def test_variants_of_mutants_exist() -> None:
    assert {m.isa for m in read_lists([])} <= {"", "avx512bf16", "avx512", "avx2", "generic", "neon", "dotprod"}


def test_every_file_has_suites_and_every_suite_exists() -> None:
    text = (CKERNELS / "tests" / "selftest.c").read_text("utf-8")
    known = set(re.findall(r'\{"(\w+)", selftest_', text))
    assert {suite for suites in SUITES.values() for suite in suites} <= known
    assert all(suites_of(m.file) for m in read_lists([]))
    assert suites_of("kernels/rows_math.h") == ["rows"]


def test_variants_are_told_from_other_objects() -> None:
    names = ["libzl_avx2.a.p/kernels_table.c.o", "libzl.a.p/core_ctx.c.o", "libzl_codebooks.a.p/k.o", "selftest.p/t.o"]
    assert [variant_of(f"ckernels/{name}") for name in names] == ["avx2", "", "", ""]


@pytest.mark.skipif(not landlock(), reason="this kernel has no Landlock")
def test_a_confined_process_writes_into_its_folder_only(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "kept").write_text("kept")
    code = (
        "import os, subprocess, sys\nfrom pathlib import Path\nfrom confine import confine\n"
        f"inside, outside = Path({str(inside)!r}), Path({str(outside)!r})\n"
        "confine(inside)\n"
        "(inside / 'a').write_text('a')\n"
        "assert (outside / 'kept').read_text() == 'kept'\n"
        "for act in (lambda: (outside / 'b').write_text('b'), lambda: (outside / 'kept').write_text(''),\n"
        "            lambda: (outside / 'kept').unlink(), lambda: os.rename(outside / 'kept', inside / 'kept'),\n"
        "            lambda: (outside / 'c').mkdir(), lambda: os.truncate(outside / 'kept', 1)):\n"
        "    try:\n        act()\n    except OSError:\n        continue\n    sys.exit(3)\n"
        "sys.exit(subprocess.call(['sh', '-c', f'echo x > {outside}/d']) == 0)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(mutants.__file__).parent)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0
    assert (inside / "a").read_text() == "a"
    assert [p.name for p in outside.iterdir()] == ["kept"]
    assert (outside / "kept").read_text() == "kept"


def test_a_mutant_outside_the_sources_is_refused(tmp_path: Path) -> None:
    library = mutants.Library(tmp_path, ["cc"], {}, {}, {}, ("generic",))
    (tmp_path / "source" / "ckernels").mkdir(parents=True)
    (tmp_path / "source" / "other.c").write_text("a")
    with pytest.raises(ValueError, match="not below ckernels"):
        mutants.Workshop(library).verdict(Mutant("../other.c", "a", "b"), 1)
