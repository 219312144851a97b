"""Is a grammar's text handled as it should be, whatever it says? For the fuzzer and for the replay of its corpus.

The first byte chooses the front end. The text is read and compiled, or a GrammarError comes within the bounds of CPU
time; nothing else is raised. The place of an error lies in the text. A regular expression of Python's syntax is one
for `re` too, unless it was refused, and of a regular language the shortest text is accepted by what was compiled.
"""

from __future__ import annotations

import re
import time
import warnings

from zigllama.errors import GrammarError
from zigllama.inference.grammar import cfg, dfa, ebnf, gbnf, regex
from zigllama.inference.grammar.compile import compile_rules
from zigllama.inference.grammar.ir import Rules

SECONDS = 3.0  # the bound is 1 s; a fuzzer's instruments slow everything down
KINDS = ("ecma", "python", "gbnf", "iso", "w3c", "cfg")


def read(kind: str, text: str) -> Rules:
    """The rules of a text, by the front end of that name."""
    if kind in ("ecma", "python"):
        return regex.rules(text, kind)
    if kind in ("iso", "w3c"):
        return ebnf.rules(text, notation=kind)
    return gbnf.rules(text) if kind == "gbnf" else cfg.rules(text)


def judge(data: bytes) -> None:
    """Raises AssertionError, or what the code let through."""
    kind = KINDS[data[0] % len(KINDS)] if data else KINDS[0]
    text = data[1:].decode("utf-8", "replace")
    started = time.thread_time()
    rules = None
    refused: GrammarError | None = None
    try:
        rules = read(kind, text)
        compile_rules(rules)
    except GrammarError as e:
        refused = e
    if refused is not None and refused.line:
        lines = (text.replace("\r\n", "\n").replace("\r", "\n") if kind == "gbnf" else text).split("\n")
        assert refused.line <= len(lines) and refused.column <= max(map(len, lines)) + 1, refused
    assert time.thread_time() - started < SECONDS, time.thread_time() - started
    if rules is None or kind not in ("ecma", "python"):
        return
    try:
        a = dfa.determinise(rules.rules["root"])
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
