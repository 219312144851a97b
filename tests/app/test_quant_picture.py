"""The picture of a report: well-formed, a point per format and panel, points where their figures say."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from zigllama.app import quant_picture, svg
from zigllama.app.quant_picture import HEIGHT, TOP, WIDTH
from zigllama.app.quant_result import QuantReport
from zigllama.app.quant_rows import QuantRow
from zigllama.errors import InvalidArgument

SVG = "{http://www.w3.org/2000/svg}"


def row(tensor: str, kind: str, rmse: float, kl: float | None = None) -> QuantRow:
    return QuantRow(tensor, (8, 256), "F16", kind, 1.0, rmse, 3 * rmse, 0.99, None, kl, kl)


ROWS = (
    row("a", "Q4_0", 0.1, 0.02),
    row("b", "Q4_0", 0.05, 0.001),
    row("a", "Q8_0", 0.006, 1e-4),
    row("b", "Q8_0", 0.004, 1e-5),
    row("a", "IQ4_NL", 0.07, 0.005),
    row("a<\x1b>", "F16", 0.0, 0.0),
)
REPORT = QuantReport("dir/m<1>.gguf", None, "i.gguf", ROWS, n_tokens=9)


def parsed(report: QuantReport, folder: Path) -> tuple[ElementTree.Element, dict[str, tuple[float, float]], list[str]]:
    """The document, its points by what they are called, its words."""
    report.plot(folder / "p.svg")
    root = ElementTree.parse(folder / "p.svg").getroot()
    points = {}
    for c in root.iter(f"{SVG}circle"):
        points[c.findtext(f"{SVG}title") or ""] = float(c.get("cx", 0)), float(c.get("cy", 0))
    return root, points, [t.text or "" for t in root.iter(f"{SVG}text")]


def test_points(tmp_path: Path) -> None:
    _, points, words = parsed(REPORT, tmp_path)
    assert len(points) == 2 * 4
    place = {f"{'KL' if 'KL' in t else 'error'} {t.split(',')[0]}": xy for t, xy in points.items()}
    for panel in ("error", "KL"):
        x = {kind: place[f"{panel} {kind}"][0] for kind in ("IQ4_NL", "Q4_0", "Q8_0", "F16")}
        y = {kind: place[f"{panel} {kind}"][1] for kind in x}
        assert x["IQ4_NL"] == x["Q4_0"] < x["Q8_0"] < x["F16"]
        assert (
            TOP < y["IQ4_NL" if panel == "error" else "Q4_0"] < y["Q8_0"] < y["F16"] < HEIGHT
        )  # less error, further down
        assert (max(x.values()) < WIDTH) == (panel == "error") == (min(x.values()) < WIDTH)
    assert {"IQ4_NL", "Q4_0", "Q8_0", "F16 (0)", "relative RMSE", "bits per weight"} <= set(words)
    assert any(w == "3 tensors of m<1>.gguf beside its own values, importance from i.gguf" for w in words)
    assert "not of all tensors: IQ4_NL 1, Q4_0 2, Q8_0 2, F16 1" in words
    # y is linear in the logarithm: 0.079 (both tensors) to 0.0051
    both = {
        k: math.sqrt((a * a + b * b) / 2)
        for k, a, b in (("Q4_0", 0.1, 0.05), ("Q8_0", 0.006, 0.004), ("IQ4_NL", 0.07, 0.07))
    }
    y = {k: place[f"error {k}"][1] for k in both}
    slope = (y["Q8_0"] - y["Q4_0"]) / math.log(both["Q4_0"] / both["Q8_0"])
    assert y["IQ4_NL"] - y["Q4_0"] == pytest.approx(slope * math.log(both["Q4_0"] / both["IQ4_NL"]), abs=0.2)


def test_one_panel_without_kl_and_lines_from_best_to_worst(tmp_path: Path) -> None:
    root, points, _ = parsed(replace(REPORT, rows=tuple(replace(r, kl=None, kl_max=None) for r in ROWS)), tmp_path)
    assert len(points) == 4
    colour = quant_picture.family("Q4_0")[1]
    lines = [
        p.get("points", "").replace(",", " ").split() for p in root.iter(f"{SVG}polyline") if p.get("stroke") == colour
    ]
    assert len(lines) == 2  # of Q4_0 and of Q8_0
    low = next(y for t, (_, y) in points.items() if t.startswith("Q4_0"))
    spans = [(float(line[1]), float(line[3])) for line in lines]
    assert any(top < low < bottom for bottom, top in spans)


def test_extremes_are_drawn_at_the_edge(tmp_path: Path) -> None:
    _, points, words = parsed(replace(REPORT, rows=(replace(ROWS[0], rms=0.0, kl=None, kl_max=None),)), tmp_path)
    assert [y for _, y in points.values()] == [TOP]
    assert "Q4_0 (infinite)" in words


def test_words_keep_apart() -> None:
    taken: list[quant_picture.Box] = []
    words = "IQ4_NL"
    right, left = 50 + quant_picture.RADIUS + 3, 50 - quant_picture.RADIUS - 3 - len(words) * quant_picture.LETTER
    line = quant_picture.LINE
    found = [quant_picture._place(taken, 50, 80, words) for _ in range(5)]
    assert found == [(right, 84), (left, 84), (right, 84 + line), (left, 84 + line), (right, 84 - line)]
    assert not any(quant_picture._meet(a, b) for i, a in enumerate(taken) for b in taken[:i])
    taken[:] = [quant_picture._around(70, 80)]  # another point where the words would be
    assert quant_picture._place(taken, 50, 80, words) == (left, 84)
    taken[:] = [(-1e4, -1e4, 1e4, 1e4)]
    assert quant_picture._place(taken, 50, 80, words) == (right, 84)


def test_saving(tmp_path: Path) -> None:
    path = tmp_path / "a.svg"
    path.write_text("old")
    REPORT.plot(path)
    assert ElementTree.parse(path).getroot().tag == f"{SVG}svg"
    assert [p.name for p in tmp_path.iterdir()] == ["a.svg"]
    for bad, why in ((tmp_path / "a.png", "must end in .svg"), (tmp_path / "no" / "a.svg", "there is no folder")):
        with pytest.raises(InvalidArgument, match=why):
            REPORT.plot(bad)
    (tmp_path / "b.svg").mkdir()
    with pytest.raises(InvalidArgument, match="no regular file"):
        svg.check_path(tmp_path / "b.svg")
