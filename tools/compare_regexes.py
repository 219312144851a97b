"""Compare regular expressions with Python's `re`: random patterns and texts, accepted by the one exactly when matched
by the other.

    python tools/compare_regexes.py [--patterns 10000] [--seed 1]

Ends with exit code 1 at a difference, of which the first ten are shown. The tests run the first 200 patterns of the
same sequence. What one refuses and the other does not is a difference too, but for what is refused by name.
"""

from __future__ import annotations

import argparse
import bisect
import random
import re
import sys
import unicodedata
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests")]


def of_one_mind(text: str) -> bool:
    """Whether both know all of its characters: what one version of Unicode has not assigned is no letter for it."""
    from zigllama.inference.grammar.regex_properties import category

    def assigned(c: str) -> bool:
        unassigned = category("Cn")
        at = bisect.bisect_right(unassigned, (ord(c), 0x110000)) - 1
        return unicodedata.category(c) != "Cn" and not (at >= 0 and ord(c) <= unassigned[at][1])

    return all(map(assigned, text))


def differences(patterns: int, seed: int, search: bool = False) -> tuple[list[str], int, int, int]:
    """What differs, how many texts were compared, how many of them matched, and how many patterns were too large."""
    from regex_samples import automaton, sample

    from zigllama.errors import EmptyLanguage, GrammarBudget, GrammarError
    from zigllama.inference.grammar import dfa

    found: list[str] = []
    compared = matched = large = 0
    for i in range(patterns):
        case = sample(random.Random(seed * 1_000_003 + i), "python", search)
        flags = sum(getattr(re, f.upper()) for f in case.flags)
        theirs: re.Pattern[str] | None = None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = re.compile(case.pattern, flags)
        except re.error as e:
            refused = str(e)
        try:
            ours = automaton(case.pattern, "python", case.flags, search)
        except EmptyLanguage:
            ours = dfa.NOTHING
        except GrammarBudget:
            large += 1
            continue
        except GrammarError as e:
            if theirs is not None:
                found.append(f"{case.pattern!r} {case.flags}: refused here alone: {e}")
            continue
        if theirs is None:
            found.append(f"{case.pattern!r} {case.flags}: refused there alone: {refused}")
            continue
        for text in filter(of_one_mind, case.texts):
            want = bool(theirs.search(text) if search else theirs.fullmatch(text))
            compared, matched = compared + 1, matched + want
            if dfa.accepts(ours, text.encode()) != want:
                found.append(f"{case.pattern!r} {case.flags} on {text!r}: re says {want}")
    return found, compared, matched, large


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--patterns", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    worst = 0
    for search in (False, True):
        found, compared, matched, large = differences(options.patterns // 2, options.seed + search, search)
        how = "search" if search else "fullmatch"
        print(f"{how}: {options.patterns // 2} patterns ({large} beyond the budget), {compared} texts, {matched} match")
        print(f"{len(found)} differences")
        print(*found[:10], sep="\n")
        worst |= bool(found)
    return worst


if __name__ == "__main__":
    sys.exit(main())
