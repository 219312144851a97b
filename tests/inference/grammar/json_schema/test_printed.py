"""Automata with fingerprints: each state is the language's and the print of what led there."""

from __future__ import annotations

import numpy as np
import pytest

from zigllama.inference.grammar import dfa, regex
from zigllama.inference.grammar.json_schema.printed import Printed, printed
from zigllama.inference.grammar.json_schema.prints import FINGERPRINTS, of_text
from zigllama.inference.grammar.json_schema.whole import DEAD, Whole


def whole(pattern: str) -> Whole:
    """The strings of a pattern."""
    return Whole(dfa.determinise(regex.expression(pattern)))


@pytest.mark.parametrize("pattern", [None, "^[a-c]+é?$", "^(ab)*$"])
def test_a_state_is_the_languages_and_the_print(pattern: str | None) -> None:
    language = None if pattern is None else whole(pattern)
    table = Printed(language).table
    for text in ("", "a", "ab", "abab", "aé", "cba", "b", "éa", "日本"):
        state, q = 0, 0
        for byte in text.encode():
            state = table.next[state, table.class_of[byte]] if state != DEAD else DEAD
            q = 0 if language is None else language.step(q, byte) if q != DEAD else DEAD
        assert (state == DEAD) == (q == DEAD)
        if q != DEAD:
            assert state == q * FINGERPRINTS + of_text(text.encode())
            assert (state in table.finals) == (language is None or language.finished(q))
            assert table.shortest[state] == (0 if language is None else language.shortest[q])


def test_where_no_end_is_left_nothing_is_said() -> None:
    """Of "a" and "b" both may be barred; of all strings only those of all fingerprints."""
    two = printed(whole("^[ab]$"))
    assert two is not None
    results: list[str | None] = [str(i) for i in range(FINGERPRINTS)]
    a, b = of_text(b"a"), of_text(b"b")
    ends = two.ends(results)
    assert ends is not None and {e for e in ends if e is not None} == {str(i) for i in range(FINGERPRINTS)}
    results[a] = None
    assert two.ends(results) is None  # behind the first letter there is nothing more
    every = printed(None)
    assert every is not None
    assert every.ends([None] * FINGERPRINTS) is None
    one = [None] * b + ["b"] + [None] * (FINGERPRINTS - b - 1)
    assert every.ends(one) == one


def test_what_is_too_large_is_not_made() -> None:
    assert printed(whole("^[ab]{60}$")) is None
    assert np.shape(printed(whole("^(ab)*$")).table.next)[0] == 2 * FINGERPRINTS  # type: ignore[union-attr]
