"""Texts that tokenizers are timed on: English from a file, code from Python's own library, scripts mixed from a seed.

    english   a text of 4 MB in one language; the King James Bible, which Debian packs, is one:
                  apt-get download bible-kjv bible-kjv-text, and dpkg-deb -x each into one folder, or install them
                  bible -f Gen1:1-Rev22:21 < /dev/null | cut -d' ' -f2- > english.txt
    code      the modules of the standard library in the order of their names, tests and packages of others apart
    mixed     words of many languages, and words made of the letters of many scripts, as often as words of languages
              are: the k-th of a script's list comes 1 / k times as often as its first; numbers, marks, emoji between

Each is `n` bytes of UTF-8, or a few less where a character would be cut. What this is not: the texts that tokenizers
are compared on (compare_tokenizers.py), which look for trouble.
"""

from __future__ import annotations

import random
import sysconfig
from pathlib import Path

KINDS = ("english", "code", "mixed")
# Letters of scripts, first and last of each range; all were assigned long before Unicode 14.
SCRIPTS = {
    "latin": "a-z",
    "accents": "\u00e0-\u00f6 \u00f8-\u00ff a-z \u0101-\u0101 \u0119-\u0119 \u0142-\u0142 \u0161-\u0161",
    "cyrillic": "\u0430-\u044f",
    "greek": "\u03b1-\u03c9",
    "hebrew": "\u05d0-\u05ea",
    "arabic": "\u0627-\u063a \u0641-\u064a",
    "devanagari": "\u0915-\u0939 \u093e-\u0940 \u0947-\u0947 \u094d-\u094d",
    "bengali": "\u0995-\u09a8 \u09be-\u09c0",
    "tamil": "\u0b95-\u0b95 \u0ba8-\u0baa \u0bae-\u0bb9 \u0bbe-\u0bc0",
    "thai": "\u0e01-\u0e2e \u0e31-\u0e39",
    "georgian": "\u10d0-\u10f0",
    "armenian": "\u0561-\u0586",
    "ethiopic": "\u1200-\u1206 \u1260-\u1266 \u12a0-\u12a6",
    "hiragana": "\u3042-\u3093",
    "katakana": "\u30a2-\u30f3",
    "hangul": "\uac00-\ud7a3",
    "chinese": "\u4e00-\u9fa5",
}
WORDS = (  # noqa: SIM905 - as prose it can be read
    "und der die nicht auch mit für über wir haben les des est dans pour qu'il être où déjà que una los como "
    "más año di che più perché città não uma você são het een niet och att är för ikke ja å nie się jest że "
    "však čas ako egy hogy és olarak için şey да и не что это как для был человек время мир και το είναι για "
    "של את על שלום في من على السلام है के में नमस्ते ที่ และ สวัสดี の です こんにちは 日本語 的 一个 世界 "
    "你好 은 있다 안녕하세요 "
    "xin chào không được nhưng the of and to in is that for was with"
).split()
BETWEEN = (
    *(", ", ". ", "; ", ": ", "? ", "! ", " - ", " (", ") ", "\u3002", "\u060c ", "\n", "\n\n", " 12 ", " 2026 "),
    *(" 3.14 ", "\u0301 ", " \U0001f642 ", " \u2764\ufe0f ", " \U0001f1e9\U0001f1ea ", " \u201c", "\u201d ", "\u2026 "),
)
LEXICON = 3000  # words that are made of one script
SENTENCE = 24  # words of one script or language in a row, at most


def cut(text: str, n: int) -> str:
    """The first `n` bytes of a text, a character that would be cut left out."""
    return text.encode()[:n].decode("utf-8", "ignore")


def english(path: Path | None, n: int) -> str:
    """The file's text. Raises SystemExit, saying how to have one, where there is none or too little."""
    how = "give a text with --english; tools/bench/texts.py says how to have one"
    if path is None:
        raise SystemExit(how)
    text = path.read_text("utf-8") if path.exists() else ""
    if len(text.encode()) < n:
        raise SystemExit(f"{path} has {len(text.encode())} bytes, {n} are needed: {how}")
    return cut(text, n)


def code(n: int) -> str:
    """Modules of the standard library until there is enough."""
    folder = Path(sysconfig.get_path("stdlib"))
    parts, size = list[str](), 0
    for path in sorted(folder.rglob("*.py"), key=lambda path: path.relative_to(folder).parts):
        if {"site-packages", "dist-packages", "test", "tests", "idle_test"} & {*path.relative_to(folder).parts}:
            continue
        parts.append(path.read_text("utf-8", "replace"))
        size += len(parts[-1].encode())
        if size >= n:
            return cut("".join(parts), n)
    raise SystemExit(f"{folder}: its modules have {size} bytes, {n} are needed")


def _letters(ranges: str) -> str:
    found = list[str]()
    for piece in ranges.split():
        first, _, last = piece.partition("-")
        found += map(chr, range(ord(first), ord(last) + 1))
    return "".join(found)


def mixed(n: int, seed: int = 1) -> str:
    """A text of many scripts, the same for the same seed."""
    rng = random.Random(seed)
    lexicons = [WORDS]
    for name, ranges in SCRIPTS.items():
        letters, longest = _letters(ranges), 3 if name in ("chinese", "hangul") else 9
        lexicons.append(["".join(rng.choices(letters, k=rng.randint(1, longest))) for _ in range(LEXICON)])
    rarer = [[1 / k for k in range(1, len(lexicon) + 1)] for lexicon in lexicons]
    parts, size = list[str](), 0
    while size < n:
        which = rng.randrange(len(lexicons))
        space = "" if lexicons[which][0] and which and "\u3000" < lexicons[which][0][0] < "\ua000" else " "
        row = space.join(rng.choices(lexicons[which], rarer[which], k=rng.randint(2, SENTENCE)))
        parts += [row, rng.choice(BETWEEN)]
        size += len(row.encode()) + len(parts[-1].encode())
    return cut("".join(parts), n)


def text(kind: str, path: Path | None, n: int) -> str:
    """The text of a kind, `n` bytes. Raises SystemExit."""
    return english(path, n) if kind == "english" else code(n) if kind == "code" else mixed(n)
