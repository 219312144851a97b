"""Compare JSON Schema with `jsonschema` and `jsonschema-rs`: schemas and documents that Hypothesis makes, documents
that are written byte by byte at random under the machine made of the schema, and such documents with a thing changed.

    pip install jsonschema jsonschema-rs hypothesis
    python tools/compare_schemas.py [--schemas 2000] [--seed 1] [--show 10]

A pair is a schema and a document. Of each is asked what the schema accepts of any spelling, and whether the machine
that masks are made from can write it (which has fewer spellings, so that it is compared in one direction only). What
the two validators are not of one mind about is counted, and compared no further, but that what is accepted here must
be valid for one of them. A false accept is what is accepted or written here and valid for neither, a false refusal
what is valid for both and refused: both are shown, and end with exit code 1. What is refused here by name is counted.

Schemas are of drafts 6, 7, 2019-09 and 2020-12. jsonschema reads numbers as they are written, so that 0.3 is a multiple
of 0.1 as it is here.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import time
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tools")]
DRAFTS = {6: "Draft6Validator", 7: "Draft7Validator", 2019: "Draft201909Validator", 2020: "Draft202012Validator"}
WRITTEN = 4  # documents that are written under a schema, at most
CHANGED = 8  # documents made of those


class Judges:
    """A schema as both validators have it. Raises ValueError for what either takes for none."""

    def __init__(self, schema: Any, draft: int) -> None:
        from guided_cases import exactly

        one, two = (import_module(name) for name in ("jsonschema", "jsonschema_rs"))
        self.exactly = exactly
        exact = exactly(json.dumps(schema))
        cls = getattr(one, DRAFTS[draft])
        try:
            cls.check_schema(exact)
        except one.SchemaError as e:
            raise ValueError(f"jsonschema: {e.message}") from e
        self.one, self.two = cls(exact), getattr(two, DRAFTS[draft])(json.dumps(schema))

    def verdicts(self, text: str) -> tuple[bool, bool]:
        """Whether the document is valid, as the one and as the other has it."""
        return bool(self.one.is_valid(self.exactly(text))), bool(self.two.is_valid(json.loads(text)))


def places(value: Any) -> list[tuple[Any, Any]]:
    """Where something may be changed: containers, each with a key of it."""
    keys: list[Any] = list(value) if isinstance(value, dict) else list(range(len(value)))
    below = [v for v in (value[k] for k in keys) if isinstance(v, (dict, list))]
    return [(value, k) for k in keys] + [place for v in below for place in places(v)]


def changed(document: Any, rng: random.Random, others: list[Any]) -> Any:
    """A document with something put in another's place, left out, put in, or there twice."""
    holder = [copy.deepcopy(document)]
    where, key = rng.choice(places(holder))
    value, other = where[key], copy.deepcopy(rng.choice(others))
    kind = rng.random()
    if kind < 0.25 and isinstance(value, (int, float)) and not isinstance(value, bool):
        where[key] = value + rng.choice([-1, 1, 0.5, 7])
    elif kind < 0.25 and isinstance(value, str):
        where[key] = rng.choice([value + "a", value[1:], value.upper(), value * 2])
    elif kind < 0.5 and isinstance(value, list):
        value.insert(rng.randint(0, len(value)), rng.choice([other, *copy.deepcopy(value)]))
    elif kind < 0.5 and isinstance(value, dict):
        value[rng.choice(["a", "b", "ab", "x1", "more", *value])] = other
    elif kind < 0.75 and where is not holder:
        del where[key]
    else:
        where[key] = other
    return holder[0]


def read_by(machine: Any, text: bytes) -> bool:
    """Whether a machine can write exactly this text."""
    from zigllama.inference.grammar.machine import DEAD

    state = machine.start
    for byte in text:
        state = machine.step(state, byte)
        if state == DEAD:
            return False
    return bool(machine.finished(state))


class Comparison:
    """Counts, and what is wrong."""

    def __init__(self, show: int) -> None:
        self.show = show  # of each kind
        self.counts: Counter[str] = Counter()
        self.found: list[str] = []

    def note(self, said: str) -> None:
        """Something to look at; the first of its kind are printed at once."""
        self.found.append(said)
        kind = said.partition(":")[0]
        if sum(f.startswith(kind + ":") for f in self.found) <= self.show:
            print(said, flush=True)

    def schema(self, schema: Any, draft: int, documents: list[Any], seed: int) -> None:
        """One schema, with these documents and those written under it."""
        from generate_under_grammars import met

        from zigllama.errors import EmptyLanguage, GrammarBudget, UnsupportedSchema
        from zigllama.inference.grammar.json_schema import compile_schema

        counts, rng = self.counts, random.Random(seed)
        try:
            judges = Judges(schema, draft)
        except ValueError:
            counts["schemas that a validator does not take"] += 1
            return
        counts["schemas"] += 1
        compiled = machine = None
        try:
            compiled = compile_schema(schema, draft=draft)
            machine = compiled.native()
        except EmptyLanguage:
            counts["schemas that are empty here"] += 1
        except (UnsupportedSchema, GrammarBudget) as e:
            counts[f"schemas refused here: {type(e).__name__} {getattr(e, 'keyword', '')}".strip()] += 1
            return
        texts = dict.fromkeys((json.dumps(d) for d in documents), "made")
        for _ in range(WRITTEN if machine is not None else 0):
            try:
                raw = met(machine, rng)
            except GrammarBudget:
                counts["beyond the budget while it was written"] += 1
                continue
            except (
                AssertionError
            ) as e:  # by the documentation no such place is known of but behind `not`, `oneOf`, `if`
                counts["places where nothing may follow"] += 1
                self.note(f"a dead end: {e}\n    draft {draft}: {json.dumps(schema)}")
                continue
            if raw is not None:
                texts[raw.decode()] = "written"
        written = [json.loads(text) for text, how in texts.items() if how == "written"]
        written = [d for d in written if "Infinity" not in json.dumps(d)]  # as Python reads 1e400
        for _ in range(CHANGED):
            base = rng.choice(written or documents)
            texts.setdefault(json.dumps(changed(base, rng, documents)), "changed")
        for text, how in texts.items():
            self.pair(schema, draft, judges, compiled, machine, text, how)

    def pair(self, schema: Any, draft: int, judges: Judges, compiled: Any, machine: Any, text: str, how: str) -> None:
        """One document."""
        from zigllama.errors import GrammarBudget

        counts = self.counts
        counts["pairs"] += 1
        counts[f"pairs, document {how}"] += 1
        one, two = judges.verdicts(text)
        try:
            accepted = compiled is not None and compiled.accepts(text.encode())
            writes = machine is not None and read_by(machine, text.encode())
        except GrammarBudget:
            counts["pairs beyond the budget"] += 1
            return
        counts["pairs valid for both"] += one and two
        counts["pairs they disagree on"] += one != two
        counts["pairs accepted here"] += accepted
        counts["pairs that the machine of masks writes"] += writes
        kind = ""
        if (accepted or writes) and not (one or two):
            kind = "FALSE ACCEPTS"
        elif one and two and not accepted:
            kind = "FALSE REFUSALS"
        elif writes and not accepted:
            kind = "WRITTEN AND NOT ACCEPTED"
        if kind:
            counts[kind] += 1
            said = f"accepted {accepted}, written {writes}, jsonschema {one}, jsonschema-rs {two}"
            self.note(f"{kind.lower()}: {text}: {said}\n    draft {draft}: {json.dumps(schema)}")


def compare(schemas: int, seed: int, show: int) -> Comparison:
    """So many schemas: two thirds as Hypothesis makes them, the others as people write them."""
    import hypothesis
    from hypothesis import strategies as st
    from schema_samples import modelled
    from schema_samples import schema as sample
    from schema_strategies import SCHEMAS, VALUES

    comparison, began = Comparison(show), time.monotonic()

    @st.composite
    def people(draw: Any) -> tuple[Any, int]:
        rng = random.Random(draw(st.integers(0, 2**32)))
        draft = rng.choice([7, 2020])
        return (modelled(rng), 2020) if rng.random() < 0.3 else (sample(rng, draft), draft)

    made = st.tuples(SCHEMAS, st.sampled_from(tuple(DRAFTS)))
    settings = hypothesis.settings(
        max_examples=schemas,
        phases=[hypothesis.Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )

    @hypothesis.seed(seed)
    @settings
    @hypothesis.given(made | made | people(), st.lists(VALUES, min_size=4, max_size=8), st.integers(0, 2**32))
    def each(schema: tuple[Any, int], documents: list[Any], number: int) -> None:
        comparison.schema(*schema, documents, number)
        counts = comparison.counts
        if not counts["schemas"] % 200:
            said = ", ".join(f"{n} {name}" for name, n in counts.items())
            print(f"{time.monotonic() - began:.0f} s: {said}", file=sys.stderr, flush=True)

    each()
    return comparison


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--schemas", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--show", type=int, default=10)
    options = parser.parse_args()
    metadata = import_module("importlib.metadata")
    print(", ".join(f"{name} {metadata.version(name)}" for name in ("jsonschema", "jsonschema-rs", "hypothesis")))
    comparison = compare(options.schemas, options.seed, options.show)
    for name, n in sorted(comparison.counts.items()):
        print(f"{n:8,}  {name}")
    wrong = ("FALSE ACCEPTS", "FALSE REFUSALS", "WRITTEN AND NOT ACCEPTED")
    return int(any(comparison.counts[kind] for kind in wrong))


if __name__ == "__main__":
    sys.exit(main())
