"""The pictures of docs/layer6-*.md: what samplers keep of a real distribution, the mask of a JSON grammar, pages that
sequences share, who is in a step.

What this file is not: the pictures of the layers below (page_pictures.py). Whatever is drawn is asked of the code that
runs models; nothing here knows a sampler or a grammar.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import zigllama as zl
from zigllama.app import svg
from zigllama.app.catalogue import lookup
from zigllama.inference import stages
from zigllama.inference.candidates import Candidates
from zigllama.inference.grammar.kept import TokenTable
from zigllama.inference.grammar.mask import ids_of
from zigllama.inference.kv_cache import ModelKVCache
from zigllama.inference.row_scan import RowScan
from zigllama.transformers.interfaces import CacheClass, CacheSpec

BLUE, GREEN, ORANGE, PALE = "#2a6f97", "#5b8e7d", "#f4a259", "#e4e4e4"
SHADES = 8

# --- samplers ---------------------------------------------------------------------------------------------------------

CONTEXTS = {"sure": "The capital of France is", "open": "My favourite thing to do on a Sunday is"}
STAGES: dict[str, stages.Stage] = {
    "top_k 40": stages.TopK(40),
    "top_p 0.9": stages.TopP(0.9),
    "min_p 0.05": stages.MinP(0.05),
    "typical_p 0.5": stages.Typical(0.5),
    "tfs_z 0.95": stages.TailFree(0.95),
    "top_n_sigma 1": stages.TopNSigma(1.0),
    "xtc 0.03": stages.XTC(1.0, 0.03),
    "mirostat 1, mu 6": stages.Mirostat(1, 3.0, 0.1),
    "mirostat 2, mu 6": stages.Mirostat(2, 3.0, 0.1),
}


def kept(stage: stages.Stage, row: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """The ranks of what a stage leaves of a row of logits: 0 is the likeliest."""
    c = Candidates.of_row(row.copy(), RowScan())
    c.chance = lambda which: 0.0
    left = stage(c).sorted_all()
    ranks = np.empty(len(row), np.int64)
    ranks[np.lexsort((np.arange(len(row)), -row))] = np.arange(len(row))
    return np.sort(ranks[left.ids])


def spans(ranks: npt.NDArray[np.int64]) -> list[tuple[int, int]]:
    """Runs of neighbours: (first, last)."""
    cuts = np.flatnonzero(np.diff(ranks) > 1)
    firsts, lasts = np.append(ranks[:1], ranks[cuts + 1]), np.append(ranks[cuts], ranks[-1:])
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def samplers_picture() -> str:
    """Two distributions by rank, and beneath each the ranks that every stage keeps."""
    wide, high, top, step = 360.0, 150.0, 46.0, 20.0
    parts: list[str] = []
    with zl.Model(lookup("smollm2").path, n_ctx=64, n_threads=1, isa="generic") as m:  # the same bits everywhere
        rows = [m.logits(m.tokenizer.encode(text))[-1] for text in CONTEXTS.values()]
    decades, levels = 5, 8  # of ranks, of probabilities
    for at, (text, row) in enumerate(zip(CONTEXTS.values(), rows, strict=True)):
        left = 118 + at * (wide + 36)
        p = np.sort(np.exp(row.astype(np.float64) - row.max()))[::-1]
        p /= p.sum()

        def x(rank: float, left: float = left) -> float:
            return left + wide * float(np.log10(rank)) / decades

        parts.append(svg.text(left, 22, f"{text} ...", weight="bold"))
        for d in range(decades + 1):
            parts.append(svg.line([(x(10**d), top), (x(10**d), top + high + 12 + step * len(STAGES))], PALE))
            parts.append(svg.text(x(10**d), top - 6, f"{10**d:,}", anchor="middle", size=10))
        for d in range(0, levels + 1, 2):
            level = top + high * d / levels
            parts.append(svg.line([(left, level), (left + wide, level)], PALE))
            if at == 0:
                parts.append(svg.text(left - 6, level + 4, f"{10.0**-d:g}", anchor="end", size=10))
        marks = np.unique(np.rint(np.logspace(0, np.log10(len(p)), 90)).astype(int))
        curve = [(x(r), top + high * min(levels, -float(np.log10(p[r - 1]))) / levels) for r in marks]
        parts.append(svg.line(curve, BLUE, width=2))
        for i, (name, stage) in enumerate(STAGES.items()):
            y, ranks = top + high + 14 + step * i, kept(stage, row)
            for first, last in spans(ranks):
                a, b = x(first + 1), x(last + 1.6)
                if b - a >= 0.2:  # a tenth of what can be seen
                    parts.append(svg.rectangle(a, y, b - a, 12, GREEN))
            if at == 0:
                parts.append(svg.text(left - 6, y + 10, name, anchor="end", size=11))
    foot = top + high + 14 + step * len(STAGES) + 14
    words = "above: probability by rank, both logarithmic; below: in green the ranks that are kept"
    parts.append(svg.text(118, foot, words, size=11))
    return svg.document(118 + 2 * (wide + 36), foot + 12, parts)


# --- grammars ---------------------------------------------------------------------------------------------------------

BEGINNINGS = ["", "{", '{"', '{"name"', '{"name": ', '{"name": 1', '{"name": t', "[1, ", '"\\']
PRINTED = range(0x20, 0x7F)


def shade(level: int) -> str:
    """From pale, 0, to dark, SHADES."""
    return "#" + "".join(f"{round(236 + (end - 236) * level / SHADES):02x}" for end in (20, 70, 120))


def mask_picture() -> str:
    """Beginnings of JSON texts by the first bytes of tokens: what share of the tokens may follow."""
    table = TokenTable.of(zl.Tokenizer(lookup("smollm2").path))
    live = zl.Grammar.from_json().live()
    firsts = np.array([piece[0] if piece else -1 for piece in table.pieces])
    groups: list[tuple[str, npt.NDArray[np.bool_]]] = [(chr(b), firsts == b) for b in PRINTED]
    groups += [("\u2026", (firsts >= 0) & ~np.isin(firsts, list(PRINTED)))]
    cell, left, top = 8.0, 104.0, 66.0
    parts = [
        svg.text(left, 22, "JSON, and what may follow of SmolLM2's 49,152 tokens, by their first byte", weight="bold")
    ]
    for i, (name, _) in enumerate(groups):
        parts.append(svg.text(left + cell * i + 4, top - 6 - 9 * (i % 2), name, anchor="middle", size=9))
    for r, text in enumerate(BEGINNINGS):
        y = top + 18 * r
        _, state = live.machine.read(live.machine.start, text.encode())
        allowed = np.zeros(len(firsts), bool)
        allowed[ids_of(live.mask(table, state)[0])] = True
        parts.append(svg.text(left - 8, y + 11, text or "(nothing)", anchor="end", size=11))
        shares = [float(allowed[group].mean()) if group.any() else 0.0 for _, group in groups]
        levels = np.array([0 if not share else max(1, round(share * SHADES)) for share in shares])
        for level in set(levels.tolist()):
            for first, last in spans(np.flatnonzero(levels == level)):
                parts.append(svg.rectangle(left + cell * first, y, cell * (last - first + 1) - 1, 15, shade(level)))
        parts.append(svg.text(left + cell * len(groups) + 8, y + 11, f"{int(allowed.sum()):,}", size=11))
    foot = top + 18 * len(BEGINNINGS) + 14
    words = (
        "left: what was written; right: how many may follow; dark: all that begin so; pale: none; \u2026: other bytes"
    )
    parts.append(svg.text(left, foot, words, size=11))
    return svg.document(left + cell * len(groups) + 80, foot + 12, [p for p in parts if p])


# --- the cache --------------------------------------------------------------------------------------------------------


def pages_picture() -> str:
    """Three sequences of one beginning, in a class that sees all and in one with a window of 128."""
    spec = CacheSpec((CacheClass(0, 1, 1, 4, 8), CacheClass(128, 1, 1, 4, 8)), ((0, 0), (1, 0)))
    cache = ModelKVCache(spec, 448, n_seq=3, type_name="F16", chunk=64)
    shared = [7] * 192
    sequences = []
    for number, own in enumerate((200, 60, 130)):
        sequence = cache.add()
        tokens = [*shared, *[number] * own]
        done = cache.adopt(sequence, tokens)
        for at in range(done, len(tokens), 64):
            cache.extend(sequence, tokens[at : at + 64])
            cache.commit(sequence)
        sequences.append(sequence)
    parts, cell = [], 52.0
    for number, (title, layers) in enumerate(
        (("layers that see all", cache.classes[0]), ("layers with a window of 128", cache.classes[1]))
    ):
        left = 92 + number * (7 * cell + 40)
        parts.append(svg.text(left, 22, title, weight="bold"))
        held = [layers.table[s.slot].tolist() for s in sequences]
        for r, (sequence, row) in enumerate(zip(sequences, held, strict=True)):
            y = 40 + 34 * r
            if number == 0:
                parts.append(svg.text(left - 8, y + 18, f"{sequence.length} tokens", anchor="end", size=11))
            for i in range(-(-sequence.length // 64)):
                page = row[i]
                n = sum(page in other for other in held) if page >= 0 else 0
                colour = PALE if page < 0 else ORANGE if n > 1 else GREEN
                parts.append(svg.rectangle(left + cell * i, y, cell - 3, 26, colour))
                word = f"page {page}" if page >= 0 else "gone"
                parts.append(svg.text(left + cell * i + (cell - 3) / 2, y + 17, word, anchor="middle", size=10))
    parts.append(
        svg.text(92, 156, "orange: one page that several hold; green: a sequence's own; grey: given up", size=11)
    )
    return svg.document(92 + 2 * (7 * cell + 40), 168, parts)


# --- steps ------------------------------------------------------------------------------------------------------------


def recorded(m: Any, lengths: Sequence[tuple[int, int]]) -> list[list[tuple[int, int]]]:
    """Run prompts of so many tokens together, of which each writes so many; per step who was in it with how many rows.
    They write at random, as greedy ones would write several tokens in one go."""
    options = {"seed": 1, "ignore_eos": True}
    requests = [m.request([5 + i] * n, max_tokens=most, **options) for i, (n, most) in enumerate(lengths)]
    steps: list[list[tuple[int, int]]] = []
    scheduler = m.scheduler
    run = scheduler._run

    def see(turns: Any) -> None:
        steps.append([(requests.index(r), len(rows)) for r, rows in turns])
        run(turns)

    scheduler._run = see
    with m.engine.lock:  # nobody runs before all are there
        for request in requests:
            scheduler.submit(request)
    for request in requests:
        scheduler.finish(request)
    return steps


LENGTHS = [(40, 22), (300, 9), (12, 5), (70, 12), (180, 6)]  # of prompts, of answers
PLACES = 3  # requests at once


def steps_picture() -> str:
    """A step is a column: who reads how many rows of his prompt in it, and who writes."""
    with zl.Model(lookup("smollm2").path, n_ctx=512, n_threads=1, max_batch=PLACES) as m:
        steps = recorded(m, LENGTHS)
    cell, left, top = 27.0, 120.0, 44.0
    parts = [svg.text(left, 22, f"{len(LENGTHS)} requests, at most {PLACES} at once, step by step", weight="bold")]
    for i, (n_prompt, n_answer) in enumerate(LENGTHS):
        y = top + 26 * i
        parts.append(svg.text(left - 8, y + 15, f"{n_prompt} read, {n_answer} written", anchor="end", size=11))
        parts.append(svg.line([(left, y + 22.5), (left + cell * len(steps), y + 22.5)], PALE))
    prompts_left = [n for n, _ in LENGTHS]
    for k, step in enumerate(steps):
        for i, rows in step:
            reads = prompts_left[i] > 0
            prompts_left[i] -= rows if reads else 0
            x, y = left + cell * k, top + 26 * i
            parts.append(svg.rectangle(x, y, cell - 2, 20, ORANGE if reads else GREEN))
            parts.append(svg.text(x + (cell - 2) / 2, y + 14, f"{rows}", anchor="middle", size=10))
    foot = top + 26 * len(LENGTHS) + 16
    words = "orange: rows of a prompt; green: a token written (the first comes with the prompt's last row)"
    parts.append(svg.text(left, foot, words, size=11))
    return svg.document(left + cell * len(steps) + 24, foot + 12, parts)


PICTURES: dict[str, Callable[[], str]] = {
    "layer6-samplers.svg": samplers_picture,
    "layer6-mask.svg": mask_picture,
    "layer6-pages.svg": pages_picture,
    "layer6-steps.svg": steps_picture,
}
