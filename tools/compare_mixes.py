"""Every mix made by zigllama and by llama-quantize from one file: seconds, perplexity, and distance from the original.

    python tools/compare_mixes.py wide.gguf --llama-quantize LLAMA/build/bin/llama-quantize --text text.txt
        [--imatrix imatrix.gguf] [--only Q4_K_M --only IQ] [--chunks 4] [--folder build/mixes] [--json mixes.json]

Both read the same F16, BF16 or F32 file and the same importance, with two threads, in turn (the order alternates); both
results are read by zigllama, so that only what the quantisers chose differs. PPL and mean KL are over the first windows
of 512 tokens of the text (inference/perplexity.py). The times are of whole commands, start included, for one run each:
to be compared, not to be quoted alone. Leave the machine alone meanwhile.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from zigllama import Model
from zigllama.app.console import table
from zigllama.app.mixes import MIXES
from zigllama.inference.logits_file import LogitsReader, LogitsWriter
from zigllama.inference.perplexity import Divergence, cut, divergences, mean, text_ids, window_surprises
from zigllama.inference.scoring import surprise

N_CTX = 512


def make_base(path: Path, text: str, chunks: int, target: Path) -> None:
    """The original's logits, as `zigllama perplexity --kl-divergence-base` keeps them."""
    with Model(path, n_ctx=N_CTX, n_threads=2) as model:
        windows = cut(text_ids(model, text), N_CTX, chunks)
        with LogitsWriter(target, windows, model.info.n_vocab) as writer:

            def each(row: Any, token: int) -> float:
                writer.add(row)
                return surprise(row, token)

            for window in windows:
                window_surprises(model, window, each)


def timed(command: list[str]) -> tuple[float, str]:
    """Seconds, and "" or the last line of what went wrong."""
    before = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = (done.stderr or done.stdout).strip().splitlines()
    return time.perf_counter() - before, "" if done.returncode == 0 else (lines[-1] if lines else "failed in silence")


def judged(path: Path, base: Path) -> dict[str, float]:
    with LogitsReader(base) as reader, Model(path, n_ctx=N_CTX, n_threads=2) as model:
        whole = Divergence.joined(list(divergences(model, reader)))
    found = {"bytes": float(path.stat().st_size), "ppl": mean(whole.surprise).exponential().value}
    return found | {"kl": mean(whole.kl).value}


def compare(name: str, turn: int, args: argparse.Namespace, base: Path) -> dict[str, Any]:
    """One mix: {"ours": figures, "theirs": figures}, or what was said instead."""
    imatrix = ["--imatrix", str(args.imatrix)] if args.imatrix else []
    made = {who: args.folder / f"{who}.gguf" for who in ("ours", "theirs")}
    commands = {
        "ours": [sys.executable, "-m", "zigllama", "quantize", *imatrix, str(args.model), str(made["ours"]), name],
        "theirs": [str(args.llama_quantize), *imatrix, str(args.model), str(made["theirs"]), name, "2"],
    }
    commands["ours"] += ["-t", "2"]
    result: dict[str, Any] = {}
    for who in list(made)[:: -1 if turn % 2 else 1]:
        made[who].unlink(missing_ok=True)
        seconds, error = timed(commands[who])
        result[who] = {"error": error} if error else {"seconds": seconds}
    for who, path in made.items():
        if not result[who].get("error"):
            result[who] |= judged(path, base)
        path.unlink(missing_ok=True)
    return result


def line(name: str, result: dict[str, Any]) -> list[str]:
    ours, theirs = result["ours"], result["theirs"]
    if "ppl" not in ours or "ppl" not in theirs:
        said = [f"{who}: {result[who]['error']}" for who in result if result[who].get("error")]
        return [name, *[""] * 7, "; ".join(said)]
    cells = [f"{r['ppl']:.3f}" for r in (ours, theirs)] + [f"{ours['ppl'] / theirs['ppl'] - 1:+.2%}"]
    cells += [f"{r['kl']:.5f}" for r in (ours, theirs)]
    cells += [f"{ours['seconds']:.1f} s", f"{theirs['seconds']:.1f} s"]
    return [name, *cells, "" if ours["bytes"] == theirs["bytes"] else f"{ours['bytes'] - theirs['bytes']:+.0f} bytes"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a GGUF file in F16, BF16 or F32")
    parser.add_argument("--llama-quantize", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--imatrix", type=Path)
    parser.add_argument("--only", action="append", help="a mix, or all with this in their name; may be repeated")
    parser.add_argument("--chunks", type=int, default=4)
    parser.add_argument("--folder", type=Path, default=Path("build/mixes"))
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    base = args.folder / "base.kld"
    make_base(args.model, args.text.read_text("utf-8"), args.chunks, base)
    found: dict[str, Any] = {}
    names = [m.name for m in MIXES.values() if not args.only or any(word in m.name for word in args.only)]
    for turn, name in enumerate(dict.fromkeys(names)):
        found[name] = compare(name, turn, args, base)
        print(" | ".join(line(name, found[name])), file=sys.stderr, flush=True)
        if args.json:
            args.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    head = ("mix", "PPL ours", "theirs", "ratio", "KL ours", "theirs", "time ours", "theirs", "")
    print(table([line(name, result) for name, result in found.items()], head, right=[1, 2, 3, 4, 5, 6, 7]))


if __name__ == "__main__":
    main()
