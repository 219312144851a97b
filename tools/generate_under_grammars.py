"""Let a model write under many grammars at a high temperature; judge each finished answer by a validator from outside.

    pip install jsonschema xmlschema lxml lark      those that are missing are named, and their kind left out
    python tools/generate_under_grammars.py [--schemas 300] [--regexes 100] [--grammars 50] [--xsds 30] [--answers 2]

A third of the schemas are the official suite's (tools/fetch_json_schema_suite.py), the others are made by a seeded
generator (tests/schema_samples.py), as are the regular expressions (Python's and ECMA's flavour), the context-free
grammars (GBNF, both EBNF, plain productions) and the XML Schemas. What is refused when a grammar is made, and answers
that came to no end within --max-tokens, are counted. A few texts under each grammar are written without the model, byte
by byte at random (--walks), and judged likewise. A fault is a finished answer that its validator refuses, an
exception, a place where nothing may follow: each is shown with its grammar, and ends with exit code 1.

With --results FILE every grammar is a line of JSON in that file as soon as it is done: its counts, faults and answers.
A run that was ended goes on behind the grammars that the file has; its report is of all of them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tools")]
NEEDS = {"schema": ["jsonschema"], "regex": [], "grammar": ["lark"], "xsd": ["xmlschema", "lxml"]}
DRAFTS = {"draft4": 4, "draft6": 6, "draft7": 7, "draft2019-09": 2019, "draft2020-12": 2020}
TOGETHER = 24  # requests at a time


def missing(kind: str) -> list[str]:
    """The packages that judge this kind and are not installed."""
    return [name for name in NEEDS[kind] if importlib.util.find_spec(name) is None]


def suite_schemas(n: int, seed: int) -> Iterator[Any]:
    """Schemas of the required tests of the official suite, chosen by chance."""
    from guided_cases import of_schema

    from zigllama.app.catalogue import cache_dir

    path = cache_dir() / "json_schema_suite.json"
    if not path.is_file():
        print(
            f"none of the suite's {n} schemas is run: {path.name} is not in the cache, which "
            "tools/fetch_json_schema_suite.py fetches"
        )
        return
    files: dict[str, str] = json.loads(path.read_bytes())
    remotes = {
        "http://localhost:1234/" + k.removeprefix("remotes/"): json.loads(v)
        for k, v in files.items()
        if k.startswith("remotes/")
    }
    every = [
        (f"{name.removeprefix('tests/')}: {group['description']}", group["schema"], DRAFTS[name.split("/")[1]])
        for name, text in sorted(files.items())
        if name.startswith("tests/") and name.count("/") == 2 and name.split("/")[1] in DRAFTS
        for group in json.loads(text)
    ]
    random.Random(seed).shuffle(every)
    invalid: Any = importlib.import_module("jsonschema").SchemaError
    for name, schema, draft in every[:n]:
        try:
            yield of_schema(name, schema, draft, remotes=remotes)
        except invalid as e:
            print(f"left out, jsonschema does not take it: {name}: {e.message:.100}")


def met(machine: Any, rng: random.Random, most: int = 300) -> bytes | None:
    """A text of a grammar, written byte by byte at random, with little white space; towards its end what closes is
    preferred. None where it has no end within `most` bytes; AssertionError where nothing may follow."""
    from zigllama.inference.grammar.machine import DEAD

    state, out = machine.start, bytearray()
    while len(out) < most:
        if machine.finished(state) and rng.random() < 0.4:
            return bytes(out)
        after = machine.next_states(state)
        able = [b for b in range(256) if after[b] != DEAD]
        if all(after[b] == state for b in able):  # nothing, or white space for ever
            assert machine.finished(state), f"nothing may follow {bytes(out)!r}"
            return bytes(out)
        if rng.random() < 0.9:
            able = [b for b in able if b not in b" \t\n\r"] or able
        if len(out) > most // 4:
            able = [b for b in able if b in b'"}]/>)'] or able
        out.append(rng.choice(able))
        state = int(after[out[-1]])
    return None


@dataclass
class Outcome:
    """What came of one grammar: a line of --results."""

    kind: str
    name: str
    source: str
    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)  # how each ended, its tokens, its text
    said: list[str] = field(default_factory=list)  # why it was refused, what had no verdict

    def key(self) -> tuple[str, str, str]:
        return self.kind, self.name, self.source


class Run:
    """A model writing under cases; counts per kind, and the faults. `results` is a file that the outcomes are added
    to; those that it has already are not run again."""

    def __init__(self, model: Any, max_tokens: int, seed: int, walks: int = 0, results: Path | None = None) -> None:
        self.model, self.max_tokens, self.seed, self.walks = model, max_tokens, seed, walks
        self.results = results
        self.outcomes: dict[tuple[str, str, str], Outcome] = {}
        self.begun: dict[tuple[str, str, str], Outcome] = {}  # which are not in `results` yet
        if results is not None and results.is_file():
            for line in results.read_text("utf-8").splitlines():
                said = json.loads(line)
                outcome = Outcome(**{**said, "counts": Counter(said["counts"])})
                self.outcomes[outcome.key()] = outcome

    @property
    def counts(self) -> dict[str, Counter[str]]:
        """The counts of each kind, of all its grammars."""
        out: dict[str, Counter[str]] = {}
        for outcome in self.outcomes.values():
            out.setdefault(outcome.kind, Counter()).update(outcome.counts)
        return out

    @property
    def faults(self) -> list[str]:
        return [fault for outcome in self.outcomes.values() for fault in outcome.faults]

    def outcome(self, case: Any) -> Outcome:
        return self.outcomes[case.kind, case.name, case.source]

    def fault(self, case: Any, what: str, text: str = "") -> None:
        outcome = self.outcome(case)
        outcome.counts["FAULTS"] += 1
        outcome.faults.append(f"{case.kind} {case.name}: {what}\n    answer {text!r}\n    {case.source}")

    def cases(self, cases: Iterable[Any], answers: int) -> None:
        """Answers under each of these cases, some at a time."""
        waiting: list[tuple[Any, Any, int]] = []
        for case in cases:
            key = case.kind, case.name, case.source
            if key in self.outcomes:
                continue
            self.outcomes[key] = self.begun[key] = outcome = Outcome(*key)
            grammar = self.made(case)
            if grammar is None:
                continue
            outcome.counts["grammars"] += 1
            self.walk(case, grammar)
            waiting += [(case, grammar, i) for i in range(answers)]
            if len(waiting) >= TOGETHER:
                self.write(waiting)
                waiting.clear()
                self.keep()
                told = ", ".join(f"{n} {name}" for name, n in self.counts[case.kind].items())
                print(f"{case.kind}: {told}", file=sys.stderr, flush=True)
        self.write(waiting)
        self.keep()

    def keep(self) -> None:
        """The outcomes since the last time, written to `results`."""
        if self.results is not None:
            with self.results.open("a", encoding="utf-8") as f:
                f.writelines(json.dumps(vars(outcome)) + "\n" for outcome in self.begun.values())
        self.begun.clear()

    def made(self, case: Any) -> Any:
        """The grammar of a case; None where it is refused by name."""
        from zigllama.errors import EmptyLanguage, GrammarBudget, UnsupportedSchema, UnsupportedSyntax

        try:
            return case.make()
        except (EmptyLanguage, GrammarBudget, UnsupportedSchema, UnsupportedSyntax) as e:
            outcome = self.outcome(case)
            outcome.counts[f"refused: {type(e).__name__} {getattr(e, 'keyword', '')}".strip()] += 1
            outcome.said.append(f"refused: {e}")
        except Exception as e:
            self.fault(case, f"no grammar is made: {type(e).__name__}: {e}")
        return None

    def write(self, some: list[tuple[Any, Any, int]]) -> None:
        """One answer for each, all of them in one batch."""
        from zigllama.errors import GrammarBudget

        handles = []
        for n, (case, grammar, i) in enumerate(some):
            top_k = 40 if (n + i) % 2 else 0  # half of them choose among all tokens
            options = {"temperature": 1.5, "max_tokens": self.max_tokens, "seed": self.seed + i, "top_k": top_k}
            handles.append(self.model.submit(case.prompt, grammar=grammar, **options))
        for (case, grammar, _), handle in zip(some, handles, strict=True):
            outcome = self.outcome(case)
            counts = outcome.counts
            counts["answers"] += 1
            try:
                r = handle.result()
            except GrammarBudget as e:
                counts[f"beyond the budget while it was written: {e.what}"] += 1
                outcome.said.append(f"beyond the budget: {e}")
                print(f"beyond the budget: {case.kind} {case.name}: {e}\n    {case.source}")
                continue
            except Exception as e:
                self.fault(case, f"{type(e).__name__}: {e}")
                continue
            counts[f"ended by {r.finish_reason}"] += 1
            counts["tokens"] += len(r.token_ids)
            outcome.answers.append({"ended": r.finish_reason, "tokens": len(r.token_ids), "text": r.text})
            if r.finish_reason == "stop":
                self.judge(case, grammar, r.text)

    def walk(self, case: Any, grammar: Any) -> None:
        """Texts that are written without the model."""
        for i in range(self.walks):
            try:
                text = met(grammar.machine, random.Random(f"{self.seed} {case.name} {i}"))
            except Exception as e:
                self.fault(case, f"walk {i}: {type(e).__name__}: {e}")
                continue
            self.outcome(case).counts["walks" if text is not None else "walks without an end"] += 1
            if text is not None:
                self.judge(case, grammar, text.decode(), "walks that are valid")

    def judge(self, case: Any, grammar: Any, text: str, what: str = "valid") -> None:
        """A finished answer, counted as `what` where it is valid."""
        from guided_cases import NoVerdict

        outcome = self.outcome(case)
        try:
            wrong = case.judge(text)
        except NoVerdict as e:
            outcome.counts["without a verdict"] += 1
            outcome.said.append(f"no verdict: {e}: {text!r}")
            print(f"no verdict: {case.kind} {case.name}: {e}: {text!r:.200}")
            return
        except Exception as e:
            self.fault(case, f"the validator raised {type(e).__name__}: {e}", text)
            return
        if wrong:
            self.fault(case, wrong, text)
        else:
            outcome.counts[what] += 1
        if not grammar.accepts(text):
            self.fault(case, "what was written is not accepted here", text)

    def report(self) -> None:
        """Prints the counts of each kind."""
        for kind, counts in self.counts.items():
            finished, answers = counts["ended by stop"], counts["answers"]
            print(
                f"{kind}: {counts['grammars']} grammars, {answers} answers, {finished} finished"
                f" ({finished / max(1, answers):.0%})"
            )
            for name in sorted(set(counts) - {"grammars", "answers"}):
                print(f"{counts[name]:8,}  {name}")
        print(f"{len(self.faults)} faults")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name, n in (
        ("schemas", 300),
        ("regexes", 100),
        ("grammars", 50),
        ("xsds", 30),
        ("answers", 2),
        ("walks", 3),
        ("seed", 1),
    ):
        parser.add_argument(f"--{name}", type=int, default=n)
    parser.add_argument("--max-tokens", type=int, default=200)
    parser.add_argument("--model", default="smollm2", help="a name of the catalogue, or a file")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--results", type=Path, help="a file of JSON lines that the run goes on in")
    options = parser.parse_args()
    import guided_cases

    import zigllama
    from zigllama.app.catalogue import lookup

    path = Path(options.model) if Path(options.model).is_file() else lookup(options.model).place
    began = time.monotonic()
    with zigllama.Model(path, n_ctx=max(1024, options.max_tokens + 256), n_threads=options.threads) as model:
        run = Run(model, options.max_tokens, options.seed, options.walks, options.results)
        of_suite = options.schemas // 3
        parts: dict[str, Callable[[], Iterable[Any]]] = {
            "schema": lambda: (
                *guided_cases.schemas(options.schemas - of_suite, options.seed),
                *suite_schemas(of_suite, options.seed),
            ),
            "regex": lambda: guided_cases.regexes(options.regexes, options.seed),
            "grammar": lambda: guided_cases.grammars(options.grammars, options.seed),
            "xsd": lambda: guided_cases.xsds(options.xsds, options.seed),
        }
        for kind, cases in parts.items():
            if missing(kind):
                print(f"{kind}: left out, since {' and '.join(missing(kind))} cannot be imported")
                continue
            run.cases(cases(), options.answers)
            print(f"{kind}: done after {time.monotonic() - began:.0f} s, {len(run.faults)} faults so far", flush=True)
    run.report()
    print(*run.faults, sep="\n")
    return int(bool(run.faults))


if __name__ == "__main__":
    sys.exit(main())
