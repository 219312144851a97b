"""Is a grammar's text handled as it should be, whatever it says? For the fuzzer (tools/fuzz_grammars.py) and for the
replay of its corpus.

The text is read and compiled, or a GrammarError comes within the bounds of CPU time; nothing else is raised. The place
of an error lies in the text. A regular expression of Python's syntax is one for `re` too, unless it was refused, and of
a regular language the shortest text is accepted by what was compiled. A text that the machine in C writes, byte by byte
among those that it allows, is read by the twin, and passes the grammar's own check once it is finished.
"""

from __future__ import annotations

import random
import re
import time
import warnings
import zlib
from collections.abc import Callable

from zigllama.errors import GrammarBudget, GrammarError
from zigllama.inference.grammar import dfa, ebnf, regex
from zigllama.inference.grammar.machine import DEAD
from zigllama.inference.grammar_constraints import Grammar

SECONDS = 10.0  # the bound is 1 s where nothing else runs; a busy machine was seen to take five times the CPU time
WRITTEN = 48  # bytes that are written, a few more to come to an end
KEPT = 1 << 18  # bytes of the machine in C up to which its twin reads along, hundreds of times as slowly
READERS: dict[str, Callable[[str], Grammar]] = {
    "xsd": Grammar.from_xsd,
    "ecma": Grammar.from_regex,
    "python": lambda text: Grammar.from_regex(text, "python"),
    "json_schema": Grammar.from_json_schema,
    "gbnf": Grammar.from_gbnf,
    "iso": lambda text: Grammar.from_rules(ebnf.rules(text, notation="iso")),
    "w3c": lambda text: Grammar.from_rules(ebnf.rules(text, notation="w3c")),
    "cfg": Grammar.from_cfg,
}


def judge(kind: str, data: bytes) -> None:
    """Raises AssertionError, or what the code let through."""
    text = data.decode("utf-8", "replace")
    started = time.thread_time()
    made: Grammar | None = None
    refused: GrammarError | None = None
    try:
        made = READERS[kind](text)
    except GrammarError as e:
        refused = e
    took = time.thread_time() - started
    assert took < SECONDS, took
    if refused is not None and refused.line:
        # a line of XML or GBNF ends as files have it; elsewhere \r is a character
        lines = (text.replace("\r\n", "\n").replace("\r", "\n") if kind in ("gbnf", "xsd") else text).split("\n")
        assert refused.line <= len(lines) and refused.column <= max(map(len, lines)) + 1, refused
    if kind in ("ecma", "python"):
        _judge_regular(kind, text)
    if made is not None:
        _judge_written(made, random.Random(zlib.crc32(data)))


def _judge_written(grammar: Grammar, rng: random.Random) -> None:
    """Write a text with the machine in C, while it and its states are few enough read it with the twin."""
    machine = grammar.machine
    state, written = machine.start, bytearray()
    twin = grammar.twin() if machine.limit()[0] < KEPT else None
    place = twin.start if twin is not None else DEAD
    try:
        for i in range(2 * WRITTEN):
            finished = machine.finished(state)
            if twin is not None and machine.limit()[0] < KEPT:
                assert twin.finished(place) == finished, bytes(written)
            else:
                twin = None
            if finished and (i >= WRITTEN or rng.random() < 0.2):
                break
            after = machine.next_states(state)
            allowed = [byte for byte in range(256) if after[byte] != DEAD]
            if all(after[byte] == state for byte in allowed):  # nothing, or the same for ever
                assert finished, bytes(written)  # a state that leads nowhere
                break
            byte = rng.choice(allowed)
            if twin is not None:
                other = rng.randrange(256)
                assert (twin.step(place, other) == DEAD) == (after[other] == DEAD), (bytes(written), other)
                place = twin.step(place, byte)
                assert place != DEAD, (bytes(written), byte)
            state = int(after[byte])
            written.append(byte)
        if twin is not None and machine.finished(state):
            grammar.check(written.decode())
    except GrammarBudget:
        return


def _judge_regular(kind: str, text: str) -> None:
    try:
        a = dfa.determinise(regex.rules(text, kind).rules["root"])
    except GrammarError:
        return
    least = dfa.shortest(a)
    assert least is None or dfa.accepts(a, least)
    if kind == "python":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs, why = _compiled(text)
        if theirs is None:
            assert any(word in why for word in ("look-behind", "too large", "repeat")), (text, why)
        else:
            assert least is None or len(least) > 30 or theirs.fullmatch(least.decode()), (text, least)


def _compiled(text: str) -> tuple[re.Pattern[str] | None, str]:
    try:
        return re.compile(text), ""
    except (re.error, OverflowError) as e:
        return None, str(e)
