"""The machine code of the extension's kernels: tools/disassembly.py finds nothing, and finds what is planted.

The static libraries, of this machine and of aarch64, are looked at by `.ci/run`.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from load_tool import TOOLS, load_tool

from zigllama.foundation import native

tool = load_tool("disassembly")
KERNELS = tool.kernel_names(TOOLS.parent)


def extension() -> Path:
    return Path(str(importlib.import_module("zigllama._ckernels").__file__))


@pytest.fixture(scope="module")
def variants() -> dict[str, Any]:
    objdump = tool.objdump_of(extension())
    if objdump is None:
        pytest.skip("objdump is not installed")
    read: dict[str, Any] = tool.read(extension(), objdump, KERNELS)
    return read


def test_the_names_are_those_of_the_dispatch_table() -> None:
    assert sorted(KERNELS) == sorted(native.kernel_names())


def test_every_variant_holds_its_instructions_and_no_others(variants: dict[str, Any]) -> None:
    assert set(variants) == {name for name, _ in native.isa_variants()}
    found = tool.problems(variants, KERNELS)
    assert not found, "\n".join(found)


def planted(text: str) -> Any:
    """Functions from lines `name: instruction; instruction`."""
    lines = []
    for at, line in enumerate(text.strip().splitlines()):
        name, _, body = line.strip().partition(": ")
        lines += [f"{16 * at:016x} <{name}>:", *(f"  {16 * at:x}:\t{word}" for word in body.split("; "))]
    return tool.parse("\n".join(lines))


GOOD = "linear_quant_avx2: vpmaddubsw %ymm1,%ymm2,%ymm3; vfmadd231ps %ymm1,%ymm2,%ymm3; ret"


@pytest.mark.parametrize(
    ("isa", "text", "said"),
    [
        ("avx2", "f_avx2: vaddps %zmm1,%zmm2,%zmm3; ret", "%zmm1"),
        ("avx2", "f_avx2: vmovaps %ymm17,%ymm2; ret", "%ymm17"),
        ("avx2", "f_avx2: vmovdqu8 %ymm1,(%rdi){%k1}; ret", "%k1"),
        ("avx512", "f_avx512: vdpbf16ps %zmm1,%zmm2,%zmm3; ret", "vdpbf16ps"),
        ("generic", "f_generic: addps %xmm1,%xmm2; vzeroupper ; ret", "vzeroupper"),
        ("generic", "f_generic: vaddps %ymm1,%ymm2,%ymm3; ret", "%ymm1"),
        ("core", "zl_run: push %rbp; vmovups %xmm0,(%rdi); ret", "vmovups"),
        ("neon", "f_neon: sdot\tv0.4s, v1.16b, v2.16b; ret", "sdot"),
        ("generic", "f_generic: sdot\tv0.4s, v1.16b, v2.16b; ret", "sdot"),
    ],
)
def test_a_foreign_instruction_is_found(isa: str, text: str, said: str) -> None:
    assert [said in line for line in tool.foreign(isa, planted(text))] == [True]


def test_baseline_instructions_are_not_foreign() -> None:
    generic = planted("f_generic: movups (%rdi),%xmm0; addps %xmm15,%xmm0; ret")
    assert not list(tool.foreign("generic", generic))
    assert not list(tool.foreign("avx2", planted(GOOD)))


def test_a_missing_instruction_is_found() -> None:
    text = "linear_quant_avx512: vpmaddubsw %zmm1,%zmm2,%zmm3; ret"
    found = list(tool.missing("avx512", planted(text), ["linear_quant", "matmul"]))
    assert found == [
        r"linear_quant_avx512: none of its 2 instructions is 'vpdpbusd .*%zmm'",
        r"matmul_avx512: none of its 0 instructions is 'vfn?madd\\w+ .*%zmm'",
    ]
    assert not any(line.startswith("linear_quant") for line in tool.missing("avx2", planted(GOOD), KERNELS))
    assert len([line for line in tool.missing("avx2", planted(GOOD), []) if "no kernel is called" in line]) == 3


def test_what_a_kernel_calls_counts() -> None:
    text = "linear_quant_avx2: call 10 <tile>; ret\ntile: vpmaddubsw %ymm1,%ymm2,%ymm3; vfmadd231ps %ymm1,%ymm2,%ymm3"
    assert len(tool.code(planted(text), "linear_quant_avx2")) == 4
    assert not any(line.startswith("linear_quant") for line in tool.missing("avx2", planted(text), KERNELS))


def test_a_copy_of_the_generic_body_is_found() -> None:
    generic = planted("add_generic: movups (%rdi),%xmm0; jne 2 <add_generic+0x2>; ret")
    same = planted("pad: ret\nadd_avx2: movups (%rdi),%xmm0; jne 12 <add_avx2+0x2>; ret")
    assert "add_avx2 is add_generic" in next(tool.copies("avx2", same, generic, ["add"]))
    other = planted("add_avx2: vmovups (%rdi),%ymm0; jne 2 <add_avx2+0x2>; ret")
    assert not list(tool.copies("avx2", other, generic, ["add"]))
    assert list(tool.copies("avx2", other, generic, ["mul"])) == ["mul: there is no mul_avx2"]
