"""docs/formats.md: up to date, its layouts true to the geometry and to what dequantising does, its examples run."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree

import make_formats_page
import numpy as np
import pytest
from make_formats_page import BYTES, CHAPTERS, LAYOUTS, TARGET, page

from zigllama.app.main import Parser
from zigllama.foundation.ggml_types import GGML_TYPES
from zigllama.linear_algebra.iq_quantizers import NEED_IMPORTANCE
from zigllama.linear_algebra.number_formats import dequantize
from zigllama.linear_algebra.quantizers import QUANTIZE

BASES = 24  # random blocks: a change hides in some, where a code is 0 or a scale infinite


def test_the_page_is_as_the_tool_makes_it() -> None:
    assert TARGET.read_text("utf-8") == page(), "run tools/make_formats_page.py"


def test_every_format_is_there() -> None:
    assert set(LAYOUTS) == {name for name, kind in GGML_TYPES.items() if kind.is_quantized}
    assert sorted(name for _, names, _ in CHAPTERS for name in names) == sorted(LAYOUTS)
    plain = make_formats_page.HEAD.split("## Plain numbers")[1]
    assert all(re.search(rf"\b{name}\b", plain) for name in set(GGML_TYPES) - set(LAYOUTS))


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_field_reaches_the_values_that_the_page_says(name: str) -> None:
    """Of each number in a block every bit is turned, and those values counted that ever change."""
    kind, layout = GGML_TYPES[name], LAYOUTS[name]
    fields = list(layout.fields())
    assert sum(f.n_bytes for _, f in fields) == kind.block_bytes == sum(p.n_bytes for p in layout.parts)
    rng = np.random.Generator(np.random.PCG64(3))
    base = rng.integers(0, 256, (BASES, kind.block_bytes), np.uint8)
    before = dequantize(base, name)[:, None]
    turned = np.repeat(base[:, None], 8 * kind.block_bytes, axis=1)  # (bases, bits, bytes)
    bits = np.arange(8 * kind.block_bytes)
    turned[:, bits, bits // 8] ^= (1 << bits % 8).astype(np.uint8)
    after = dequantize(turned, name)
    changed = ((before != after) & ~(np.isnan(before) & np.isnan(after))).any(0)  # (bits, values)
    for start, field in fields:
        size = 8 * BYTES[field.kind]
        for i in range(field.count):
            first = 8 * start + i * size
            assert changed[first : first + size].any(0).sum() == field.reach, (field, i)


def test_what_the_page_says_can_be_made() -> None:
    """Every quantised format but those of activations, three of them with importances."""
    assert {n for n in LAYOUTS if n not in QUANTIZE} == {"Q8_1", "Q8_K"}
    said = re.search(r"error, the cosine\. (.*?) cannot be made without", page(), re.DOTALL)
    assert said is not None
    assert set(re.findall(r"I?Q\w+", said[1])) == set(NEED_IMPORTANCE)


def test_the_picture_has_what_the_page_says() -> None:
    """Made without importances, it has all others."""
    found = set(re.findall(r"<title>(\w+), \d+ tensors", (TARGET.parent / "formats-smollm2.svg").read_text("utf-8")))
    assert found == {n for n in QUANTIZE if GGML_TYPES[n].is_quantized} - set(NEED_IMPORTANCE)


def test_the_examples_run(smollm2_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = page()
    codes = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(codes) == 2
    for code in codes:
        exec(code, {})
    out = capsys.readouterr().out
    assert "blk.0.attn_k.weight Q4_0 4.5 " in out and "blk.0.attn_k.weight Q8_0 8.5 " in out
    (commands,) = re.findall(r"```bash\n(.*?)\n```", text, re.DOTALL)
    parsed = {}
    for command in commands.splitlines():
        program, verb, *words = shlex.split(command)
        parser = Parser()
        import_module(f"zigllama.app.verbs.{verb}").configure(parser)
        parsed[verb] = parser.parse_all(words)
        assert program == "zigllama"
    assert parsed["quantize"].words[1] == parsed["inspect"].model
    picture = TARGET.parent.parent / parsed["inspect"].picture
    assert f"]({picture.name})" in text
    words = [t.text or "" for t in ElementTree.parse(picture).getroot().iter("{http://www.w3.org/2000/svg}text")]
    assert f"3 tensors of {parsed['inspect'].model} beside its own values" in words
