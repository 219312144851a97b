"""The lattice of docs/layer5-tokenizers.md: a word's pieces in a unigram vocabulary, and the best way through them.

What this file is not: the other pictures (page_pictures.py); the search is the twin's, zigllama/models/unigram.py.
"""

from __future__ import annotations

from pathlib import Path

from zigllama.app import svg
from zigllama.app.catalogue import cache_dir
from zigllama.models.tokenizer import Tokenizer
from zigllama.models.unigram import most_probable

VOCABULARY = Path("vocabularies") / "ggml-vocab-nomic-bert-moe.gguf"  # XLM-R's pieces
WORD = "\u2581lattices"
BLUE, GREY, PALE = "#2a6f97", "#777777", "#c4c4c4"
STEP, STEPS = 84.0, 16


def pieces_of(word: str) -> dict[str, tuple[int, float]]:
    """The pieces that a word holds: ids and scores, natural logarithms of probabilities."""
    vocabulary = Tokenizer(cache_dir() / VOCABULARY)._vocabulary
    found = {}
    for begin in range(len(word)):
        for end in range(begin + 1, len(word) + 1):
            i = vocabulary.index.find(word[begin:end].encode())
            if i is not None:
                found[word[begin:end]] = i, float(vocabulary.scores[i])
    return found


def lattice_picture() -> str:
    pieces = pieces_of(WORD)
    best, at = set[tuple[int, int]](), 0
    for _, piece in most_probable(WORD, pieces, min(score for _, score in pieces.values()) - 10):
        best.add((at, at + len(piece)))
        at += len(piece)
    longest = max(map(len, pieces))
    ground = 44.0 + 42 * longest
    parts = []
    arcs = [(b, e) for b in range(len(WORD)) for e in range(b + 1, len(WORD) + 1) if WORD[b:e] in pieces]
    for begin, end in sorted(arcs, key=lambda arc: arc in best):  # the best over the others
        wide, high = (end - begin) * STEP, 42.0 * (end - begin) - 14
        points = [
            (begin * STEP + wide * k / STEPS, ground - high * 4 * k * (STEPS - k) / STEPS**2) for k in range(STEPS + 1)
        ]
        chosen = (begin, end) in best
        parts.append(svg.line(points, BLUE if chosen else PALE, width=2.5 if chosen else 1.0))
        label = f"{WORD[begin:end]} {pieces[WORD[begin:end]][1]:.1f}"
        place, top = (begin + end) / 2 * STEP, ground - high - 4
        style = {"weight": "bold" if chosen else "normal", "size": 12 if chosen else 10}
        parts.append(svg.text(place, top, label, anchor="middle", **style))  # type: ignore[arg-type]
    parts.append(svg.line([(0, ground), (len(WORD) * STEP, ground)], GREY))
    for i, letter in enumerate([*WORD, ""]):
        parts.append(svg.circle(i * STEP, ground, 3, GREY, f"after {WORD[:i]!r}"))
        parts.append(svg.text((i + 0.5) * STEP, ground + 20, letter, anchor="middle", size=14))
    return svg.document(len(WORD) * STEP + 36, ground + 34, parts)
