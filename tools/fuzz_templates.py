"""Coverage-guided fuzzing of chat templates and of the reading of tool calls.

    python tools/fuzz_templates.py run --work DIR        # and the other verbs of fuzzing.py

What is checked stands in tests/template_judge.py. Inputs that brought coverage are in DIR/corpus; a small choice of
them is committed in tests/corpus/templates, which a test replays without atheris.
"""

from __future__ import annotations

import sys

from fuzzing import Judge, Target, main

WORDS = """{{ }} {% %} {%- -%} {# #} for endfor if endif elif else set endset macro endmacro call endcall filter block
generation endgeneration break continue in is not and or recursive loop namespace( range( dict( raise_exception(
strftime_now( messages tools content role .items() .split( .replace( .format( .join( |tojson |join |map( |select( |list
|sort |trim |indent( |length |upper |string |sum(start=[]) |unique |groupby( ** * ~ + // % [1:] [::-1] ['role']
__class__ <tool_call> </tool_call> varargs caller() self super() loop.previtem loop.changed( 999999999 0xfff""".split()  # noqa: SIM905


def load() -> Judge:
    """The judge."""
    from template_judge import judge

    return judge


def seeds() -> list[bytes]:
    """The built-in templates."""
    from zigllama.models.built_in_templates import BUILT_IN

    return [source.encode() for source in BUILT_IN.values()]


TARGET = Target(
    corpus="templates",
    modules=("zigllama.models", "jinja2"),
    load=load,
    words=tuple(w.encode() for w in WORDS),
    max_len=2048,
    seeds=seeds,
)

if __name__ == "__main__":
    sys.exit(main({"templates": TARGET}, __doc__))
