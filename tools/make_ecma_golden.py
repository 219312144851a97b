"""Make tests/golden/regex_ecma.json: what the engine of Node.js says of random patterns, with the flag u, and texts.

    python tools/make_ecma_golden.py [--patterns 400]

Patterns and texts are those of tests/regex_samples.py, by their seeds; texts with characters that Unicode 15.1 has not
assigned are left out, for the engine may know a later version.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tools")]
TARGET = ROOT / "tests" / "golden" / "regex_ecma.json"
SCRIPT = """
const read = [];
process.stdin.on("data", d => read.push(d)).on("end", () => {
  const said = JSON.parse(Buffer.concat(read).toString()).map(([pattern, flags, texts]) => {
    try { const r = new RegExp(pattern, flags + "u"); return texts.map(t => r.test(t) ? "1" : "0").join(""); }
    catch (e) { return "E"; }
  });
  process.stdout.write(JSON.stringify([said, process.version]));
});
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--patterns", type=int, default=400)
    options = parser.parse_args()
    from compare_regexes import of_one_mind
    from regex_samples import sample

    cases = []
    for seed in range(options.patterns):
        case = sample(random.Random(seed), "ecma", search=True)
        cases.append([case.pattern, case.flags, [*filter(of_one_mind, case.texts)]])
    done = subprocess.run(["node", "-e", SCRIPT], input=json.dumps(cases), capture_output=True, text=True, check=True)
    said, version = json.loads(done.stdout)
    about = {"oracle": "Node.js", "version": version, "command": "python tools/make_ecma_golden.py"}
    kept = [[*case, verdict] for case, verdict in zip(cases, said, strict=True)]
    TARGET.write_text(json.dumps({**about, "cases": kept}, separators=(",", ":")) + "\n", "utf-8")


if __name__ == "__main__":
    main()
