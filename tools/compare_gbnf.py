"""Make tests/golden/grammars_gbnf.json: what llama.cpp's own grammar code says of grammars and texts; compare its
shipped files.

    python tools/compare_gbnf.py --source LLAMA_CPP --library FOLDER_OF_LIBLLAMA [--version VERSION] [--random 60]

Compiles tools/oracle/gbnf_verdicts.cpp against llama.cpp's headers and library. The grammars are those of
tests/gbnf_samples.py and random ones (tests/notation_samples.py). Besides, every grammars/*.gbnf of the source is read
here as it is, and its verdicts on texts that its machine writes, and on changed ones, are compared: differences are
printed, and end with exit code 1. Of those files nothing is kept. zigllama proposes texts here; what is said of them is
llama.cpp's alone.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
SECONDS = 30
TARGET = ROOT / "tests" / "golden" / "grammars_gbnf.json"


def verdicts(program: Path, grammar: str, texts: list[str]) -> str:
    """What llama.cpp says: E where it refuses the grammar or does not come to an end, else a 1 or 0 per text."""
    parts = [b"1", grammar.encode(), str(len(texts)).encode(), *(t.encode() for t in texts)]
    given = b"".join(b"%d\n%s" % (len(p), p) for p in parts)
    try:
        done = subprocess.run([str(program)], input=given, capture_output=True, check=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        print(f"no end after {SECONDS} s: {grammar!r}")
        return "E"
    return done.stdout.decode().split("\n")[0]


def texts_for(grammar: str, seed: int) -> list[str]:
    """Texts to try; a few general ones where the grammar is refused here."""
    from notation_samples import texts_of

    from zigllama.errors import GrammarError
    from zigllama.inference.grammar import gbnf

    try:
        found = texts_of(gbnf.rules(grammar), random.Random(seed))
    except GrammarError:
        found = [""]
    general = ("a", "b", "aa", "ab", "x", "yx", "()", "ac", "c")
    return sorted(t for t in {*found, *general} if "\0" not in t)  # which ends a text for llama.cpp


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--source", type=Path, required=True)
    parser.add_argument("--library", type=Path, required=True)
    parser.add_argument("--version", default="")
    parser.add_argument("--random", type=int, default=60)
    options = parser.parse_args()
    from gbnf_samples import GRAMMARS
    from notation_samples import as_gbnf, random_rules

    from zigllama.inference.grammar import gbnf
    from zigllama.inference.grammar.compile import compile_rules
    from zigllama.inference.grammar.machine import accepts
    from zigllama.inference.grammar.pushdown import Pushdown

    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "verdicts"
        include = [f"-I{options.source / d}" for d in ("src", "include", "ggml/include")]
        link = [f"-L{options.library}", "-lllama", f"-Wl,-rpath,{options.library}"]
        source = str(ROOT / "tools" / "oracle" / "gbnf_verdicts.cpp")
        subprocess.run(["g++", "-std=c++17", "-O1", source, *include, *link, "-o", str(program)], check=True)
        grammars = [*GRAMMARS, *(as_gbnf(random_rules(random.Random(i), left=False)) for i in range(options.random))]
        cases = [(g, texts_for(g, i)) for i, g in enumerate(grammars)]
        said = [verdicts(program, g, t) for g, t in cases]
        about = {
            "oracle": "llama.cpp",
            "version": options.version,
            "command": "python tools/compare_gbnf.py --source LLAMA_CPP --library FOLDER_OF_LIBLLAMA",
            "cases": [
                {"grammar": g, "texts": t, "said": s, "random": i >= len(GRAMMARS)}
                for i, ((g, t), s) in enumerate(zip(cases, said, strict=True))
            ],
        }
        TARGET.write_text(json.dumps(about, indent=1, ensure_ascii=True) + "\n", "utf-8")
        wrong = compared = 0
        for path in sorted((options.source / "grammars").glob("*.gbnf")):
            text = path.read_text("utf-8")
            tried = sorted({t for seed in range(6) for t in texts_for(text, seed)})
            machine = Pushdown(compile_rules(gbnf.rules(text)))
            theirs = verdicts(program, text, tried)
            for t, want in zip(tried, theirs, strict=True):
                compared += 1
                if accepts(machine, t.encode()) != (want == "1"):
                    wrong += 1
                    print(f"{path.name} on {t!r}: llama.cpp says {want}")
            print(f"{path.name}: {len(tried)} texts, {theirs.count('1')} accepted")
        print(f"{compared} texts compared, {wrong} differences")
        return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
