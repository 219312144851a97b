"""The fuzzer's corpus, replayed without the fuzzer: whatever once took a new path through the reader is judged again.

`tools/fuzz_gguf.py` makes and extends the corpus.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from gguf_judge import StrictSource, judge, judge_twice

from zigllama.foundation import gguf_header
from zigllama.foundation.gguf_header import Header, TensorInfo
from zigllama.foundation.gguf_metadata import Entry

CORPUS = Path(__file__).parent.parent / "corpus" / "gguf"
FILES = sorted(CORPUS.iterdir())
HEADS = [p for p in FILES if p.name.startswith("head_")]


def test_the_corpus_is_there() -> None:
    assert len(FILES) > 100
    assert {p.name for p in HEADS} == {"head_llama", "head_gemma3"}
    assert max(p.stat().st_size for p in FILES) <= 2048


def test_every_file_of_the_corpus() -> None:
    results = {p.name: judge_twice(p.read_bytes()) for p in FILES}
    assert all(isinstance(results[p.name], Header) for p in HEADS)
    assert all(not isinstance(r, Header) for name, r in results.items() if name.startswith("hostile_"))


@pytest.mark.parametrize("path", HEADS, ids=lambda p: p.name)
def test_heads_of_real_models_cut_and_changed(path: Path) -> None:
    """2,000 random changes of a few bytes, and 200 truncations: what a fuzzer does, without its guidance."""
    data, rng = path.read_bytes(), random.Random(1)
    for _ in range(2000):
        changed = bytearray(data)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(data))
            changed[at : at + rng.choice([0, 1, 4, 8])] = rng.choice(
                [b"", b"\0", b"\xff", bytes(4), b"\xff" * 8, bytes(8)]
            )
        judge_twice(bytes(changed), memory=False)
    for _ in range(200):
        assert not isinstance(judge_twice(data[: rng.randrange(len(data) - 34)], memory=False), Header)


def escape(entries: dict[str, Entry]) -> int:
    return 1 // 0


def hoard(entries: dict[str, Entry], memory: list[bytearray] = []) -> int:  # noqa: B006
    memory.append(bytearray(4 << 20))
    return 32


def misplace(tensors: list[TensorInfo], *rest: int) -> dict[str, TensorInfo]:
    return {t.name: t for t in tensors}


@pytest.mark.parametrize(
    ("function", "instead", "verdict", "says"),
    [
        ("_alignment", escape, ZeroDivisionError, "by zero"),
        ("_alignment", hoard, AssertionError, "bytes for a file of"),
        ("_place", misplace, AssertionError, "offset"),
    ],
)
def test_the_judge_notices(
    monkeypatch: pytest.MonkeyPatch, function: str, instead: object, verdict: type[Exception], says: str
) -> None:
    """Another exception than the five, memory out of proportion, tensors out of place."""
    judge(HEADS[0].read_bytes())
    monkeypatch.setattr(gguf_header, function, instead)
    with pytest.raises(verdict, match=says):
        judge(HEADS[0].read_bytes())


def test_the_judge_notices_reads_past_the_end() -> None:
    with pytest.raises(AssertionError):
        StrictSource(b"GGUF").read_at(0, 5)
    source = StrictSource(b"GGUF")
    source.read_at(0, 4)
    with pytest.raises(AssertionError, match="twice"):
        source.read_at(0, 4)
