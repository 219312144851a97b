"""Whole files of `zl.quantize` are llama-quantize's byte for byte: head, order, metadata, padding and quant blocks.

For types with one rule each; expected digests were made by tools/make_mixes_golden.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import quantize_files

import zigllama as zl

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "quantize_files.json").read_text("utf-8"))
CASES = quantize_files.cases()


@pytest.mark.parametrize("case", CASES)
def test_the_file_is_the_oracle_s(
    case: str, small_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, mix, flags = CASES[case]
    monkeypatch.chdir(tmp_path)  # the importance file's name stands in the metadata
    quantize_files.write_importance(tmp_path / quantize_files.IMPORTANCE)
    imatrix = quantize_files.IMPORTANCE if "--imatrix" in flags else None
    zl.quantize(small_model(model), "q.gguf", mix, pure="--pure" in flags, imatrix=imatrix)
    assert hashlib.sha256((tmp_path / "q.gguf").read_bytes()).hexdigest() == GOLDEN["sha256"][case]


def test_the_golden_file_is_the_oracle_s() -> None:
    assert "llama-quantize" in GOLDEN["about"]["oracle"]
    assert set(GOLDEN["sha256"]) == set(CASES)
    assert len(set(GOLDEN["sha256"].values())) > len(CASES) // 2
