"""The pictures of docs/layer1-*.md to layer6-*.md, each computed by the code that runs models: `PICTURES` by file name.

Numbers come from zigllama, lines and squares from app/svg.py on white paper, so that they can be read on a dark page
too. What this file is not: the pages (make_pages.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from inference_pictures import PICTURES as OF_INFERENCE
from lattice_picture import lattice_picture

import zigllama as zl
from zigllama.app import svg
from zigllama.app.catalogue import lookup
from zigllama.foundation.runtime import F32, Lowered, Op
from zigllama.inference.kv_cache import ModelKVCache
from zigllama.neural_primitives.activations import ACTIVATIONS
from zigllama.neural_primitives.embeddings import alibi_slopes
from zigllama.transformers.cache_pages import read_pages

COLOURS = ("#2a6f97", "#bc4b51", "#5b8e7d", "#f4a259", "#6d597a", "#8a8a8a")
GREY, PALE = "#777777", "#e4e4e4"
SENTENCE = "The cat sat on the mat because it was tired."

Numbers = npt.NDArray[Any]
TOKENS = range(0, 257, 32)
FAR = "distance in tokens"


# --- a plot of curves -------------------------------------------------------------------------------------------------


def curves(
    title: str,
    lines: Mapping[str, tuple[Numbers, Numbers]],
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    x_title: str,
    left: float = 0.0,
    width: float = 400.0,
) -> list[str]:
    """Lines by name, each (x, y), in a frame that the ticks span."""
    height, top = 220.0, 40.0
    x0, x1, y0, y1 = x_ticks[0], x_ticks[-1], y_ticks[0], y_ticks[-1]

    def at(x: float, y: float) -> tuple[float, float]:
        y = min(max(y, y0), y1)
        return left + 40 + (width - 60) * (x - x0) / (x1 - x0), top + height * (y1 - y) / (y1 - y0)

    parts = [svg.text(left + 40, 24, title, weight="bold")]
    for x in x_ticks:
        parts.append(svg.line([at(x, y0), at(x, y1)], PALE))
        parts.append(svg.text(at(x, 0)[0], 276, f"{x:g}", anchor="middle", size=11))
    for y in y_ticks:
        parts += [svg.line([at(x0, y), at(x1, y)], PALE)]
        parts.append(svg.text(left + 34, at(x0, y)[1] + 4, f"{y:g}", anchor="end", size=11))
    parts.append(svg.text(left + 40 + (width - 60) / 2, 294, x_title, anchor="middle", size=11))
    place = left + 40
    for colour, (name, (xs, ys)) in zip(COLOURS, lines.items(), strict=False):
        parts.append(svg.line([at(float(x), float(y)) for x, y in zip(xs, ys, strict=True)], colour, width=1.8))
        parts += [svg.rectangle(place, 304, 10, 10, colour), svg.text(place + 14, 313, name, size=11)]
        place += 26 + 6.4 * len(name)
    return parts


# --- layer 1 ----------------------------------------------------------------------------------------------------------


def file_picture() -> str:
    """SmolLM2's file to scale: header, embedding, blocks, the rest."""
    with zl.gguf.open(lookup("smollm2").path) as reader:
        spans = [(t.offset, t.n_bytes, t.name) for t in reader.tensors.values()]
        total = reader.n_bytes
    groups: list[list[Any]] = [["header: metadata, list of tensors", 0, min(s[0] for s in spans)]]
    for offset, n_bytes, name in sorted(spans):
        label = name.removesuffix(".weight")
        label = "blk." + name.split(".")[1] if name.startswith("blk.") else label
        if groups[-1][0] == label:
            groups[-1][2] = offset + n_bytes
        else:
            groups.append([label, offset, offset + n_bytes])
    width = 900.0
    parts = [svg.text(0, 20, f"SmolLM2-135M-Instruct.Q4_1.gguf, {total:,} bytes, to scale", weight="bold")]
    for i, (label, first, end) in enumerate(groups):
        x, w = width * first / total, max(width * (end - first) / total - 0.5, 0.5)
        colour = "#8a8a8a" if i == 0 else COLOURS[3] if not label.startswith("blk") else COLOURS[0]
        parts.append(svg.rectangle(x, 32, w, 40, colour))
        if w > 60:
            parts.append(svg.text(x + 4, 86, f"{label}, {(end - first) / 1e6:.1f} MB", size=11))
    block = np.median([end - first for label, first, end in groups if label.startswith("blk")])
    words = f"grey: {groups[0][0]}, {groups[0][2] / 1e6:.1f} MB; blue: the 30 blocks, about {block / 1e6:.1f} MB each"
    parts.append(svg.text(0, 104, words, size=11))
    return svg.document(width + 24, 116, parts)


# --- layer 3 ----------------------------------------------------------------------------------------------------------


def activations_picture() -> str:
    x = np.linspace(-5, 5, 101, dtype=np.float32)
    one = {name: (x, ACTIVATIONS[name][0].ref(x)) for name in ("relu", "silu", "gelu")}
    two = {name: (x, ACTIVATIONS[name][0].ref(x)) for name in ("sigmoid", "tanh")}
    off = {"gelu_tanh - gelu": (x, 1000 * (ACTIVATIONS["gelu_tanh"][0].ref(x) - ACTIVATIONS["gelu"][0].ref(x)))}
    parts = curves("pass what is positive", one, range(-5, 6), range(-1, 6), "x")
    parts += curves("gates", two, range(-5, 6), (-1, -0.5, 0, 0.5, 1), "x", left=400)
    ticks = (-0.5, -0.25, 0, 0.25, 0.5)
    parts += curves("GELU: the tanh form, its error x 1000", off, range(-5, 6), ticks, "x", left=800)
    return svg.document(1216, 326, parts)


def norms_picture() -> str:
    """A row before and after: bars of its channels."""
    rng = np.random.Generator(np.random.PCG64(5))
    row = (rng.random(24, np.float32) * 3 + 1).reshape(1, -1)
    rows = {
        "a row": row,
        "LayerNorm: mean 0, deviation 1": zl.kernels.layer_norm.ref(row),
        "RMSNorm: root mean square 1": zl.kernels.rms_norm.ref(row),
    }
    parts = []
    for i, (title, values) in enumerate(rows.items()):
        left, base, unit = 300.0 * i, 130.0, 22.0
        parts.append(svg.text(left, 20, title, weight="bold"))
        parts += [svg.line([(left, base), (left + 264, base)], GREY)]
        for j, v in enumerate(values[0]):
            y = float(v) * unit
            parts.append(svg.rectangle(left + 11 * j, base - max(y, 0), 9, abs(y), COLOURS[i]))
    return svg.document(900, 190, parts)


def rope_picture() -> str:
    """How fast pairs turn, and what that does to scores."""
    head, far = 64, 256
    positions = np.arange(far)
    ones = np.ones((far, 1, head), np.float32)
    turned = zl.kernels.rope.ref(ones, positions)  # (P, 1, D): pair i is (2i, 2i + 1)
    start = zl.kernels.rope.ref(ones[:1], positions[:1])[0, 0]
    pairs = {}
    for i in (0, 8, 16, 31):
        cos = (turned[:, 0, 2 * i : 2 * i + 2] * start[2 * i : 2 * i + 2]).sum(-1) / 2
        pairs[f"pair {i}"] = (positions, cos)
    score = {"q . k / D": (positions, turned[:, 0] @ start / head)}
    ticks = (-1, -0.5, 0, 0.5, 1)
    parts = curves("each pair turns at its own rate: cos of the angle", pairs, TOKENS, ticks, FAR)
    parts += curves("so the score of equal vectors falls with distance", score, TOKENS, ticks, FAR, left=400)
    return svg.document(816, 326, parts)


def alibi_picture() -> str:
    """What ALiBi takes off a score, head by head."""
    distance = np.arange(0, 65, 8, dtype=np.float32)
    lines = {f"head {h}": (distance, -slope * distance) for h, slope in enumerate(alibi_slopes(8)) if h % 2 == 0}
    weights = {}
    for h, slope in enumerate(alibi_slopes(8)):
        if h % 2 == 0:
            p = np.arange(65, dtype=np.float32)
            weights[f"head {h}"] = (p, zl.kernels.softmax.ref((-slope * p)[None])[0])
    near, shares = range(0, 65, 8), (0, 0.1, 0.2, 0.3, 0.4)
    parts = curves("added to the score", lines, near, (-32, -24, -16, -8, 0), FAR)
    parts += curves("weights where nothing else differs", weights, near, shares, FAR, left=400)
    return svg.document(816, 326, parts)


# --- layer 4 ----------------------------------------------------------------------------------------------------------


def attention_weights(model: Any, ids: Sequence[int]) -> F32:
    """The softmax rows of every layer and head, (L, H, T, T), while the model reads `ids`.

    The engine runs the forward pass op by op and shows each; at an attention op the keys are already in the cache, so
    its weights can be computed once more from what it got. The op itself never keeps them.
    """
    cache = ModelKVCache(model.decoder.cache_spec(), len(ids), type_name="F32", chunk=len(ids))
    step = cache.extend(cache.add(), ids)
    maps = []

    def see(op: Op, call: Lowered, result: Any) -> None:
        if op.name != "attention":
            return
        (q, pages, *_), (layer, heads, *_), (scale, *_) = call.ins, call.ints, call.floats
        keys, _ = read_pages(pages, step.tables[pages.cls][0], layer)  # (G, P, D)
        queries = q.array.reshape(len(ids), pages.n_kv, heads // pages.n_kv, pages.dk)
        scores = np.einsum("tghd,gpd->ghtp", queries, keys[:, : len(ids)]) * scale
        scores[..., ~np.tri(len(ids), dtype=bool)] = -np.inf
        e = np.exp(scores - scores.max(-1, keepdims=True))
        maps.append((e / e.sum(-1, keepdims=True)).reshape(heads, len(ids), len(ids)))

    model.engine.hidden(step, cache, see)
    return np.stack(maps)


def kinds_of_heads(maps: F32) -> dict[str, tuple[int, int]]:
    """Of all heads (layer, head) the one that does each of these things most, the first token left out."""
    t = maps.shape[-1]
    rows = np.arange(1, t)
    entropy = -(maps * np.log(np.maximum(maps, 1e-30))).sum(-1)[:, :, rows]
    share = {
        "the token before": maps[:, :, rows, rows - 1],
        "itself": maps[:, :, rows, rows],
        "the first token": maps[:, :, rows, 0],
        "all alike": entropy / np.log(rows + 1),
    }
    best = {name: int(s.mean(-1).argmax()) for name, s in share.items()}
    return {name: divmod(i, maps.shape[1]) for name, i in best.items()}


def attention_picture() -> str:
    with zl.Model(lookup("smollm2").path, n_ctx=64, n_threads=1) as model:
        ids = model.tokenizer.encode(SENTENCE)
        words = [model.tokenizer.decode([i]) for i in ids]
        maps = attention_weights(model, ids)
    parts, cell, t = [], 11.0, len(ids)
    for n, (title, (layer, head)) in enumerate(kinds_of_heads(maps).items()):
        left, top = 64.0 + n * (t * cell + 72), 54.0
        parts += [svg.text(left, 22, title, weight="bold"), svg.text(left, 40, f"layer {layer}, head {head}", size=11)]
        levels = np.rint(maps[layer, head] * 15).astype(int)
        for level in range(16):
            at = [(r, p) for r in range(t) for p in range(r + 1) if levels[r, p] == level]
            colour = "#" + "".join(f"{round(240 + (end - 240) * level / 15):02x}" for end in (20, 60, 110))
            parts.append(svg.squares([(left + cell * p, top + cell * r) for r, p in at], cell - 1, colour))
        parts += [svg.text(left - 4, top + cell * r + 9, w.strip(), anchor="end", size=9) for r, w in enumerate(words)]
    return svg.document(4 * (t * cell + 72) + 12, 70 + t * cell, [p for p in parts if p])


PICTURES: dict[str, Callable[[], str]] = {
    "layer1-file.svg": file_picture,
    "layer3-activations.svg": activations_picture,
    "layer3-norms.svg": norms_picture,
    "layer3-rope.svg": rope_picture,
    "layer3-alibi.svg": alibi_picture,
    "layer4-attention.svg": attention_picture,
    "layer5-lattice.svg": lattice_picture,
    **OF_INFERENCE,
}
