"""Every stage against the reference of its paper: exact kept sets, sorted and whole rows, C and NumPy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import sampling_reference as reference
from hypothesis import given
from hypothesis import strategies as st
from native_ops import usable_variants

from zigllama.errors import InvalidArgument, NonFinite
from zigllama.foundation.native_context import NativeContext
from zigllama.foundation.runtime import F32, Step
from zigllama.inference import candidates, penalties, row_scan, stages
from zigllama.inference.advanced_sampling import AdvancedSampler, explain_text
from zigllama.inference.candidates import Candidates
from zigllama.inference.row_scan import RowScan
from zigllama.inference.sampling import SamplingParams
from zigllama.neural_primitives.softmax import top_k

OFF: dict[str, Any] = {"top_k": 0, "top_p": 1.0, "min_p": 0.0, "temperature": 1.0}


@pytest.fixture(scope="module")
def scans() -> Iterator[list[RowScan]]:
    """Every ISA variant that runs here with 1, 2 and 3 threads, and at last the twins."""
    contexts = [NativeContext(n, isa) for isa in usable_variants() for n in (1, 2, 3)]
    yield [*(RowScan(context) for context in contexts), RowScan()]
    for context in contexts:
        context.close()


def whole(x: F32, scan: RowScan) -> Candidates:
    """A whole row, whatever its size."""
    return Candidates(None, x.copy(), len(x), scan)


def ids_of(c: Candidates) -> set[int]:
    return {int(i) for i in (np.flatnonzero(c.x > -np.inf) if c.ids is None else c.ids)}


CASES: list[tuple[stages.Stage, Callable[[Sequence[float]], set[int]]]] = [
    *((stages.TopK(k), lambda x, k=k: reference.top_k(x, k)) for k in (1, 7, 300)),
    *((stages.TopP(p), lambda x, p=p: reference.top_p(x, p)) for p in (0.1, 0.5, 0.9, 0.99)),
    *((stages.MinP(p), lambda x, p=p: reference.min_p(x, p)) for p in (0.02, 0.3, 0.9)),
    *((stages.Typical(p), lambda x, p=p: reference.typical(x, p)) for p in (0.2, 0.7, 0.95)),
    *((stages.TailFree(z), lambda x, z=z: reference.tail_free(x, z)) for z in (0.3, 0.9, 0.99)),
    *((stages.TopNSigma(n), lambda x, n=n: reference.top_n_sigma(x, n)) for n in (0.5, 1.0, 2.5)),
    *((stages.XTC(1.0, t), lambda x, t=t: reference.xtc(x, t)) for t in (0.02, 0.1, 0.3)),
]


@pytest.mark.parametrize(("stage", "want"), CASES, ids=lambda c: repr(c) if hasattr(c, "name") else "")
def test_kept_sets_are_those_of_the_papers(
    stage: stages.Stage, want: Callable[[Sequence[float]], set[int]], scans: list[RowScan]
) -> None:
    rng = np.random.default_rng(5)
    for n, scale in ((40, 1.0), (400, 2.5), (400, 0.3), (6000, 2.0)):
        x = (rng.normal(size=n) * scale).astype(np.float32)
        expected = want(x.tolist())
        for scan in scans:
            for c in (Candidates.of_row(x.copy(), scan), whole(x, scan)):
                c.chance = lambda which: 0.0
                assert ids_of(stage(c)) == expected, (n, scale, c.ids is None, scan.context is None)


def test_a_large_kept_set_stays_a_row(scans: list[RowScan]) -> None:
    """Nothing is sorted where much is left: the next stage and the draw are exact all the same."""
    x = (np.random.default_rng(2).normal(size=20_000) * 0.2).astype(np.float32)
    expected = reference.top_p(x.tolist(), 0.9)
    for scan in scans:
        c = stages.TopP(0.9)(whole(x, scan))
        assert c.ids is None and ids_of(c) == expected and len(c) == len(expected)
        assert ids_of(stages.TopK(candidates.MOST + 5)(c)) == reference.top_k(x.tolist(), candidates.MOST + 5)
        order = sorted(expected, key=lambda i: (-x[i], i))
        p = reference.softmax(x[order])
        for u in (0.0, 0.25, 0.9, 0.999999):
            at = order.index(c.pick(u))
            assert p[:at].sum() <= u + 1e-6 and p[: at + 1].sum() >= u - 1e-6


@given(data=st.data())
def test_cut_is_exact(data: st.DataObject, scans: list[RowScan]) -> None:
    """C, on every variant and number of threads, and twin agree to the last id, with equal keys and taken-away ones
    among them, in short rows and in those where a sample guides the search."""
    rng = np.random.default_rng(data.draw(st.integers(0, 99999)))
    n = data.draw(st.sampled_from([1, 3, 17, 64, 700, 5001, 20_011]))
    x = (rng.normal(size=n) * data.draw(st.sampled_from([0.0, 1e-6, 1.0, 30.0]))).astype(np.float32)
    if data.draw(st.booleans()):
        x = np.round(x)
    x[rng.random(n) < data.draw(st.sampled_from([0.0, 0.5]))] = -np.inf
    x[rng.integers(n)] = 2
    w, mass, *_ = row_scan.weights(x)
    kind = data.draw(st.sampled_from(["mass", "draw", "count"]))
    amount = float(data.draw(st.integers(1, n + 1)) if kind == "count" else data.draw(st.floats(0, 1)))
    found = row_scan.cut(x, None if kind == "count" else w, kind, amount, mass)
    want, number = row_scan.keep(x, *found)
    room = data.draw(st.integers(0, n))
    ids, there = row_scan.gather(x, *found, room)
    assert there == min(number, room + 1)
    for scan in scans[:-1]:
        assert scan.cut(x, None if kind == "count" else w, kind, amount, mass) == found
        kept, count = scan.keep(x, *found)
        assert count == number and kept.tobytes() == want.tobytes()
        listed, count = scan.gather(x, *found, room)
        assert count == there and listed.tolist() == ids.tolist()
        assert scan.near(x, 0.5).tobytes() == row_scan.near(x, 0.5).tobytes()


def test_sums_are_those_of_the_twin(scans: list[RowScan]) -> None:
    x = (np.random.default_rng(8).normal(size=30_011) * 4).astype(np.float32)
    x[::7] = -np.inf
    want, spread = row_scan.weights(x), row_scan.moments(x)
    by_isa: dict[str, set[bytes]] = {}
    for scan in scans[:-1]:
        found = scan.weights(x)
        assert found.w.sum(dtype=np.float64) == found.mass and found.w[int(np.argmax(x))] == 2.0**40
        np.testing.assert_allclose(found.w, want.w, rtol=4e-6, atol=1)
        np.testing.assert_allclose(found[1:], want[1:], rtol=1e-6)
        np.testing.assert_allclose(scan.moments(x), spread, rtol=1e-6, atol=2e-6)
        by_isa.setdefault(scan.context.isa, set()).add(found.w.tobytes())
    assert all(len(bits) == 1 for bits in by_isa.values())  # whatever the number of threads


@pytest.mark.parametrize("bad", [np.full(9, -np.inf), np.array([1, np.nan, 2]), np.array([np.inf, 1])])
def test_rows_that_cannot_be_weighed(bad: F32, scans: list[RowScan]) -> None:
    for scan in scans:
        with pytest.raises(InvalidArgument, match=r"inf|NaN|nan"):
            scan.weights(bad.astype(np.float32))


@pytest.mark.parametrize("key", [-np.inf, np.nan])
def test_mass_at_keys_that_are_none(key: float, scans: list[RowScan]) -> None:
    """What is asked for has to be above -inf: otherwise an error that tells how much is."""
    for n in (4, 20_000):
        x, w = np.full(n, key, np.float32), np.ones(n, np.float32)
        x[1] = 0
        for scan in scans:
            assert scan.cut(x, w, "mass", 0.5 / n, n) == (0.0, 1)
            with pytest.raises(InvalidArgument, match=f"of {n} is wanted, keys above -inf have 1"):
                scan.cut(x, w, "mass", 1.0, n)


def test_masses_that_are_none(scans: list[RowScan]) -> None:
    for scan in scans[:-1]:
        for bad in (np.nan, -1.0, np.inf, 2.0**41):
            w = np.full(20_000, 5, np.float32)
            w[7] = bad
            with pytest.raises(InvalidArgument, match="mass"):
                scan.cut(np.zeros(20_000, np.float32), w, "mass", 0.5, 100_000)
        with pytest.raises(InvalidArgument, match="mass of -1"):
            scan.cut(np.zeros(4, np.float32), np.ones(4, np.float32), "mass", 0.5, -1)
        with pytest.raises(InvalidArgument, match="middle"):
            scan.near(np.zeros(4, np.float32), math.inf)


@pytest.mark.parametrize("whole_row", [False, True])
def test_what_was_taken_away_is_no_candidate(whole_row: bool, scans: list[RowScan]) -> None:
    """Of 5 logits or of 5,000 three are above -inf: no stage keeps, counts or draws another."""
    every: list[stages.Stage] = [
        *(stages.TopK(k) for k in (4, 5, 4096, 6000)),
        *(stages.TopP(p) for p in (0.999999, 1.0)),
        *(stages.Typical(p) for p in (0.999999, 1.0)),
        stages.TailFree(0.9999999),
        stages.TopNSigma(99.0),
        stages.MinP(1e-30),
        stages.XTC(1.0, 0.9),
        stages.Mirostat(1, 9.0, 0.1),
        stages.Mirostat(2, 99.0, 0.1),
        stages.Temperature(1e6),
    ]
    for n in (5, 5000):
        x = np.full(n, -np.inf, np.float32)
        x[[0, 2, 4]] = 1, 2, 0.5
        for scan in scans:
            for stage in every:
                c = whole(x, scan) if whole_row else Candidates.of_row(x.copy(), scan)
                c.chance = lambda which: 0.0
                c = stage(c)
                assert ids_of(c) <= {0, 2, 4} and len(c) == len(ids_of(c))
                assert len(c) == 3 or isinstance(stage, stages.TailFree)
                assert {c.pick(u) for u in np.linspace(0, 1, 50, endpoint=False)} <= {0, 2, 4}
            for stage in (stages.XTC(1.0, 0.0), stages.XTC(1.0, 1e-9)):
                c = whole(x, scan) if whole_row else Candidates.of_row(x.copy(), scan)
                c.chance = lambda which: 0.0
                assert ids_of(stage(c)) == {4}


def test_seeds_are_all_different() -> None:
    """Each of 64 bits counts, in whatever position; those below 2^53 are what they were."""
    seeds = [0, 1, *((1 << i) + d for i in range(52, 64) for d in (-1, 0, 1)), (1 << 64) - 1]
    drawn = {AdvancedSampler(SamplingParams(seed=s)).uniform(3) for s in seeds}
    assert len(drawn) == len(set(seeds))
    old = np.random.Generator(np.random.Philox(key=[77, 5])).random()
    assert AdvancedSampler(SamplingParams(seed=77)).uniform(5) == old
    for seed in (1 << 64, -1, 1 << 70):
        with pytest.raises(InvalidArgument, match=f"seed is {seed}"):
            SamplingParams(seed=seed)


def test_xtc_by_its_description(scans: list[RowScan]) -> None:
    """All that reach the threshold are taken away but the least likely of them; nothing where fewer than two do. At the
    threshold counts as reached, to the last bit; how often is a matter of one draw."""

    def left(p: Sequence[float], threshold: float, probability: float = 1.0, chance: float = 0.0) -> list[set[int]]:
        x = np.log(np.array(p, np.float64)).astype(np.float32)
        out = []
        for scan in scans:
            for c in (Candidates.of_row(x.copy(), scan), whole(x, scan)):
                c.chance = lambda which: chance
                out.append(ids_of(stages.XTC(probability, threshold)(c)))
        return out

    for p, threshold, want in (
        ([0.5, 0.3, 0.15, 0.05], 0.1, {2, 3}),
        ([0.5, 0.3, 0.15, 0.05], 0.29, {1, 2, 3}),
        ([0.5, 0.3, 0.15, 0.05], 0.31, {0, 1, 2, 3}),
        ([0.9, 0.06, 0.04], 0.1, {0, 1, 2}),
        ([0.9, 0.06, 0.04], 0.51, {0, 1, 2}),
        ([0.9, 0.06, 0.04], 1.0, {0, 1, 2}),
        ([0.5, 0.5], 0.5, {1}),
        ([0.25] * 4, 0.25, {3}),
        ([0.1] * 10, 0.1, {9}),
        ([1 / 3] * 3, 1 / 3, {2}),
        ([0.4, 0.35, 0.25], 0.0, {2}),
        ([1.0], 0.0, {0}),
    ):
        assert all(found == want for found in left(p, threshold)), (p, threshold)
    assert all(found == {0, 1} for found in left([0.5, 0.5], 0.1, 0.3, 0.3))
    assert all(found == {1} for found in left([0.5, 0.5], 0.1, 0.3, 0.29999))
    assert all(found == {0, 1} for found in left([0.5, 0.5], 0.1, 0.0, 0.0))
    wrong: list[dict[str, Any]] = [{"xtc_threshold": -0.1}, {"xtc_threshold": 1.1}, {"xtc_probability": 1.1}]
    for options in wrong:
        with pytest.raises(InvalidArgument, match="xtc"):
            SamplingParams(**options)
    many = whole(np.zeros(6000, np.float32), scans[0])  # more than are ever sorted reach it
    many.chance = lambda which: 0.0
    assert ids_of(stages.XTC(1.0, 1e-4)(many)) == {5999}


def test_breakers_are_looked_up_once_per_tokenizer() -> None:
    """The whole vocabulary is looked at for a set of breakers once, and for another tokenizer anew."""

    class Words:
        def __init__(self, words: list[bytes]) -> None:
            self.words, self.asked = words, 0
            self.n_vocab = len(words)

        def piece(self, token: int) -> bytes:
            self.asked += 1
            return self.words[token]

        def encode(self, text: str, add_special: bool = True) -> list[int]:
            return [self.words.index(text.encode())]

    one, other = Words([b"a", b"\n", b"b:"]), Words([b":", b"x"])
    found: list[Any] = [penalties.breaker_tokens(one, texts) for texts in ([":"], (":",), [":"])]  # type: ignore[arg-type]
    assert found == [{2: [()]}] * 3 and one.asked == 3
    assert penalties.breaker_tokens(other, [":"]) == {0: [()]} and one.asked == 3  # type: ignore[arg-type]
    assert penalties.breaker_tokens(one, ["\n"]) == {1: [()]} and one.asked == 6  # type: ignore[arg-type]
    for i in range(penalties.REMEMBERED):  # as many as are remembered push the others out, and no more are held
        penalties.breaker_tokens(one, [f"{i}"])  # type: ignore[arg-type]
    assert len(penalties._breakers[one]) == penalties.REMEMBERED  # type: ignore[index]
    asked = one.asked
    assert penalties.breaker_tokens(one, [f"{penalties.REMEMBERED - 1}"]) == {}  # type: ignore[arg-type]
    assert one.asked == asked
    with pytest.raises(InvalidArgument, match="empty"):
        penalties.breaker_tokens(one, [""])  # type: ignore[arg-type]


def test_whole_rows_are_drawn_from_in_the_same_way(scans: list[RowScan]) -> None:
    """Chi-square of draws by the passes in C: the likeliest 30 of 5,000, the rest one class."""
    x = (np.random.default_rng(0).normal(size=5000) * 2).astype(np.float32)
    p = reference.softmax(x)
    order = np.argsort(-p)
    sampler = AdvancedSampler(SamplingParams(**OFF, seed=5), scan=scans[0])
    n = 4000
    counts = np.bincount([sampler(x, [], i) for i in range(n)], minlength=5000)
    have = np.append(counts[order[:30]], counts[order[30:]].sum())
    want = n * np.append(p[order[:30]], p[order[30:]].sum())
    assert ((have - want) ** 2 / want).sum() < 75  # 30 degrees of freedom: once in 80,000
    twin = AdvancedSampler(SamplingParams(**OFF, seed=5), scan=scans[-1])
    assert [twin(x, [], i) for i in range(40)] == [sampler(x, [], i) for i in range(40)]


def test_draws_depend_on_seed_and_position_alone() -> None:
    x = np.random.default_rng(1).normal(size=200).astype(np.float32)
    a, b = (AdvancedSampler(SamplingParams(seed=9, xtc_probability=0.5)) for _ in range(2))
    straight = [a(x, [], i) for i in range(30)]
    assert [b(x, [], i) for i in reversed(range(30))] == straight[::-1]
    assert [AdvancedSampler(SamplingParams(seed=10))(x, [], i) for i in range(30)] != straight


def test_dynamic_temperature() -> None:
    x = np.array([3.0, 1.0, 0.5, -2.0], np.float32)
    c = Candidates.of_row(x, RowScan())
    for t, spread, exponent in ((1.0, 0.5, 1.0), (0.4, 0.6, 2.0)):
        want = reference.dynamic_temperature(x.tolist(), t, spread, exponent)
        np.testing.assert_allclose(stages.Temperature(t, spread, exponent)(c).x, x / np.float32(want), rtol=1e-6)
    sampler = AdvancedSampler(SamplingParams(**OFF | {"temperature": 0.0}, dynatemp_range=1.0, seed=1))
    assert len({sampler(np.zeros(5, np.float32), [], i) for i in range(40)}) == 5  # T = 1 where all are equal
    assert {sampler(np.array([0, 90, 0], np.float32), [], i) for i in range(9)} == {1}


def test_mirostat_is_steered_to_its_target() -> None:
    """The error moves mu; the estimate is the paper's; over many draws the mean surprise is near the target."""
    rng = np.random.default_rng(3)
    x = (-np.log(np.arange(1, 3001)) * 1.3 + rng.normal(size=3000) * 0.01).astype(np.float32)
    for mu in (2.0, 6.0, 9.0):
        stage = stages.Mirostat(1, mu / 2, 0.1)
        assert len(stage(Candidates.of_row(x.copy(), RowScan())).x) == min(3000, reference.mirostat_k(x.tolist(), mu))
    for version in (1, 2):
        sampler = AdvancedSampler(SamplingParams(mirostat_mode=version, mirostat_tau=4.0, temperature=1.0, seed=2))
        for i in range(2000):
            sampler(x, [], i)
        (last,) = sampler.stages
        assert isinstance(last, stages.Mirostat)
        assert abs(np.mean(last.surprises[200:]) - 4.0) < 0.1
    flat = stages.Mirostat(1, 3.0, 0.1)
    assert flat.k(np.zeros(50), 1000) == 1000 and flat.k(np.zeros(1), 1) == 1
    assert flat.k(np.log([0.7, 0.2, 0.1]) * 50, 1000) == 1


@given(st.lists(st.integers(0, 4), max_size=40), st.sampled_from([1, 2, 3]), st.sets(st.integers(0, 4), max_size=2))
def test_dry_is_the_plain_search(history: list[int], allowed: int, breakers: set[int]) -> None:
    p = SamplingParams(dry_multiplier=0.8, dry_base=1.75, dry_allowed_length=allowed)
    found = penalties.dry(history, p, {t: [()] for t in breakers})
    want = reference.dry(history, 0.8, 1.75, allowed, breakers)
    assert found.keys() == want.keys()
    for token in found:
        assert math.isclose(found[token], want[token])


def test_dry_by_hand() -> None:
    """llama.cpp's own example: a b c c b c y a b c. After it, c repeats three tokens, b one, y two."""
    a, b, c, y = range(4)
    p = SamplingParams(dry_multiplier=1.0, dry_base=2.0, dry_allowed_length=1)
    assert penalties.dry([a, b, c, c, b, c, y, a, b, c], p, {}) == {c: 4.0, b: 1.0, y: 2.0}
    long_run = [a] * 2000
    assert penalties.dry(long_run, p, {})[a] < float(np.finfo(np.float32).max)
    two_tokens = {b: [(c,)]}  # the breaker is "b c": it ends the text, so nothing is repeated
    assert penalties.dry([a, b, c, y, a, b, c], p, two_tokens) == {}
    assert penalties.dry([a, b, -1, a, b], SamplingParams(dry_multiplier=1.0), {}) == {}  # -1: an image, not a token


def test_the_tape_s_best_are_enough_and_mask_comes_first(scans: list[RowScan]) -> None:
    """With a mask, with the best at hand and without, in C and NumPy: the same token, and an allowed one."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=9000).astype(np.float32)
    ok = rng.random(9000) < 0.3
    mask = np.packbits(np.resize(ok, 9024) & (np.arange(9024) < 9000), bitorder="little").view(np.uint32)
    step = Step.of_rows(1)
    step.masks = [mask]
    values, ids = top_k.ref(x[None], step, k=128)
    for options in ({}, {"temperature": 0.0}, {"top_k": 0}, {"logit_bias": {int(np.argmax(x)): 50.0}}):
        tokens = set()
        for scan in scans:
            for best in (None, (values[0], ids[0])):
                sampler = AdvancedSampler(SamplingParams(seed=1, **options), scan=scan)
                tokens |= {sampler(x, [], 3, best, mask)}
        assert len(tokens) == 1 and ok[tokens.pop()]
    nothing = np.zeros(282, np.uint32)
    for params in (SamplingParams(seed=1), SamplingParams(seed=1, temperature=0.0)):
        with pytest.raises(NonFinite):
            AdvancedSampler(params)(x, [], 3, None, nothing)


def test_a_processor_sees_the_row_itself() -> None:
    x = np.array([1.0, 5.0, 2.0], np.float32)
    seen: list[tuple[Any, ...]] = []

    def forbid(history: Sequence[int], row: F32) -> None:
        seen.append((list(history), np.shares_memory(row, x)))
        row[1] = -np.inf

    assert AdvancedSampler(SamplingParams(temperature=0.0, logits_processor=forbid))(x, [7], 1) == 2
    assert seen == [([7], True)] and x[1] == -np.inf
    other = SamplingParams(temperature=0.0, logits_processor=lambda history, row: -row)
    assert AdvancedSampler(other)(np.array([1.0, 5.0, 2.0], np.float32), [], 0) == 0
    short = SamplingParams(logits_processor=lambda history, row: row[:2])
    with pytest.raises(InvalidArgument, match=r"\(2,\)"):
        AdvancedSampler(short)(np.zeros(3, np.float32), [], 0)
    ruined = SamplingParams(logits_processor=lambda history, row: row * np.nan)
    with pytest.raises(NonFinite):
        AdvancedSampler(ruined)(np.zeros(3, np.float32), [], 0)


def test_logprobs_and_explain() -> None:
    p = np.array([0.5, 0.3, 0.15, 0.05])
    x = np.log(p).astype(np.float32)
    sampler = AdvancedSampler(SamplingParams(top_k=3, top_p=0.75, min_p=0.0, top_logprobs=2, explain=True, seed=0))
    token = sampler(x, [], 0)
    (entry,) = sampler.logprobs
    assert entry.token_id == token and math.isclose(entry.logprob, math.log(p[token]), rel_tol=1e-6)
    assert list(entry.top) == [0, 1] and math.isclose(entry.top[1], math.log(0.3), rel_tol=1e-6)
    (step,) = sampler.explained
    assert [(k.stage, k.n) for k in step] == [("logits", 4), ("top_k", 3), ("top_p", 2), ("temperature", 2)]
    np.testing.assert_allclose(step[2].probabilities, [0.625, 0.375], rtol=1e-6)
    assert "top_p" in explain_text(step, {0: "Paris"}) and "'Paris' 0.625" in explain_text(step, {0: "Paris"})
    quiet = AdvancedSampler(SamplingParams(temperature=0.0))
    assert quiet.greedy and not AdvancedSampler(SamplingParams(temperature=0.0, explain=True)).greedy
    shown = AdvancedSampler(SamplingParams(temperature=0.0, explain=True))
    assert shown(x, [], 0) == 0 and shown.explained[0][0].n == 4


def test_stages_can_be_composed() -> None:
    """Any function of candidates is a stage."""

    class Odd:
        name = "odd"

        def __call__(self, c: Candidates) -> Candidates:
            assert c.ids is not None
            keep = c.ids % 2 == 1
            return Candidates(c.ids[keep], c.x[keep], c.n_vocab, c.scan)

    x = np.arange(10, dtype=np.float32)
    sampler = AdvancedSampler(SamplingParams(seed=1), [Odd(), stages.TopK(2)])
    assert {sampler(x, [], i) for i in range(50)} == {7, 9}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"typical_p": 0.0}, "typical_p"),
        ({"tfs_z": 1.5}, "tfs_z"),
        ({"mirostat_mode": 3}, "mirostat_mode"),
        ({"xtc_probability": -0.1}, "xtc_probability"),
        ({"dry_base": 0.5}, "dry_base"),
        ({"dynatemp_range": float("nan")}, "dynatemp_range"),
        ({"num_beams": 0}, "num_beams"),
        ({"temperature": 0, "xtc_probability": 0.5}, "xtc_probability is 0.5, .* temperature 0"),
        ({"temperature": 0, "typical_p": 0.9}, "typical_p is 0.9, .* temperature 0"),
        ({"temperature": 0, "typical_p": 0.9, "guidance_scale": 2}, "typical_p is 0.9, .* temperature 0"),
        ({"num_beams": 2, "penalty_alpha": 0.5}, "two ways"),
        ({"negative_prompt": "x"}, "guidance_scale"),
        ({"logits_processor": 3}, "logits_processor"),
        ({"dry_sequence_breakers": "abc"}, "dry_sequence_breakers"),
        ({"top_logprobs": 1000}, "top_logprobs"),
    ],
)
def test_values_out_of_range(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        SamplingParams(**options)


def test_stages_that_keep_the_largest_go_with_temperature_0() -> None:
    """They change nothing of a greedy choice; with a range of temperatures it is none."""
    x = np.array([1, 4, 3, 2], np.float32)
    for options in ({"top_k": 2}, {"top_p": 0.1}, {"min_p": 1.0}, {"tfs_z": 0.1}, {"top_n_sigma": 0.1}):
        assert AdvancedSampler(SamplingParams(temperature=0, **options))(x, [], 0) == 1
    assert len(AdvancedSampler(SamplingParams(temperature=0, dynatemp_range=1, xtc_probability=0.5)).stages) == 5
