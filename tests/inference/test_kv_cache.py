"""The paged cache: what a sequence may see is always there and is its own text's, whoever shares it; nothing is lost;
what was given back is used again. Model-based: drawn operations on several sequences beside a plain list of what each
should hold.
"""

from __future__ import annotations

import zlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zigllama.errors import ClosedError, ContextOverflow, InvalidArgument, OutOfMemory
from zigllama.foundation.runtime import I32, Step
from zigllama.inference.kv_cache import CachedSequence, ModelKVCache
from zigllama.inference.prefix_tree import Node
from zigllama.transformers.interfaces import PAGE, CacheClass, CacheSpec


def spec(*windows: int) -> CacheSpec:
    classes = tuple(CacheClass(w, 1, 1, 4, 8) for w in windows)
    return CacheSpec(classes, tuple((i, 0) for i in range(len(windows))))


def values(tokens: list[int]) -> I32:
    """What stands for the key at each position: it depends on every token up to there."""
    running, found = 0, np.empty(len(tokens), np.int32)
    for i, token in enumerate(tokens):
        running = zlib.crc32(bytes([token % 256, token // 256]), running)
        found[i] = running % 2048  # a float16 holds these exactly
    return found


def write(cache: ModelKVCache, step: Step, tokens: list[int]) -> None:
    """What a run does: rows of one sequence, whose tokens are now these, go to their pages."""
    at = step.cache_pos
    want = values(tokens)[at]
    for c, table in zip(cache.classes, step.tables, strict=True):
        pages = table[step.seq, at // PAGE]
        c.pages.k[pages, 0, 0, at % PAGE // 16, 0, at % 16] = want
        c.pages.v[pages, 0, 0, at % PAGE, 0] = want


def check(cache: ModelKVCache, live: list[CachedSequence]) -> None:
    """Every page is free, kept, or held as often as it is counted; what the next row may see is there and right; no
    class passes its quota or its promises; the tree knows no page that is not its own."""
    for c in cache.classes:
        held = Counter(c.table[c.table >= 0].tolist())
        assert [held[page] for page in range(c.pages.n_pages)] == c._refs
        assert sorted([*held, *c._free, *c._kept]) == list(range(c.pages.n_pages))
        assert set(c._kept) <= set(c._node) and len(c._kept) <= c.keep
        assert c.used_bytes == len(held) * c.page_bytes and c.kept_bytes == len(c._kept) * c.page_bytes
        assert c.promised == sum(c.pages_for(s.reserved) for s in live) <= c.pages.n_pages
        assert all(node.pages[c.number] == page for page, node in c._node.items())
        for s in live:
            assert c.holds(s.slot, s.length) and s.length <= s.reserved
            row = c.table[s.slot]
            assert (row[-(-s.length // PAGE) :] == -1).all()
            assert (row >= 0).sum() <= c.quota
            at = np.arange(c.first_needed(s.length) * PAGE, s.length)
            pages, want = row[at // PAGE], values(s.tokens)[at]
            np.testing.assert_array_equal(c.pages.k[pages, 0, 0, at % PAGE // 16, 0, at % 16], want)
            np.testing.assert_array_equal(c.pages.v[pages, 0, 0, at % PAGE, 0], want)
        empty = sorted(set(range(cache.n_seq)) - {s.slot for s in live})
        assert (c.table[empty] == -1).all()
    places = [*(n for c in cache.classes for n in c._node.values()), *(s.node for s in live), cache.tree.root]
    assert nodes(cache.tree.root) == {id(n) for place in places for n in ancestors(place)}


def nodes(node: Node) -> set[int]:
    return {id(node)}.union(*(nodes(child) for child in node.children.values()))


def ancestors(node: Node) -> list[Node]:
    return [node, *(ancestors(node.parent) if node.parent else [])]


OPERATIONS = ["add", "extend", "truncate", "remove", "fork", "reserve"]


@settings(max_examples=60)
@given(st.data())
def test_any_operations(data: st.DataObject) -> None:
    """Three sequences over an alphabet of one or two letters and few lengths, so that prefixes meet often."""
    windows = data.draw(st.sampled_from([(0,), (0, 100), (64,), (0, 1, 65), (512,)]))
    chunk, n_ctx = data.draw(st.sampled_from([1, 64, 130])), data.draw(st.sampled_from([1, 64, 100, 700]))
    keep, room = data.draw(st.sampled_from([None, 0, 64, 5000])), data.draw(st.sampled_from([1.0, 1.7, 3.0]))
    n_positions = None if room == 3 else int(n_ctx * room)
    cache = ModelKVCache(spec(*windows), n_ctx, n_seq=3, chunk=chunk, keep=keep, n_positions=n_positions)
    live: list[CachedSequence] = []
    held: list[list[int]] = []
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    texts = rng.integers(0, 2, (3, n_ctx + 200))
    texts[1, :150] = texts[0, :150]

    def extend(i: int, ids: list[int]) -> None:
        try:
            step = cache.extend(live[i], ids)
        except OutOfMemory:
            assert room < 3
            return
        at = np.arange(len(held[i]), len(held[i]) + len(ids))
        held[i] += ids
        assert step.tokens.tolist() == ids and (step.seq == live[i].slot).all()
        for got in (step.cache_pos, step.see_to, step.positions[0]):
            np.testing.assert_array_equal(got, at)
        for c, table in zip(cache.classes, step.tables, strict=True):
            seen = range(max(0, at[0] - c.spec.window + 1) if c.spec.window else 0, at[-1] + 1)
            assert all(table[live[i].slot, p // PAGE] >= 0 for p in seen)
        write(cache, step, held[i])
        if rng.random() < 0.9:
            cache.commit(live[i])

    for _ in range(40):
        what = rng.choice(OPERATIONS, p=[0.15, 0.57, 0.1, 0.08, 0.06, 0.04])
        i = int(rng.integers(len(live))) if live else -1
        if what == "add" or i < 0:
            if len(live) == 3:
                with pytest.raises(OutOfMemory):
                    cache.add()
                continue
            live.append(cache.add())
            held.append([])
            text = texts[rng.integers(3)][: rng.integers(1, n_ctx + 1)].tolist()
            try:
                n = cache.adopt(live[-1], text)
            except OutOfMemory:
                assert room < 3
                n = 0
            assert n < len(text) and live[-1].tokens == text[:n]
            held[-1] = text[:n]
        elif what == "extend":
            n = int(rng.integers(1, chunk + 1))
            source = texts[rng.integers(3)] if rng.random() < 0.2 else texts[i % 3]
            ids = source[len(held[i]) : len(held[i]) + n].tolist()
            if len(held[i]) + len(ids) > n_ctx:
                with pytest.raises(ContextOverflow) as e:
                    cache.extend(live[i], ids)
                assert (e.value.need, e.value.have) == (len(held[i]) + len(ids), n_ctx)
            else:
                extend(i, ids)
        elif what == "truncate":
            length = int(rng.integers(0, len(held[i]) + 2))
            kept = cache.truncate(live[i], length)
            assert kept in (0, min(length, len(held[i])))
            if not any(windows):
                assert kept == min(length, len(held[i]))
            held[i] = held[i][:kept]
            text = held[i] + texts[rng.integers(3)][kept:n_ctx].tolist()
            if text and live[i].reserved >= len(text):  # nothing new is promised, so nothing can fail
                n = cache.adopt(live[i], text)
                assert n >= kept and live[i].tokens == text[:n]
                held[i] = text[:n]
        elif what == "fork":
            try:
                live.append(cache.fork(live[i]))
                held.append(list(held[i]))
            except OutOfMemory:
                assert len(live) == 3 or room < 3
        elif what == "reserve":
            try:
                cache.reserve(live[i], int(rng.integers(0, n_ctx + 1)))
            except OutOfMemory:
                assert room < 3
        else:
            gone = live.pop(i)
            held.pop(i)
            cache.remove(gone)
            for use in (cache.remove, lambda s: cache.extend(s, [1]), lambda s: cache.truncate(s, 0), cache.fork):
                with pytest.raises(ClosedError):
                    use(gone)
        assert [s.tokens for s in live] == held
        check(cache, live)
    for s in live:
        cache.remove(s)
    check(cache, [])


def fill(cache: ModelKVCache, sequence: CachedSequence, tokens: list[int]) -> None:
    """Run all of them, and enter what is full into the tree."""
    step = cache.extend(sequence, tokens)
    write(cache, step, sequence.tokens)
    cache.commit(sequence)


def test_a_prefix_is_found_by_its_tokens_alone() -> None:
    cache = ModelKVCache(spec(0), 1000, n_seq=4)
    text = list(range(300))
    first = cache.add()
    fill(cache, first, text)
    held = cache.used_bytes
    second = cache.add()  # while the first still runs: its four full pages, and no memory
    assert cache.adopt(second, text) == 256 and cache.used_bytes == held
    third = cache.add()  # a text that leaves it in the middle of a page: that page too, until it is written to
    other = [*range(100), *range(500, 700)]
    assert cache.adopt(third, other) == 100 and cache.used_bytes == held
    fill(cache, third, other[100:])
    assert cache.used_bytes == held + 4 * cache.classes[0].page_bytes
    check(cache, [first, second, third])
    for s in (first, second, third):
        cache.remove(s)
    assert cache.used_bytes == 0 and cache.kept_bytes == (4 + 3) * cache.classes[0].page_bytes
    again = cache.add()  # after they ended; the last token is always left to be run
    assert cache.adopt(again, text[:256]) == 255
    check(cache, [again])


def test_the_least_recently_used_prefix_goes_first() -> None:
    cache = ModelKVCache(spec(0), 192, n_seq=3, keep=1000)  # nine pages

    def visit(i: int) -> int:
        text, s = list(range(200 * i, 200 * i + 130)), cache.add()
        n = cache.adopt(s, text)
        fill(cache, s, text[n:])
        cache.remove(s)
        return n

    assert [visit(i) for i in range(4)] == [0, 0, 0, 0]  # eight pages are kept
    assert visit(0) == 128
    assert visit(4) == 0  # in the place of 1, which was not asked for again
    assert [visit(i) for i in (0, 2, 3, 4)] == [128, 128, 128, 128]
    assert visit(1) == 0
    check(cache, [])


def test_only_so_much_is_kept() -> None:
    cache = ModelKVCache(spec(0, 100), 1000, n_seq=2, keep=192)
    for i in range(20):
        s = cache.add()
        fill(cache, s, list(range(i, i + 300)))
        cache.remove(s)
        assert [len(c._kept) for c in cache.classes] == [3, 3]
    check(cache, [])
    cache = ModelKVCache(spec(0), 1000, n_seq=2, keep=192)
    s = cache.add()
    fill(cache, s, list(range(300)))
    cache.remove(s)
    assert cache.adopt(cache.add(), list(range(300))) == 192  # the beginning is what is worth keeping


def test_a_fork_shares_until_one_of_them_writes() -> None:
    cache = ModelKVCache(spec(0), 1000, n_seq=3)
    a = cache.add()
    fill(cache, a, list(range(100)))
    before = cache.used_bytes
    b = cache.fork(a)
    assert b.tokens == a.tokens and cache.used_bytes == before
    for s, token in ((b, 7), (a, 8)):
        fill(cache, s, [token])
    assert cache.used_bytes == before + cache.classes[0].page_bytes
    check(cache, [a, b])


def test_promises_are_kept_whatever_others_do() -> None:
    """With memory for half of what could be wanted, what was let in still reaches its end."""
    cache = ModelKVCache(spec(0, 64), 640, n_seq=4, n_positions=1280)
    sure = [cache.add(640), cache.add(500)]
    with pytest.raises(OutOfMemory) as e:
        cache.add(200)
    assert e.value.need == 4 * cache.classes[0].page_bytes
    greedy = cache.add(128)
    fill(cache, greedy, list(range(128)))
    with pytest.raises(OutOfMemory):
        cache.extend(greedy, [1])
    assert greedy.length == 128
    for s, n in zip(sure, (640, 500), strict=True):
        for i in range(0, n, 100):
            fill(cache, s, list(range(i + s.slot, min(i + 100, n) + s.slot)))
    check(cache, [*sure, greedy])
    cache.remove(sure[0])
    fill(cache, greedy, [1])


def test_images_are_nobody_elses() -> None:
    """Rows that are no tokens have token -1: neither they nor what follows can be found by tokens."""
    cache = ModelKVCache(spec(0), 1000, n_seq=2)
    a = cache.add()
    cache.extend(a, [*range(64), *[-1] * 10, *range(190)])
    cache.commit(a)
    assert a.shared == 1
    cache.remove(a)
    b = cache.add()
    assert cache.adopt(b, [*range(64), *[-1] * 10, *range(190)]) == 64


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


def test_a_step_of_as_many_rows_is_written_again() -> None:
    """It says what a new one says, in the same arrays; one of other sizes is new, and leaves the first alone."""
    caches = [ModelKVCache(spec(0, 16), 256, n_seq=2) for _ in range(2)]
    pairs = [[cache.add(8), cache.add(8)] for cache in caches]
    last: Step | None = None
    for rows in ((1, 1), (1, 1), (2, 1), (1, 2), (1, 1)):
        tokens = [[5 * n, 7][:n] for n in rows]
        (again, new), before = (
            [c.step(list(zip(p, tokens, strict=True)), s) for c, p, s in zip(caches, pairs, (last, None), strict=True)],
            last,
        )
        same = before is not None and len(before.tokens) == len(new.tokens)
        assert (again is before) == same
        for name in ("tokens", "positions", "cache_pos", "see_to", "seq", "out_rows"):
            np.testing.assert_array_equal(getattr(again, name), getattr(new, name), err_msg=name)
        assert [id(table) for table in again.tables] == [id(c.table) for c in caches[0].classes]
        last = again


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
