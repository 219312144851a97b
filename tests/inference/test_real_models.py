"""The same bits on the real models: threads, chunks, company, a cached prefix, tape or op by op, lookup or not.

The small models of test_model.py and test_batching.py show the same with more cases; here are the shapes, number
formats and windows of files that people use, and prompts long enough for several pages, chunks and spans.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zigllama.inference.engine import CHUNK
from zigllama.inference.model import Model

TEXTS = Path(__file__).resolve().parents[1] / "golden" / "texts"
N_CTX = 512
Logits = npt.NDArray[np.float32]


class Alone:
    """A model, ids of real text longer than Gemma's window would need, and what reading them at once gives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = Model(path, n_threads=2, n_ctx=N_CTX)
        text = (TEXTS / "story.txt").read_text("utf-8") + (TEXTS / "code.txt").read_text("utf-8")
        self.ids = self.model.tokenizer.encode(text)[:230]
        self.want = self.model.logits(self.ids)


@pytest.fixture(scope="module", params=["smollm2_path", "gemma3_path"])
def alone(request: pytest.FixtureRequest) -> Iterator[Alone]:
    subject = Alone(request.getfixturevalue(request.param))
    yield subject
    subject.model.close()


@pytest.mark.parametrize("options", [{"n_threads": 1}, {"n_threads": 3}, {"repack": False}])
def test_threads_and_mapping(alone: Alone, options: dict[str, Any]) -> None:
    with Model(alone.path, n_ctx=N_CTX, **options) as m:
        np.testing.assert_array_equal(m.logits(alone.ids), alone.want)


def test_op_by_op(alone: Alone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIGLLAMA_TAPE", "0")
    with Model(alone.path, n_ctx=N_CTX) as m:
        assert m.backend["execution"] == "eager"
        np.testing.assert_array_equal(m.logits(alone.ids), alone.want)


@settings(max_examples=12)
@given(data=st.data())
def test_company_and_chunks(alone: Alone, data: st.DataObject) -> None:
    """1 to 32 sequences side by side, each going on by 0 to 90 rows a step: every row that is wanted has its bits."""
    cache, ids = alone.model.engine.cache, alone.ids
    n = data.draw(st.integers(1, 32), "sequences")
    sequences = [cache.add() for _ in range(n)]
    try:
        for _ in range(data.draw(st.integers(1, 6), "steps")):
            size_of = st.sampled_from([0, 0, 1, 1, 1, 2, 5, 17, 64, 90])
            sizes = data.draw(st.lists(size_of, min_size=n, max_size=n), "rows")
            room, turns = CHUNK, []
            for sequence, size in zip(sequences, sizes, strict=True):
                size = min(size, room, len(ids) - sequence.length)
                room -= size
                if size:
                    turns.append((sequence, ids[sequence.length : sequence.length + size]))
            if not turns:
                continue
            turns = data.draw(st.permutations(turns), "order")
            out = alone.model.engine.run(cache.step(turns))
            for (sequence, _), row in zip(turns, out, strict=True):
                np.testing.assert_array_equal(row, alone.want[sequence.length - 1])
    finally:
        for sequence in sequences:
            cache.remove(sequence)


def test_prefix_from_the_cache_and_lookup(alone: Alone) -> None:
    """An answer is the same whether its prompt was read, found in the cache, and whether guesses were tried."""
    m = alone.model
    for cut in (64, 100, 200):
        prompt = alone.ids[:cut] * 2
        keywords: dict[str, Any] = {"max_tokens": 24, "temperature": 0.6, "seed": cut, "ignore_eos": True}
        fresh = m.generate(prompt, reuse=False, **keywords)
        for lookup in (False, True):
            assert m.generate(prompt, lookup=lookup, **keywords).token_ids == fresh.token_ids
        assert m.generate(prompt, **keywords).usage["cached_tokens"] > 0
