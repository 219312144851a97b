"""Time of making a grammar and of a token's mask under JSON Schemas, beside llguidance, in one process, in turn.

    python tools/bench_masks.py VOCABULARY.gguf [--folder PACKAGES ...] [--seeded 400] [--vendored 100] [--json RESULT]

400 schemas of a seeded generator, and up to 100 found in FOLDERs of installed packages (bench_schemas.py). For each
one, a document that `jsonschema` finds valid is written in the vocabulary's tokens, and both engines read the same
tokens: the time is that of making the grammar, and before each token that of the mask, of a grammar that no request has
used before. Times are of this thread's processor (both engines work in the caller's thread alone), so that what else
the machine does is not counted. A schema counts where both take it and the document; how many each refuses is printed.
With --slowest N the slowest masks and makings of ours are listed. Needs llguidance and jsonschema (PyYAML for schemas
in YAML), which may be of another environment's: PYTHONPATH.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from time import thread_time as clock
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from bench_schemas import document, seeded, vendored  # noqa: E402

import zigllama as zl  # noqa: E402
from zigllama.errors import ZigllamaError  # noqa: E402
from zigllama.inference.grammar_constraints import Grammar, GrammarConstraint  # noqa: E402

MOST_TOKENS = 200  # of a document
TRIES = 20  # documents that are made before none is found
DOCUMENTS = 1


class Refused(Exception):
    """An engine does not take a schema or a document; the reason."""


@dataclass
class Times:
    """Of one engine and one schema, in seconds."""

    making: float = 0.0
    masks: list[float] = field(default_factory=list)
    taking: list[float] = field(default_factory=list)


class Ours:
    """zigllama."""

    name = "zigllama " + zl.__version__

    def __init__(self, tokenizer: zl.Tokenizer) -> None:
        self.tokenizer = tokenizer
        GrammarConstraint(
            Grammar.from_json_schema(True), tokenizer
        )  # what is imported, and the vocabulary's trie, once

    def run(self, schema: Any, texts: list[list[int]], masks: bool = True) -> Times:
        """Times of all texts, one after the other, each a request of its own; without masks: whether they are taken."""
        times = Times()
        begin = clock()
        try:
            grammar = Grammar.from_json_schema(schema, formats=True)  # as llguidance does
        except ZigllamaError as error:
            raise Refused(f"{type(error).__name__}: {error}") from None
        times.making = clock() - begin
        for ids in texts:
            request = GrammarConstraint(grammar, self.tokenizer)
            try:
                for token in ids:
                    begin = clock()
                    if masks:
                        request.allowed()
                    middle = clock()
                    request.accept(token)
                    times.taking.append(clock() - middle)
                    times.masks.append(middle - begin)
            except ZigllamaError as error:
                raise Refused(f"{type(error).__name__} after {len(times.masks)} tokens: {error}") from None
            if not request.finished:
                raise Refused("the document is not finished")
        return times


class Peer:
    """llguidance."""

    def __init__(self, tokenizer: zl.Tokenizer) -> None:
        import llguidance

        self.name = f"llguidance {llguidance.__version__}"
        pieces = tuple(tokenizer.text_pieces())  # no list, which Python's collector would walk through again and again
        silent = [i for i, p in enumerate(pieces) if not p]

        class Words:
            """What llguidance asks of a tokenizer."""

            eos_token_id = min(tokenizer.end_ids)
            bos_token_id = tokenizer.bos_id
            tokens = pieces
            special_token_ids = silent

            def __call__(self, text: str | bytes) -> list[int]:
                return tokenizer.encode_inside(text if isinstance(text, str) else text.decode())

        self._lib = llguidance
        self._tokenizer = llguidance.LLTokenizer(llguidance.TokenizerWrapper(Words()))
        self._mask = np.zeros((len(pieces) + 31) // 32, np.int32)

    def run(self, schema: Any, texts: list[list[int]], masks: bool = True) -> Times:
        """As Ours."""
        times, lib, mask = Times(), self._lib, self._mask
        begin = clock()
        try:
            grammar = lib.LLMatcher.grammar_from_json_schema(schema)
        except ValueError as error:
            raise Refused(str(error)) from None
        matcher = lib.LLMatcher(self._tokenizer, grammar)
        times.making = clock() - begin
        if matcher.is_error():
            raise Refused(matcher.get_error())
        where, size = mask.ctypes.data, mask.nbytes
        for ids in texts:
            matcher.reset()
            for token in ids:
                begin = clock()
                if masks:
                    matcher.unsafe_compute_mask_ptr(where, size)
                middle = clock()
                taken = matcher.consume_token(token)
                times.taking.append(clock() - middle)
                times.masks.append(middle - begin)
                if not taken:
                    raise Refused(matcher.get_error())
            if not matcher.is_accepting():
                raise Refused("the document is not finished")
        return times


def documents(schema: Any, tokenizer: zl.Tokenizer, seed: int) -> list[list[int]]:
    """Tokens of valid documents; none where none was found."""
    import jsonschema

    rng = random.Random(seed)
    kind = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    found: list[list[int]] = []
    for _ in range(TRIES):
        try:
            value = document(schema, rng)
            text = json.dumps(value, ensure_ascii=False)
            if not kind(schema).is_valid(value):
                continue
        except Exception:  # whatever a validator, or the reading of a reference, makes of a strange schema
            continue
        ids = tokenizer.encode_inside(text)
        if len(ids) <= MOST_TOKENS:
            found.append(ids)
        if len(found) == DOCUMENTS:
            break
    return found


def spread(seconds: list[float]) -> dict[str, float]:
    """Middle, 99th of a hundred, largest and mean, in microseconds."""
    if not seconds:
        return {}
    us = np.array(seconds) * 1e6
    return {
        "p50": float(np.quantile(us, 0.5)), "p99": float(np.quantile(us, 0.99)), "max": float(us.max()),
        "mean": float(us.mean()), "n": len(seconds),
    }  # fmt: skip


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Both engines over all schemas."""
    tokenizer = zl.Tokenizer(str(args.vocabulary))
    engines = [Ours(tokenizer), Peer(tokenizer)]
    schemas = [*seeded(args.seeded, args.seed), *vendored(args.folder, args.vendored)]
    counts = {"schemas": len(schemas), "no document": 0, "compared": 0}
    refused: dict[str, dict[str, str]] = {e.name: {} for e in engines}
    kept: dict[str, list[tuple[str, Times]]] = {e.name: [] for e in engines}
    for i, (name, schema) in enumerate(schemas):
        if i % 50 == 0:
            print(f"{i} of {len(schemas)}", file=sys.stderr)
            if i:
                show(report(engines, kept, counts, refused, 0), sys.stderr)
        texts = documents(schema, tokenizer, args.seed * 1_000_003 + i)
        if not texts:
            counts["no document"] += 1
            continue
        made: dict[str, Times] = {}
        ours, peer = engines
        try:  # first whether it is compared at all; of ours nothing is made before it is measured, for some is kept
            peer.run(schema, texts, masks=False)
        except Refused as reason:
            refused[peer.name][name] = str(reason).split("\n")[0][:200]
        taken = name not in refused[peer.name]
        try:
            if taken and i % 2:  # neither is always the first
                made[peer.name] = peer.run(schema, texts)
            made[ours.name] = ours.run(schema, texts, masks=taken)
            if taken and not i % 2:
                made[peer.name] = peer.run(schema, texts)
        except Refused as reason:
            refused[ours.name][name] = str(reason).split("\n")[0][:200]
        if len(made) == len(engines):
            counts["compared"] += 1
            for key, times in made.items():
                kept[key].append((name, times))
    return report(engines, kept, counts, refused, args.slowest)


def report(
    engines: list[Any],
    kept: dict[str, list[tuple[str, Times]]],
    counts: dict[str, int],
    refused: dict[str, dict[str, str]],
    slowest: int,
) -> dict[str, Any]:
    """What was measured, as numbers."""
    table = {
        key: {
            "making": spread([t.making for _, t in runs]),
            "mask": spread([s for _, t in runs for s in t.masks]),
            "taking a token": spread([s for _, t in runs for s in t.taking]),
        }
        for key, runs in kept.items()
    }
    ours = kept[engines[0].name]
    slow = sorted(((s, name, i) for name, t in ours for i, s in enumerate(t.masks)), reverse=True)[:slowest]
    slow += sorted(((t.making, name, -1) for name, t in ours), reverse=True)[: slowest // 3]
    versions = {"python": platform.python_version(), "machine": platform.machine()}
    return {"counts": counts, "refused": refused, "microseconds": table, "slowest": slow, **versions}


def show(result: dict[str, Any], file: Any = sys.stdout) -> None:
    """A table."""
    counts = result["counts"]
    refusals = ", ".join(f"{name} refuses {len(which)}" for name, which in result["refused"].items())
    print(f"{counts['schemas']} schemas, {counts['no document']} without a document found; {refusals};", file=file)
    print(f"{counts['compared']} compared, times in microseconds:\n", file=file)
    print("| | engine | p50 | p99 | max | mean | n |\n|---|---|---:|---:|---:|---:|---:|", file=file)
    rows = result["microseconds"]
    for what in ("making", "mask", "taking a token"):
        for name, table in rows.items():
            t = table[what]
            if t:
                cells = " | ".join(f"{t[k]:,.1f}" for k in ("p50", "p99", "max", "mean"))
                print(f"| {what} | {name} | {cells} | {t['n']} |", file=file)
    ours, peer = rows.values()
    if ours["mask"]:
        said = "; ".join(
            f"{what} p50 {ours[what]['p50'] / peer[what]['p50']:.2f}, p99 {ours[what]['p99'] / peer[what]['p99']:.2f}"
            for what in ("making", "mask")
        )
        print(f"\nratios of {' to '.join(rows)}: {said}", file=file)
    for seconds, name, i in result["slowest"]:
        print(f"{seconds * 1e3:9.3f} ms  {f'token {i}' if i >= 0 else 'making'} of {name}", file=file)


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vocabulary", type=Path)
    parser.add_argument("--folder", type=Path, nargs="*", default=[])
    parser.add_argument("--seeded", type=int, default=400)
    parser.add_argument("--vendored", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--slowest", type=int, default=0)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    for needed in ("llguidance", "jsonschema"):
        try:
            __import__(needed)
        except ImportError:
            print(f"needs {needed}: pip install {needed}, here or in a folder of PYTHONPATH", file=sys.stderr)
            return 4
    warnings.simplefilter("ignore")
    result = measure(args)
    show(result)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
