"""The table of tokenizers' speeds: ours against `tokenizers`, `sentencepiece` and llama.cpp, in turn on the same texts.

    python tools/fetch_vocabularies.py
    python tools/bench_tokenizers.py --english english.txt --json table.json       what a text of 4 MB takes
    python tools/bench_tokenizers.py --part load --json table.json                 opening 262,144 tokens
    python tools/bench_tokenizers.py --part growth --english english.txt --json table.json      1, 2, 4 and 8 MB
    python tools/bench_tokenizers.py ... --only qwen2 --only english               rows with any of these in the name
    python tools/bench_tokenizers.py --json table.json --show                      the table of what was measured

tools/bench/texts.py says how to have the text. LLAMA_CPP_LIB_PATH names the folder of libllama.so; a peer that is not
there is left out, aloud.

Method: one thread each, CPU time of this process, so that neighbours cost little. Everyone runs once and is forgotten:
caches are warm on both sides. Then pairs in turn, A B, B A, ..; what counts is the median of their ratios, with its
bootstrap 95% interval. A floor is met where the median reaches it, missed where the whole interval is below it:
llama.cpp's speed, half that of `tokenizers`. A ratio counts only where the ids are the same, or every line of the text
in which they are not shows a difference of a known kind (compare_tokenizers.py). In a part `growth` each size is
compared with the smallest, taken in turn as well, and memory is what tests/encode_memory.py sees.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

os.environ["TOKENIZERS_PARALLELISM"] = "false"

from bench import texts
from bench.tokenizer_peers import MAKERS, Peer, peer
from tokenizer_differences import reason

from zigllama.app.catalogue import CATALOGUE, cache_dir
from zigllama.app.comparison import Interval, bootstrap
from zigllama.models.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parent.parent
SIZE = 4_000_000  # bytes of a text
# Vocabulary -> who has it too; gemma3 is the model in the cache, the others llama.cpp's vocabulary-only files.
VOCABULARIES = {
    **dict.fromkeys(("llama-bpe", "qwen2", "gpt-2", "deepseek-coder", "falcon"), ("tokenizers", "llama.cpp")),
    "llama-spm": ("tokenizers", "sentencepiece", "llama.cpp"),
    "gemma3": ("tokenizers", "llama.cpp"),
    "gemma-4": ("tokenizers", "llama.cpp"),
    "nomic-bert-moe": ("tokenizers", "sentencepiece", "llama.cpp"),
    "bert-bge": ("tokenizers", "llama.cpp"),
}
FLOORS = {"tokenizers": 0.5, "llama.cpp": 1.0}  # our speed by theirs
LARGEST = "gemma3"  # 262,144 tokens
GROWTH = ("letter", "spaces", "marks", "english")
MEMORY = 10_000_000  # bytes of the text whose memory is looked at
SIZES = (1_000_000, 2_000_000, 4_000_000, 8_000_000)
PEAK = 16  # bytes beside the result for each of the text's
STEEPEST = 1.5  # times as long for each byte of the largest text as of the smallest
SECONDS = 60.0  # of CPU that one row's pairs may take before fewer are made
FEWEST = 3

Row = dict[str, Any]


def file_of(name: str) -> Path:
    """The vocabulary's file. Raises SystemExit where it is not there."""
    path = CATALOGUE["gemma3-270m"].path if name == "gemma3" else cache_dir() / f"vocabularies/ggml-vocab-{name}.gguf"
    if not path.exists():
        how = "zigllama pull gemma3-270m" if name == "gemma3" else "python tools/fetch_vocabularies.py"
        raise SystemExit(f"{path} is not there; `{how}` fetches it")
    return path


def timed(run: Callable[[], Any]) -> float:
    """CPU seconds of this process."""
    begin = time.process_time()
    run()
    return max(time.process_time() - begin, 1e-9)


def in_turn(a: Callable[[], Any], b: Callable[[], Any], n: int) -> list[tuple[float, float]]:
    """Seconds of both, pair by pair, after a first run of each; fewer pairs where one takes long."""
    once = timed(a) + timed(b)
    n = min(n, max(FEWEST, int(SECONDS / once)))
    pairs = list[tuple[float, float]]()
    for i in range(n):
        if i % 2:
            second = timed(b)
            pairs.append((timed(a), second))
        else:
            pairs.append((timed(a), timed(b)))
    return pairs


def verdict(ratio: Interval, floor: float | None) -> str:
    """What a ratio says of a floor."""
    if floor is None:
        return ""
    return "met" if ratio.median >= floor else "missed" if ratio.high < floor else "open"


def differences(ours: Tokenizer, other: Peer, text: str) -> dict[str, int]:
    """Lines of the text, of at most 4,000 characters, whose ids differ, by the kind of the difference."""
    kinds = Counter[str]()
    lines = [line[at : at + 4000] for line in text.splitlines(keepends=True) for at in range(0, len(line), 4000)]
    for line in dict.fromkeys(lines):
        a, b = ours.encode(line, add_special=False), other.ids(line)
        if a != b:
            kinds[reason(ours, other.name, line, a, b) or "unknown"] += 1
    return dict(kinds)


def speed(name: str, kind: str, args: argparse.Namespace) -> Row:
    """One vocabulary, one text, every peer."""
    file, text, n_pairs = file_of(name), texts.text(kind, args.english, args.size), args.pairs
    ours, size = Tokenizer(file), len(text.encode())
    found: Row = {"part": "speed", "bytes": size, "peers": {}}
    mine = ours.encode(text, add_special=False)
    found["ids"] = len(mine)
    for who in VOCABULARIES[name]:
        if args.peer and who not in args.peer:
            continue
        try:
            other = peer(who, file, ours)
        except (ImportError, OSError) as error:
            print(f"    {who} is left out: {error}", file=sys.stderr, flush=True)
            continue
        same = other.ids(text) == mine
        kinds = {} if same else differences(ours, other, text)
        pairs = in_turn(partial(ours.encode, text, add_special=False), partial(other.run, text), n_pairs)
        ratio = bootstrap([b / a for a, b in pairs])
        found["ours"] = size / 1e6 / median(a for a, _ in pairs)
        counts = same or not kinds.get("unknown")
        found["peers"][who] = {
            "version": other.version,
            "speed": size / 1e6 / median(b for _, b in pairs),
            "ratio": ratio.to_json(),
            "pairs": pairs,
            "same": same,
            "kinds": kinds,
            "verdict": verdict(ratio, FLOORS.get(who)) if counts else "ids differ",
        }
    return found


def load(n_pairs: int) -> Row:
    """Opening the largest vocabulary, and a first text's ids, in ours and in llama.cpp."""
    from oracle import llama_vocabulary

    file, text = file_of(LARGEST), "The capital of France is"

    def theirs(first: bool) -> None:
        vocabulary = llama_vocabulary.LlamaVocabulary(file)
        if first:
            vocabulary.encode(text.encode())
        vocabulary.close()

    def mine(first: bool) -> None:
        tokenizer = Tokenizer(file)
        if first:
            tokenizer.encode(text)

    found: Row = {"part": "load", "peers": {}}
    for what, first in (("opened", False), ("first ids", True)):
        pairs = in_turn(partial(mine, first), partial(theirs, first), n_pairs)
        ratio = bootstrap([b / a for a, b in pairs])
        found["peers"][what] = {
            "version": llama_vocabulary.VERSION,
            "seconds": [median(a for a, _ in pairs), median(b for _, b in pairs)],
            "ratio": ratio.to_json(),
            "pairs": pairs,
            "verdict": verdict(ratio, 1.0),
        }
    return found


def growth(name: str, kind: str, args: argparse.Namespace) -> Row:
    """How the time of a byte grows with the text, and the memory that the largest text takes."""
    file = file_of(name)
    tokenizer = Tokenizer(file)

    def of_size(n: int) -> str:
        unit = {"letter": "a", "spaces": " ", "marks": "\u0301"}.get(kind)
        if unit is None:
            unit = texts.english(args.english, SIZE)
        return texts.cut(unit * (n // len(unit.encode()) + 1), n)

    several = [of_size(n) for n in SIZES]
    sizes = [len(text.encode()) for text in several]
    tokenizer.encode(several[0], add_special=False)
    rounds = [[timed(partial(tokenizer.encode, t, add_special=False)) for t in several] for _ in range(args.pairs)]
    per_byte = [[seconds / n for seconds, n in zip(one, sizes, strict=True)] for one in rounds]
    steep = [bootstrap([one[k] / one[0] for one in per_byte]).to_json() for k in range(1, len(SIZES))]
    command = [sys.executable, str(ROOT / "tests" / "encode_memory.py"), str(file), kind, str(MEMORY)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    memory = json.loads(done.stdout)
    nanoseconds = [median(one[k] for one in per_byte) * 1e9 for k in range(len(SIZES))]
    good = steep[-1][0] <= STEEPEST and memory["per_byte"] <= PEAK
    return {"part": "growth", "sizes": sizes, "nanoseconds": nanoseconds, "steep": steep, "memory": memory["per_byte"],
            "verdict": "met" if good else "missed"}  # fmt: skip


def _table(header: str, rows: list[list[str]]) -> list[str]:
    names = header.split("; ")
    lines = [names, ["---"] * len(names), *rows]
    return ["", *(f"| {' | '.join(cells)} |" for cells in lines)] if rows else []


def _same(peer: Row) -> str:
    """What is said of the ids."""
    return "same" if peer["same"] else ", ".join(f"{n} {kind}" for kind, n in peer["kinds"].items()) or "same by line"


def show(content: dict[str, Row]) -> str:
    """What was measured, as tables in Markdown."""
    speeds, loads, grown = list[list[str]](), list[list[str]](), list[list[str]]()
    for key, r in content.items():
        for who, p in r.get("peers", {}).items():
            ratio, floor = _interval(p["ratio"]), p["verdict"]
            if r["part"] == "speed":
                speeds.append([key, f"{r['ours']:.1f}", who, f"{p['speed']:.2f}", ratio, _same(p), floor])
            else:
                loads.append([f"{key}, {who}", *(f"{1000 * s:.1f}" for s in p["seconds"]), ratio, floor])
        if r["part"] == "growth":
            times = " / ".join(f"{x:.1f}" for x in r["nanoseconds"])
            grown.append([key, times, _interval(r["steep"][-1]), str(r["memory"]), r["verdict"]])
    lines = [
        *_table("vocabulary, text; ours, MB/s; peer; its MB/s; ours by peer (95%); ids; floor", speeds),
        *_table("vocabulary; ours, ms; llama.cpp, ms; ours by llama.cpp (95%); floor", loads),
        *_table("vocabulary, text; ns per byte at 1, 2, 4, 8 MB; 8 MB by 1 MB; memory by byte; bounds", grown),
    ]
    return "\n".join(lines)


def _interval(values: list[float]) -> str:
    return f"{values[0]:.2f} ({values[1]:.2f} to {values[2]:.2f})"


def main() -> int:
    """Measure the rows asked for, keep and show them. 1 for a floor that is missed, or ids that differ."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--english", type=Path, help="a text of 4 MB or more")
    add("--peer", action="append", choices=MAKERS, help="only this one; may be repeated")
    add("--size", type=int, default=SIZE, help=f"bytes of a text whose speed is measured (default: {SIZE:,})")
    add("--part", choices=("speed", "load", "growth"), default="speed")
    add("--only", action="append", metavar="ROW", help="rows with this in their name; may be repeated")
    add("--pairs", type=int, default=9, help="pairs, or rounds of growth (default: 9)")
    add("--json", type=Path, help="results, kept; rows that are there and not measured now stay")
    add("--show", action="store_true", help="measure nothing")
    args = parser.parse_args()
    content: dict[str, Row] = json.loads(args.json.read_text("utf-8")) if args.json and args.json.exists() else {}
    jobs: dict[str, Callable[[], Row]] = {}
    if args.part == "load":
        jobs[f"load {LARGEST}"] = lambda: load(args.pairs)
    for name in VOCABULARIES:
        for kind in texts.KINDS if args.part == "speed" else GROWTH if args.part == "growth" else ():
            measure = speed if args.part == "speed" else growth
            key = f"{name} {kind}" if args.part == "speed" else f"{args.part} {name} {kind}"
            jobs[key] = partial(measure, name, kind, args)
    failed = False
    for key, job in jobs.items():
        if args.show or (args.only and not any(part in key for part in args.only)):
            continue
        print(key, file=sys.stderr, flush=True)
        row = job() | {"date": time.strftime("%Y-%m-%d %H:%M", time.gmtime())}
        old = content.get(key, {})
        if args.peer and old.get("bytes") == row.get("bytes"):
            row["peers"] = old["peers"] | row["peers"]
        content[key] = row
        found = [row.get("verdict"), *(p["verdict"] for p in row.get("peers", {}).values())]
        failed |= bool({"missed", "ids differ"} & {*found})
        if args.json:
            args.json.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
        print(show({key: row}), file=sys.stderr, flush=True)
    print(show(content))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
