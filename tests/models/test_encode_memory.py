"""`encode` takes at most 16 bytes for each byte of a text beside its result, C's allocations included."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "encode_memory.py"
PEAK = 16  # bytes for each of the text's


@pytest.mark.parametrize("name", ["letter", "spaces", "marks", "nul", "english"])
@pytest.mark.parametrize("vocabulary", ["small:bpe", "small:spm", "golden:rules", "small:wordpiece"])
def test_peak(vocabulary: str, name: str) -> None:
    n = 2_000_000
    command = [sys.executable, str(SCRIPT), vocabulary, name, str(n)]
    found = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
    assert found["peak"] - found["result"] <= PEAK * found["bytes"], found
