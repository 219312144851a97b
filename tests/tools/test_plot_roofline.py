"""The roofline picture: every op that takes time is there, bars are as long as shares, and the file is well-formed."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import plot_roofline

SVG = "{http://www.w3.org/2000/svg}"


def op(name: str, ms: float, share: float, bound: str) -> dict[str, Any]:
    return {"name": name, "ms": ms, "share": share, "bound": bound}


PROFILE = {
    "fingerprint": "avx512 <f16>",
    "n_threads": 2,
    "ceilings": {"memory_gb_s": 40.0, "int8_gop_s": 2000.0, "f32_gop_s": 500.0},
    "prefill": {
        "tokens_per_second": 1234.0,
        "total": {"share": 0.6},
        "ops": [op("linear", 90, 0.75, "int8"), op("attention", 9.9, 0.25, "f32"), op("gather", 0.001, 1, "cache")],
    },
    "decode": {"tokens_per_second": 99.0, "total": {"share": 0.9}, "ops": [op("linear", 10, 1.2, "memory")]},
}


def test_bars() -> None:
    root = ElementTree.fromstring(plot_roofline.picture(PROFILE))
    words = [t.text or "" for t in root.iter(f"{SVG}text")]
    assert {"linear", "attention", "avx512 <f16>"} <= {*words} and "gather" not in words
    assert any("1,234 tokens/s, 60% of the limit (1 ops" in w for w in words)
    assert any(w.startswith("120% of memory") for w in words)  # said as it is, drawn no longer than the ceiling
    coloured = [r for r in root.iter(f"{SVG}rect") if r.get("fill") in plot_roofline.COLOURS.values()]
    assert [float(r.get("width", 0)) / plot_roofline.BAR for r in coloured] == [0.75, 0.25, 1.0]
    assert float(coloured[0].get("height", 0)) > float(coloured[1].get("height", 0))
