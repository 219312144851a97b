"""A Jinja environment for templates out of files: no way out of it, and a budget for what they may use.

A chat template is a program from a stranger. Jinja's own sandbox closes the ways to Python's internals; what it leaves
open is using up the machine. So here, besides,

    steps   every line of the compiled template that runs is counted; loops and recursion run into the limit
    time    looked at on the way
    bytes   multiplication, powers, %-formats, concatenation and str methods are checked before they make anything large

Filters and globals are those that chat templates use; everything else is unknown, which is an error and no silence.
"""

from __future__ import annotations

import datetime
import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from zigllama.errors import TemplateError, TemplateLimit

MAX_STEPS = 200_000
MAX_BYTES = 4 << 20  # of any one text that is made
MAX_SECONDS = 0.8
FILTERS = [
    "abs",
    "capitalize",
    "count",
    "default",
    "d",
    "dictsort",
    "first",
    "float",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "sort",
    "string",
    "sum",
    "title",
    "trim",
    "unique",
    "upper",
]
METHODS = frozenset(
    [
        "split",
        "rsplit",
        "strip",
        "lstrip",
        "rstrip",
        "startswith",
        "endswith",
        "upper",
        "lower",
        "title",
        "capitalize",
        "replace",
        "join",
        "find",
        "rfind",
        "count",
        "index",
        "splitlines",
        "isdigit",
        "isalpha",
        "isspace",
        "isupper",
        "islower",
        "removeprefix",
        "removesuffix",
        "partition",
        "rpartition",
    ]
)


class _Bounded(NodeTransformer):
    """`a ~ b` becomes a call of a filter that looks at the size; Jinja itself would just join."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        self.generic_visit(node)
        pair = nodes.List(node.nodes, lineno=node.lineno)
        return nodes.Filter(pair, "bounded_concat", [], [], None, None, lineno=node.lineno)


def _limit(size: int) -> None:
    if size > MAX_BYTES:
        raise TemplateLimit("bytes of text", MAX_BYTES)


def _concat(parts: list[Any]) -> str:
    texts = [str(p) for p in parts]
    _limit(sum(map(len, texts)))
    return "".join(texts)


def _size(x: Any) -> int:
    return len(x) if isinstance(x, str | bytes | list | tuple) else 0


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment: transformers' settings (trim_blocks, lstrip_blocks, loop controls), filters of FILTERS."""

    intercepted_binops = frozenset(["*", "**", "%", "+"])

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"], undefined=jinja2.Undefined
        )
        self.filters = {name: self.filters[name] for name in FILTERS}
        self.filters |= {"tojson": _tojson, "bounded_concat": _concat}
        self.globals = {
            "range": _range,
            "namespace": self.globals["namespace"],
            "dict": dict,
            "raise_exception": _raise,
            "strftime_now": lambda form: datetime.datetime.now().strftime(str(form)[:100]),
        }

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Bounded().visit(super()._parse(source, name, filename))
        return tree

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, str | bytes) and attr not in METHODS:
            return False
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Any:
        """str.format reaches attributes and pads to any width: chat templates do without."""
        if isinstance(getattr(value, "__self__", None), str) and getattr(value, "__name__", "").startswith("format"):
            raise TemplateError("str.format is not available in chat templates")
        return None

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            for a, b in ((left, right), (right, left)):
                if isinstance(b, int):
                    _limit(_size(a) * b)
            if isinstance(left, int) and isinstance(right, int):
                _limit(left.bit_length() + right.bit_length())
        elif operator == "**":
            if not (abs(left) <= 1 << 32 and abs(right) <= 64):
                raise TemplateLimit("as a base or 64 as an exponent", 1 << 32)
        elif operator == "%" and isinstance(left, str):
            raise TemplateError("%-formatting of text is not available in chat templates")
        elif operator == "+":
            _limit(_size(left) + _size(right))
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        owner, name = getattr(obj, "__self__", None), getattr(obj, "__name__", "")
        if isinstance(owner, str) and name == "replace" and len(args) >= 2:
            old, new = str(args[0]), str(args[1])
            _limit(len(owner) + (owner.count(old) * max(0, len(new) - len(old))))
        elif isinstance(owner, str) and name == "join" and args and isinstance(args[0], list | tuple):
            _limit(sum(_size(p) + len(owner) for p in args[0]))
        return super().call(context, obj, *args, **kwargs)

    def render_bounded(self, template: jinja2.Template, variables: Mapping[str, Any]) -> str:
        """Render within the budget. Raises TemplateError, TemplateLimit."""
        steps, size, out = 0, 0, []
        deadline = time.monotonic() + MAX_SECONDS

        def trace(frame: Any, event: str, arg: Any) -> Any:
            nonlocal steps
            if frame.f_code.co_filename != "<template>":
                return None  # only the template's own lines are counted, what they call is bounded above
            steps += 1
            if steps > MAX_STEPS:
                raise TemplateLimit("steps", MAX_STEPS)
            if steps % 256 == 0 and time.monotonic() > deadline:
                raise TemplateLimit("seconds", MAX_SECONDS)
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            for piece in template.generate(dict(variables)):
                size += len(piece)
                _limit(size)
                out.append(piece)
        except TemplateError:
            raise
        except RecursionError:
            raise TemplateLimit("levels of recursion", sys.getrecursionlimit()) from None
        except SecurityError as e:
            raise TemplateError(f"forbidden in a chat template: {e}") from None
        except (
            jinja2.TemplateError,
            TypeError,
            ValueError,
            KeyError,
            AttributeError,
            ArithmeticError,
            IndexError,
        ) as e:
            raise TemplateError(f"chat template failed: {type(e).__name__}: {e}") from None
        finally:
            sys.settrace(before)
        return "".join(out)


def _range(*args: int) -> range:
    made = range(*args)
    if len(made) > MAX_STEPS:
        raise TemplateLimit("steps of a range", MAX_STEPS)
    return made


def _raise(message: object) -> NoReturn:
    raise TemplateError(f"the chat template refuses: {message}")


def _tojson(value: Any, indent: int | None = None, **options: Any) -> str:
    """As transformers has it: not escaped for HTML, keys in their order."""
    if indent is not None and not 0 <= indent <= 16:
        raise TemplateLimit("as an indent", 16)
    text = json.dumps(value, ensure_ascii=bool(options.get("ensure_ascii", False)), indent=indent)
    _limit(len(text))
    return text


Renderer = Callable[[Mapping[str, Any]], str]
