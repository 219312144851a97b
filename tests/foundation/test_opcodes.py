"""The numbers in opcodes.py are those of the C header."""

from __future__ import annotations

import re
from enum import IntEnum
from pathlib import Path

import pytest

from zigllama.foundation.opcodes import Gating, Opcode, Unary

HEADER = Path(__file__).parents[2] / "ckernels" / "include" / "zl_api.h"


@pytest.mark.parametrize(
    ("enum", "mirror", "prefix"),
    [("zl_opcode", Opcode, "ZL_OP_"), ("zl_unary", Unary, "ZL_"), ("zl_gating", Gating, "ZL_")],
)
def test_numbers_are_those_of_the_header(enum: str, mirror: type[IntEnum], prefix: str) -> None:
    body = re.search(
        rf"enum {enum} {{(.*?)}};", re.sub(r"/\*.*?\*/", "", HEADER.read_text("utf-8"), flags=re.DOTALL), re.DOTALL
    )
    assert body is not None
    found = {name: int(number) for name, number in re.findall(rf"{prefix}(\w+) = (\d+)", body[1])}
    assert found == {m.name: int(m) for m in mirror}
