"""The paged cache: what a sequence may see is always there, nothing is there twice, and what was given back is used
again. Model-based: drawn operations on several sequences beside a plain list of what each should hold.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zigllama.errors import ClosedError, ContextOverflow, InvalidArgument, OutOfMemory
from zigllama.inference.kv_cache import CachedSequence, ModelKVCache
from zigllama.transformers.interfaces import PAGE, CacheClass, CacheSpec


def spec(*windows: int) -> CacheSpec:
    classes = tuple(CacheClass(w, 1, 1, 4, 8) for w in windows)
    return CacheSpec(classes, tuple((i, 0) for i in range(len(windows))))


def check(cache: ModelKVCache, live: list[CachedSequence]) -> None:
    """Each page belongs to one place or is free; what the next row may see is there; no class passes its quota."""
    for c in cache.classes:
        pages = c.table[c.table >= 0].tolist()
        assert sorted(pages + c._free) == list(range(c.pages.n_pages))
        assert c.used_bytes == len(pages) * c.page_bytes
        for s in live:
            assert c.holds(s.slot, s.length)
            row = c.table[s.slot]
            assert (row[-(-s.length // PAGE) :] == -1).all()
            assert (row >= 0).sum() <= c.quota
        empty = sorted(set(range(cache.n_seq)) - {s.slot for s in live})
        assert (c.table[empty] == -1).all()


@settings(max_examples=100)
@given(st.data())
def test_any_operations(data: st.DataObject) -> None:
    windows = data.draw(st.sampled_from([(0,), (0, 100), (64,), (0, 1, 65), (512,)]))
    chunk, n_ctx = data.draw(st.sampled_from([1, 64, 130])), data.draw(st.sampled_from([1, 64, 100, 700, 2000]))
    cache = ModelKVCache(spec(*windows), n_ctx, n_seq=2, chunk=chunk)
    live: list[CachedSequence] = []
    held: list[list[int]] = []
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    for _ in range(60):
        what = rng.choice(
            ["add", "extend", "extend", "extend", "extend", "truncate", "remove"],
            p=[0.1, 0.2, 0.2, 0.2, 0.2, 0.08, 0.02],
        )
        i = int(rng.integers(len(live))) if live else -1
        if what == "add" or i < 0:
            if len(live) == 2:
                with pytest.raises(OutOfMemory):
                    cache.add()
            else:
                live.append(cache.add())
                held.append([])
        elif what == "extend":
            ids = rng.integers(0, 99, int(rng.integers(1, chunk + 1))).tolist()
            if len(held[i]) + len(ids) > n_ctx:
                with pytest.raises(ContextOverflow) as e:
                    cache.extend(live[i], ids)
                assert (e.value.need, e.value.have) == (len(held[i]) + len(ids), n_ctx)
            else:
                step = cache.extend(live[i], ids)
                at = np.arange(len(held[i]), len(held[i]) + len(ids))
                assert step.tokens.tolist() == ids and (step.seq == live[i].slot).all()
                for got in (step.cache_pos, step.see_to, step.positions[0]):
                    np.testing.assert_array_equal(got, at)
                for c, table in zip(cache.classes, step.tables, strict=True):
                    seen = range(max(0, at[0] - c.spec.window + 1) if c.spec.window else 0, at[-1] + 1)
                    assert all(table[live[i].slot, p // PAGE] >= 0 for p in seen)
                held[i] += ids
        elif what == "truncate":
            length = int(rng.integers(0, len(held[i]) + 2))
            kept = cache.truncate(live[i], length)
            assert kept in (0, min(length, len(held[i])))
            if not any(windows):
                assert kept == min(length, len(held[i]))
            held[i] = held[i][:kept]
        else:
            gone = live.pop(i)
            held.pop(i)
            cache.remove(gone)
            for use in (cache.remove, lambda s: cache.extend(s, [1]), lambda s: cache.truncate(s, 0)):
                with pytest.raises(ClosedError):
                    use(gone)
        assert [s.tokens for s in live] == held
        check(cache, live)


def test_a_window_class_stays_small() -> None:
    """However long the sequence: ceil((window + chunk) / 64) + 1 pages, and untouched pages are never used."""
    cache = ModelKVCache(spec(0, 512), 20_000, chunk=100)
    sequence, full, window = cache.add(), *cache.classes
    most, pages = 0, set()
    for i in range(0, 20_000, 100):
        cache.extend(sequence, range(i, i + 100))
        most = max(most, int((window.table >= 0).sum()))
        pages |= set(window.table[window.table >= 0].tolist())
    assert most == window.quota == -(-612 // 64) + 1
    assert len(pages) == window.quota
    assert (full.table >= 0).sum() == -(-20_000 // 64)
    assert cache.used_bytes == full.page_bytes * 313 + window.page_bytes * window.quota
    # back by less than a chunk: the window is still there; far back: it is not, and nothing is left
    assert cache.truncate(sequence, 19_950) == 19_950
    assert cache.truncate(sequence, 10_000) == 0
    assert sequence.tokens == [] and cache.used_bytes == 0


def test_a_common_prefix_is_kept() -> None:
    cache = ModelKVCache(spec(0), 1000)
    sequence = cache.add()
    cache.extend(sequence, range(300))
    before = cache.classes[0].table[0, :4].copy()
    assert cache.truncate(sequence, 200) == 200
    step = cache.extend(sequence, [7, 8])
    np.testing.assert_array_equal(cache.classes[0].table[0, :4], before)
    assert sequence.tokens == [*range(200), 7, 8] and step.cache_pos.tolist() == [200, 201]


def test_untouched_pages_cost_nothing() -> None:
    """A context of a million positions is address space until it is used."""
    rss = _resident()
    cache = ModelKVCache(CacheSpec((CacheClass(0, 8, 8, 64, 64),), tuple((0, i) for i in range(8))), 1_000_000)
    assert cache.pages[0].n_bytes > 15e9
    assert _resident() - rss < 50e6


def _resident() -> int:
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4096


def test_refusals() -> None:
    for n_ctx, n_seq, chunk in ((0, 1, 1), (1, 0, 1), (1, 1, 0), (-5, 1, 1), (2**40, 1, 1), (2**30, 2**20, 1)):
        with pytest.raises(InvalidArgument):
            ModelKVCache(spec(0), n_ctx, n_seq=n_seq, chunk=chunk)
    cache = ModelKVCache(spec(0), 100, chunk=10)
    sequence = cache.add()
    for n in (0, 11):
        with pytest.raises(InvalidArgument):
            cache.extend(sequence, range(n))
    with pytest.raises(InvalidArgument):
        cache.truncate(sequence, -1)
    large = CacheSpec((CacheClass(0, 1000, 8, 256, 256),), tuple((0, i) for i in range(1000)))
    with pytest.raises(OutOfMemory) as e:
        ModelKVCache(large, 2**30)
    assert e.value.need >= 2**30 * 1000 * 8 * 256 * 2
