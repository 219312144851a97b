"""`tools/bench_tokenizers.py` from end to end on a small vocabulary, against peers that are ours with a difference."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import bench_tokenizers as tool
import pytest
import small_vocabularies
from bench import texts
from bench.tokenizer_peers import MAKERS, Peer
from gguf_bytes import write

from zigllama.app.comparison import bootstrap
from zigllama.models.tokenizer import Tokenizer


@pytest.fixture
def english(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A text, and two peers: `tokenizers` gives our ids, `llama.cpp` others for a line with a digit."""
    vocabulary = tmp_path / "small.gguf"
    write(vocabulary, small_vocabularies.bpe(), {})

    def same(path: str, ours: Tokenizer) -> Peer:
        return Peer("tokenizers", "1", ours.encode, lambda text: ours.encode(text, add_special=False))

    def other(path: str, ours: Tokenizer) -> Peer:
        def ids(text: str) -> list[int]:
            return [0] if "7" in text else ours.encode(text, add_special=False)

        return Peer("llama.cpp", "2", ids, ids)

    monkeypatch.setattr(tool, "VOCABULARIES", {"small": ("tokenizers", "llama.cpp")})
    monkeypatch.setattr(tool, "file_of", lambda name: vocabulary)
    monkeypatch.setitem(MAKERS, "tokenizers", same)
    monkeypatch.setitem(MAKERS, "llama.cpp", other)
    text = tmp_path / "english.txt"
    text.write_text("the light was good\n" * 100 + "7\n")
    return text


def run(monkeypatch: pytest.MonkeyPatch, *words: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["bench_tokenizers.py", *map(str, words)])
    return tool.main()


def test_speed(english: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    kept = tmp_path / "table.json"
    options = ("--english", english, "--size", "1902", "--pairs", "3", "--json", kept, "--only", "english")
    assert run(monkeypatch, *options) == 1  # ids differ
    row = json.loads(kept.read_text())["small english"]
    assert row["bytes"] == 1902 and {*row["peers"]} == {"tokenizers", "llama.cpp"}
    assert row["peers"]["tokenizers"]["same"] and row["peers"]["tokenizers"]["verdict"] in ("met", "open", "missed")
    assert row["peers"]["llama.cpp"]["kinds"] == {"unknown": 1} and row["peers"]["llama.cpp"]["verdict"] == "ids differ"
    assert len(row["peers"]["tokenizers"]["pairs"]) == 3
    run(monkeypatch, *options, "--peer", "tokenizers")
    assert {*json.loads(kept.read_text())["small english"]["peers"]} == {"tokenizers", "llama.cpp"}
    capsys.readouterr()
    assert run(monkeypatch, "--json", kept, "--show") == 0
    out = capsys.readouterr().out
    assert "| small english |" in out and "1 unknown" in out
    with pytest.raises(SystemExit, match=r"has 1902 bytes, 4000 are needed"):
        run(monkeypatch, "--english", english, "--size", "4000", "--only", "english")


def test_growth(english: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(tool, "SIZES", (1000, 2000))
    monkeypatch.setattr(tool, "MEMORY", 100_000)
    monkeypatch.setattr(tool, "STEEPEST", 1e9)
    monkeypatch.setattr(tool, "PEAK", 1e9)
    assert run(monkeypatch, "--part", "growth", "--pairs", "2", "--only", "letter") == 0
    assert "| growth small letter |" in capsys.readouterr().out


def test_floors() -> None:
    interval = bootstrap
    assert tool.verdict(interval([2.0, 2.1]), 1.0) == "met" and tool.verdict(interval([0.3, 0.4]), 0.5) == "missed"
    assert tool.verdict(interval([0.4, 0.4, 0.6]), 0.5) == "open" and tool.verdict(interval([0.4]), None) == ""


def test_texts() -> None:
    mixed = texts.text("mixed", None, 20_000)
    assert mixed == texts.mixed(20_000) and 19_990 < len(mixed.encode()) <= 20_000
    assert len({ord(c) >> 8 for c in mixed}) > 20
    assert "import" in texts.text("code", None, 100_000)
    with pytest.raises(SystemExit, match="give a text"):
        texts.text("english", None, 1)
