"""The codebooks: the same in Python and in C, and those of PyPI's gguf."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from load_tool import load_tool

from zigllama.linear_algebra import codebooks
from zigllama.linear_algebra.fp4_quantization import FP4_VALUES
from zigllama.linear_algebra.iq_quantization import IQ4_VALUES, SIGNS, codebook

KERNELS = Path(__file__).parents[2] / "ckernels" / "kernels"
NAMES = {"IQ1": 2048, "IQ2_XXS": 256, "IQ2_XS": 512, "IQ2_S": 1024, "IQ3_XXS": 256, "IQ3_S": 512}


def c_words(name: str) -> tuple[int, list[str]]:
    """Of a table in codebooks.c: the number that holds its levels, and its words."""
    text = (KERNELS / "codebooks.c").read_text("utf-8")
    found = re.search(
        r"#define W\(w\) ([^\n]*),\n"
        rf"const uint\d\d_t zl_(?:grid|words)_{name.lower()}\[(?:3 \+ )?(\d+)(?: \+ 3)?\] = \{{\n(.*?)\n\}};",
        text,
        re.DOTALL,
    )
    assert found is not None
    words = re.findall(r"W\((\w+)\)", found[3])
    assert len(words) == int(found[2]) == NAMES[name]
    levels = set(re.findall(r"FOUR\((0x\w+)ull", found[1]))
    assert len(levels) == 1
    return int(levels.pop(), 16), words


@pytest.mark.parametrize("name", NAMES)
def test_both_files_have_the_same_words_and_levels(name: str) -> None:
    table, words = c_words(name)
    assert words == getattr(codebooks, name).split()
    levels = [int(v) & 255 for v in getattr(codebooks, f"{name}_LEVELS")]
    assert list(table.to_bytes(len(levels), "little")) == levels


def test_both_files_have_the_same_small_tables() -> None:
    header, source = ((KERNELS / f"codebooks.{end}").read_text("utf-8") for end in "hc")
    for name, text, want in (
        ("zl_values_iq4", header, codebooks.IQ4_VALUES),
        ("zl_values_fp4", header, codebooks.FP4_VALUES),
        ("zl_signs", source, codebooks.SIGNS),
    ):
        found = re.search(rf"{name}\[\d+\] = \{{([^}}]*)\}};", text)
        assert found is not None
        assert [int(v) for v in found[1].split(",") if v.strip()] == list(want)


@pytest.mark.parametrize("name", NAMES)
def test_vectors_are_ggufs(name: str) -> None:
    quants = pytest.importorskip("gguf.quants", reason="gguf is not installed")
    quant = getattr(quants, "IQ1_S" if name == "IQ1" else name)
    quant.init_grid()
    np.testing.assert_array_equal(codebook(name), quant.grid[0, 0])


def test_small_tables_are_ggufs() -> None:
    quants = pytest.importorskip("gguf.quants", reason="gguf is not installed")
    np.testing.assert_array_equal(SIGNS, np.frombuffer(quants.IQ2_XXS.ksigns, np.uint8))
    np.testing.assert_array_equal(IQ4_VALUES, quants.IQ4_NL.kvalues)
    np.testing.assert_array_equal(FP4_VALUES, quants.MXFP4.kvalues)


def test_what_the_tables_are() -> None:
    """No vector twice; seven signs and the eighth that makes the number of ones even; floats of E2M1, doubled."""
    for name, count in NAMES.items():
        assert len(np.unique(codebook(name), axis=0)) == count
    assert [int(s) for s in SIGNS] == [i | (i.bit_count() & 1) << 7 for i in range(128)]
    for code, value in enumerate(FP4_VALUES):
        e, m = code >> 1 & 3, code & 1
        size = (2 + m) * 2 ** (e - 1) if e else m
        assert value == (-size if code & 8 else size)


@pytest.mark.parametrize("name", NAMES)
def test_the_selftest_sums_ggufs_vectors(name: str) -> None:
    """FNV-1a over the bytes of gguf's grid is what the C selftest wants of our tables."""
    quants = pytest.importorskip("gguf.quants", reason="gguf is not installed")
    quant = getattr(quants, "IQ1_S" if name == "IQ1" else name)
    quant.init_grid()
    grid = quant.grid[0, 0].astype(int)
    total = 0xCBF29CE484222325
    for byte in grid.reshape(-1) & 255:
        total = (total ^ int(byte)) * 0x100000001B3 % 2**64
    text = (KERNELS.parent / "tests" / "selftest_dequantize.c").read_text("utf-8")
    assert f'{{"{name}", zl_grid_{name.lower()}, {grid.shape[0]}, {grid.shape[1]}, {total:#018x}u}}' in text


def test_the_files_are_what_the_generator_writes() -> None:
    pytest.importorskip("gguf.quants", reason="gguf is not installed")
    for path, text in load_tool("make_codebooks").texts().items():
        have, want = (re.sub(r"from gguf \S+; do", "from gguf; do", t) for t in (path.read_text("utf-8"), text))
        assert have == want, path.name
