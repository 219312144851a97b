"""Random texts through our tokenizer and another one: every difference is printed, with the words each side cut.

    LLAMA_CPP_LIB_PATH=... python tools/compare_tokenizers.py llama VOCABULARY.gguf -n 100000
    pip install tokenizers gguf;  python tools/compare_tokenizers.py tokenizers VOCABULARY.gguf -n 100000 --pre gpt-4o

The texts mix scripts, combining marks, emoji sequences, long runs of one character, control characters, digits, and the
vocabulary's own special tokens; `--seed` makes another set. Only characters that Python's own Unicode tables know take
part: what later versions assign is no letter for tables of 15.1. Exit code 1 for a difference.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

from zigllama.foundation.gguf_format import GGUFReader
from zigllama.models.tokenizer import Tokenizer

SCRIPTS = [
    *(
        "etaoinshrdlu",
        "ABCXYZ",
        "0123456789",
        " ",
        " ",
        "  ",
        "\n",
        "\r\n",
        "\t",
        "'sStTlLvVmMdDrReE",
        ".,;:!?-_/()[]{}<>|",
    ),
    *(
        '$+=^~`#@%&*"\\',
        "\u00e9\u00fc\u00df\u017f\u0130",
        "\u0430\u0431\u0416\u042f",
        "\u03b1\u03a9\u03c2",
        "\u05d0\u05e9",
    ),
    *(
        "\u0639\u0631\u0628\u064b\u0651",
        "\u0939\u093f\u0928\u094d\u0926\u0940",
        "\u0e01\u0e34\u0e19",
        "\u4e16\u754c\u9fa5\u9fff",
    ),
    *(
        "\u3042\u30a2\u3001\u3002",
        "\ud55c\uae00\u3131",
        "\u0301\u0308\u20dd",
        "\U0001f642\u200d\u2764\ufe0f\U0001f3fd",
        "\u00bd\u2167\u0663",
    ),
    *(
        "\u00a0\u0085\u2028\u3000\u200b\ufeff",
        "\x00\x01\x1c\x7f",
        "\u01c5\u02b0\u2c7c",
        "\u203f\u2040\uff3f",
        "\U00010400\U0001d400",
    ),
]


def texts(seed: int, special: list[str]) -> Iterator[str]:
    """Random texts, the same for a seed."""
    rng = random.Random(seed)
    anything = [i for i in range(0x20, 0x3FFFF) if unicodedata.category(chr(i)) not in ("Cs", "Cn")]
    while True:
        kinds = rng.sample(SCRIPTS, rng.randint(1, 6))
        parts = []
        for _ in range(rng.randint(1, 24)):
            pick = rng.random()
            if pick < 0.03 and special:
                parts.append(rng.choice(special))
            elif pick < 0.06:
                parts.append(chr(rng.choice(anything)))
            elif pick < 0.12:
                parts.append(rng.choice(rng.choice(kinds)) * rng.choice((2, 3, 4, 7, 16, 70)))
            else:
                parts.append("".join(rng.choices(rng.choice(kinds), k=rng.randint(1, 6))))
        yield "".join(parts)


def main() -> int:
    """Compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("oracle", choices=("llama", "tokenizers"))
    parser.add_argument("path", type=Path)
    parser.add_argument("-n", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pre", help="another rule than the file's, on our side and that of `tokenizers`")
    options = parser.parse_args()
    ours = Tokenizer(options.path, options.pre)
    other: Callable[[str], list[int]]
    if options.oracle == "llama":
        from oracle.llama_vocabulary import LlamaVocabulary

        vocabulary = LlamaVocabulary(options.path)
        other = lambda text: vocabulary.encode(text.encode())  # noqa: E731
    else:
        from oracle.hf_bpe import tokenizer

        from zigllama.models.pretokenizers import lookup

        theirs = tokenizer(options.path, ours.pre, lookup(ours.pre).ignore_merges)
        other = lambda text: list(theirs.encode(text, add_special_tokens=False).ids)  # noqa: E731
    with GGUFReader(options.path) as reader:
        raw = [bytes(t) for t in map(str.encode, map(str, reader.metadata["tokenizer.ggml.tokens"][:64]))]
    special = [r.decode() for r in raw if r.startswith((b"<", b"["))][:16]
    wrong = n_bytes = 0
    spent = [0.0, 0.0]
    for i, text in enumerate(texts(options.seed, special)):
        if i == options.n:
            break
        n_bytes += len(text.encode())
        begin = time.process_time()
        a = ours.encode(text, add_special=False)
        middle = time.process_time()
        b = other(text)
        spent = [spent[0] + middle - begin, spent[1] + time.process_time() - middle]
        if a != b:
            wrong += 1
            if wrong <= 20:
                print(ascii(text), "\n  ours  ", [ours.piece(j) for j in a], "\n  theirs", [ours.piece(j) for j in b])
    print(
        f"{options.path.name} {ours.pre} against {options.oracle}: {options.n} texts, {n_bytes / 1e6:.1f} MB, {wrong} "
        f"differ; CPU s ours {spent[0]:.1f}, theirs {spent[1]:.1f}"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
