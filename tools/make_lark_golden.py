"""Make tests/golden/grammars_lark.json: which words lark's Earley parser finds in random context-free grammars.

    pip install lark
    python tools/make_lark_golden.py

The grammars are tests/notation_samples.py's, by their seeds; the words are all of at most 4 letters.
"""

from __future__ import annotations

import itertools
import json
import random
import signal
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
TARGET = ROOT / "tests" / "golden" / "grammars_lark.json"
WORDS = ["".join(w) for n in range(5) for w in itertools.product("abc", repeat=n)]
GRAMMARS = 80
SECONDS = 5  # of the processor, for one grammar


def late(*_: object) -> None:
    """What the alarm does."""
    raise TimeoutError


def parses(parser: Any, word: str) -> bool:
    """Whether lark finds the word."""
    import lark

    try:
        parser.parse(word)
    except lark.exceptions.LarkError:
        return False
    return True


def main() -> None:
    import lark
    from notation_samples import as_lark, random_rules

    cases = []
    signal.signal(signal.SIGVTALRM, late)
    for seed in range(GRAMMARS):
        plain = seed % 2 == 1
        text = as_lark(random_rules(random.Random(seed), plain))
        signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
        try:
            parser = lark.Lark(text, start="s", parser="earley", lexer="dynamic_complete", ambiguity="forest")
            found = [word for word in WORDS if parses(parser, word)]
        except TimeoutError:
            print(f"seed {seed}: no end after {SECONDS} s, left out")
            continue
        cases.append({"seed": seed, "plain": plain, "accepted": found})
    about = {"oracle": "lark", "version": lark.__version__, "command": "python tools/make_lark_golden.py"}
    TARGET.write_text(json.dumps({**about, "cases": cases}, separators=(",", ":")) + "\n", "utf-8")


if __name__ == "__main__":
    main()
