"""`m.score`, `m.scan_logits`, windows, the distance of two models, and the file of saved logits."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zigllama import errors
from zigllama.foundation.runtime import F32
from zigllama.inference import model as model_module
from zigllama.inference.logits_file import LogitsReader, LogitsWriter, n_scored, pack, row_type
from zigllama.inference.model import Model
from zigllama.inference.perplexity import Divergence, RunningMean, cut, divergences, mean, quantiles, window_surprises
from zigllama.inference.scoring import F64, Score, log_sum_exp

Small = Callable[[str], Path]
IDS = [int(i) for i in np.random.default_rng(5).integers(3, 200, 90)]


@pytest.fixture(scope="module", params=["llama-mix", "gemma3-f32"])
def model(request: pytest.FixtureRequest, small_model: Small) -> Iterator[Model]:
    """One that wants no BOS, and one that does."""
    with Model(small_model(request.param), 256, 2) as m:
        yield m


def log_softmax(logits: F32) -> F64:
    """The oracle: float64, written out."""
    x = logits.astype(np.float64)
    x = x - x.max(axis=1, keepdims=True)
    out: F64 = x - np.log(np.exp(x).sum(axis=1, keepdims=True))
    return out


def fed(model: Model, window: list[int]) -> list[int]:
    """A window as the model gets it."""
    bos = model.tokenizer.bos_id if model.tokenizer.add_bos else None
    return window if bos is None else [bos, *window[1:]]


def test_log_probabilities_are_those_of_the_logits(model: Model) -> None:
    got = model.score(IDS)
    want = log_softmax(model.logits(IDS))[np.arange(len(IDS) - 1), IDS[1:]]
    assert got.token_ids == IDS
    assert got.logprobs.dtype == np.float32
    np.testing.assert_allclose(got.logprobs, want, rtol=2e-7, atol=0)
    assert got.perplexity == pytest.approx(math.exp(-want.mean()), rel=1e-6)


def test_text_gets_the_models_special_tokens(model: Model) -> None:
    text = "a text, then more text"
    ids = model.tokenizer.encode(text)
    assert (ids[0] == model.tokenizer.bos_id) == model.tokenizer.add_bos
    got, want = model.score(text), model.score(ids)
    assert got.token_ids == ids
    np.testing.assert_array_equal(got.logprobs, want.logprobs)


def test_bits_depend_on_neither_threads_nor_chunks(small_model: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    with Model(small_model("llama-mix"), 256, 1) as m:
        want = m.score(IDS).logprobs
    monkeypatch.setattr(model_module, "LOGITS_BYTES", 1)  # chunks of 16 rows
    for n_threads in (1, 2, 3):
        with Model(small_model("llama-mix"), 256, n_threads) as m:
            np.testing.assert_array_equal(m.score(IDS).logprobs, want)


@pytest.mark.parametrize("first", [0, 1, 15, 16, 40, 89, 90, 200])
def test_a_scan_shows_each_row_once_and_few_at_a_time(
    model: Model, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = model.logits(IDS)
    monkeypatch.setattr(model_module, "LOGITS_BYTES", 1)
    seen: list[tuple[int, F32]] = []
    model.scan_logits(IDS, lambda at, rows: seen.append((at, rows.copy())), first)
    assert all(len(rows) <= 16 for _, rows in seen)
    assert [at + i for at, rows in seen for i in range(len(rows))] == list(range(first, len(IDS)))
    if first < len(IDS):
        np.testing.assert_array_equal(np.concatenate([rows for _, rows in seen]), want[first:])


def test_what_the_reader_raises_ends_the_scan(model: Model) -> None:
    def see(at: int, rows: F32) -> None:
        raise KeyError("enough")

    with pytest.raises(KeyError, match="enough"):
        model.scan_logits(IDS, see)
    assert len(model.score(IDS).logprobs) == len(IDS) - 1  # and the model goes on


def test_a_score_takes_two_tokens_and_a_vocabulary_and_room(model: Model) -> None:
    with pytest.raises(errors.InvalidArgument, match=r"1 tokens: .* at least 2"):
        model.score([5])
    with pytest.raises(errors.InvalidArgument, match=f"token id {model.spec.n_vocab} is outside"):
        model.score([5, model.spec.n_vocab])
    assert len(model.score([5] * 257).logprobs) == 256  # the last is not run
    with pytest.raises(errors.ContextOverflow, match="257 positions are needed, the context has 256"):
        model.score([5] * 258)


def test_log_sum_exp_of_hard_rows() -> None:
    assert log_sum_exp(np.array([1e4, 1e4], np.float32)) == 1e4 + math.log(2)
    assert log_sum_exp(np.array([-3.0, -np.inf], np.float32)) == -3.0
    impossible = Score([0, 1], np.array([-np.inf], np.float32))
    assert impossible.perplexity == math.inf
    assert Score([0, 1], np.array([-800.0], np.float32)).perplexity == math.inf


# --- windows ----------------------------------------------------------------------------------------------------------


def test_windows_are_cut_as_llama_perplexity_cuts() -> None:
    assert cut(range(26), 8).tolist() == [list(range(8)), list(range(8, 16)), list(range(16, 24))]
    assert cut(range(26), 8, 2).shape == (2, 8)
    assert cut(range(26), 8, 99).shape == (3, 8)
    assert [n_scored(n) for n in (3, 4, 5, 256, 511, 512)] == [1, 1, 2, 127, 255, 255]


def test_a_text_of_less_than_two_windows_is_refused() -> None:
    with pytest.raises(errors.InvalidArgument, match="15 tokens; windows of 8 take at least two, 16"):
        cut(range(15), 8)
    with pytest.raises(errors.InvalidArgument, match="windows of 2 tokens"):
        cut(range(15), 2)
    for chunks in (0, -2):
        with pytest.raises(errors.InvalidArgument, match=f"^{chunks} windows"):
            cut(range(16), 8, chunks)


@pytest.mark.parametrize("n_ctx", [3, 44, 45])
def test_the_second_half_of_a_window_is_scored(model: Model, n_ctx: int) -> None:
    window = cut(IDS, n_ctx)[1]
    ids = fed(model, window.tolist())
    first = n_ctx // 2
    want = -log_softmax(model.logits(ids))[np.arange(first, n_ctx - 1), ids[first + 1 :]]
    np.testing.assert_allclose(window_surprises(model, window), want, rtol=1e-12)


# --- saved logits -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_vocab", [1, 2, 63, 64])
def test_a_row_is_packed_into_16_bits(n_vocab: int) -> None:
    rng = np.random.default_rng(n_vocab)
    for spread in (0.0, 0.1, 3.0, 30.0):
        row = (spread * rng.standard_normal(n_vocab)).astype(np.float32)
        packed = pack(row)
        exact = log_softmax(row[None])[0]
        near = exact > exact.max() - 16
        np.testing.assert_allclose(packed.log_probs()[near], exact[near], atol=0.51 * 16 / 65535 + 1e-5)
        assert not packed.code[~near].any()
        assert packed.code.argmax() == row.argmax()
    assert row_type(n_vocab).itemsize == 8 + 2 * (n_vocab + n_vocab % 2)


@settings(max_examples=50)
@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=2, max_size=40))
def test_codes_are_the_nearest(values: list[float]) -> None:
    row = np.array(values, np.float32)
    packed = pack(row)
    top = float(row.max())
    bottom = max(float(row.min()), float(np.float32(top) - np.float32(16)))
    if packed.scale:
        want = (np.maximum(row.astype(np.float64), bottom) - bottom) * 65535 / (top - bottom)
        assert np.abs(packed.code - want).max() <= 0.5 + 65535 * 2.0**-21
    else:
        assert not packed.code.any()


def saved(model: Model, path: Path, n_ctx: int = 40) -> Path:
    windows = cut(IDS, n_ctx)
    with LogitsWriter(path, windows, model.spec.n_vocab) as writer:

        def each(row: F32, target: int) -> float:
            writer.add(row)
            return 0.0

        for window in windows:
            window_surprises(model, window, each)
    return path


def test_a_file_is_laid_out_as_llama_perplexitys(model: Model, tmp_path: Path) -> None:
    path = saved(model, tmp_path / "base.logits")
    n_vocab, n_rows = model.spec.n_vocab, 2 * 19
    raw = path.read_bytes()
    assert raw[:20] == b"_logits_" + struct.pack("<Iii", 40, n_vocab, 2)
    assert np.frombuffer(raw, "<i4", 80, 20).tolist() == IDS[:80]
    row_bytes = 2 * (2 * ((n_vocab + 1) // 2) + 4)
    assert len(raw) == 20 + 320 + n_rows * row_bytes
    at = 340 + 20 * row_bytes  # the second row of the second window
    want = pack(model.logits(fed(model, IDS[40:80]))[21])
    assert struct.unpack_from("<ff", raw, at) == (want.scale, want.lowest)
    np.testing.assert_array_equal(np.frombuffer(raw, "<u2", n_vocab, at + 8), want.code)


def test_a_model_is_no_distance_from_itself(model: Model, tmp_path: Path) -> None:
    with LogitsReader(saved(model, tmp_path / "base.logits")) as base:
        assert base.windows.tolist() == [IDS[:40], IDS[40:80]]
        found = Divergence.joined(list(divergences(model, base)))
        one = list(divergences(model, base, 1))
    assert len(found.kl) == 38
    assert np.abs(found.kl).max() < 3e-4
    assert np.abs(found.delta_p).max() < 3e-4
    np.testing.assert_allclose(found.surprise, found.base, atol=3e-4)
    assert found.same_top.all()
    assert found.correlation > 0.999999
    np.testing.assert_array_equal(np.concatenate([d.kl for d in one]), found.kl[:19])


def test_the_distance_of_two_models(small_model: Small, tmp_path: Path) -> None:
    """By the definition in float64, on the whole matrices of logits."""
    with Model(small_model("llama-f16"), 256, 2) as a, Model(small_model("llama-bf16"), 256, 2) as b:
        with LogitsReader(saved(a, tmp_path / "base.logits")) as base:
            found = Divergence.joined(list(divergences(b, base)))
        p, q = (np.concatenate([log_softmax(m.logits(IDS[i : i + 40])[20:39]) for i in (0, 40)]) for m in (a, b))
    targets = [*IDS[21:40], *IDS[61:80]]
    rows = np.arange(38)
    kl = (np.exp(p) * (p - q)).sum(axis=1)
    assert kl.min() > 0.01
    np.testing.assert_allclose(found.kl, kl, atol=2e-3)
    np.testing.assert_allclose(found.surprise, -q[rows, targets], rtol=1e-9)
    np.testing.assert_allclose(found.base, -p[rows, targets], atol=2e-4)
    assert found.same_top.tolist() == (p.argmax(axis=1) == q.argmax(axis=1)).tolist()
    dp = np.exp(q[rows, targets]) - np.exp(p[rows, targets])
    np.testing.assert_allclose(found.delta_p, dp, atol=1e-5)
    assert found.rms_delta_p.value == pytest.approx(math.sqrt((dp**2).mean()), rel=1e-2)
    assert found.correlation == pytest.approx(np.corrcoef(p[rows, targets], q[rows, targets])[0, 1], abs=1e-3)


def test_statistics() -> None:
    x = np.array([1.0, 2.0, 3.0, 6.0])
    m = mean(x)
    assert m.value == 3.0
    assert m.error == pytest.approx(np.std(x, ddof=1) / 2)
    assert mean(np.array([2.0])) == (2.0, 0.0)
    assert m.exponential().value == pytest.approx(math.exp(3))
    assert m.exponential().error == pytest.approx(math.exp(3) * m.error)
    for offset in (0.0, 1e6):  # where the sum of x^2 less n mean^2 would have lost its digits
        y, running = np.random.Generator(np.random.PCG64(2)).exponential(2.0, 500) + offset, RunningMean()
        for part in np.split(y, [1, 3, 100, 407]):
            found = running.add(part)
            so_far = y[: running.n]
            assert found.value == pytest.approx(so_far.mean(), rel=1e-14)
            assert found.error == pytest.approx(mean(so_far).error, rel=1e-9)
    assert running.n == 500
    q = quantiles(x)
    assert (q["1"], q["0.5"], q["0"]) == (6.0, 2.5, 1.0)
    assert q["0.1"] == pytest.approx(1.3)
    still = Divergence(x, np.ones(4), x, x)
    assert math.isnan(still.correlation)
    assert Divergence(x, x, x, x).rms_delta_p == (0.0, 0.0)


def test_another_vocabulary_is_refused(small_model: Small, tmp_path: Path) -> None:
    with Model(small_model("llama-mix"), 64, 1) as a, Model(small_model("gemma3-f32"), 64, 1) as b:
        sizes = f"has {a.spec.n_vocab} tokens, the model's {b.spec.n_vocab}"
        assert a.spec.n_vocab != b.spec.n_vocab
        with LogitsReader(saved(a, tmp_path / "f")) as base, pytest.raises(errors.LogitsFileError, match=sizes):
            next(divergences(b, base))


def written(path: Path) -> bytes:
    rows = np.random.default_rng(1).standard_normal((2, 5)).astype(np.float32)
    with LogitsWriter(path, cut([1, 2, 3, 4, 0, 1], 3), 5) as writer:
        for row in rows:
            writer.add(row)
    return path.read_bytes()


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    path = tmp_path / "f"
    whole = written(path)
    assert len(whole) == 20 + 24 + 2 * 20
    for n in range(len(whole)):
        path.write_bytes(whole[:n])
        wrong = errors.LogitsFileError if n < 8 else errors.Truncated
        with pytest.raises(wrong) as caught:
            LogitsReader(path)
        if isinstance(caught.value, errors.Truncated):
            assert (caught.value.need, caught.value.have) == (20 if n < 20 else 84, n)


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (8, struct.pack("<I", 2), "windows of 2 tokens"),
        (12, struct.pack("<i", 0), "a vocabulary of 0"),
        (12, struct.pack("<i", -1), "a vocabulary of -1"),
        (16, struct.pack("<i", 0), "0 windows"),
        (16, struct.pack("<i", -5), "-5 windows"),
        (24, struct.pack("<i", 5), "token 1 is 5, outside the vocabulary of 5"),
        (24, struct.pack("<i", -1), "token 1 is -1"),
    ],
)
def test_impossible_numbers_are_refused(at: int, value: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "f"
    raw = bytearray(written(path))
    raw[at : at + 4] = value
    path.write_bytes(raw)
    with pytest.raises(errors.LogitsFileError, match=message):
        LogitsReader(path)


def test_a_head_that_announces_too_much_is_refused_before_memory_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"_logits_" + struct.pack("<Iii", 2**32 - 1, 2**31 - 1, 2**31 - 1))
    with pytest.raises(errors.Truncated, match="has 20"):
        LogitsReader(path)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_a_row_that_is_no_numbers_is_refused(value: float, tmp_path: Path) -> None:
    path = tmp_path / "f"
    raw = bytearray(written(path))
    raw[64:68] = struct.pack("<f", value)
    path.write_bytes(raw)
    with LogitsReader(path) as base:
        assert len(list(base.rows(0))) == 1
        with pytest.raises(errors.LogitsFileError, match="row 1 has scale"):
            list(base.rows(1))


def test_a_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "f"
    size = len(written(path))
    with LogitsReader(path) as base:
        os.truncate(path, size - 1)
        with pytest.raises(errors.Truncated, match=f"row 1 .* {size} bytes, the file has {size - 1}"):
            list(base.rows(1))


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "f"
    before = written(path)
    windows, row = cut([1, 2, 3, 4, 0, 1], 3), np.zeros(5, np.float32)
    with pytest.raises(errors.InvalidArgument, match="1 rows of 2"), LogitsWriter(path, windows, 5) as writer:
        writer.add(row)
    with pytest.raises(errors.InvalidArgument, match="more than the 2"), LogitsWriter(path, windows, 5) as writer:
        any(map(writer.add, [row] * 3))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["f"]
    with pytest.raises(errors.LogitsFileError, match="not a regular file"):
        LogitsWriter(tmp_path, windows, 5)
