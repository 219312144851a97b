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

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from inspect import signature
from typing import Any, Self, TypeVar

import numpy as np

from zigllama.errors import GrammarBudget, GrammarRefused, InvalidArgument, NoTokenAllowed, UnknownName
from zigllama.foundation.native_grammar import NativeMachine, pushdown_machine
from zigllama.inference.grammar.compile import Program, compile_rules
from zigllama.inference.grammar.explaining import Explanation, said_of
from zigllama.inference.grammar.ir import Rules
from zigllama.inference.grammar.json_rules import json_rules
from zigllama.inference.grammar.kept import WHITE, Live, TokenTable
from zigllama.inference.grammar.machine import DEAD, LIMIT_BYTES, Machine
from zigllama.inference.grammar.mask import U32, ids_of, mask_of
from zigllama.inference.grammar.pushdown import Pushdown
from zigllama.inference.grammar.renewed import Renewed
from zigllama.inference.sampling import SamplingParams
from zigllama.models.tokenizer import Tokenizer

KEPT_GRAMMARS = 16
BLANKS = 24
WORN = LIMIT_BYTES // 4  # a new text gets a new machine where the last one has grown by so much
T = TypeVar("T")


class Grammar:
    """A grammar, compiled; to be shared by any number of requests and models.

    make_machine  makes what reads bytes, in C. A machine remembers where it has been, and is made anew before it has
                  used up what it may keep: how much was written with a grammar before makes no difference
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
        make_machine: Callable[[], NativeMachine],
        make_twin: Callable[[], Machine],
        *,
        what: str = "the grammar",
        check: Callable[[str], object] | None = None,
        wide: Callable[[bytes], bool] | None = None,
        blanks: int | None = None,
    ) -> None:
        self.what, self.blanks = what, blanks
        self._make_machine, self._make_twin, self._check, self._wide = make_machine, make_twin, check, wide
        self._twin = Renewed(make_twin)
        self._lock = threading.Lock()
        self._live = Live(make_machine())

    # --- notations ---

    @classmethod
    def from_rules(cls, rules: Rules, check: Callable[[str], object] | None = None) -> Self:
        """Of rules as front ends give them (grammar/ir.py)."""
        return cls.from_program(compile_rules(rules), check)

    @classmethod
    def from_program(cls, program: Program, check: Callable[[str], object] | None = None) -> Self:
        """Of rules that were compiled."""
        return cls(lambda: pushdown_machine(program), lambda: Pushdown(program), what=program.what, check=check)

    @classmethod
    def from_json_schema(cls, schema: Any, **options: Any) -> Self:
        """Of a JSON Schema: a dictionary, a boolean, JSON text, or a class with `model_json_schema` (pydantic's).
        Options are those of `zigllama.inference.grammar.json_schema.Options`; `whitespace`, at most and if not given
        BLANKS characters between two tokens, is counted here where it is so many, since a machine that counts has so
        many times the states.
        """
        if hasattr(schema, "model_json_schema"):
            schema = schema.model_json_schema()
        n = _blanks("whitespace", options.pop("whitespace", BLANKS))
        made = _front_end("json_schema").compile_schema(schema, **options, whitespace=-1 if n == BLANKS else n)
        return cls(made.native, made.twin, what="the schema", check=made.check, wide=made.accepts, blanks=BLANKS)

    @classmethod
    def from_json(cls) -> Self:
        """Any JSON text (RFC 8259)."""
        made = cls.from_rules(json_rules(), lambda text: _front_end("json_schema").any_json().check(text))
        made.blanks = BLANKS
        made._wide = Renewed(lambda: Pushdown(compile_rules(json_rules(writing=False)))).accepts
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
    def from_ebnf(cls, text: str, start: str | None = None, notation: str | None = None) -> Self:
        """Of EBNF, ISO 14977's notation ("iso") or W3C's ("w3c"); `start`: the first rule, if not given; `notation`: as
        the first rule looks."""
        return cls.from_rules(_front_end("ebnf").rules(text, start, notation))

    @classmethod
    def from_cfg(cls, text: str, start: str | None = None) -> Self:
        """Of plain productions, `A -> b C | d`; `start`: the first rule, if not given."""
        return cls.from_rules(_front_end("cfg").rules(text, start))

    @classmethod
    def from_xsd(cls, text: str | bytes, root: str | None = None, blanks: int = BLANKS) -> Self:
        """Of an XML Schema; `root`: the name of the outermost element; `blanks`: how much white space may come at a
        stretch where anything else may, BLANKS characters at most."""
        made = cls.from_rules(_front_end("xsd").rules(text, root=root))
        made.blanks = _blanks("blanks", blanks)
        return made

    # --- texts ---

    def accepts(self, text: str | bytes) -> bool:
        """Whether the whole text is accepted; of JSON in any spelling, though fewer are ever written."""
        raw = _bytes(text)
        if self._wide is not None:
            return self._wide(raw)
        machine = self.live().machine
        n, state = machine.read(machine.start, raw)
        return n == len(raw) and machine.finished(state)

    def explain(self, text: str | bytes, token: bytes | None = None) -> Explanation:
        """What becomes of a text: how far it is read, what was expected there and why it is not accepted. With `token`,
        the bytes of a token, what becomes of it after the text."""
        raw = _bytes(text) + (token or b"")
        machine = self.live().machine
        n, state = machine.read(machine.start, raw)
        return said_of(raw, n, machine, state, self.what)

    @property
    def unsupported(self) -> tuple[tuple[str, str], ...]:
        """What is asked for and not enforced, as (JSON Pointer, keyword): nothing, for a schema that asks for such a
        thing is refused when the grammar is made, with UnsupportedSchema, which has both."""
        return ()

    def check(self, text: str) -> None:
        """Look at a finished answer once more, independently of what wrote it: with the twin, and for JSON with
        json.loads and what the schema's front end has. Raises GrammarRefused."""
        raw = text.encode()
        n, finished = self._twin.read(raw)
        if n < len(raw) or not finished:
            raise GrammarRefused(text, f"the Python machine reads {n} of {len(raw)} bytes, and is not at an end there")
        if self._check is not None:
            try:
                self._check(text)
            except ValueError as error:
                raise GrammarRefused(text, str(error)) from error

    @property
    def machine(self) -> NativeMachine:
        """The machine that is in use."""
        return self._live.machine

    def live(self) -> Live:
        """The machine in use with what is kept of it; another one when it has grown to WORN bytes."""
        with self._lock:
            if self._live.machine.limit()[0] > self._live.n_bytes + WORN:
                self._live = self.fresh()
            return self._live

    def fresh(self) -> Live:
        """A new machine, shared with nobody."""
        return Live(self._make_machine())

    def twin(self) -> Machine:
        """A new machine in Python, shared with nobody."""
        return self._make_twin()

    def __repr__(self) -> str:
        n_bytes, n_states = self.machine.limit()
        return f"<Grammar of {self.what}, {n_states} states so far, {n_bytes} bytes>"


_recent: OrderedDict[tuple[str, str], Grammar] = OrderedDict()
_recent_lock = threading.Lock()


def grammar_of(keywords: Mapping[str, Any]) -> Grammar:
    """Of the keywords of `generate`: `grammar` (a Grammar, or GBNF), json_schema, regex, ebnf, gbnf, cfg, xsd. Each is
    a text, or, but for json_schema, a mapping of its `text` and the options of `Grammar.from_...`:

        m.generate("", ebnf={"text": rules, "notation": "w3c", "start": "list"})

    The last ones asked for are kept, with their masks. Raises InvalidArgument for none or two, and what `Grammar`
    raises."""
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
    made = _made(name, value)
    with _recent_lock:
        _recent[key] = made
        if len(_recent) > KEPT_GRAMMARS:
            _recent.popitem(last=False)
    return made


def _made(name: str, value: Any) -> Grammar:
    make: Callable[..., Grammar] = getattr(Grammar, "from_gbnf" if name == "grammar" else f"from_{name}")
    if name == "json_schema" or not isinstance(value, Mapping):
        return make(value)
    options = dict(value)
    if not isinstance(options.get("text"), (str, bytes)):
        raise InvalidArgument(f"{name}: a mapping needs its `text`; given are {', '.join(map(str, options)) or 'none'}")
    known = [each for each in signature(make).parameters if each != "options"][1:]
    for option in options:
        if option != "text" and option not in known:
            raise UnknownName(f"option of {name}", str(option), tuple(known))
    return make(options.pop("text"), **options)


def _blanks(name: str, n: int) -> int:
    """A bound of white space that was asked for. Raises InvalidArgument beyond BLANKS."""
    if type(n) is not int or not 0 <= n <= BLANKS:
        raise InvalidArgument(f"{name} is {n!r:.60}, want a whole number from 0 to {BLANKS}")
    return n


def _front_end(name: str) -> Any:
    return import_module(f"zigllama.inference.grammar.{name}")


def _bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text


@dataclass(frozen=True)
class Place:
    """Where a text stands: the machine and its state, what was written, how many of its last bytes are white space, and
    the tokens that follow of the run of bytes that it stands in (none: not in the middle of one)."""

    live: Live = field(compare=False)
    state: int
    text: bytes = b""
    blanks: int = 0
    run: tuple[int, ...] = ()

    @property
    def written(self) -> int:
        """How many bytes were written."""
        return len(self.text)


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
        live = grammar.live()
        self.place = Place(live, live.machine.start)
        self._own: Live | None = None
        self._single: dict[int, U32] = {}

    def _ask(self, at: Place, ask: Callable[[Live, int], T]) -> tuple[T, Place]:
        """What is asked of the machine at a place. Where that is more than it may keep, others may have used it up: it
        is asked of a machine of this text alone, in the place that is returned."""
        try:
            return ask(at.live, at.state), at
        except GrammarBudget:
            if self._own is not None and self._own is not at.live:
                try:
                    moved = self._moved(at, self._own)
                    return ask(moved.live, moved.state), moved
                except GrammarBudget:
                    pass
            self._own = self.grammar.fresh()
            moved = self._moved(at, self._own)
            return ask(moved.live, moved.state), moved

    @staticmethod
    def _moved(at: Place, live: Live) -> Place:
        return replace(at, live=live, state=live.machine.read(live.machine.start, at.text)[1])

    def _may_end(self, at: Place) -> bool:
        return self._ask(at, lambda live, state: live.machine.finished(state))[0]

    @property
    def finished(self) -> bool:
        """Whether the text may end here."""
        return self._may_end(self.place)

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
        (mask, n, first), at = self._ask(at, lambda live, state: live.mask(self._table, state))
        if self.grammar.blanks is not None and at.blanks >= self.grammar.blanks and n > 1:
            fewer = mask & ~self._table.blank
            if fewer.any():
                left = ids_of(fewer)
                mask, n, first = fewer, min(2, len(left)), left[0]
        if self._open is not None and self._may_end(at):
            mask = mask & ~self._open
            ids = np.flatnonzero(mask)
            n = 0 if not len(ids) else 2
        if not n and not self._may_end(at):
            raise NoTokenAllowed(at.written, str(said_of(b"", 0, at.live.machine, at.state, "").expected))
        return mask, n, first

    def next_token(self, place: Place | None = None) -> int | None:
        """The token that must follow; None where there is a choice, or the text may end."""
        run = self._run(self.place if place is None else place)
        return run[0] if run else None

    def _run(self, at: Place) -> tuple[int, ...]:
        """The tokens of the forced bytes from here on. What they are depends on this text alone: in the middle of a run
        they are its rest, elsewhere those that the tokenizer gives for it from here on."""
        if at.run:
            return at.run
        known = at.live.kept(self._table).runs.get(at.state)
        return self._ask(at, self._run_from)[0] if known is None else known

    def _run_from(self, live: Live, state: int) -> tuple[int, ...]:
        runs, table = live.kept(self._table).runs, self._table
        text, _ = live.machine.forced(state)
        if not text:
            return runs.setdefault(state, ())
        try:
            ids = self._tokenizer.encode_inside(text.decode())
        except UnicodeDecodeError as error:  # the run ends within a character
            ids = self._tokenizer.encode_inside(text[: error.start].decode())
        out: list[int] = []
        done = 0
        for token in ids:
            piece = table.pieces[token]
            rest = text[done:]
            if not piece or not rest.startswith(piece) or (len(rest) < table.longest and table.begins_longer(rest)):
                break
            out.append(token)
            done += len(piece)
        runs[state] = tuple(out)
        return runs[state]

    def after(self, place: Place, token: int) -> Place | None:
        """Where the text stands when this token has followed, None where it may not."""
        piece = self._table.pieces[token]
        if not piece:
            return None
        run = self._run(place)
        (n, state), at = self._ask(place, lambda live, state: live.machine.read(state, piece))
        if n < len(piece):
            return None
        last = len(piece) - len(piece.rstrip(WHITE))
        blanks = last + (place.blanks if last == n else 0)
        return Place(at.live, state, at.text + piece, blanks, run[1:] if run and run[0] == token else ())

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
        if place.run or not self._may_end(place):
            return False
        return bool(np.all(self._ask(place, lambda live, state: live.machine.next_states(state))[0] == DEAD))


def constraint_of(
    given: Mapping[str, Any], tokenizer: Tokenizer, params: SamplingParams, *, ignore_eos: bool, forced: bool
) -> GrammarConstraint:
    """Of the keywords of `generate`. No runs are forced where each token's logits are asked for, or where what was
    chosen steers what is chosen next. Raises as `grammar_of`."""
    asked = params.logprobs or params.top_logprobs or params.explain or params.mirostat_mode
    return GrammarConstraint(grammar_of(given), tokenizer, ignore_eos=ignore_eos, forced=forced and not asked)
