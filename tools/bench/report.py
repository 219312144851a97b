"""Results as a file that grows row by row, and as the table that is shown."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.rows import ROWS, Row
from bench.summary import Interval, table, verdict
from zigllama import gguf

LOWER = ("python", "start", "memory")  # of these rows less is better
PAIRS = 8  # the least that a figure should rest on; fewer are shown beside it
AVX2_FLOOR = 1.0  # asked of ISA avx2 against peers built for it, whatever the row
CEILINGS = {"read": "read probe", "int8": "int8 peak", "f32": "f32 peak"}


def load(path: Path | None) -> dict[str, Any]:
    """What was kept before: {"rows": {name: result}}. Raises ValueError for a file that is something else."""
    if path is None or not path.exists():
        return {"rows": {}}
    content = json.loads(path.read_text("utf-8"))
    if not isinstance(content, dict) or not isinstance(content.get("rows"), dict):
        raise ValueError(f"{path} holds no results of this tool")
    return content


def keep(path: Path | None, content: Mapping[str, Any], key: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """The results with one row new or replaced; written to the file, whole or not at all."""
    merged = {**content, "rows": {**content["rows"], key: dict(result)}}
    if path is not None:
        temporary = path.with_name(f".{path.name}.tmp")
        temporary.write_text(json.dumps(merged, indent=1) + "\n", "utf-8")
        os.replace(temporary, path)
    return merged


def work(path: Path) -> dict[str, float]:
    """What a token costs: bytes of weights read when decoding, operations when a prompt is read.

    Of the embeddings a row is read, unless it serves as the output too; of a stack of experts those that a token goes
    to; the output is multiplied for the last token of a prompt only. Attention's own products are left out.
    """
    with gguf.open(path) as reader:
        looked_up = {"position_embd.weight"} | ({"token_embd.weight"} if "output.weight" in reader.tensors else set())
        used = reader.metadata.get(f"{reader.metadata['general.architecture']}.expert_used_count", 0)
        assert isinstance(used, int)
        n_bytes = operations = 0.0
        for name, t in reader.tensors.items():
            share = used / t.shape[0] if len(t.shape) == 3 else 1.0
            n_bytes += 0.0 if name in looked_up else share * t.n_bytes
            if name.startswith("blk.") and len(t.shape) > 1:
                operations += 2 * share * math.prod(t.shape)
    return {"bytes": n_bytes, "operations": operations}


def key_of(row: Row, isa: str | None) -> str:
    """Under what a row is kept."""
    return f"{row.name} [{isa}]" if isa else row.name


def floor_of(row: Row, isa: str | None) -> float:
    """What is asked of a row."""
    return AVX2_FLOOR if isa == "avx2" and not row.special else row.floor


def judge(row: Row, isa: str | None, result: Mapping[str, Any]) -> str:
    """ "met", "open" or "missed"; "" without a peer to compare with."""
    if "ratio" not in result:
        return ""
    if result.get("n_pairs", PAIRS) < PAIRS:
        return "open"  # too few for a verdict
    return verdict(Interval(*result["ratio"]), floor_of(row, isa), lower_is_better=row.special in LOWER)


def _number(row: Row, value: float) -> str:
    """A value in the row's unit."""
    if row.special == "start":
        return f"{1e3 * value:.0f} ms"
    if row.special == "memory":
        return f"{value / 1e6:.0f} MB"
    return f"{value:.1f} t/s"


def _asked(row: Row, value: float) -> str:
    """A floor or goal as it is written."""
    if row.special == "python":
        return f"{value:.0%}"
    if row.special == "memory" and row.floor > 2:
        return f"{value:.0f} MB"
    return f"{value:.2f}x"


def _interval(row: Row, interval: Sequence[float]) -> str:
    shown = [_asked(row, x).removesuffix("x") for x in interval]
    return f"{shown[0]} ({shown[1]} .. {shown[2]})"


def line(row: Row, isa: str | None, result: Mapping[str, Any]) -> list[str]:
    """A result as cells."""
    ratio = ""
    if "ratio" in result:
        ratio = _interval(row, result["ratio"])
        if (kept := result.get("n_pairs", PAIRS)) < PAIRS:
            ratio = f"{ratio}, {kept} pairs" if kept else ""
            if "n_all" in result:  # a result kept from before has it not
                ratio += f"{'; ' if kept else ''}of all {result['n_all']}: {_interval(row, result['ratio_of_all'])}"
    share = result.get("share")
    goal = f"{row.goal:.0%} of {CEILINGS[row.ceiling]}" if row.ceiling else _asked(row, row.goal)
    peer = f"{_number(row, result['theirs'])} {result['best_peer']}" if "theirs" in result else ""
    return [
        key_of(row, isa),
        _number(row, result["ours"]) if "ours" in result else "",
        peer,
        ratio,
        _asked(row, floor_of(row, isa)),
        goal,
        f"{share[1]:.0%} of {CEILINGS[share[0]]}" if share else "",
        judge(row, isa, result),
    ]


def show(content: Mapping[str, Any]) -> str:
    """All rows that are there, in the table's order; then who was measured."""
    lines: list[Sequence[str]] = []
    about: dict[str, None] = {}
    for isa in (None, *sorted({r["isa"] for r in content["rows"].values() if r.get("isa")})):
        for row in ROWS:
            result = content["rows"].get(key_of(row, isa))
            if result is None:
                continue
            lines.append(line(row, isa, result))
            for who in [result["ours_about"], *result.get("peers", [])]:
                flags = f" (flags {' '.join(who['flags'])})" if who.get("flags") else ""
                text = f"{who['name']}{flags}: {who['version']}; {who.get('system_info', '')}"
                about[text.rstrip("; ")] = None
    head = ["row", "zigllama", "best peer", "ratio (95%)", "floor", "goal", "share", "floor is"]
    return "\n".join([table(head, lines), "", *about]) if lines else "no results yet"
