"""Grammars for a model to write under, with judges from outside: for tests and tools/generate_under_grammars.py.

    for case in regexes(3, seed=1): ...     case.make() is the grammar; case.judge(text): what is wrong, "" if nothing

The judges are jsonschema (jsonschema-rs beside it, where it is installed), Python's `re`, lark, xmlschema and libxml2;
they are imported when a case of their kind is asked for. A schema that its own judge does not read is passed over.
"""

from __future__ import annotations

import json
import random
import re
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation, localcontext
from functools import partial
from importlib import import_module
from typing import Any

from grammar_texts import plain, written_by_hand
from notation_samples import as_cfg, as_gbnf, as_iso, as_lark, as_w3c, random_rules
from regex_samples import sample as sample_regex
from regex_translation import translated
from schema_samples import modelled, schema

from zigllama.inference.grammar_constraints import Grammar

SECONDS = 20  # of the processor for a judgement
FAR = 10**9  # an exponent of ten that takes the place of those that are beyond arithmetic
URIS = {
    "http://json-schema.org/draft-04/schema#": "Draft4Validator",
    "http://json-schema.org/draft-06/schema#": "Draft6Validator",
    "http://json-schema.org/draft-07/schema#": "Draft7Validator",
    "https://json-schema.org/draft/2019-09/schema": "Draft201909Validator",
}


class NoVerdict(Exception):
    """The judges are not of one mind, or came to no end."""


@dataclass(frozen=True)
class Case:
    """A grammar: its kind, what it is called and read from, how it is made, how a text of it is judged."""

    kind: str
    name: str
    source: str
    make: Callable[[], Grammar]
    judge: Callable[[str], str]
    prompt: str = "Here is an example:\n"


# --- JSON Schema ----------------------------------------------------------------------------------------------------


def exactly(text: str) -> Any:
    """JSON with its numbers as they are written: whole ones are int, whatever their spelling, others Decimal. An
    exponent of more digits than Decimal has is one of FAR: as far beyond what a schema says of numbers."""

    def number(said: str) -> int | Decimal:
        digits, _, exponent = said.lower().partition("e")
        if len(exponent.lstrip("+-0")) > len(str(FAR)):
            said = f"{digits}e{'-' if exponent.startswith('-') else ''}{FAR}"
        value = Decimal(said)
        whole = not value or (value.adjusted() < 400 and value == value.to_integral_value())
        return int(value) if whole else value

    return json.loads(text, parse_float=number)


def json_judge(schema: Any, draft: str, formats: bool, remotes: dict[str, Any] | None = None) -> Callable[[str], str]:
    """jsonschema, of a draft by its validator's name. Raises its SchemaError."""
    jsonschema, referencing = import_module("jsonschema"), import_module("referencing")
    of_schemas = import_module("referencing.jsonschema")
    cls = getattr(jsonschema, draft)
    schema = exactly(json.dumps(schema))
    cls.check_schema(schema)
    known = of_schemas.SchemaRegistry(retrieve=_unknown)
    specification = of_schemas.specification_with(cls.META_SCHEMA.get("$schema", cls.META_SCHEMA.get("id")))
    for uri, document in (remotes or {}).items():
        known = known.with_resource(
            uri, referencing.Resource.from_contents(document, default_specification=specification)
        )
    validator = cls(schema, format_checker=cls.FORMAT_CHECKER if formats else None, registry=known)

    def judge(text: str) -> str:
        value = exactly(text)  # ValueError: no JSON
        try:
            with localcontext(prec=1000):  # for the remainders of numbers of many digits
                error = next(iter(validator.iter_errors(value)), None)
        except InvalidOperation:
            raise NoVerdict("the remainder of a number of more digits than jsonschema is given") from None
        if error is None:
            return ""
        if _other_says_valid(schema, draft, formats, text):
            raise NoVerdict(f"jsonschema: {error.message:.200}; jsonschema-rs: valid")
        return f"jsonschema: {error.message:.300}"

    return judge


def _unknown(uri: str) -> Any:
    raise LookupError(f"{uri} is not given, and nothing is fetched")


def _other_says_valid(schema: Any, draft: str, formats: bool, text: str) -> bool:
    try:
        cls = getattr(import_module("jsonschema_rs"), draft)
        return bool(cls(json.dumps(schema, default=float), validate_formats=formats).is_valid(json.loads(text)))
    except (ImportError, AttributeError, ValueError):
        return False


def of_schema(name: str, given: Any, draft: int, formats: bool = False, remotes: dict[str, Any] | None = None) -> Case:
    """A case of a JSON Schema."""
    cls = {4: "Draft4Validator", 6: "Draft6Validator", 7: "Draft7Validator", 2019: "Draft201909Validator"}.get(
        draft, "Draft202012Validator"
    )
    if isinstance(given, dict) and isinstance(given.get("$schema"), str):
        cls = URIS.get(given["$schema"], cls)

    def make() -> Grammar:
        return Grammar.from_json_schema(given, draft=draft, formats=formats, documents=remotes or {})

    source = json.dumps(given, ensure_ascii=False, default=float)
    return Case("schema", name, source, make, json_judge(given, cls, formats, remotes), "Here is an example of JSON:\n")


def schemas(n: int, seed: int) -> Iterator[Case]:
    """Of drafts 7 and 2020-12 in turn, and as pydantic has them; formats are asserted in some."""
    for i in range(n):
        rng = random.Random(seed * 1_000_003 + i)
        draft = 7 if i % 3 == 1 else 2020
        given = modelled(rng) if i % 3 == 2 else schema(rng, draft)
        yield of_schema(f"{('draft 2020-12', 'draft 7', 'model')[i % 3]} {i}", given, draft, formats=i % 2 == 0)


# --- regular expressions --------------------------------------------------------------------------------------------


def regexes(n: int, seed: int) -> Iterator[Case]:
    """Of Python's and ECMA's flavour in turn, n that `re` takes."""
    found, i = 0, 0
    while found < n:
        syntax = ("python", "ecma")[found % 2]
        rng = random.Random(seed * 1_000_003 + i)
        i += 1
        made = sample_regex(rng, syntax)
        flags = made.flags if syntax == "python" else "s" if "s" in made.flags else ""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = _compiled(made.pattern, syntax, flags)
        except (re.error, ValueError, OverflowError):
            continue
        if len(made.pattern) < 4:
            continue
        found += 1
        yield _of_regex(f"{syntax} {i - 1}", made.pattern, syntax, flags, theirs)


def _compiled(pattern: str, syntax: str, flags: str) -> re.Pattern[str]:
    if syntax == "python":
        return re.compile(pattern, sum(getattr(re, f.upper()) for f in flags))
    return re.compile(translated(pattern, "s" in flags), re.ASCII)


def _of_regex(name: str, pattern: str, syntax: str, flags: str, theirs: re.Pattern[str]) -> Case:
    def judge(text: str) -> str:
        if theirs.fullmatch(text):
            return ""
        from compare_regexes import of_one_mind

        if not of_one_mind(text):
            raise NoVerdict("a character that one version of Unicode has and another has not")
        return f"re does not match it: {theirs.pattern!r}"

    source = f"{pattern!r} {flags}"
    return Case("regex", name, source, lambda: Grammar.from_regex(pattern, syntax, flags=flags), judge)


# --- context-free grammars ------------------------------------------------------------------------------------------

NOTATIONS: dict[str, Callable[[Any], str]] = {"gbnf": as_gbnf, "iso": as_iso, "w3c": as_w3c, "cfg": as_cfg}


def grammars(n: int, seed: int) -> Iterator[Case]:
    """As people write them, and random ones, in each notation."""
    lark: Any = import_module("lark")
    for i in range(n):
        rng = random.Random(seed * 1_000_003 + i)
        notation = list(NOTATIONS)[i % 4]
        rules = written_by_hand(rng) if i % 3 else random_rules(rng, plain=notation == "cfg")
        text = NOTATIONS[notation](plain(rules) if notation in ("iso", "cfg") else rules)
        parser = lark.Lark(
            as_lark(plain(rules, classes=True)),
            start="s",
            parser="earley",
            lexer="dynamic_complete",
            ambiguity="forest",
        )
        make = {"gbnf": Grammar.from_gbnf, "cfg": Grammar.from_cfg}.get(notation, Grammar.from_ebnf)
        yield Case("grammar", f"{notation} {i}", text, partial(make, text), _lark_judge(parser))


def _lark_judge(parser: Any) -> Callable[[str], str]:
    errors = import_module("lark.exceptions")

    def judge(text: str) -> str:
        try:
            _in_time(lambda: parser.parse(text))
        except errors.LarkError as e:
            return f"lark: {e!s:.200}"
        return ""

    return judge


def _in_time(call: Callable[[], Any]) -> None:
    """Raises NoVerdict after SECONDS of the processor; in the main thread, where signals are."""
    if threading.current_thread() is not threading.main_thread():
        call()
        return

    def late(*_: object) -> None:
        raise NoVerdict(f"no end after {SECONDS} s")

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        call()
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


# --- XML Schema -----------------------------------------------------------------------------------------------------


def xsds(n: int, seed: int) -> Iterator[Case]:
    """n schemas that xmlschema and libxml2 both take."""
    from compare_xsd import Judges, settled
    from xsd_samples import sample

    found, i = 0, 0
    while found < n:
        text = sample(random.Random(seed * 1_000_003 + i)).schema
        i += 1
        try:
            judges = Judges(text)
        except ValueError:
            continue

        def judge(document: str, judges: Judges = judges, text: str = text) -> str:
            one, two = judges.verdicts(document)
            if (one and two) or settled(text, document):
                return ""
            return f"xmlschema says {one}, libxml2 {two}"

        found += 1
        yield Case("xsd", f"xsd {i - 1}", text, partial(Grammar.from_xsd, text), judge, "A small XML document:\n")
