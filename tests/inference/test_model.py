"""Whole small models: the same bits however they are run, and what generation promises."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zigllama import errors
from zigllama.foundation.native import isa_variants
from zigllama.foundation.native_context import guard_add, guard_remove
from zigllama.foundation.runtime import F32, Step
from zigllama.inference import engine as engine_module
from zigllama.inference.model import Model

Small = Callable[[str], Path]
NAMES = ["llama-mix", "llama-q4_k", "llama-f16", "gemma3-mix"]
USABLE = [name for name, ok in isa_variants() if ok]
IDS = [int(i) for i in np.random.default_rng(7).integers(3, 200, 150)]


def logits(path: Path, **options: Any) -> F32:
    """Logits of IDS under these options."""
    with Model(path, **options) as m:
        return m.logits(IDS)


@pytest.fixture(params=NAMES)
def path(request: pytest.FixtureRequest, small_model: Small) -> Path:
    """A small model of each kind."""
    return small_model(request.param)


def test_threads_and_repacking_do_not_change_a_bit(path: Path) -> None:
    want = logits(path, n_threads=1)
    others: list[dict[str, Any]] = [{"n_threads": 2}, {"n_threads": 3}, {"n_threads": 2, "repack": False}]
    for options in others:
        np.testing.assert_array_equal(logits(path, **options), want)


def test_eager_gives_the_tapes_bits(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    want = logits(path, n_threads=2)
    monkeypatch.setenv("ZIGLLAMA_TAPE", "0")
    with Model(path, n_threads=2) as m:
        assert m.backend["execution"] == "eager"
        np.testing.assert_array_equal(m.logits(IDS), want)


def test_tape_is_one_call_per_step(path: Path) -> None:
    with Model(path, n_threads=1) as m:
        m.generate(IDS[:5], max_tokens=1, temperature=0.0, ignore_eos=True)  # records
        assert m.engine.context is not None
        before = m.engine.context.counters()
        m.generate(IDS[:5], max_tokens=9, temperature=0.0, ignore_eos=True)
        after = m.engine.context.counters()
    assert after["runs"] - before["runs"] == after["program_runs"] - before["program_runs"] == 9


@pytest.mark.parametrize("chunk", [1, 3, 64, 100])
def test_chunks_do_not_change_a_bit(path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading in chunks of any size, one row at a time included (which is decoding), equals reading at once."""
    want = logits(path, n_threads=2)
    with Model(path, n_threads=2) as m:
        sequence, rows = m.engine.cache.add(), []
        for i in range(0, len(IDS), chunk):
            step = m.engine.cache.extend(sequence, IDS[i : i + chunk])
            step.out_rows = np.arange(step.n_rows, dtype=np.int32)
            rows.append(m.engine.run(step).copy())
    np.testing.assert_array_equal(np.concatenate(rows), want)


def test_company_does_not_change_a_bit(path: Path) -> None:
    """Two sequences in one step, of different lengths and starts, give what each gives alone."""
    want = logits(path, n_threads=2)
    other = IDS[::-1]
    with Model(path, n_threads=2) as m:
        cache = m.engine.cache
        a, b = cache.add(), cache.add()
        m.engine.run(cache.extend(b, other[:70]))
        steps = [cache.extend(a, IDS[:90]), cache.extend(b, other[70:90])]
        both = Step(
            tokens=np.concatenate([s.tokens for s in steps]),
            positions=np.concatenate([s.positions for s in steps], axis=1),
            cache_pos=np.concatenate([s.cache_pos for s in steps]),
            see_to=np.concatenate([s.see_to for s in steps]),
            seq=np.concatenate([s.seq for s in steps]),
            out_rows=np.arange(110, dtype=np.int32),
            tables=steps[0].tables,
            n_seq=steps[0].n_seq,
        )
        together = m.engine.run(both).copy()
        alone = m.logits(other[:90])
    np.testing.assert_array_equal(together[:90], want[:90])
    np.testing.assert_array_equal(together[90:], alone[70:])


def assert_close(path: Path, a: F32, b: F32, ids: list[int]) -> None:
    """Two executions of the same arithmetic whose float sums differ in their last bits.

    A last bit can flip the rounding of an activation to 8 bits, or of a key to float16; what follows from it grows as
    any such rounding does. However many flip, the two cannot be further apart than what these roundings cost at all,
    which the same file with float32 activations and cache tells; and the first position, which few roundings precede,
    is far closer.
    """
    with Model(path, n_threads=2, dequantize=True) as exact:
        cost = float(np.sqrt(np.mean((exact.logits(ids) - a) ** 2)))
    assert np.sqrt(np.mean((a - b) ** 2)) <= cost
    assert np.sqrt(np.mean((a[0] - b[0]) ** 2)) <= cost / 4


def test_reference_agrees_with_native(path: Path) -> None:
    ids = IDS[:40]
    with Model(path, n_threads=2) as m, Model(path, backend="reference") as r:
        assert r.backend["execution"] == "reference"
        assert_close(path, m.logits(ids), r.logits(ids), ids)


@pytest.mark.parametrize("isa", [i for i in USABLE if i != USABLE[0]])
def test_isa_variants_agree(path: Path, isa: str) -> None:
    best, other = logits(path, isa=USABLE[0], n_threads=2), logits(path, isa=isa, n_threads=2)
    assert_close(path, best, other, IDS)


# --- generation ---


@pytest.mark.parametrize("name", ["llama-mix", "gemma3-mix"])
def test_a_cache_of_8_bits(name: str, small_model: Small) -> None:
    """Its own bits, the same on any threads and row by row; the twin's values; and named in the fingerprint."""
    path, options = small_model(name), dict[str, Any](cache_type="Q8_0")
    want = logits(path, n_threads=1, **options)
    assert not np.array_equal(want, logits(path, n_threads=1))
    np.testing.assert_array_equal(logits(path, n_threads=3, **options), want)
    with Model(path, n_threads=2, **options) as m:
        assert "q8_0" in m.fingerprint
        sequence, rows = m.engine.cache.add(), []
        for token in IDS:
            rows.append(m.engine.run(m.engine.cache.extend(sequence, [token])).copy())
    np.testing.assert_array_equal(np.concatenate(rows), want)
    with Model(path, backend="reference", **options) as r:
        assert_close(path, want[:40], r.logits(IDS[:40]), IDS[:40])


def test_a_cache_of_8_bits_wants_whole_blocks(small_model: Small) -> None:
    with pytest.raises(errors.ShapeError, match="blocks of 32 channels, its heads have 16 and 16"):
        Model(small_model("llama-f32"), cache_type="Q8_0")


@pytest.fixture
def llama(small_model: Small) -> Path:
    """One model for everything that is about generation."""
    return small_model("llama-mix")


def test_generation_is_greedy_step_by_step(llama: Path) -> None:
    with Model(llama, n_threads=2) as m:
        result = m.generate(IDS[:10], max_tokens=12, temperature=0.0, ignore_eos=True)
        ids = IDS[:10]
        for token in result.token_ids:
            assert token == int(m.logits(ids)[-1].argmax())
            ids = [*ids, token]
    assert result.finish_reason == "length" and not result.truncated
    assert result.usage == {"prompt_tokens": 10, "cached_tokens": 0, "completion_tokens": 12}
    assert "isa=" in result.fingerprint


def test_stream_is_the_same_text_and_ends_when_closed(llama: Path) -> None:
    options: dict[str, Any] = {"max_tokens": 20, "temperature": 1.5, "seed": 3, "ignore_eos": True}
    with Model(llama, n_threads=2) as m:
        whole = m.generate(IDS[:10], **options)
        assert "".join(e.text for e in m.generate(IDS[:10], stream=True, **options)) == whole.text
        stream = m.generate(IDS[:10], stream=True, **options)
        next(iter(stream))
        stream.close()
        assert m.engine.cache.used_bytes == 0
        assert m.generate(IDS[:10], **options).token_ids == whole.token_ids


def test_seeds(llama: Path) -> None:
    with Model(llama, n_threads=2) as m:
        draw = [m.generate(IDS[:5], max_tokens=16, temperature=2.0, seed=s, ignore_eos=True) for s in (1, 1, 2)]
        free = m.generate(IDS[:5], max_tokens=4, temperature=2.0, ignore_eos=True)
        again = m.generate(IDS[:5], max_tokens=4, temperature=2.0, seed=free.seed, ignore_eos=True)
    assert draw[0].token_ids == draw[1].token_ids != draw[2].token_ids
    assert free.token_ids == again.token_ids


def test_stop_strings_are_not_in_the_text(llama: Path) -> None:
    with Model(llama, n_threads=2) as m:
        whole = m.generate(IDS[:10], max_tokens=24, temperature=0.0, ignore_eos=True)
        stop = whole.text[3:6]
        assert stop
        cut = m.generate(IDS[:10], max_tokens=24, temperature=0.0, ignore_eos=True, stop=[stop])
    assert cut.finish_reason == "stop" and cut.text == whole.text[: whole.text.index(stop)]


def test_overflow_is_an_error_before_anything_is_read(llama: Path) -> None:
    with Model(llama, n_ctx=64, n_threads=1) as m:
        with pytest.raises(errors.ContextOverflow) as e:
            m.generate(IDS[:65], max_tokens=1)
        assert (e.value.need, e.value.have) == (65, 64) and m.engine.cache.used_bytes == 0
        full = m.generate(IDS[:60], temperature=0.0, ignore_eos=True)
        assert full.finish_reason == "length" and len(full.token_ids) == 5
        with pytest.raises(errors.ContextOverflow):
            m.logits(IDS)


def test_bad_calls(llama: Path) -> None:
    with Model(llama, n_threads=1) as m:
        with pytest.raises(TypeError, match="temperature"):
            m.generate("a", temprature=1)
        bad_options: list[dict[str, Any]] = [
            {"top_p": 0.0},
            {"temperature": -1.0},
            {"min_p": 2.0},
            {"max_tokens": -1},
            {"seed": -1},
        ]
        for options in bad_options:
            with pytest.raises(errors.InvalidArgument):
                m.generate(IDS[:2], **options)
        with pytest.raises(errors.InvalidArgument, match="99999"):
            m.logits([1, 99999])
        with pytest.raises(errors.InvalidArgument, match="no tokens"):
            m.generate([], max_tokens=1)
    with pytest.raises(errors.ClosedError):
        m.logits([1])
    bad: list[dict[str, Any]] = [{"backend": "gpu"}, {"blas": "nonesuch"}, {"isa": "nonesuch"}]
    for wrong in bad:
        with pytest.raises(errors.UnknownName):
            Model(llama, **wrong)


def test_nan_in_a_scale_is_named(llama: Path, tmp_path: Path) -> None:
    """A file with a NaN scale loads; the logits it makes raise, naming the op."""
    from zigllama.foundation.gguf_format import GGUFReader

    with GGUFReader(llama) as r:
        offset = r.tensors["blk.1.ffn_up.weight"].offset
    raw = bytearray(llama.read_bytes())
    raw[offset : offset + 2] = b"\x00\x7e"  # a half-float NaN
    broken = tmp_path / "nan.gguf"
    broken.write_bytes(raw)
    with Model(broken, n_threads=1) as m, pytest.raises(errors.NonFinite) as e:
        m.logits(IDS[:3])
    assert e.value.op == "linear" and e.value.layer == 1


def test_cancelled_prefill_leaves_the_sequence_alone(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between two chunks of a prompt gives the pages back."""
    with Model(llama, n_threads=1) as m:
        monkeypatch.setattr("zigllama.inference.turns.CHUNK", 20)
        runs = iter(range(10))

        def interrupt(step: Step, run: Callable[[Step], F32] = m.engine.run) -> F32:
            if next(runs) == 2:
                raise KeyboardInterrupt
            return run(step)

        monkeypatch.setattr(m.engine, "run", interrupt)
        monkeypatch.setattr("zigllama.inference.batching.AHEAD", 1)  # every step goes through it
        with pytest.raises(KeyboardInterrupt):
            m.generate(IDS, max_tokens=1)
        assert m.engine.cache.used_bytes == 0
    assert engine_module.CHUNK == 512


def test_the_cache_saves_the_work_of_reading_again(llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows run for 100 tokens after a prompt of 150: one each. Without a cache every step would run all before it."""
    rows = 0
    with Model(llama, n_ctx=512, n_threads=2) as m:
        run = m.engine.run

        def count(step: Step) -> F32:
            nonlocal rows
            rows += step.n_rows
            return run(step)

        monkeypatch.setattr(m.engine, "run", count)
        monkeypatch.setattr("zigllama.inference.batching.AHEAD", 1)  # every step goes through it
        m.generate(IDS, max_tokens=100, temperature=0.0, ignore_eos=True)
    assert rows == 150 + 99
    assert rows < 0.05 * sum(range(150, 250))


def test_a_model_that_is_dropped_without_close_guards_nothing_any_more(small_model: Any) -> None:
    """Or the next file that the system maps at that address could not be guarded."""
    model = Model(small_model("llama-mix"), n_threads=1)
    model.logits([3, 4, 5])
    view = model._guarded[0]
    with pytest.raises(errors.InvalidArgument, match="guarded already"):
        guard_add(view)
    del model
    gc.collect()
    guard_add(view)
    guard_remove(view)


def test_a_thousand_loads_leave_memory_flat(llama: Path) -> None:
    """Model, engine thread, cache, tape and panels go with `close`; so do their mappings and threads."""

    def resident() -> int:
        with open("/proc/self/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def load(times: int) -> None:
        for _ in range(times):
            with Model(llama, n_threads=2, n_ctx=128) as m:
                assert len(m.generate([1, 2, 3], max_tokens=2, temperature=0.0, ignore_eos=True).token_ids) == 2

    load(200)  # what grows once: caches of compiled patterns, the allocator's own reserves
    gc.collect()
    before, n_maps = resident(), len(Path("/proc/self/maps").read_text().splitlines())
    n_threads = len(list(Path("/proc/self/task").iterdir()))
    load(800)
    gc.collect()
    assert resident() - before < 4e6  # 5 kB a load; the smallest thing that could be left behind is larger
    assert len(Path("/proc/self/maps").read_text().splitlines()) - n_maps < 10
    assert len(list(Path("/proc/self/task").iterdir())) == n_threads
