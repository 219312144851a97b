"""Random texts through our tokenizer and another one: differences are counted by kind, and shown with each side's cuts.

    pip install tokenizers sentencepiece gguf
    python tools/compare_tokenizers.py tokenizers VOCABULARY.gguf --blocks 0:100 --log DIR/log.jsonl [--pre gpt-4o]
    python tools/compare_tokenizers.py wordpiece BERT.gguf ...         against `tokenizers`, as BERT uses it
    python tools/compare_tokenizers.py sentencepiece LLAMA.gguf ...    or a tokenizer.model, or golden.json:NAME
    LLAMA_CPP_LIB_PATH=... python tools/compare_tokenizers.py llama VOCABULARY.gguf ...
    python tools/compare_tokenizers.py sums --log DIR/log.jsonl        what all blocks came to

A block is 10,000 texts made from its number. Blocks that the log has are passed over, so a run can be ended and taken
up again. The texts are cut out of a soup of scripts, combining marks, emoji sequences, long runs of one character,
control characters, digits, U+FFFD and the vocabulary's own special tokens: mostly 1 to 60 characters, one in twenty up
to 600. Only characters that Python's own Unicode tables know take part: what later versions assign is no letter for
tables of 15.1. Exit code 1 for a difference that is of no known kind.

Known kinds, each proved for the very text by making the other one's ids: tools/tokenizer_differences.py.

Measured with tokenizers 0.23.3, sentencepiece 0.2.3 and llama.cpp as in llama-cpp-python 0.3.36: 1,000,000 texts each
of llama-bpe (`tokenizers`), llama-spm (`sentencepiece`), bert-bge (`tokenizers`) and nomic-bert-moe, a unigram model
(llama.cpp), and 400,000 of gemma3 (llama.cpp), blocks from 200 or 300 on: none differs. Earlier, from 0 on: 170,000 of
three unigram models, 70 ties; 200,000 each of gpt-2, qwen2, qwen35, deepseek-coder, starcoder, and of llama-bpe's words
with --pre tekken, gpt-4o, deepseek-v3, superbpe, tiny_aya, none differs; 200,000 of falcon, 1,635 gaps and newer marks.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from tokenizer_differences import reason

from zigllama.models.tokenizer import Tokenizer

BLOCK = 10_000
SOUP = 20_000  # characters of which one soup's texts are cut
SHOWN = 20
SCRIPTS = (
    *("etaoinshrdlu", "ABCXYZ", "0123456789", " ", " ", "  ", "\n", "\r\n", "\t", "'sStTlLvVmMdDrReE"),
    *(".,;:!?-_/()[]{}<>|", '$+=^~`#@%&*"\\', "\u00e9\u00fc\u00df\u017f\u0130", "\u0430\u0431\u0416\u042f"),
    *("\u03b1\u03a9\u03c2", "\u05d0\u05e9", "\u0639\u0631\u0628\u064b\u0651", "\u0939\u093f\u0928\u094d\u0926\u0940"),
    *("\u0e01\u0e34\u0e19", "\u4e16\u754c\u9fa5\u9fff", "\u3042\u30a2\u3001\u3002", "\ud55c\uae00\u3131", "\u2581"),
    *("\u0301\u0308\u20dd", "\U0001f642\u200d\u2764\ufe0f\U0001f3fd", "\U0001f1e9\U0001f1ea", "\u00bd\u2167\u0663"),
    *("\u00a0\u0085\u2028\u3000\u200b\ufeff", "\x00\x01\x1c\x7f", "\u01c5\u02b0\u2c7c", "\u203f\u2040\uff3f", "\ufffd"),
    *("\U00010400\U0001d400", "\u1100\u1161\u11a8", "\ufb01\u2460\ufdfa\uff76\uff9e"),
)


@cache
def _known() -> str:
    return "".join(c for i in range(0x20, 0x3FFFF) if unicodedata.category(c := chr(i)) not in ("Cs", "Cn"))


def soup(rng: random.Random, special: list[str]) -> str:
    """A long text of stretches that mix a few scripts each."""
    anything, parts, n = _known(), list[str](), 0
    while n < SOUP:
        kinds = rng.sample(SCRIPTS, rng.randint(1, 6))
        for _ in range(rng.randint(1, 24)):
            pick = rng.random()
            if pick < 0.03 and special:
                part = rng.choice(special)
            elif pick < 0.06:
                part = rng.choice(anything)
            elif pick < 0.12:
                part = rng.choice(rng.choice(kinds)) * rng.choice((2, 3, 4, 7, 16, 70))
            else:
                part = "".join(rng.choices(rng.choice(kinds), k=rng.randint(1, 6)))
            parts.append(part)
            n += len(part)
    return "".join(parts)


def texts(block: int, special: list[str]) -> Iterator[str]:
    """The texts of a block, the same for the same number."""
    rng = random.Random(block)
    for _ in range(BLOCK // 1000):
        long = soup(rng, special)
        for _ in range(1000):
            n = int(60 * rng.random()) + 1 if rng.random() < 0.95 else int(540 * rng.random()) + 61
            at = int(len(long) * rng.random())
            yield long[at : at + n]


Other = Callable[[list[str]], list[list[int]]]


def _sentencepiece(path: str) -> tuple[Tokenizer, Other]:
    import base64

    from oracle import sentencepiece_model

    from zigllama.models.conversion import vocabulary_files

    if path.endswith(".gguf"):
        ours, raw = Tokenizer(path), sentencepiece_model.model(path)
    else:
        if ":" in path:
            file, _, name = path.partition(":")
            raw = base64.b64decode(json.loads(Path(file).read_text("utf-8"))["models"][name]["model"])
        else:
            raw = Path(path).read_bytes()
        words = vocabulary_files._sentencepiece(raw, "tokenizer.model")
        ours = Tokenizer.from_metadata(words.metadata(len(words.tokens)))
    return ours, sentencepiece_model.processor(raw).encode


def sides(oracle: str, path: str, pre: str | None) -> tuple[Tokenizer, Other]:
    """Our tokenizer, and the other one as a function of many texts."""
    if oracle == "sentencepiece":
        return _sentencepiece(path)
    ours = Tokenizer(path, pre)
    if oracle == "llama":
        from oracle.llama_vocabulary import LlamaVocabulary

        vocabulary = LlamaVocabulary(path)
        return ours, lambda many: [vocabulary.encode(text.encode()) for text in many]
    if oracle == "wordpiece":
        from oracle.hf_wordpiece import tokenizer as wordpiece

        assert ours.unknown_id is not None
        theirs = wordpiece(path, ours.unknown_id)
    else:
        from oracle.hf_bpe import tokenizer

        from zigllama.models.pretokenizers import lookup

        theirs = tokenizer(path, ours.pre, lookup(ours.pre).ignore_merges)
    return ours, lambda many: [e.ids for e in theirs.encode_batch_fast(many, add_special_tokens=False)]


def compare(oracle: str, path: str, pre: str | None, blocks: range, log: Path | None) -> int:
    """Compare the blocks that the log does not have; prints a line for each, and what differs."""
    name = f"{Path(path).name} {pre or ''}".strip()
    entries = [json.loads(line) for line in log.read_text("utf-8").splitlines()] if log and log.exists() else []
    done = {e["block"] for e in entries if (e["oracle"], e["name"]) == (oracle, name)}
    ours, other = sides(oracle, path, pre)
    raw = (ours._vocabulary.tokens.raw(i) for i in range(min(64, ours.n_vocab)))
    special = [r.decode("utf-8", "replace") for r in raw if r.startswith((b"<", b"["))][:16]
    shown = unknown = 0
    for block in blocks:
        if block in done:
            continue
        many = list(texts(block, special))
        begin = time.process_time()
        mine = [ours.encode(text, add_special=False) for text in many]
        middle = time.process_time()
        theirs = other(many)
        end = time.process_time()
        kinds = Counter[str]()
        for text, a, b in zip(many, mine, theirs, strict=True):
            if a == b:
                continue
            kind = reason(ours, oracle, text, a, b)
            kinds[kind or "unknown"] += 1
            if not kind and shown < SHOWN:
                shown += 1
                print(ascii(text), "\n  ours  ", [ours.piece(i) for i in a], "\n  theirs", [ours.piece(i) for i in b])
        unknown += kinds["unknown"]
        n_bytes = sum(len(text.encode()) for text in many)
        entry: dict[str, Any] = {"oracle": oracle, "name": name, "block": block, "texts": len(many), "bytes": n_bytes}
        entry |= {"differ": kinds, "ours": round(middle - begin, 2), "theirs": round(end - middle, 2)}
        print(json.dumps(entry), flush=True)
        if log:
            with log.open("a", encoding="utf-8") as f:
                f.write(json.dumps(entry) + "\n")
    return 1 if unknown else 0


def sums(log: Path) -> None:
    """A line for each pair of tokenizers."""
    found = dict[tuple[str, str], Counter[str]]()
    for e in map(json.loads, log.read_text("utf-8").splitlines()):
        counts = {k: e[k] for k in ("texts", "bytes", "ours", "theirs")}
        found.setdefault((e["oracle"], e["name"]), Counter()).update(
            counts | {f"differ: {k}": n for k, n in e["differ"].items()}
        )
    for (oracle, name), c in found.items():
        differ = ", ".join(f"{n:.0f} {k}" for k, n in c.items() if k.startswith("differ")) or "none differs"
        print(
            f"{name:36} against {oracle:13} {c['texts']:>9,.0f} texts {c['bytes'] / 1e6:6.1f} MB  {differ}; CPU s "
            f"ours {c['ours']:.0f}, theirs {c['theirs']:.0f}"
        )


def main() -> int:
    """Compare, or add up."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("oracle", choices=("llama", "tokenizers", "wordpiece", "sentencepiece", "sums"))
    parser.add_argument("path", nargs="?")
    parser.add_argument("--blocks", default="0:1", help="FIRST:END, of 10,000 texts each")
    parser.add_argument("--log", type=Path)
    parser.add_argument("--pre", help="another rule than the file's, on our side and that of `tokenizers`")
    options = parser.parse_args()
    if options.oracle == "sums":
        sums(options.log)
        return 0
    first, _, end = options.blocks.partition(":")
    return compare(options.oracle, options.path, options.pre, range(int(first), int(end)), options.log)


if __name__ == "__main__":
    sys.exit(main())
