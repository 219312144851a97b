"""What chat templates out of hostile files try: to get out of the sandbox, and to use up the machine.

Bounds: a typed error within a second of CPU time, and no more than 64 MB beside what the process had; memory is the peak
of a child process that tries them all.
"""

# ruff: noqa: E501 - a template is one line

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jinja2
import pytest

from zigllama.errors import TemplateError, TemplateLimit
from zigllama.models.template_sandbox import MAX_SOURCE, Sandbox

MESSAGES = [{"role": "user", "content": "Hello, <b>you</b>!"}, {"role": "assistant", "content": "Hi."}]
BYTES = 64 << 20
SECONDS = 10.0  # the bound is 1 s where nothing else runs; a busy machine was seen to take five times the CPU time


def render(source: str, **variables: Any) -> str:
    sandbox = Sandbox()
    return sandbox.render_bounded(sandbox.compile_bounded(source), {"messages": MESSAGES, "tools": None, **variables})


@contextmanager
def within_a_second() -> Iterator[None]:
    """Of CPU time, without the collector: its turn would look through what thousands of other tests have left."""
    gc.disable()
    try:
        started = time.thread_time()
        yield
        assert time.thread_time() - started < SECONDS
    finally:
        gc.enable()


def refused(source: str, kind: type[TemplateError]) -> None:
    """Within a second, with an error of the kind."""
    with within_a_second(), pytest.raises(kind):
        render(source)


ESCAPES = [
    "{{ ''.__class__.__mro__ }}",
    "{{ messages.__class__.__base__.__subclasses__()[0] }}",
    "{{ cycler.__init__.__globals__.os.system('true') }}",
    "{{ raise_exception.__globals__['sys'].exit() }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ (namespace()).__class__ }}",
    "{{ '{0.__class__}'.format(messages) }}",
    "{{ 'a'.ljust(10) }}",
    "{{ (5).to_bytes(2000000000, 'little') }}",
    "{{ '%s' % 1 }}",
    "{{ '%2000000000d' | format(1) }}",
    "{{ messages.append(1) }}",
    "{{ messages[0].update({'a': 1}) }}",
    "{{ messages[0].pop('role') }}",
    "{% set x = messages[0].__setitem__ %}{{ x('a', 1) }}",
    "{{ dict.mro() }}",
    "{{ dict.__subclasses__() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context.environment }}",
    "{{ messages|map(attribute='__class__')|list }}",
    "{{ messages|map('attr', '__class__')|list }}",
    "{{ messages|attr('__class__') }}",
    "{{ messages|selectattr('__class__')|list }}",
    "{{ messages|sort(attribute='__class__')|list }}",
    "{{ messages|groupby('__class__') }}",
    "{% include 'file' %}",
    "{% import 'x' as y %}",
    "{% extends 'x' %}",
    "{% set ns = namespace(_x=1) %}",
    "{% set ns = namespace() %}{% set ns['__class__'] = 1 %}",
    "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    "{% autoescape true %}{{ '<' }}{% endautoescape %}",
    "{{ 'x' | pprint }}",
    "{{ raise_exception('no') }}",
    "{{ 1 / 0 }}",
    "{% for %}",
    "{{ messages[0].content.nothing.more }}",
    "{{ ''|safe ~ '<' }}{{ ('a'|safe).format(1) }}",
    "{{ ('a'|safe).unescape() }}",
    "{{ lipsum(n=100000000) }}",
    "{% macro f(n) %}{% if n %}{{ g(varargs, varargs) }}{% endif %}{% endmacro %}{% macro g(a) %}{{ f(1, a, a) }}{% endmacro %}{{ f(1, 1) }}",
    "{% call(x) f() %}{% endcall %}",
    "{{ caller() }}",
    "{% set a = ['x' * 100000] * 40 %}{% for i in range(100000) %}{{ a.count('y') }}{{ a.index('x') }}{% endfor %}",
    "{{ joiner }}{{ x.y }}",
    "{{ [].__len__() }}{{ messages|length.__class__ }}",
    "{{ messages['__class__'] }}{{ messages[0]['keys']() | list }}",
    "{{ ''['__class__'] }}",
    "{{ 'x'['format'] }}{{ 'x'['encode']('utf-8') }}",
    "{{ ''['for' ~ 'mat'].__globals__ }}",
    "{{ ('{0.__class__}'|safe).format(1) }}",
    "{{ '{a.__class__}'.format_map({'a': 1}) }}",
    "{{ ['{0.__class__}']|map('format', 1)|list }}",
]


@pytest.mark.parametrize("source", ESCAPES)
def test_escapes_are_errors(source: str) -> None:
    refused(source, TemplateError)


FLOODS = [
    "{{ ('😀' * 1000000) | map(attribute='role') | join(', ') }}",
    "{{ ('😀' * 1000000) | join(', ', attribute='role') }}",
    "{{ ('x' * 1000000) | selectattr('role') | list }}",
    "{{ ('x' * 1000000) | unique | list }}",
    "{{ '{:99999999999}'.format(1) }}",
    "{{ '{:{}}'.format(1, 999999999) }}",
    "{{ '{!r:>9999999999}'.format('x') }}",
    "{{ ('x'*4000000).join(range(200)|map('string')) }}",
    "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    "{% for a in range(100000) %}{% for b in range(100000) if false %}{% endfor %}{% endfor %}",
    "{{ range(1000000000) | list }}",
    "{{ 'x' * 2000000000 }}",
    "{{ 2000000000 * ['x'] }}",
    "{{ 9 ** (9 ** 9) }}",
    "{{ 10 ** 10000000 }}",
    "{{ 2 ** 64 ** 64 ** 64 }}",
    "{% set ns = namespace(n=3) %}{% for i in range(64) %}{% set ns.n = ns.n * ns.n %}{% endfor %}{{ ns.n }}",
    "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "{% set ns = namespace(s='xx') %}{% for i in range(64) %}{% set ns.s = ns.s.replace('x', 'xx') %}{% endfor %}",
    "{% set ns = namespace(s='xx') %}{% for i in range(64) %}{% set ns.s = ns.s|replace('x', 'xx') %}{% endfor %}",
    "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = [ns.s, ns.s]|join %}{% endfor %}",
    "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = '{0}{0}'.format(ns.s) %}{% endfor %}",
    "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = (ns.s, ns.s) %}{% endfor %}{{ ns.s }}",
    "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = (ns.s, ns.s) %}{% endfor %}{{ {ns.s: 1} }}",
    "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = (ns.s, ns.s) %}{% endfor %}{{ messages[0][ns.s] }}",
    "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = (ns.s, ns.s) %}{% endfor %}{{ messages[0].get(ns.s) }}",
    "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = (ns.s, ns.s) %}{% endfor %}{{ [ns.s]|unique|list }}",
    "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = (ns.s, ns.s) %}{% endfor %}{{ ns.s in messages[0] }}",
    "{% set ns = namespace(s='x',t='x') %}{% for i in range(64) %}{% set ns.s = [ns.s, ns.s] %}{% set ns.t = [ns.t, ns.t] %}{% endfor %}{{ ns.s == ns.t }}",
    "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s|tojson }}",
    "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = {'a': ns.s, 'b': ns.s} %}{% endfor %}{{ ns.s|string }}",
    "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = namespace(a=ns.s, b=ns.s) %}{% endfor %}{{ ns.s }}",
    "{% set ns = namespace() %}{% set ns.a = [ns] %}{{ ns }}",
    "{% set ns = namespace(s='x') %}{% for i in range(64) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ raise_exception(ns.s) }}",
    "{% for i in range(100000) %}{{ 'x' * 1000 }}{% endfor %}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
    "{% for a in [messages] recursive %}{{ loop([messages]) }}{% endfor %}",
    "{% block a %}{{ self.a() }}{% endblock %}",
    "{{ messages | tojson(indent=1000000000) }}",
    "{{ 'x' | indent(2000000000) }}",
    "{{ ('x\\n' * 1000000) | indent(900) }}",
    "{{ 1.5 | round(100000000, 'ceil') }}",
    "{{ ['x' * 4000000] * 100000 }}",
    "{{ (['x' * 4000000] * 100000) | sort | list }}",
    "{{ (['x' * 4000000] * 100000) | map('upper') | list | length }}",
    "{{ (['x' * 1000000] * 100000) | map('upper') | list | length }}",
    "{{ (['x' * 4000000] * 100000) == (['x' * 4000000] * 100000) }}",
    "{{ range(100000)|list|select('in', range(100000)|list|reverse|list)|list|length }}",
    "{{ range(100000)|list|map('string')|select('in', range(100000)|map('string')|list)|list|length }}",
    "{% set l = range(50000)|list %}{% for a in l %}{{ l|sum }}{% endfor %}",
    "{{ ([[1]*2000]*2000)|sum(start=[])|length }}",
    "{% set s = 'x' * 4000000 %}{% for i in range(100000) %}{% if s in s %}{% endif %}{% endfor %}",
    "{% set s = 'x' * 4000000 %}{% for i in range(100000) %}{% if s.find('y') %}{% endif %}{% endfor %}",
    "{% set s = 'x' * 4000000 %}{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = ns.l + [s ~ i] %}{% endfor %}",
    "{% set s = 'x' * 4000000 %}{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = ns.l + [s[1:]] %}{% endfor %}",
    "{{ ('a' * 4000000).rfind('ab' + 'a' * 1000000) }}",
    "{{ ('a' * 4000000).rsplit('ab' + 'a' * 1000000) }}",
    "{{ ('a' * 2000000).strip('b' * 2000000 + 'a') }}",
    "{{ ('a' * 2000000) | trim('b' * 2000000 + 'a') }}",
    "{{ ('ab' * 2000000).split('b') | length }}",
    "{{ ('ab ' * 1000000).split() | length }}",
    "{{ ('é' * 1000000) | list | length }}",
    "{{ ('😀' * 1000000) | list | length }}",
    "{{ ('\"' * 4000000) | e | length }}",
    "{{ ('x'|safe) + ('\"' * 4000000) }}",
    "{{ (('\"'|safe) * 100000).replace('\"', '\"' * 1000) }}",
    "{% macro f() %}{% for i in range(100000) %}{{ 'abcdefgh' }}{{ 'abcdefgh' }}{{ 'abcdefgh' }}{{ 'abcdefgh' }}{{ 'abcdefgh' }}{{ 'abcdefgh' }}{{ 'abcdefgh' }}{{ 'abcdefgh' }}{{ 'abcdefgh' }}{{ 'abcdefgh' }}{% endfor %}{% endmacro %}{{ f() }}",
    "{{ strftime_now('%Y' * 1000000) }}",
    "{{ ('f' * 4000000) | int(base=16) }}",
    "{% set ns = namespace(l=1) %}{% for i in range(90000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
    "{% set ns = namespace(l=1) %}{% for i in range(90000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l|tojson }}",
    "{% for i in range(100000) %}{% set x = namespace(a=i) %}{% endfor %}",
    "{{ range(100000)|map('string')|map('string')|map('string')|map('string')|map('string')|map('string')|map('string')|map('string')|list|length }}",
    "{% set s = range(100000)|list %}{% for a in range(100000) %}{% set t = s|reverse|list|reverse|list %}{% endfor %}",
    "{{ messages|tojson(separators=('x' * 100, 'y')) }}",
    "{% set x %}{% for i in range(100000) %}{% for j in range(100000) %}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa{% endfor %}{% endfor %}{% endset %}",
    "{% filter upper %}{% for i in range(100000) %}{% for j in range(100000) %}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa{% endfor %}{% endfor %}{% endfilter %}",
    "{% for i in range(100000) %}{{ loop.changed(messages * 1000) }}{% endfor %}",
    "{{ messages|map('zl_step', 1000000000000)|list }}",
    "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = ns.l + ['x' * 1000000 ~ '😀'] %}{% endfor %}",
    "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = ns.l + ['x' * 1000000 + '😀'] %}{% endfor %}",
    "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = ns.l + [['x' * 1000000, '😀']|join] %}{% endfor %}",
    "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = ns.l + [('x' * 1000000 ~ 'y').replace('y', '😀')] %}{% endfor %}",
    "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = ns.l + ['{}😀'.format('x' * 1000000)] %}{% endfor %}",
    "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = ns.l + [namespace(a=i)] %}{% endfor %}",
    "{% set ns = namespace(l=[]) %}{% for i in range(100000) %}{% set ns.l = [ns.l, dict(a=i)] %}{% endfor %}",
    "{{ ('ab' * 2000000) | sort | length }}",
    "{{ ('ab' * 2000000) | unique | list }}",
    "{{ ('ab' * 2000000) | groupby('x') | list }}",
    "{{ ('ab' * 2000000) | min }}",
    "{{ ('ab' * 2000000) | join | length }}",
    "{{ ','.join('ab' * 2000000) | length }}",
    "{{ range(100000) | sort | length }}",
    "{{ 'a' in range(100000) }}",
    "{% set l = ['aaaa'] * 20000 %}{{ l | sort(attribute='0.' * 5000 ~ '0') | length }}",
    "{% set l = ['aaaa'] * 20000 %}{{ l | sort(false, false, '0.' * 5000 ~ '0') | length }}",
    "{% set l = ['aaaa'] * 90000 %}{{ l | map(attribute='0.' * 90 ~ '0') | list | length }}",
    "{% set l = ['aaaa'] * 90000 %}{{ l | join('', attribute='0.' * 90 ~ '0') | length }}",
    "{{ messages | map(attribute='00.' * 1000000) | list }}",
    "{{ messages | selectattr('00.' * 1000000) | list }}",
]


@pytest.mark.parametrize("source", FLOODS)
def test_floods_stop(source: str) -> None:
    refused(source, TemplateLimit)


# What is allowed though it looks like an attack: bounded, and as Jinja has it.
HARMLESS = {
    "{{ 5 in range(100) }}{{ range(3) | sort }}{{ 'cab' | sort }}{{ 'ab' | join(',') }}": "True[0, 1, 2]['a', 'b', 'c']a,b",
    "{{ [{'a': {'b': 2}}, {'a': {'b': 1}}] | map(attribute='a.b') | list }}": "[2, 1]",
    "{{ '{0[0]}'.format([1]) }}": "1",
    "{{ '{:>5}|{:<3}'.format('a', 'b') }}": "    a|b  ",
    "{{ 2 ** 64 }}": str(2**64),
    "{{ messages[0]['keys']() | list }}": "['role', 'content']",
    "{{ ('a' * 2000000).find('a' * 1000000 + 'b' + 'a'*100) }}": "-1",
    "{{ ('9' * 4000000) | int }}": "0",
    "{{ ('x' * 1000000) | upper | lower | title | trim | length }}": "1000000",
    "{{ [[1], [2]] | sum(start=[]) }}": "[1, 2]",
    "{{ messages | map(attribute='role') | join(', ') }}": "user, assistant",
    "{{ ' a b  c '.split() }}{{ 'a,b'.split(',', 1) }}": "['a', 'b', 'c']['a', 'b']",
    "{{ 'a\\nb' | indent(2, true) }}": "  a\n  b",
    "{{ ('<'|safe) ~ '<' }}{{ ('<'|safe) + '<' }}": "<<<&lt;",
    "{{ undefined_thing }}{{ undefined_thing is defined }}": "False",
}


@pytest.mark.parametrize("source", HARMLESS)
def test_harmless(source: str) -> None:
    assert render(source) == HARMLESS[source]


SOURCES = {
    "long": "x" * (MAX_SOURCE + 1),
    "outputs": "{{a}}" * 20_000,
    "sum": "{{ " + "+".join(["a"] * 15_000) + " }}",
    "parentheses": "{{ " + "(" * 5000 + "a" + ")" * 5000 + " }}",
    "calls": "{{ " + "a(" * 5000 + ")" * 5000 + " }}",
    "ifs": "{% if a %}" * 1000 + "{% endif %}" * 1000,
    "loops": "{% for a in b %}" * 30 + "{% endfor %}" * 30,
    "filters": "{{ a" + "|upper" * 5000 + " }}",
    "negations": "{{ " + "not " * 11_000 + "a }}",
    "attributes": "{{ a" + ".b" * 5000 + " }}",
    "comment": "{#" * 60_000,
    "raw": "{% raw %}" * 10_000,
    "quote": "{{ '" + "\\'" * 60_000,
    "number": "{{ " + "9" * 100_000 + " }}",
    "hexadecimal": "{{ 0x" + "f" * 100_000 + " }}",
    "blocks": "".join(f"{{% block b{i} %}}x{{% endblock %}}" for i in range(3000)),
}


@pytest.mark.parametrize("name", SOURCES)
def test_sources_that_take_long_to_compile(name: str) -> None:
    refused(SOURCES[name], TemplateError)


LONGEST = ["{{ [" + "1," * 5900 + "] }}", "{{a}}" * 3900, "\n" * 131_000, "{% set x=1 %}  \n" * 1700]


@pytest.mark.parametrize("source", LONGEST)
def test_the_longest_that_are_compiled(source: str) -> None:
    with within_a_second():
        render(source)


CHILD = """
import json, resource, sys
from zigllama.errors import TemplateError
from zigllama.models.template_sandbox import Sandbox

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

sources, messages = json.load(sys.stdin)
sandbox = Sandbox()
sandbox.render_bounded(sandbox.compile_bounded("{{ messages | tojson }}"), {"messages": messages})
before = peak()
for source in sources:
    try:
        sandbox.render_bounded(sandbox.compile_bounded(source), {"messages": messages, "tools": None})
    except TemplateError:
        pass
    if peak() - before > BYTES:
        sys.exit(f"{(peak() - before) >> 20} MB: {source:.200}")
"""


def test_memory() -> None:
    sources = [*ESCAPES, *FLOODS, *HARMLESS, *SOURCES.values(), *LONGEST]
    child = subprocess.run(
        [sys.executable, "-c", CHILD.replace("BYTES", str(BYTES))],
        input=json.dumps([sources, MESSAGES]),
        text=True,
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
    )
    assert child.returncode == 0, child.stderr


def test_the_template_s_own_words() -> None:
    with pytest.raises(TemplateError, match=r"refuses: roles must alternate 3$"):
        render("{{ raise_exception('roles must alternate ' ~ 3) }}")
    with pytest.raises(TemplateError) as e:
        render("{{ raise_exception('x' * 1000000) }}")
    assert len(str(e.value)) < 3000


def test_budgets_grow_with_the_conversation() -> None:
    """What a template alone may not use, a long conversation may: 10 MB in one message, 5,000 messages."""
    source = "{% for m in messages %}{{ m.role ~ ': ' ~ (m.content | trim) }}{% endfor %}"
    content = "ab cd\n" * 1_700_000
    assert len(render(source, messages=[{"role": "user", "content": content}])) == len(content) - 1 + 6
    many = [{"role": "user", "content": "x" * 100}] * 5000
    assert len(render(source, messages=many)) == 5000 * 106


def test_threads_have_budgets_of_their_own() -> None:
    from concurrent.futures import ThreadPoolExecutor

    sandbox = Sandbox()
    template = sandbox.compile_bounded("{% for i in range(20000) %}{% endfor %}{{ n }}")
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda n: sandbox.render_bounded(template, {"n": n}), range(40)))
    assert made == [str(n) for n in range(40)]


@pytest.mark.parametrize("quote", ["'", '"'])
def test_escapes_of_strings_are_those_of_jinja_without_a_warning(quote: str) -> None:
    """Python warns of escapes that it does not know, and then a program may have it raise."""
    sandbox = Sandbox()
    escapes = [f"\\{chr(c)}" for c in range(0x20, 0x7F) if chr(c) not in "xNuU"]
    escapes += [
        "\\x41",
        "\\u0041",
        "\\U00000041",
        "\\N{DRAGON}",
        "\\0",
        "\\101",
        "\\377",
        "\\400",
        "\\777",
        "\\8",
        "\\é",
    ]
    escapes += ["\\\\d", "\\\\\\d", "\\\n", "é\\d\\"]
    for escape in escapes:
        if escape[-1] == "\\":
            escape += escape[-1]
        template = f"{{{{ {quote}a{escape}b{quote} }}}}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            want = jinja2.Environment().from_string(template).render()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert sandbox.render_bounded(sandbox.compile_bounded(template), {}) == want, template
    for wrong in ("\\x4", "\\u12", "\\N{NO SUCH}"):
        with pytest.raises(TemplateError, match="does not compile"):
            sandbox.compile_bounded(f"{{{{ {quote}{wrong}{quote} }}}}")
