"""tools/count_instructions.py: what it reads of callgrind's files, and what it calls a difference.

The counting itself is a stage of `.ci/run`.
"""

from __future__ import annotations

import json

from load_tool import TOOLS, load_tool

tool = load_tool("count_instructions")


def test_a_part_has_its_name_and_its_sum() -> None:
    text = "events: Ir\ndesc: Trigger: Client Request: linear q4_0 x1\n\nsummary: 60155\n\ntotals: 60155\n"
    assert tool.parse(text) == ("linear q4_0 x1", 60155)
    assert tool.parse("desc: Trigger: Program termination\nsummary: 17\n") is None


def test_two_percent_either_way() -> None:
    want = {"a": 1000, "b": 1000, "gone": 5}
    assert tool.differences({"a": 1000}, {"a": 1020}) == tool.differences({"a": 1000}, {"a": 980}) == []
    found = tool.differences(want, {"a": 1021, "b": 979, "new": 7})
    assert found == [
        "a: 1,021 instructions, the figure is 1,000 (+2.1%)",
        "b: 979 instructions, the figure is 1,000 (-2.1%)",
        "gone: no such call any more",
        "new: 7 instructions, no figure",
    ]


def test_every_type_and_op_has_figures() -> None:
    figures = json.loads((TOOLS / "instruction_counts.json").read_text("utf-8"))
    assert figures["isa"] == "avx2"
    assert figures["compiler"].startswith("gcc ")
    source = (TOOLS.parent / "ckernels" / "tests" / "count_kernels.c").read_text("utf-8")
    for kind in ("f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k"):
        assert f'"{kind}"' in source
        assert {f"linear {kind} x{t}" for t in (1, 4, 16, 64)} <= set(figures["counts"])
    assert all(n > 1000 for n in figures["counts"].values())
