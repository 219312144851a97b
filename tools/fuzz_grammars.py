"""Coverage-guided fuzzing of what reads grammars (regular expressions, GBNF, both EBNFs, context-free), with atheris.

    pip install atheris
    python tools/fuzz_grammars.py --work DIR [--seconds 1800]       # the committed corpus is where it begins
    python tools/fuzz_grammars.py --work DIR FILE                   # repeats a finding: crash-*, timeout-*

What is checked stands in tests/grammar_judge.py. Inputs that brought coverage are in DIR/corpus; a small choice of them
is committed in tests/corpus/grammars, which a test replays without atheris.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CORPUS = ROOT / "tests" / "corpus" / "grammars"
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

WORDS = r"""::= -> → ε | ( ) [ ] { } (* *) (/ /) (: :) /* */ wfc: ? * + . , ; - 2* {0,1000000000} {2,} {,3} "a" 'b'
root S [a-z] [^a] #x41 #x10FFFF <[1]> !<a> \d \w \s \p{L} \P{Script=Greek} \b \B \A \Z (?: (?= (?! (?<=
(?<! (?i) (?i: (?s-m: (?P<a> (?P=a) (?<n> \k<n> \1 \u{1F600} \uD83D\uDE00 \x41 \N{DRAGON} ^ $ (?> ++ [[]
[]] [^] \cA""".split()  # noqa: SIM905


def main() -> None:
    """Hand over to libFuzzer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seconds", type=int, default=1800)
    parser.add_argument("file", nargs="?")
    options = parser.parse_args()
    import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]

    with atheris.instrument_imports(include=["zigllama.inference.grammar"]):
        from grammar_judge import judge

    found = options.work / "corpus"
    found.mkdir(parents=True, exist_ok=True)
    words = options.work / "words.dict"
    words.write_text("".join('"' + "".join(f"\\x{b:02x}" for b in w.encode()) + '"\n' for w in WORDS))
    limits = [f"-max_total_time={options.seconds}", "-max_len=512", "-timeout=60", "-rss_limit_mb=2048"]
    places = [options.file] if options.file else [str(found), str(CORPUS)]
    atheris.Setup(
        [sys.argv[0], f"-dict={words}", f"-artifact_prefix={options.work}/", "-print_final_stats=1", *limits, *places],
        judge,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
