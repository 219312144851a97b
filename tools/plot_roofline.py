"""A picture of how near each op comes to the machine's limits, from what `zigllama profile --json` found.

    zigllama profile smollm2 -p 512 -n 128 --json > profile.json
    python tools/plot_roofline.py profile.json docs/roofline-smollm2.svg

A bar per op and phase: its length is the share of the ceiling that binds it (memory, cache, int8 or float peak), its
thickness the op's part of the phase's time, so that the coloured area is what is used and the grey area what is left.
Plain SVG, written by hand: no plotting library is needed to draw rectangles.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from zigllama.app.svg import document, rectangle, text

WIDTH, LABEL, BAR = 900, 150, 480  # pixels: the picture, the names' column, a share of 100%
THICKEST, THINNEST, GAP = 90.0, 8.0, 9.0  # of bars: that of all the time, the least that can be seen, between two
LEAST = 0.002  # of the phase's time; ops below it are left out, and counted in the caption
COLOURS = {"memory": "#2a6f97", "cache": "#61a5c2", "int8": "#bc4b51", "f32": "#f4a259"}


def phase_bars(name: str, phase: dict[str, Any], y: float) -> tuple[list[str], float]:
    """The bars of one phase from `y` down, and where they end."""
    whole = sum(op["ms"] for op in phase["ops"])
    shown = sorted((op for op in phase["ops"] if op["ms"] >= LEAST * whole), key=lambda op: -op["ms"])
    left_out = len(phase["ops"]) - len(shown)
    title = f"{name}: {phase['tokens_per_second']:,.0f} tokens/s, {phase['total']['share']:.0%} of the limit"
    if left_out:
        title += f" ({left_out} ops of under {LEAST:.1%} of the time are left out)"
    parts = [text(0, y + 16, title, size=14, weight="bold")]
    y += 30
    for op in shown:
        height = max(THINNEST, THICKEST * op["ms"] / whole)
        middle = y + height / 2 + 4
        share = min(op["share"], 1.0)
        colour = next((c for bound, c in COLOURS.items() if bound in op["bound"]), "#777777")
        parts += [
            text(LABEL - 8, middle, op["name"], anchor="end"),
            rectangle(LABEL, y, BAR, height, "#e9e9e9"),
            rectangle(LABEL, y, BAR * share, height, colour),
            text(LABEL + BAR + 8, middle, f"{op['share']:.0%} of {op['bound']}, {op['ms'] / whole:.1%} of the time"),
        ]
        y += height + GAP
    return parts, y + 14


def picture(profile: dict[str, Any]) -> str:
    """The SVG. Raises KeyError for JSON that is not a profile's."""
    y, parts = 4.0, []
    for name in ("prefill", "decode"):
        if name in profile:
            bars, y = phase_bars(name, profile[name], y)
            parts += bars
    top = profile["ceilings"]
    caption = (
        f"{profile['n_threads']} threads; ceilings measured beside it: memory {top['memory_gb_s']:.0f} GB/s, "
        f"int8 {top['int8_gop_s']:,.0f} GOP/s, float32 {top['f32_gop_s']:,.0f} GFLOP/s"
    )
    parts += [text(0, y + 6, caption), text(0, y + 24, profile["fingerprint"], size=11)]
    return document(WIDTH, y + 36, parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile", type=Path, help="output of `zigllama profile --json`")
    parser.add_argument("svg", type=Path, help="the picture")
    args = parser.parse_args()
    args.svg.write_text(picture(json.loads(args.profile.read_text("utf-8"))), "utf-8")


if __name__ == "__main__":
    main()
