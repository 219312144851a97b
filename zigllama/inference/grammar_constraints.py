"""`Grammar`: what a text must look like, whatever notation says it; `GrammarConstraint`: one text that obeys it while
it is written.

    g = zl.Grammar.from_regex(r"[0-9]{4}-[0-9]{2}")
    g.accepts("2024-05"); g.explain("2024-x")          # True; offset 5, what was expected there, why not
    m.generate("When? ", grammar=g)

A grammar is a machine that reads bytes (grammar/machine.py), in C. A constraint walks along with what is written: it
says which tokens may follow, takes the one that was chosen, and knows where nothing but one continuation is possible,
so that the model need not be asked. No token allowed is an error, never free text.

What it is not: a front end. Notations are read in grammar/, each in a file of its own, which is imported when it is
asked for.
"""

from __future__ import annotations

import json
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar, Self
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from zigllama.errors import GrammarRefused, InvalidArgument, NoTokenAllowed
from zigllama.foundation.native_grammar import NativeMachine, NativeVocabulary, pushdown_machine
from zigllama.inference.grammar import machine as machines
from zigllama.inference.grammar.compile import Program, compile_rules
from zigllama.inference.grammar.explaining import Explanation, said_of
from zigllama.inference.grammar.ir import Rules
from zigllama.inference.grammar.json_rules import json_rules
from zigllama.inference.grammar.machine import DEAD, Machine
from zigllama.inference.grammar.mask import ids_of, mask_of
from zigllama.inference.grammar.pushdown import Pushdown
from zigllama.inference.sampling import SamplingParams
from zigllama.models.tokenizer import Tokenizer

U32 = npt.NDArray[np.uint32]
KEPT_MASKS = 512  # per vocabulary and grammar: 16 MB with 262,144 tokens
KEPT_GRAMMARS = 16
BLANKS, WHITE = 24, b" \t\n\r"


class Grammar:
    """A grammar, compiled; to be shared by any number of requests and models.

    machine       reads bytes, in C
    make_twin     makes the same machine in Python, which a finished answer is read with once more
    check         what else a finished answer must pass: raises ValueError
    blanks        white space is no more than this at a stretch while anything else may follow: a model that writes
                  nothing else would never end. None: as much as the machine allows
    wide          what `accepts` asks in place of the machine, which writes texts and need not know all their spellings

    Made by the `from_` functions, which raise GrammarError for a text that cannot be read, UnsupportedSyntax and
    UnsupportedSchema for what cannot be enforced, EmptyLanguage where no text is accepted, GrammarBudget.
    """

    def __init__(
        self,
        machine: NativeMachine,
        make_twin: Callable[[], Machine],
        *,
        what: str = "the grammar",
        check: Callable[[str], object] | None = None,
        wide: Callable[[bytes], bool] | None = None,
        blanks: int | None = None,
    ) -> None:
        self.machine, self.what, self.blanks = machine, what, blanks
        self._make_twin, self._check, self._wide = make_twin, check, wide
        self._kept: WeakKeyDictionary[TokenTable, Kept] = WeakKeyDictionary()
        self._lock = threading.Lock()

    # --- notations ---

    @classmethod
    def from_rules(cls, rules: Rules, check: Callable[[str], object] | None = None) -> Self:
        """Of rules as front ends give them (grammar/ir.py)."""
        return cls.from_program(compile_rules(rules), check)

    @classmethod
    def from_program(cls, program: Program, check: Callable[[str], object] | None = None) -> Self:
        """Of rules that were compiled."""
        return cls(pushdown_machine(program), lambda: Pushdown(program), what=program.what, check=check)

    @classmethod
    def from_json_schema(cls, schema: Any, **options: Any) -> Self:
        """Of a JSON Schema: a dictionary, a boolean, JSON text, or a class with `model_json_schema` (pydantic's).
        Options are those of `zigllama.inference.grammar.json_schema.Options`; `whitespace` is counted here, since a
        machine that counts has so many times the states.
        """
        if hasattr(schema, "model_json_schema"):
            schema = schema.model_json_schema()
        blanks = options.pop("whitespace", BLANKS)
        made = _front_end("json_schema").compile_schema(schema, **options, whitespace=-1)
        return cls(made.native(), made.twin, what="the schema", check=made.check, wide=made.accepts, blanks=blanks)

    @classmethod
    def from_json(cls) -> Self:
        """Any JSON text (RFC 8259)."""
        made = cls.from_rules(json_rules(), json.loads)
        made.blanks = BLANKS
        made._wide = lambda document: machines.accepts(Pushdown(compile_rules(json_rules(writing=False))), document)
        return made

    @classmethod
    def from_regex(cls, pattern: str, syntax: str = "ecma", **options: Any) -> Self:
        """Of a regular expression that the whole text matches: ECMA-262's ("ecma") or Python's ("python")."""
        return cls.from_rules(_front_end("regex").rules(pattern, syntax, **options))

    @classmethod
    def from_gbnf(cls, text: str, start: str = "root") -> Self:
        """Of GBNF, llama.cpp's notation."""
        return cls.from_rules(_front_end("gbnf").rules(text, start))

    @classmethod
    def from_ebnf(cls, text: str, start: str | None = None) -> Self:
        """Of EBNF, ISO 14977's notation or W3C's; `start`: the first rule, if not given."""
        return cls.from_rules(_front_end("ebnf").rules(text, start))

    @classmethod
    def from_cfg(cls, text: str, start: str | None = None) -> Self:
        """Of plain productions, `A -> b C | d`; `start`: the first rule, if not given."""
        return cls.from_rules(_front_end("cfg").rules(text, start))

    @classmethod
    def from_xsd(cls, text: str | bytes, **options: Any) -> Self:
        """Of an XML Schema."""
        return cls.from_rules(_front_end("xsd").rules(text, **options))

    # --- texts ---

    def accepts(self, text: str | bytes) -> bool:
        """Whether the whole text is accepted; of JSON in any spelling, though fewer are ever written."""
        raw = _bytes(text)
        if self._wide is not None:
            return self._wide(raw)
        n, state = self.machine.read(self.machine.start, raw)
        return n == len(raw) and self.machine.finished(state)

    def explain(self, text: str | bytes, token: bytes | None = None) -> Explanation:
        """What becomes of a text: how far it is read, what was expected there and why it is not accepted. With `token`,
        the bytes of a token, what becomes of it after the text."""
        raw = _bytes(text) + (token or b"")
        n, state = self.machine.read(self.machine.start, raw)
        return said_of(raw, n, self.machine, state, self.what)

    @property
    def unsupported(self) -> tuple[tuple[str, str], ...]:
        """What is asked for and not enforced, as (JSON Pointer, keyword): nothing, for a schema that asks for such a
        thing is refused when the grammar is made, with UnsupportedSchema, which has both."""
        return ()

    @cached_property
    def twin(self) -> Machine:
        """The same machine in Python."""
        return self._make_twin()

    def check(self, text: str) -> None:
        """Look at a finished answer once more, independently of what wrote it: with the twin, and for JSON with
        json.loads and what the schema's front end has. Raises GrammarRefused."""
        raw = text.encode()
        n, state = machines.run(self.twin, raw)
        if n < len(raw) or not self.twin.finished(state):
            raise GrammarRefused(text, f"the Python machine reads {n} of {len(raw)} bytes, and is not at an end there")
        if self._check is not None:
            try:
                self._check(text)
            except ValueError as error:
                raise GrammarRefused(text, str(error)) from error

    def kept(self, tokens: TokenTable) -> Kept:
        """What is kept of these tokens and this grammar."""
        with self._lock:
            return self._kept.setdefault(tokens, Kept())

    def mask(self, tokens: TokenTable, state: int) -> tuple[U32, int, int]:
        """Which tokens may follow in a state; see NativeVocabulary.mask. The last ones asked for are kept."""
        masks = self.kept(tokens).masks
        with self._lock:
            found = masks.get(state)
            if found is None:
                found = masks[state] = tokens.vocabulary.mask(self.machine, state)
                found[0].flags.writeable = False
                if len(masks) > KEPT_MASKS:
                    masks.popitem(last=False)
            else:
                masks.move_to_end(state)
            return found

    def __repr__(self) -> str:
        n_bytes, n_states = self.machine.limit()
        return f"<Grammar of {self.what}, {n_states} states so far, {n_bytes} bytes>"


_recent: OrderedDict[tuple[str, str], Grammar] = OrderedDict()
_recent_lock = threading.Lock()


def grammar_of(keywords: Mapping[str, Any]) -> Grammar:
    """Of the keywords of `generate`: `grammar` (a Grammar, or GBNF), json_schema, regex, ebnf, gbnf, cfg, xsd. The last
    ones asked for are kept, with their masks. Raises InvalidArgument for none or two, and what `Grammar` raises."""
    given = [(name, value) for name, value in keywords.items() if value is not None]
    if len(given) != 1:
        raise InvalidArgument(f"{' and '.join(name for name, _ in given) or 'nothing'}: one constraint at a time")
    name, value = given[0]
    if isinstance(value, Grammar):
        return value
    if name == "json_schema" and hasattr(value, "model_json_schema"):
        value = value.model_json_schema()
    key = name, value if isinstance(value, str) else repr(value)
    with _recent_lock:
        found = _recent.get(key)
        if found is not None:
            _recent.move_to_end(key)
            return found
    made: Grammar = getattr(Grammar, "from_gbnf" if name == "grammar" else f"from_{name}")(value)
    with _recent_lock:
        _recent[key] = made
        if len(_recent) > KEPT_GRAMMARS:
            _recent.popitem(last=False)
    return made


def _front_end(name: str) -> Any:
    return import_module(f"zigllama.inference.grammar.{name}")


def _bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text


class TokenTable:
    """A tokenizer's tokens as bytes, and their trie in C: made once per tokenizer (`of`)."""

    _made: ClassVar[WeakKeyDictionary[Tokenizer, TokenTable]] = WeakKeyDictionary()
    _lock = threading.Lock()

    def __init__(self, pieces: Sequence[bytes], ends: frozenset[int]) -> None:
        self.pieces, self.ends = pieces, ends
        offsets = np.zeros(len(pieces) + 1, np.int64)
        np.cumsum([len(p) for p in pieces], out=offsets[1:])
        self._data = np.frombuffer(b"".join(pieces) or b"\0", np.uint8)
        self.vocabulary = NativeVocabulary(self._data, offsets, ends)
        self.longest = int(np.diff(offsets).max(initial=0))
        self._longer: dict[bytes, bool] = {}
        self._sorted = sorted(p for p in set(pieces) if p)

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> TokenTable:
        """The table of this tokenizer."""
        with cls._lock:
            table = cls._made.get(tokenizer)
            if table is None:
                table = cls._made[tokenizer] = cls(tokenizer.text_pieces(), tokenizer.end_ids)
            return table

    @cached_property
    def blank(self) -> U32:
        """A mask of the tokens that are nothing but white space."""
        return mask_of((i for i, p in enumerate(self.pieces) if p and not p.strip(WHITE)), len(self.pieces))

    def begins_longer(self, text: bytes) -> bool:
        """Whether a token begins with this text and goes on."""
        if text not in self._longer:
            at = bisect_right(self._sorted, text)
            self._longer[text] = at < len(self._sorted) and self._sorted[at].startswith(text)
        return self._longer[text]


@dataclass
class Kept:
    """What is known of a grammar and a tokenizer: masks by state, and the token that must follow in a state, if any."""

    masks: OrderedDict[int, tuple[U32, int, int]] = field(default_factory=OrderedDict)
    next: dict[int, int | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """Where a text stands: the state, how many bytes were written, and how many of the last are white space."""

    state: int
    written: int = 0
    blanks: int = 0


class GrammarConstraint:
    """A text that is being written under a grammar.

    tokenizer    whose tokens it is written with
    ignore_eos   end tokens are not allowed: the text goes on while it can
    forced       take tokens that have no alternative without asking the model; the tokens are the same without

    A run of bytes that the grammar leaves no choice about is written in the tokens that the tokenizer gives for it,
    with `forced` or without. Its end is left open where a token could reach beyond it.
    """

    def __init__(
        self, grammar: Grammar, tokenizer: Tokenizer, *, ignore_eos: bool = False, forced: bool = True
    ) -> None:
        self.grammar, self.forced = grammar, forced
        self._tokenizer, self._table = tokenizer, TokenTable.of(tokenizer)
        self._ends = frozenset() if ignore_eos else tokenizer.end_ids
        self._open = mask_of(tokenizer.end_ids, len(self._table.pieces)) if ignore_eos else None
        self.place = Place(grammar.machine.start)
        self._next = grammar.kept(self._table).next
        self._single: dict[int, U32] = {}

    @property
    def finished(self) -> bool:
        """Whether the text may end here."""
        return self.grammar.machine.finished(self.place.state)

    def allowed(self, place: Place | None = None) -> tuple[U32, int, int]:
        """Which tokens may follow: a mask; how many, 2 for two or more; the first of them, -1 for none. `place`: after
        another beginning. Raises NoTokenAllowed, GrammarBudget."""
        at = self.place if place is None else place
        token = self.next_token(at)
        if token is not None:
            if token not in self._single:
                self._single[token] = mask_of([token], len(self._table.pieces))
            return self._single[token], 1, token
        return self._plain(at)

    def _plain(self, at: Place) -> tuple[U32, int, int]:
        mask, n, first = self.grammar.mask(self._table, at.state)
        if self.grammar.blanks is not None and at.blanks >= self.grammar.blanks and n > 1:
            fewer = mask & ~self._table.blank
            if fewer.any():
                left = ids_of(fewer)
                mask, n, first = fewer, min(2, len(left)), left[0]
        if self._open is not None and self.grammar.machine.finished(at.state):
            mask = mask & ~self._open
            ids = np.flatnonzero(mask)
            n = 0 if not len(ids) else 2
        if not n and not self.grammar.machine.finished(at.state):
            raise NoTokenAllowed(at.written, str(said_of(b"", 0, self.grammar.machine, at.state, "").expected))
        return mask, n, first

    def next_token(self, place: Place | None = None) -> int | None:
        """The token that must follow; None where there is a choice, or the text may end."""
        at = self.place if place is None else place
        if at.state not in self._next:
            self._next[at.state] = None
            for state, token in self._run(at):
                self._next[state] = token
        return self._next[at.state]

    def _run(self, at: Place) -> list[tuple[int, int]]:
        """The tokens of the forced bytes from here on, each with the state before it."""
        machine, table = self.grammar.machine, self._table
        text, _ = machine.forced(at.state)
        if not text:
            return []
        try:
            ids = self._tokenizer.encode_inside(text.decode())
        except UnicodeDecodeError as error:  # the run ends within a character
            ids = self._tokenizer.encode_inside(text[: error.start].decode())
        out: list[tuple[int, int]] = []
        state, done = at.state, 0
        for token in ids:
            piece = table.pieces[token]
            rest = text[done:]
            if not piece or not rest.startswith(piece) or (len(rest) < table.longest and table.begins_longer(rest)):
                break
            out.append((state, token))
            state = machine.read(state, piece)[1]
            done += len(piece)
        return out

    def after(self, place: Place, token: int) -> Place | None:
        """Where the text stands when this token has followed, None where it may not."""
        piece = self._table.pieces[token]
        if not piece:
            return None
        n, state = self.grammar.machine.read(place.state, piece)
        if n < len(piece):
            return None
        last = len(piece) - len(piece.rstrip(WHITE))
        return Place(state, place.written + n, last + (place.blanks if last == n else 0))

    def accept(self, token: int) -> None:
        """This token was written. An end token changes nothing. Raises InvalidArgument for one that is not allowed."""
        if token in self._ends:
            return
        after = self.after(self.place, token)
        if after is None:
            said = self.grammar.explain(b"", None)
            raise InvalidArgument(f"token {token} ({self._table.pieces[token]!r}) is not allowed here: {said.what}")
        self.place = after

    def follow(self, place: Place, token: int) -> Place | None:
        """As `after`, but None also for tokens that are never written though the grammar would read them: where
        another one must follow, and end tokens."""
        must = self.next_token(place)
        return None if token in self._table.ends or must not in (None, token) else self.after(place, token)

    @property
    def complete(self) -> bool:
        """Whether nothing may follow: the text has ended, whatever the model would say."""
        return self.is_complete(self.place)

    def is_complete(self, place: Place) -> bool:
        """The same after another beginning."""
        machine = self.grammar.machine
        return machine.finished(place.state) and bool(np.all(machine.next_states(place.state) == DEAD))


def constraint_of(
    given: Mapping[str, Any], tokenizer: Tokenizer, params: SamplingParams, *, ignore_eos: bool, forced: bool
) -> GrammarConstraint:
    """Of the keywords of `generate`. No runs are forced where each token's logits are asked for, or where what was
    chosen steers what is chosen next. Raises as `grammar_of`."""
    asked = params.logprobs or params.top_logprobs or params.explain or params.mirostat_mode
    return GrammarConstraint(grammar_of(given), tokenizer, ignore_eos=ignore_eos, forced=forced and not asked)
