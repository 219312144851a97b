"""Mamba in the engine: its state is a cache like any other. Small converted models of both kinds."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from architecture_models import Subject
from hypothesis import given, settings
from hypothesis import strategies as st

from zigllama.app.diff import model as diff_model
from zigllama.app.estimate import estimate
from zigllama.errors import NonFinite
from zigllama.inference.kv_cache import CachedSequence, ModelKVCache
from zigllama.inference.model import Model
from zigllama.inference.state_pool import KEPT, states_quota
from zigllama.models.gguf import GGUFLoader
from zigllama.transformers.interfaces import PAGE, CacheClass, CacheSpec

GREEDY: dict[str, Any] = {"temperature": 0.0, "ignore_eos": True}


@pytest.fixture(scope="module", params=["mamba", "mamba2"])
def it(request: pytest.FixtureRequest) -> Iterator[Subject]:
    with tempfile.TemporaryDirectory() as folder:
        made = Subject(request.param, Path(folder))
        yield made
        made.close()


def continued(m: Model, ids: list[int], n: int = 6, **options: Any) -> list[int]:
    return list(m.generate(ids, max_tokens=n, **GREEDY | options).token_ids)


# --- the pool by itself: which state a row goes on from, against a model that keeps every state ----------------------


class Shadow:
    """A cache of one state class whose "state" of a sequence is the list of its tokens, kept under the page's number:
    what a run of the step would leave there."""

    def __init__(self) -> None:
        spec = CacheSpec((CacheClass(0, 1, 1, 2, 2, state=True),), ((0, 0),))
        self.cache = ModelKVCache(spec, 400, n_seq=3, chunk=100)
        self.states: dict[int, list[int]] = {}

    def run(self, turns: list[tuple[CachedSequence, list[int]]]) -> None:
        """As the kernels do: from the last column, page by page; and what is gone on from must be the text so far."""
        step = self.cache.step(turns)
        for sequence, tokens in turns:
            table = step.tables[0][sequence.slot]
            start = sequence.length - len(tokens)
            before = self.states[int(table[-1])] if start else []
            assert before == sequence.tokens[:start] and (start or table[-1] == -1)
            for page in range(start // PAGE, -(-sequence.length // PAGE)):
                assert table[page] >= 0 and (not start or table[page] != table[-1])
                self.states[int(table[page])] = sequence.tokens[: min(sequence.length, (page + 1) * PAGE)]


@settings(max_examples=60)
@given(st.data())
def test_every_row_goes_on_from_its_own_text(data: st.DataObject) -> None:
    """Growing, failing, shortening, forking, ending and beginning with what others read, in any order."""
    shadow, live = Shadow(), list[CachedSequence]()
    cache = shadow.cache
    for _ in range(data.draw(st.integers(1, 40))):
        act = data.draw(st.sampled_from(["add", "run", "run", "run", "fail", "truncate", "fork", "remove"]))
        if act == "add" and len(live) < 3:
            s = cache.add()
            cache.adopt(s, [7] * data.draw(st.sampled_from([10, 65, 130, 200])) + [data.draw(st.integers(0, 2))])
            live.append(s)
        elif live and act in ("run", "fail"):
            s = data.draw(st.sampled_from(live))
            n = min(data.draw(st.sampled_from([1, 2, 63, 64, 100])), 400 - s.length)
            if n:
                before = list(s.tokens)
                shadow.run([(s, [7] * (n - 1) + [data.draw(st.sampled_from([7, 7, 1]))])])
                if act == "run":
                    cache.commit(s)
                else:  # taken back whole, always
                    assert cache.truncate(s, len(before)) == len(before) and s.tokens == before
        elif live and act == "truncate":
            s = data.draw(st.sampled_from(live))
            wanted, have = data.draw(st.integers(0, 400)), s.length
            got = cache.truncate(s, wanted)
            assert got == s.length <= wanted and (got == have or wanted < have)
        elif live and act == "fork" and len(live) < 3:
            live.append(cache.fork(data.draw(st.sampled_from(live))))
        elif live and act == "remove":
            cache.remove(live.pop(data.draw(st.integers(0, len(live) - 1))))
        pool = cache.classes[0]
        held = sum(len(set(row[row >= 0].tolist())) for row in pool.table)
        assert held <= 3 * states_quota(100) and pool.kept_bytes <= KEPT * pool.page_bytes
    for s in live:
        cache.remove(s)
    assert cache.used_bytes == 0


# --- the engine -------------------------------------------------------------------------------------------------------


def test_prefix_is_read_once(it: Subject) -> None:
    """A second prompt that begins alike takes over whole pages, with the bits of reading it all."""
    text = it.ids[:200]
    with it.open() as fresh:
        want = continued(fresh, text)
    with it.open() as m:
        continued(m, text[:150])
        r = m.generate(text, max_tokens=6, **GREEDY)
        assert list(r.token_ids) == want and r.usage["cached_tokens"] == 128


def test_prompt_lookup_gives_the_same_tokens(it: Subject) -> None:
    """Where a draft is wrong the state of the step before is gone on from, and what was right is read again."""
    text = (it.ids[:9] * 9)[:75]
    assert continued(it.model, text, 40, lookup=True) == continued(it.model, text, 40)


def test_in_company_and_sampled(it: Subject) -> None:
    texts = [it.ids[:5], it.ids[40:190], it.ids[100:164]]
    alone = [continued(it.model, t, 12) for t in texts]
    together = it.model.generate_batch(texts, max_tokens=12, **GREEDY)
    assert [list(r.token_ids) for r in together] == alone


def test_ways_to_run_it(it: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the mapped file, op by op, with a cache type (states are float32 whatever it is): the same bits."""
    text = it.ids[:130]
    want = it.model.logits(text)
    for options in ({"repack": False}, {"cache_type": "Q8_0"}, {"cache_type": "F16"}):
        with it.open(**options) as m:
            np.testing.assert_array_equal(m.logits(text), want)
    monkeypatch.setenv("ZIGLLAMA_TAPE", "0")
    with it.open() as m:
        np.testing.assert_array_equal(m.logits(text), want)
        assert continued(m, text) == continued(it.model, text)


def test_saved_and_gone_on_with(it: Subject, tmp_path: Path) -> None:
    """A session's whole pages are on the disk; after loading, the state is that of the text."""
    m, text = it.model, it.ids[:140]
    with m.session() as s, m.session() as other:
        for at in (0, 100):
            m.engine.run(m.engine.cache.extend(s._sequence, text[at : at + 100]))
        s.save(tmp_path / "s.zls")
        other.load(tmp_path / "s.zls")
        assert other._sequence.tokens == text[:128]
        row = np.array(m.engine.run(m.engine.cache.extend(other._sequence, text[128:])))
        np.testing.assert_array_equal(row[0], m.logits(text)[-1])
        assert m.engine.cache.truncate(other._sequence, 100) == 0  # what lies before was never in the file


def test_a_failed_step_leaves_no_trace(it: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine fails after the states were written: the sequence is where it was, and goes on with the right bits."""
    m, text = it.model, it.ids[:90]
    want = m.logits(text)[-1]
    s = m.engine.cache.add()
    m.engine.run(m.engine.cache.extend(s, text[:70]))
    step = m.engine.cache.extend(s, text[71:90])
    m.engine.run(step)
    assert m.engine.cache.truncate(s, 70) == 70
    np.testing.assert_array_equal(np.array(m.engine.run(m.engine.cache.extend(s, text[70:])))[0], want)
    m.engine.cache.remove(s)


def test_memory_is_flat(it: Subject) -> None:
    """However long a sequence is, it holds as many pages."""
    with it.open() as m:
        cache = m.engine.cache
        most = states_quota(cache.chunk) * cache.classes[0].page_bytes
        s = cache.add()
        for _ in range(12):
            m.engine.run(cache.extend(s, it.ids[:300]))
            cache.commit(s)
            assert cache.used_bytes <= most and cache.kept_bytes <= KEPT * cache.classes[0].page_bytes
        cache.remove(s)
        assert cache.used_bytes == 0


def test_estimate_counts_the_states(it: Subject) -> None:
    with it.open() as m:
        one = m.engine.cache.classes[0].page_bytes
    found = estimate(it.path, n_ctx=1000)
    assert found["state"] == states_quota(512) * one and found["KV cache"] == 0


def test_diff_and_score(it: Subject) -> None:
    """Both runtimes side by side; a text's log-probabilities."""
    assert diff_model(it.path, prompt=it.ids[:80]).first_divergence is None
    score = it.model.score(it.ids[:60])
    assert len(score.logprobs) == 59 and math.isfinite(score.perplexity)


def test_a_state_that_is_not_finite_is_an_error(it: Subject) -> None:
    m = it.model
    s = m.engine.cache.add()
    m.engine.run(m.engine.cache.extend(s, it.ids[:64]))
    pool = m.engine.cache.classes[0]
    pool.pages.v[int(pool.table[s.slot, 0])] = np.nan
    request = m.request(it.ids[:70], sequence=s, max_tokens=3, **GREEDY)
    m.scheduler.submit(request, alone=True)
    with pytest.raises(NonFinite):
        m.scheduler.finish(request)
    assert s.length == 64
    m.engine.cache.remove(s)


def test_what_the_file_lacks_is_named(it: Subject) -> None:
    with GGUFLoader(it.path) as loader:
        table = loader.table
    assert "blk.1.ssm_conv1d.bias" in table.required and "blk.0.ssm_a" in table.plain
