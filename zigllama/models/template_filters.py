"""What chat templates may call: filters, tests, methods of values and global functions, each with what it may cost.

Jinja's own implementations do the work; what stands here is which of them there are and what is looked at before, since
a single call of one may take any time and memory (`'x' | indent(2000000000)`, `a.rfind(b)` on two megabytes each).
Names that are missing here are unknown to a template: an error, no silence.
"""

from __future__ import annotations

import datetime
import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NoReturn

import jinja2
from jinja2.exceptions import SecurityError
from jinja2.filters import FILTERS as JINJA_FILTERS
from jinja2.filters import make_attrgetter
from jinja2.tests import TESTS as JINJA_TESTS
from jinja2.utils import Namespace

from zigllama.errors import TemplateError, TemplateLimit

from .template_meter import Attributes, joined_bytes, meter, text_bytes

MAX_RANGE = 100_000
MAX_WIDTH = 1000  # of padding and indents
MAX_STRIP = 256  # characters that strip() takes away
MAX_BACKWARD = 1 << 26  # text times needle: searching backwards takes the product
MAX_MESSAGE = 2000
MAX_FORMAT = 200
MAX_ATTRIBUTE = 200  # characters of a.b.c
WHITESPACE = [c for c in map(chr, range(0x3001)) if c.isspace()]


def _words(names: str) -> frozenset[str]:
    return frozenset(names.split())


# What they cost does not depend on what is inside their values, or it is looked at item by item.
SHALLOW = _words(
    "abs count d default first float int items last length list map reject rejectattr reverse safe select selectattr"
)
DEEP = _words(
    """capitalize dictsort e escape groupby indent join lower max min replace round sort string title trim truncate
    unique upper"""
)
LAZY = _words("map reject rejectattr select selectattr")  # they give items one by one, whoever asks for them
ITERATING = _words("groupby join max min sort unique")  # a text is its characters to them
BY_ATTRIBUTE = _words("groupby max min rejectattr selectattr sort unique")
COPYING = ["list", "reverse", "safe"]
COMPARISONS = _words("in eq == equalto ne != lt < lessthan le <= gt > greaterthan ge >=")
TEXT_METHODS = _words(
    """capitalize count endswith find format format_map index isalnum isalpha isdecimal isdigit islower isnumeric
    isspace istitle isupper join lower lstrip partition removeprefix removesuffix replace rfind rindex rpartition rsplit
    rstrip split splitlines startswith strip swapcase title upper"""
)
METHODS: tuple[tuple[type, frozenset[str]], ...] = (
    (str, TEXT_METHODS),
    (dict, frozenset(["copy", "get", "items", "keys", "values"])),
    (list, frozenset(["copy", "count", "index"])),
    (tuple, frozenset(["count", "index", "grouper", "list"])),
    (int, frozenset()),
    (float, frozenset(["is_integer"])),
    (type(None), frozenset()),
)


class TemplateNamespace(Namespace, Attributes):
    """Jinja's namespace without names that begin with an underscore, as transformers has it."""

    def attributes(self) -> list[Any]:
        return list(object.__getattribute__(self, "_Namespace__attrs").values())

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, *rest = args
        for name in dict(*rest, **kwargs):
            _check_name(name)
        Namespace.__init__(self, *rest, **kwargs)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_name(name)
        super().__setitem__(name, value)


def _check_name(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace cannot hold {name!r:.100}: names with an underscore in front are not stored")


# --- text ---


def text(x: Any) -> str:
    """str(x), looked at before: lists within lists may become any length."""
    if isinstance(x, str):
        return x
    meter().make(meter().look(x))
    return unescaped(str(x))


def unescaped(made: str) -> str:
    """The marker (chat_templates.py) as a character again, where `repr` or JSON wrote it as an escape sequence."""
    marker = meter().marker
    escaped = json.dumps(marker)[1:-1]
    if not marker or escaped not in made:
        return made
    return re.sub(r"(?<!\\)((?:\\\\)*)" + re.escape(escaped), lambda found: found[1] + marker, made)


def concat(parts: Iterable[Any]) -> str:
    """What `~` makes, and what a macro's output pieces become."""
    texts = [text(p) for p in parts]
    meter().make(joined_bytes(texts))
    return "".join(texts)


def check_method(owner: Any, name: str, args: tuple[Any, ...]) -> None:
    """What a method of a text, list or mapping is going to cost. Raises TemplateLimit."""
    m = meter()
    m.look(*(a for a in args if not isinstance(a, Iterator)))
    if isinstance(owner, list | tuple):
        m.look(owner)
    if isinstance(owner, dict) or not isinstance(owner, str):
        m.make(4 * len(owner) if name == "copy" else 0)
        return
    needle = args[0] if args and isinstance(args[0], str) else ""
    if name in ("rfind", "rindex", "rsplit", "rpartition") and len(owner) * len(needle) > MAX_BACKWARD:
        raise TemplateLimit("steps of a search", MAX_BACKWARD)
    if name in ("strip", "lstrip", "rstrip"):
        _check_strip(needle)
    elif name in ("split", "rsplit"):
        pieces = owner.count(needle) if needle else sum(map(owner.count, WHITESPACE))
        m.make(64 * pieces + text_bytes(owner))
    elif name == "splitlines":
        m.make(64 * sum(map(owner.count, WHITESPACE)) + text_bytes(owner))
    elif name == "replace" and len(args) >= 2:
        _check_replace(owner, needle, str(args[1]))
    elif not name.startswith("is") and name not in ("find", "index", "count", "startswith", "endswith", "join"):
        m.make(3 * text_bytes(owner))


def _check_strip(characters: str) -> None:
    if len(characters) > MAX_STRIP:
        raise TemplateLimit("characters to strip", MAX_STRIP)


def _check_replace(owner: str, old: str, new: str) -> None:
    width = 1 if owner.isascii() and new.isascii() else 4
    # Markup escapes what it takes in: `"` becomes five characters
    meter().make((len(owner) + owner.count(old) * len(new)) * width * (5 if hasattr(owner, "__html__") else 1))


def join_texts(separator: str, items: Iterable[Any]) -> str:
    """separator.join(items)"""
    m = meter()
    m.each(items)
    listed = list(items)
    m.look(listed)
    texts = [x for x in listed if isinstance(x, str)]  # join refuses others
    length = sum(map(len, texts)) + len(separator) * len(texts)
    width = 1 if separator.isascii() and all(map(str.isascii, texts)) else 4
    m.make(length * width * (5 if hasattr(separator, "__html__") else 1))
    return separator.join(listed)


def check_width(spec: str) -> None:
    """A format specification pads to MAX_WIDTH at most. Raises TemplateLimit."""
    if any(len(n) > 4 or int(n) > MAX_WIDTH for n in re.findall(r"\d+", spec)):
        raise TemplateLimit("as a width", MAX_WIDTH)


# --- filters ---


def _metered(name: str, function: Any) -> Callable[..., Any]:
    """A filter or test that is counted. Where the cost lies in its values they are looked at whole, once they are
    there: a generator becomes a list."""
    at = 1 if hasattr(function, "jinja_pass_arg") else 0
    deep = name in DEEP or name in COMPARISONS

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        m = meter()
        m.step()
        named = [*(args[at + 1 :] if name in BY_ATTRIBUTE else ()), kwargs.get("attribute")]
        if any(isinstance(x, str) and len(x) > MAX_ATTRIBUTE for x in named):
            raise TemplateLimit("characters of an attribute's name", MAX_ATTRIBUTE)
        if name in ITERATING and args[at:]:
            m.each(args[at])
        if deep:
            given = [list(a) if isinstance(a, Iterator) else a for a in args[at:]]
            args = (*args[:at], *given)
            size = m.look(*given, *kwargs.values())
            check = _CHECKS.get(name)
            if check is not None:
                check(*given, **kwargs)
            if name not in COMPARISONS:
                m.make(size * (5 if name in ("e", "escape") else 1))
            return function(*args, **kwargs)
        if name in COPYING and args[at:] and isinstance(args[at], str):
            m.make(64 * len(args[at]) if name == "list" else text_bytes(args[at]))
        if name in LAZY and len(args) > at and isinstance(args[at], Iterable):
            args = (*args[:at], _counted(args[at]), *args[at + 1 :])
        result = function(*args, **kwargs)
        if isinstance(result, int):
            m.look(result)
        elif isinstance(result, list):
            m.made(result)
        return result

    return run


def _counted(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        meter().step()
        yield item


def _check_indent(value: Any, width: Any = 4, *rest: Any, **options: Any) -> None:
    if not isinstance(width, str) and width > MAX_WIDTH:
        raise TemplateLimit("as a width", MAX_WIDTH)
    by = width if isinstance(width, str) else " " * width
    lines = sum(map(str(value).count, WHITESPACE)) + 1
    meter().make(lines * (64 + text_bytes(by)) + text_bytes(str(value)))


def _check_round(value: Any, precision: int = 0, *rest: Any, **options: Any) -> None:
    if abs(precision) > MAX_WIDTH:
        raise TemplateLimit("as a precision", MAX_WIDTH)


def _check_trim(value: Any, chars: Any = None, **options: Any) -> None:
    _check_strip(str(chars or ""))


def _check_replacing(value: Any, old: Any, new: Any, *rest: Any, **options: Any) -> None:
    _check_replace(str(value), str(old), str(new))


_CHECKS: Mapping[str, Callable[..., None]] = {
    "indent": _check_indent,
    "round": _check_round,
    "trim": _check_trim,
    "replace": _check_replacing,
}


@jinja2.pass_environment
def _join(environment: jinja2.Environment, value: Iterable[Any], d: Any = "", attribute: Any = None) -> str:
    if attribute is not None:
        value = map(make_attrgetter(environment, attribute), value)
    return join_texts(text(d), [text(v) for v in value])


@jinja2.pass_environment
def _sum(environment: jinja2.Environment, value: Iterable[Any], attribute: Any = None, start: Any = 0) -> Any:
    if attribute is not None:
        value = map(make_attrgetter(environment, attribute), value)
    if isinstance(start, str):
        raise TypeError("sum() can't sum strings")
    m = meter()
    for item in value:
        m.step()
        start = m.made(start + item)
    return start


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    """As transformers has it: not escaped for HTML, keys in their order."""
    m = meter()
    m.step()
    if indent is not None and (len(indent) if isinstance(indent, str) else indent) > 16:
        raise TemplateLimit("as an indent", 16)
    if separators is not None and sum(map(len, separators)) > 16:
        raise TemplateLimit("characters of separators", 16)
    m.make(m.look(value, indent))
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=None if separators is None else tuple(separators),
        sort_keys=sort_keys,
    )
    pieces = []
    for piece in encoder.iterencode(value):
        m.make(text_bytes(piece) + 2 * 8)
        pieces.append(piece)
    return unescaped(concat(pieces))


FILTERS: dict[str, Any] = {name: _metered(name, JINJA_FILTERS[name]) for name in SHALLOW | DEEP}
FILTERS |= {"join": _metered("join", _join), "sum": _sum, "tojson": _tojson, "string": _metered("string", text)}
TESTS: dict[str, Any] = dict(JINJA_TESTS) | {name: _metered(name, JINJA_TESTS[name]) for name in COMPARISONS}


# --- global functions ---


def _range(*args: int) -> range:
    made = range(*args)
    if len(made) > MAX_RANGE:
        raise TemplateLimit("steps of a range", MAX_RANGE)
    return made


def _raise(message: object = "") -> NoReturn:
    said = text(message)
    raise TemplateError(f"the chat template refuses: {said[:MAX_MESSAGE]}")


def _strftime_now(form: str) -> str:
    if len(form) > MAX_FORMAT:
        raise TemplateLimit("characters of a date's format", MAX_FORMAT)
    made: str = meter().made(datetime.datetime.now().strftime(form))
    return made


def _dict(*args: Any, **kwargs: Any) -> dict[Any, Any]:
    made: dict[Any, Any] = meter().made(dict(*args, **kwargs))
    return made


GLOBALS: dict[str, Any] = {
    "range": _range,
    "namespace": TemplateNamespace,
    "dict": _dict,
    "raise_exception": _raise,
    "strftime_now": _strftime_now,
}
