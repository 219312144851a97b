"""A Jinja environment for templates out of files: no way out of it, and a budget for what they may use.

A chat template is a program from a stranger. Jinja's own sandbox closes the ways to Python's internals; what it leaves
open is using up the machine. So here the program is changed before it is compiled:

    every body of a loop, macro or block begins with a step, and so does the test of a filtered loop
    a ~ b, comparisons, slices, literals of lists and mappings pass through a filter that looks at their sizes

and operators, calls, subscripts and what is written out are looked at by the environment (template_meter.py has the
budgets, template_filters.py what may be called). Nothing is evaluated while compiling. Attributes are those of
`METHODS`; of other objects that Jinja makes (loops, macros) those it declares safe.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from string import Formatter
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.lexer import TOKEN_INTEGER, TOKEN_STRING, TOKEN_WHITESPACE, Lexer, Token
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter
from jinja2.visitor import NodeTransformer

from zigllama.errors import TemplateError, TemplateLimit

from .template_filters import (
    FILTERS,
    GLOBALS,
    METHODS,
    TESTS,
    check_method,
    check_width,
    concat,
    join_texts,
    text,
)
from .template_meter import Meter, joined_bytes, meter, metering, text_bytes

MAX_SOURCE = 1 << 17  # characters; the longest of the templates in use has 17 thousand
MAX_TOKENS = 12_000  # Jinja's, which make the time to compile; the longest has 2,500
MAX_DIGITS = 1000
MAX_RECURSION = 1000


class _Lexer(Lexer):
    r"""Jinja's, with what it leaves to chance written out: it reads literals of strings as Python's unicode-escape
    does, which warns of escapes that it does not know, as in "\d+", and of "\777". A program that turns warnings into
    errors would read another template.
    """

    def wrap(
        self, stream: Iterable[tuple[int, str, str]], name: str | None = None, filename: str | None = None
    ) -> Iterator[Token]:
        """Tokens with their values."""
        known = ((n, kind, _escapes(s) if kind == TOKEN_STRING and "\\" in s else s) for n, kind, s in stream)
        return super().wrap(known, name, filename)


def _escapes(literal: str) -> str:
    """The same literal without escapes that are unknown or beyond a byte. What is not ASCII is Jinja's to escape."""

    def known(m: re.Match[str]) -> str:
        if m[1]:
            return f"\\u{int(m[1], 8):04x}"
        return m[0] if m[2] in "\n\\'\"abfnrtv01234567xNuU" or not m[2].isascii() else "\\" + m[0]

    return re.sub(r"\\(?:([4-7][0-7]{2})|([\s\S]))", known, literal)


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment: transformers' settings (trim_blocks, lstrip_blocks, loop controls, generation blocks), and the
    filters, tests and globals of template_filters.py."""

    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "**", "%"])

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", GenerationBlock],
            undefined=jinja2.Undefined,
            optimized=False,
            finalize=_finalize,
            cache_size=0,
        )
        self.filters = FILTERS | HOOKS
        self.tests = dict(TESTS)
        self.globals = dict(GLOBALS)
        self.concat = concat  # type: ignore[method-assign]

    def compile_bounded(self, source: str) -> jinja2.Template:
        """A template that `render_bounded` takes. Raises TemplateError, TemplateLimit."""
        if len(source) > MAX_SOURCE:
            raise TemplateLimit("characters", MAX_SOURCE)
        try:
            count = 0
            for _, kind, value in self.lex(source):
                count += kind != TOKEN_WHITESPACE
                if kind == TOKEN_INTEGER and len(value) > MAX_DIGITS:
                    raise TemplateLimit("digits of a number", MAX_DIGITS)
                if count > MAX_TOKENS:
                    raise TemplateLimit("tokens of Jinja", MAX_TOKENS)
            return self.from_string(source)
        except TemplateError:
            raise
        except (jinja2.TemplateError, RecursionError, SyntaxError, ValueError, OverflowError, MemoryError) as e:
            raise TemplateError(f"chat template does not compile: {type(e).__name__}: {e}") from None

    def render_bounded(self, template: jinja2.Template, variables: Mapping[str, Any], marker: str = "") -> str:
        """Render within the budget. `variables` are plain values: text, numbers, None, lists and mappings of them.

        Raises TemplateError for whatever a template's program raises, with the text of its `raise_exception`;
        TemplateLimit.
        """
        out = []
        with metering(Meter(list(variables.values()), marker)) as m:
            try:
                for piece in template.generate(dict(variables)):
                    m.make(text_bytes(piece))
                    out.append(piece)
                return concat(out)
            except TemplateError:
                raise
            except RecursionError:
                raise TemplateLimit("levels of recursion", MAX_RECURSION) from None
            except MemoryError:
                raise TemplateLimit("bytes of memory there are", m.max_made) from None
            except SecurityError as e:
                raise TemplateError(f"forbidden in a chat template: {e}") from None
            except Exception as e:  # the program is a stranger's: it can provoke any
                raise TemplateError(f"chat template failed: {type(e).__name__}: {e}") from e

    # --- what Jinja asks while it compiles ---

    @cached_property
    def lexer(self) -> Lexer:
        """What reads templates."""
        return _Lexer(self)

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree: nodes.Template = _Bounded().visit(super()._parse(source, name, filename))
        return tree

    # --- what it asks while a template runs ---

    def unsafe_undefined(self, obj: Any, attribute: str) -> jinja2.Undefined:
        """Whoever reaches for Python's internals is told so; Jinja alone would write nothing."""
        if attribute.startswith("_"):
            raise SecurityError(f"access to attribute {attribute!r:.100} of {type(obj).__name__} object is unsafe")
        return super().unsafe_undefined(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        for kind, names in METHODS:
            if isinstance(obj, kind):
                return attr in names
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Any:
        """str.format with a formatter that reaches no attributes of its own and pads to a bounded width."""
        owner, name = getattr(value, "__self__", None), getattr(value, "__name__", "")
        if not isinstance(owner, str) or name not in ("format", "format_map"):
            return None
        if name == "format_map" or hasattr(owner, "__html__"):
            raise TemplateError("format_map, and format of safe text, are not available in chat templates")
        formatter = _BoundedFormatter(self)

        def format(*args: Any, **kwargs: Any) -> str:
            made: str = meter().made(formatter.vformat(owner, args, kwargs))
            return made

        return format

    def getitem(self, obj: Any, argument: Any) -> Any:
        m = meter()
        m.tick()  # filters read attributes of many values in one call
        if type(argument) is tuple:
            m.look(argument)  # it is hashed
        return super().getitem(obj, argument)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        m = meter()
        m.look(*(x for x in (left, right) if isinstance(x, int)))
        if operator == "*":
            for a, n in ((left, right), (right, left)):
                if isinstance(n, int) and n > 0 and isinstance(a, str | list | tuple):
                    m.make(n * (text_bytes(a) if isinstance(a, str) else 16 * len(a)))
        elif operator == "**":
            if not (abs(left) <= 1 << 32 and abs(right) <= 64):
                raise TemplateLimit("as a base or 64 as an exponent", 1 << 32)
        elif operator == "%" and isinstance(left, str):
            raise TemplateError("%-formatting of text is not available in chat templates")
        elif operator == "+":
            if isinstance(left, str) and isinstance(right, str):
                safe = hasattr(left, "__html__") or hasattr(right, "__html__")  # which escapes the other one
                m.make(joined_bytes([left, right]) * (5 if safe else 1))
            elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
                m.make(16 * (len(left) + len(right)))
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        m = meter()
        m.step()
        owner = getattr(obj, "__self__", None)
        if isinstance(owner, str | list | tuple | dict):
            if isinstance(owner, str) and obj.__name__ == "join" and len(args) == 1:
                return join_texts(owner, args[0])
            check_method(owner, obj.__name__, (*args, *kwargs.values()))
        elif args or kwargs:
            m.look(*args, *kwargs.values())
        return super().call(context, obj, *args, **kwargs)


class GenerationBlock(Extension):
    """{% generation %} .. {% endgeneration %}: what a model wrote, marked for training. Here it renders as its body."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own way

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("body"), [], [], body).set_lineno(line)

    def body(self, caller: Any) -> Any:
        return caller()


@jinja2.pass_context
def _finalize(context: Any, x: Any) -> Any:
    """What `{{ x }}` writes. It takes the context so that Jinja does not call it while compiling."""
    m = meter()
    made = text(x)
    m.make(16 + text_bytes(made))
    return made


class _BoundedFormatter(SandboxedFormatter):
    def format_field(self, value: Any, format_spec: str) -> Any:
        check_width(format_spec)
        m = meter()
        m.step()
        m.make(m.look(value, format_spec))
        return m.made(super().format_field(value, format_spec))

    def convert_field(self, value: Any, conversion: Any) -> Any:
        meter().make(4 * meter().look(value))
        return Formatter.convert_field(self, value, conversion)


# --- the program changed ---


def _step(value: Any, n: int = 1) -> Any:
    meter().step(max(1, n))  # a template may call it too
    return value


def _made(value: Any) -> Any:
    return meter().made(value)


def _looked(value: Any) -> Any:
    """One side of a comparison."""
    if not isinstance(value, jinja2.Undefined):
        meter().look(value)
    return value


def _searched(value: Any) -> Any:
    """What `in` searches: a mapping by hash, anything else from one end to the other."""
    return value if isinstance(value, dict) else _looked(value)


HOOKS = {"zl_step": _step, "zl_made": _made, "zl_looked": _looked, "zl_searched": _searched, "zl_concat": concat}


def _filter(name: str, node: nodes.Expr, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


class _Bounded(NodeTransformer):
    """Puts the hooks into a template's tree."""

    def _body(self, node: Any) -> Any:
        pieces = sum(1 for _ in node.find_all(nodes.Output))
        self.generic_visit(node)
        begin = nodes.Const(None, lineno=node.lineno)
        step = _filter("zl_step", begin, nodes.Const(pieces + 1, lineno=node.lineno))
        node.body.insert(0, nodes.ExprStmt(step, lineno=node.lineno))
        return node

    visit_Macro = visit_CallBlock = visit_Block = visit_FilterBlock = _body

    def visit_For(self, node: nodes.For) -> nodes.For:
        made: nodes.For = self._body(node)
        if made.test is not None:
            made.test = nodes.And(_filter("zl_step", nodes.Const(True, lineno=node.lineno)), made.test)
        return made

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:
        self.generic_visit(node)
        return _filter("zl_concat", nodes.List(node.nodes, lineno=node.lineno))

    def visit_Compare(self, node: nodes.Compare) -> nodes.Compare:
        sides = [node.expr, *(o.expr for o in node.ops)]
        constant = [isinstance(x, nodes.Const) for x in sides]
        self.generic_visit(node)
        if not constant[0] and not any(constant[1:]):
            node.expr = _filter("zl_looked", node.expr)
        for i, operand in enumerate(node.ops):
            if operand.op in ("in", "notin"):
                operand.expr = _filter("zl_searched", operand.expr)
            elif not constant[i] and not constant[i + 1]:
                operand.expr = _filter("zl_looked", operand.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:
        self.generic_visit(node)
        return _filter("zl_made", node) if isinstance(node.arg, nodes.Slice) else node

    def _literal(self, node: Any) -> Any:
        constant = all(isinstance(x, nodes.Const) for x in node.items) and len(node.items) <= 16
        self.generic_visit(node)
        # the left side of an assignment is no value
        return node if constant or getattr(node, "ctx", "load") != "load" else _filter("zl_made", node)

    visit_List = visit_Tuple = _literal

    def visit_Dict(self, node: nodes.Dict) -> nodes.Expr:
        self.generic_visit(node)
        for pair in node.items:
            if not isinstance(pair.key, nodes.Const):
                pair.key = _filter("zl_looked", pair.key)  # it is hashed
        return _filter("zl_made", node)

    def visit_ScopedEvalContextModifier(self, node: nodes.Node) -> nodes.Node:
        raise TemplateError("autoescape is not available in chat templates")

    visit_EvalContextModifier = visit_ScopedEvalContextModifier
