"""What the readers of regular expressions share: groups, counts, classes, flags. The syntaxes are regex_ecma.py,
regex_python.py and xsd/patterns.py.

A reader goes through the pattern once, character by character, and tells a Builder (notation.py) what comes; groups
need no recursion. What it makes is an expression of ir.py with the assertions of nfa.py. Captures are not kept: which
text matches is all that is asked. Whether a count is greedy or lazy changes which match is found first, not whether
there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from zigllama.errors import GrammarBudget, UnknownName
from zigllama.models.code_point_sets import Set, complement, union

from .ir import ANY_CHAR, Alt, Chars, Literal
from .nfa import End, Look, Start
from .notation import Builder, Scanner, alt, seq
from .regex_properties import EVERY, unicode_property


@dataclass(frozen=True)
class Flags:
    """What the letters i, m, s, x and a switch on."""

    ignore_case: bool = False
    multiline: bool = False
    dot_all: bool = False
    verbose: bool = False
    ascii: bool = False


MAX_CHARACTERS = 100_000  # of an expression; at 5 us each
MAX_RANGES = 100_000  # of all sets that are made while one is read, what is made again not counted; at 1 us each
LARGE = 64  # ranges
OPERATION = 8  # what an operation takes besides, in ranges
LETTERS = {"i": "ignore_case", "m": "multiline", "s": "dot_all", "x": "verbose", "a": "ascii"}


@dataclass(frozen=True)
class Member:
    """One thing in a class, or an escape outside: a set, and the character where it is a single one that was written
    as such.
    """

    chars: Set
    single: int | None = None


class Sets:
    """Makes sets of characters of others, each only once: expressions name the same ones over and over, and `\\w` alone
    has some 700 ranges. Equal ones are the same object. Raises GrammarBudget for more than MAX_RANGES."""

    def __init__(self) -> None:
        self._made: dict[Any, Set] = {}
        self._same: dict[Any, tuple[Set, tuple[Set, ...]]] = {}
        self._spent = 0

    def of(self, operation: Callable[..., Set], *sets: Set, under: Any = None) -> Set:
        """operation(*sets); `under` is whatever else it depends on."""
        ranges = sum(map(len, sets))
        same = operation, *map(id, sets), under  # which a large set is known by sooner than by what is in it
        if ranges > LARGE and same in self._same:
            return self._same[same][0]
        key = operation, sets, under
        found = self._made.get(key)
        if found is None:
            found = operation(*sets)
            self._spent += OPERATION + ranges + len(found)
            if self._spent > MAX_RANGES:
                raise GrammarBudget("ranges of characters in an expression", self._spent, MAX_RANGES)
            found = self._made[key] = self._made.setdefault(found, found)
        if ranges > LARGE:
            self._same[same] = found, sets  # kept, or another set might come to stand where one of them was
        return found


class Reader:
    """The part of reading that does not depend on the syntax."""

    modifiers = "ims"  # the flags that may be switched within the pattern
    line_ends: Set = ()  # the characters that end a line
    bracket_is_member = False  # whether a `]` at the very beginning of a class is one of it

    def __init__(self, pattern: str, flags: Flags) -> None:
        if len(pattern) > MAX_CHARACTERS:
            raise GrammarBudget("characters of a regular expression", len(pattern), MAX_CHARACTERS)
        self.s = Scanner(pattern, "the regular expression")
        self.sets = Sets()
        self.boundaries: dict[Any, Any] = {}
        self.flags = flags
        self.build = Builder(self.s)
        self.outer: list[Flags] = []  # the flags around each open group
        self.can_repeat = False  # whether what came last may be counted
        self.names: set[str] = set()

    # -- what a syntax must say
    # ------------------------------------------------------------------------------------------

    def escape(self, begin: int, in_class: bool) -> Member | Any:
        """What a backslash (already read) stands for: a Member, or an assertion."""
        raise NotImplementedError

    def group(self, begin: int) -> None:
        """What `(?` (already read) begins."""
        raise NotImplementedError

    def folded(self, s: Set) -> Set:
        """The set and what equals its members, where case does not count."""
        raise NotImplementedError

    # -- what all have in common
    # -----------------------------------------------------------------------------------------

    def read(self) -> Any:
        """The whole pattern."""
        while not self.s.ended:
            begin = self.s.at
            c = self.s.next()
            if self.flags.verbose and (c in " \t\n\r\v\f" or c == "#"):
                if c == "#":
                    self.s.run(lambda x: x != "\n")
                continue
            if c == "|":
                self.build.bar()
                self.can_repeat = False
            elif c == "(":
                self.opened(begin)
            elif c == ")":
                self.build.close(")")
                self.flags = self.outer.pop()
                self.can_repeat = self.repeatable()
            elif c in "*+?":
                self.count(begin, int(c == "+"), 1 if c == "?" else None)
            elif c == "{" and (bounds := self.braces(begin)) is not None:
                self.count(begin, *bounds)
            else:
                self.one(c, begin)
        return self.build.done()

    def braces(self, begin: int) -> tuple[int, int | None] | None:
        """What `{` (already read) says: how often; None, with nothing read, where it is itself."""
        lo = self.s.number()
        hi: int | None = lo
        if self.s.take(","):
            hi = self.s.number() if self.s.peek() != "}" else None
        self.s.need("}")
        return lo, hi

    def end(self, span: tuple[int, int]) -> Any:
        """What `$` stands for, where it is not the end of each line."""
        return End(span)

    def counted(self, begin: int) -> None:
        """What may follow a count: a `?`, which changes nothing here."""
        self.s.take("?")

    def repeatable(self) -> bool:
        """Whether the group that was just closed may be counted."""
        return True

    def opened(self, begin: int) -> None:
        """A group, whose bracket has been read."""
        if self.s.take("?"):
            self.group(begin)
        else:
            self.enter(begin)

    def enter(self, begin: int, flags: Flags | None = None, look: tuple[bool, bool] | None = None) -> None:
        """Go into a group: with these flags; as a look (ahead, negated)."""
        self.outer.append(self.flags)
        self.flags = flags or self.flags
        if look:
            self.build.open(")", begin, lambda e: Look(e, look[0], look[1], (begin, self.s.at)))
        else:
            self.build.open(")", begin)
        self.can_repeat = False

    def looks(self, begin: int) -> bool:
        """Goes into a group that is a look, if one begins here."""
        for sign, look in (("=", (True, False)), ("!", (True, True)), ("<=", (False, False)), ("<!", (False, True))):
            if self.s.take(sign):
                self.enter(begin, look=look)
                return True
        return False

    def switched(self, begin: int) -> Flags:
        """The flags after `i-s` and the like, up to (not including) `:` or `)`."""
        on = self.s.run(str.isalpha)
        off = self.s.run(str.isalpha) if self.s.take("-") else ""
        flags = self.flags
        for letters, value in ((on, True), (off, False)):
            for letter in letters:
                if letter not in self.modifiers:
                    raise self.s.error(f"{letter!r} is no flag that can be switched within a pattern", begin)
                flags = replace(flags, **{LETTERS[letter]: value})
        if set(on) & set(off) or len(set(on + off)) < len(on + off):
            raise self.s.error("a flag is switched twice", begin)
        return flags

    def name(self, end: str, begin: int) -> str:
        """The name of a group, up to `end`."""
        name = self.s.upto(end, "the name of a group")
        if not name.replace("$", "_").isidentifier():
            raise self.s.error(f"{name!r:.60} is no name for a group", begin)
        return name

    def count(self, begin: int, lo: int, hi: int | None) -> None:
        """What came last, so often."""
        if not self.can_repeat:
            raise self.s.error("there is nothing to repeat", begin)
        self.counted(begin)
        self.build.repeat(lo, hi, begin)
        self.can_repeat = False

    def one(self, c: str, begin: int) -> None:
        """A single item: a class, an escape, an anchor or a literal character."""
        self.can_repeat = True
        if c == "[":
            negated = self.s.take("^")
            inside = self.members(begin)
            item: Any = Chars(self.sets.of(complement, inside) if negated else inside, (begin, self.s.at))
        elif c == ".":
            item = Chars(self.dot(), (begin, self.s.at))
        elif c in "^$":
            item = self.caret(begin) if c == "^" else self.dollar(begin)
            self.can_repeat = False
        elif c == "\\":
            found = self.escape(begin, False)
            if not isinstance(found, Member):
                item = found
                self.can_repeat = False
            elif found.single is not None:
                item = self.literal(found.single, begin)
            else:
                item = Chars(found.chars, (begin, self.s.at))
        else:
            item = self.literal(ord(c), begin)
        self.build.item(item)

    def dot(self) -> Set:
        """The characters that `.` stands for."""
        return EVERY if self.flags.dot_all else complement(self.line_ends)

    def caret(self, begin: int) -> Any:
        """What `^` stands for."""
        span = (begin, self.s.at)
        return alt((Start(span), self.line_end(False, span))) if self.flags.multiline else Start(span)

    def dollar(self, begin: int) -> Any:
        """What `$` stands for."""
        span = (begin, self.s.at)
        return alt((End(span), self.line_end(True, span))) if self.flags.multiline else self.end(span)

    def line_end(self, ahead: bool, span: tuple[int, int]) -> Look:
        """The end of a line just ahead, or just behind."""
        return Look(Chars(self.line_ends), ahead, False, span)

    def members(self, begin: int) -> Set:
        """The inside of a class, behind its `[` and perhaps `^`; the closing bracket is read."""
        sets: list[Set] = []
        kinds: list[Set] = []  # \w and the like: case is nothing to them, or is seen to where they are read
        may_be_member = self.bracket_is_member
        while may_be_member or not self.s.take("]"):
            may_be_member = False
            if self.s.ended:
                raise self.s.error("the class is not closed", begin)
            at = self.s.at
            first = self.member()
            if self.s.peek() == "-" and self.s.peek(2) not in ("-]", "-"):
                self.s.at += 1
                sets.append(self.span_of(first, self.member(), at))
            else:
                (sets if first.single is not None else kinds).append(first.chars)
        found = self.sets.of(union, *sets)
        if self.flags.ignore_case:
            found = self.sets.of(self.folded, found, under=self.flags)
        return self.sets.of(union, found, *kinds) if kinds else found

    def member(self) -> Member:
        """One character, or an escape, of a class."""
        begin = self.s.at
        c = self.s.next()
        if c != "\\":
            return self.single(ord(c))
        found = self.escape(begin, True)
        assert isinstance(found, Member)
        return found

    def single(self, code: int) -> Member:
        """One character."""
        return Member(((code, code),), code)

    def literal(self, code: int, begin: int) -> Any:
        """One character, or those that equal it."""
        span = (begin, self.s.at)
        if self.flags.ignore_case:
            chars = self.folded(((code, code),))
            if chars != ((code, code),):
                return Chars(chars, span)
        if 0xD800 <= code <= 0xDFFF:
            return Chars((), span)  # no text in UTF-8 has it
        return Literal(chr(code).encode(), span)

    def property(self, text: str, negated: bool, begin: int) -> Set:
        """What `\\p{text}` stands for."""
        try:
            found = unicode_property(text)
        except UnknownName as e:
            raise self.s.error(f"\\p{{{text:.60}}}: {e}", begin) from e
        return self.sets.of(complement, found) if negated else found

    def boundary(self, word: Set, negated: bool, needs_text: bool = False) -> Any:
        """See `word_boundary`; the same one for the same flags."""
        key = self.flags, negated
        if key not in self.boundaries:
            self.boundaries[key] = word_boundary(word, negated, needs_text)
        return self.boundaries[key]

    def span_of(self, first: Member, last: Member, begin: int) -> Set:
        """The range from one character of a class to another."""
        if first.single is None or last.single is None:
            raise self.s.error("a range goes from one character to another, not from or to a class", begin)
        if first.single > last.single:
            raise self.s.error(f"the range from {chr(first.single)!r} to {chr(last.single)!r} is backwards", begin)
        return ((first.single, last.single),)


def word_boundary(word: Set, negated: bool, needs_text: bool = False) -> Any:
    """`\\b`: between a character of a word and one of none, or an end of the text; `\\B`: anywhere else.

    needs_text   \\B is nowhere in a text without characters, as in Python before 3.14
    """
    chars = Chars(word)

    def here(behind: bool, ahead: bool) -> tuple[Look, Look]:
        return Look(chars, False, not behind), Look(chars, True, not ahead)

    if not negated:
        return Alt((seq(here(True, False)), seq(here(False, True))))
    outside = [
        (*here(False, False), *more)
        for more in ([(Look(ANY_CHAR, False, False),), (Look(ANY_CHAR, True, False),)] if needs_text else [()])
    ]
    return Alt((seq(here(True, True)), *map(seq, outside)))
