"""Regular expressions: which texts match, as rules for a grammar (ir.py) or as a deterministic automaton (dfa.py).

    rules("[a-z]+")                         ECMA-262 with the flag u, the whole text
    automaton("^[a-z]+$")                   found anywhere, which is JSON Schema's `pattern`
    rules(r"\\w+", syntax="python")         Python's re, the whole text: re.fullmatch
    rules("a.c", flags="s", search=True)    found anywhere, `.` being any character

A text is one in UTF-8. Anchors and looks (ahead, behind, negated, at word boundaries) are all honoured: where they
stand elsewhere than at an end, the expression becomes an automaton, made whole and trimmed, so that no way is offered
that cannot end. What is not regular is refused by name (UnsupportedSyntax), with its place in the pattern. What this
is not: a matcher that says where, or with which groups.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from zigllama.errors import EmptyLanguage, InvalidArgument, UnknownName

from .dfa import determinise, is_empty
from .ir import ANY_CHAR, EMPTY, Alt, Automaton, Expr, Literal, Repeat, Rules, Seq
from .nfa import End, Start, asserts
from .notation import alt, seq
from .regex_ecma import EcmaReader
from .regex_python import PYTHON_END, PythonReader
from .regex_reader import LETTERS, Flags

SYNTAXES = {"ecma": (EcmaReader, "imsu"), "python": (PythonReader, "aimsux")}
ANY_TEXT = Repeat(ANY_CHAR, 0, None)


def parse(pattern: str, syntax: str = "ecma", flags: str = "") -> Any:
    """The expression as it is written: ir.py's forms, with the assertions of nfa.py where it has some.

    syntax   "ecma" (flags i m s; u is always on) or "python" (flags a i m s x; u is always on)

    Raises GrammarError with line and column for what is no such expression, UnsupportedSyntax for what is not regular,
    GrammarBudget for what is nested too deep, UnknownName for another syntax.
    """
    if syntax not in SYNTAXES:
        raise UnknownName("syntax of regular expressions", syntax, tuple(SYNTAXES))
    reader, known = SYNTAXES[syntax]
    wrong = "".join(sorted(set(flags) - set(known)))
    if wrong:
        raise InvalidArgument(f"flags {wrong!r} are not known in the syntax {syntax!r}; it has {known!r}")
    return reader(pattern, replace(Flags(), **{LETTERS[f]: True for f in flags if f != "u"})).read()


def expression(pattern: str, syntax: str = "ecma", flags: str = "", search: bool | None = None) -> Expr:
    """The texts that match, as an expression without assertions.

    search   whether the pattern may be found anywhere in the text, or must be the whole of it; by default as the syntax
             is used: anywhere for "ecma", the whole for "python" (re.fullmatch)

    Raises what `parse` does; EmptyLanguage for a pattern with assertions that no text satisfies; GrammarBudget where
    such a one needs too large an automaton.
    """
    anywhere = syntax == "ecma" if search is None else search
    parsed = parse(pattern, syntax, flags)
    plain = _anchored(parsed, anywhere)
    if plain is not None:
        return plain
    around = (ANY_TEXT,) if anywhere else ()
    found = determinise(Seq((*around, parsed, *around)))
    if is_empty(found):
        raise EmptyLanguage(f"the regular expression {pattern!r:.200}")
    return found


def _anchored(e: Any, anywhere: bool) -> Expr | None:
    """The expression of whole texts, where anchors stand only at the ends of alternatives; else None."""
    out = []
    for alternative in e.items if isinstance(e, Alt) and e != PYTHON_END else (e,):
        items = list(alternative.items) if isinstance(alternative, Seq) else [alternative]
        before: Any = ANY_TEXT if anywhere else EMPTY
        after = before
        while items and isinstance(items[0], Start):
            items.pop(0)
            before = EMPTY
        while items and (isinstance(items[-1], End) or items[-1] == PYTHON_END):
            last = items.pop()
            # Python's $ also stands before a last newline, which a search need not read; another anchor behind it
            # forbids that.
            after = alt((EMPTY, Literal(b"\n"))) if after == ANY_TEXT and last == PYTHON_END else EMPTY
        if any(asserts(item) for item in items):
            return None
        out.append(seq((before, *items, after)))
    return alt(out)  # type: ignore[no-any-return]


def rules(pattern: str, syntax: str = "ecma", flags: str = "", search: bool = False) -> Rules:
    """The texts that match as a whole, as rules for a grammar; with `search` those in which the pattern is found. The
    rest is as `expression` has it.
    """
    return Rules({"root": expression(pattern, syntax, flags, search)}, "root", "the regular expression", pattern)


def automaton(pattern: str, syntax: str = "ecma", flags: str = "", search: bool | None = None) -> Automaton:
    """The texts that match, as a deterministic automaton; arguments and errors are `expression`'s, and GrammarBudget
    for one that is too large.
    """
    return determinise(expression(pattern, syntax, flags, search))
