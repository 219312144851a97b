"""Coverage-guided fuzzing of chat templates and of the reading of tool calls, with atheris.

    pip install atheris
    python tools/fuzz_templates.py --work DIR [--seconds 1800]      # the committed corpus is where it begins
    python tools/fuzz_templates.py --work DIR FILE                  # repeats a finding: crash-*, timeout-*

What is checked stands in tests/template_judge.py. Inputs that brought coverage are in DIR/corpus; a small choice of
them is committed in tests/corpus/templates, which a test replays without atheris.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "corpus" / "templates"
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

WORDS = """{{ }} {% %} {%- -%} {# #} for endfor if endif elif else set endset macro endmacro call endcall filter block
generation endgeneration break continue in is not and or recursive loop namespace( range( dict( raise_exception(
strftime_now( messages tools content role .items() .split( .replace( .format( .join( |tojson |join |map( |select( |list
|sort |trim |indent( |length |upper |string |sum(start=[]) |unique |groupby( ** * ~ + // % [1:] [::-1] ['role']
__class__ <tool_call> </tool_call> varargs caller() self super() loop.previtem loop.changed( 999999999 0xfff""".split()  # noqa: SIM905


def main() -> None:
    """Hand over to libFuzzer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=1800)
    parser.add_argument("file", nargs="?")
    options = parser.parse_args()
    import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

    with atheris.instrument_imports(include=["zigllama.models", "jinja2"]):
        from template_judge import judge

    found = options.work / "corpus"
    found.mkdir(parents=True, exist_ok=True)
    words = options.work / "words.dict"
    words.write_text("".join('"' + "".join(f"\\x{b:02x}" for b in w.encode()) + '"\n' for w in WORDS))
    limits = [f"-max_total_time={options.seconds}", "-max_len=1024", "-timeout=7200", "-rss_limit_mb=2048"]
    places = [options.file] if options.file else [str(found), str(CORPUS)]
    atheris.Setup(
        [sys.argv[0], f"-dict={words}", f"-artifact_prefix={options.work}/", "-print_final_stats=1", *limits, *places],
        judge,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
