"""Embeddings: the same bits whatever a text is embedded with, by every runtime; pooling; what is refused."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors_folder
import seeded_weights
from architecture_models import plain_tokenizer
from architecture_variants import all_variants

from zigllama.app import diff
from zigllama.app.main import main
from zigllama.errors import (
    BadMetadata,
    ClosedError,
    ContextOverflow,
    ForkedContext,
    InvalidArgument,
    NonFinite,
    UnknownName,
    WrongKindOfModel,
)
from zigllama.inference.embedding import pool, pooling_of
from zigllama.inference.engine import CHUNK
from zigllama.inference.model import Model
from zigllama.models.conversion.convert import convert

Small = Callable[[str], Path]
GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "architectures"
RNG = np.random.default_rng(11)
LENGTHS = (3, 64, 1, 130, 17, 65, 300, 5, 128, 2)
TEXTS = [[int(i) for i in RNG.integers(3, 200, n)] for n in LENGTHS]


def converted(name: str, place: Path) -> Path:
    """A small random model of the golden data, in F32."""
    about = json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))
    shapes = {key: tuple(shape) for key, shape in about["parameters"].items()}
    weights = seeded_weights.weights(name, shapes, all_variants()[name])
    folder = safetensors_folder.folder(place / "folder", about["config"], weights)
    convert(folder, place / f"{name}.gguf", "F32", vocabulary=False)
    return place / f"{name}.gguf"


@pytest.fixture(scope="module")
def bert_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with three segments."""
    return converted("bert-pairs", tmp_path_factory.mktemp("bert"))


def test_an_encoder_has_no_logits_to_compare(bert_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(WrongKindOfModel, match="an encoder"):
        diff.model(str(bert_path), prompt=[1, 2, 3])
    assert main(["diff", str(bert_path)]) == 3 and "an encoder" in capsys.readouterr().err


@pytest.fixture(params=["bert", "llama-mix", "gemma3-mix"])
def path(request: pytest.FixtureRequest, bert_path: Path, small_model: Small) -> Path:
    """An encoder, a decoder, one with windows."""
    return bert_path if request.param == "bert" else small_model(request.param)


@pytest.fixture
def bert(bert_path: Path) -> Iterator[Model]:
    with Model(bert_path, n_threads=2) as m:
        yield m


@pytest.mark.parametrize("pooling", ["mean", "cls", "last"])
def test_together_as_alone(path: Path, pooling: str) -> None:
    """All texts, each alone, in another order, by three threads, the pooled rows of `hidden`: the same bits."""
    with Model(path, n_threads=2) as m:
        together = m.embed(TEXTS, pooling, normalize=False)
        for text, row in zip(TEXTS, together, strict=True):
            np.testing.assert_array_equal(m.embed([text], pooling, normalize=False)[0], row)
            np.testing.assert_array_equal(pool(m.hidden(text), pooling), row)
        np.testing.assert_array_equal(m.embed(TEXTS[::-1], pooling, normalize=False), together[::-1])
    with Model(path, n_threads=3) as m:
        np.testing.assert_array_equal(m.embed(TEXTS, pooling, normalize=False), together)


def test_op_by_op_and_by_the_twins(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Model(path, n_threads=2) as m:
        want = m.embed(TEXTS[:6])
    monkeypatch.setenv("ZIGLLAMA_TAPE", "0")
    with Model(path, n_threads=2) as m:
        np.testing.assert_array_equal(m.embed(TEXTS[:6]), want)
    with Model(path, backend="reference") as m:
        # Variants round differently, and where a value lies between two steps of int8 the activation takes either: one
        # part in 127 of its block's largest. Rows of length 1 are then a few thousandths apart, in all directions alike.
        assert np.linalg.norm(m.embed(TEXTS[:6]) - want, axis=1).max() < 0.02


def test_a_decoders_long_text_is_read_in_chunks(small_model: Small) -> None:
    """Rows of a text longer than a step are those whose logits `logits` gives."""
    ids = [int(i) for i in RNG.integers(3, 200, CHUNK + 90)]
    with Model(small_model("llama-f32"), n_threads=2, n_ctx=1024) as m:
        rows = m.hidden(ids)
        np.testing.assert_array_equal(m.engine.logits(rows[-100:]), m.logits(ids)[-100:])
        np.testing.assert_array_equal(m.embed([ids, TEXTS[0]], "last", normalize=False)[0], rows[-1])
        np.testing.assert_array_equal(m.embed([ids, TEXTS[0]], "cls", normalize=False)[0], rows[0])


def test_many_short_texts(bert: Model) -> None:
    """More than there are sequences at once."""
    texts = [[1 + i % 200] for i in range(700)]
    rows = bert.embed(texts)
    np.testing.assert_array_equal(rows[200:400], rows[:200])
    np.testing.assert_allclose((rows * rows).sum(axis=1), 1, atol=1e-6)


def test_an_encoders_rows_see_what_follows(bert: Model) -> None:
    ids = TEXTS[1]
    assert not np.array_equal(bert.hidden(ids)[0], bert.hidden([*ids[:-1], 5])[0])


def test_segments(bert: Model) -> None:
    ids = TEXTS[4]
    plain = bert.hidden(ids)
    np.testing.assert_array_equal(bert.hidden(ids, [0] * len(ids)), plain)
    assert np.abs(bert.hidden(ids, [0] * 4 + [2] * (len(ids) - 4)) - plain).max() > 0.1
    for wrong in ([0], [3] * len(ids), [-1] * len(ids)):
        with pytest.raises(InvalidArgument, match="segments"):
            bert.hidden(ids, wrong)


def test_a_decoder_has_no_segments(small_model: Small) -> None:
    with Model(small_model("llama-f32"), n_threads=1) as m, pytest.raises(InvalidArgument, match="that has 0"):
        m.hidden([1, 2], [0, 0])


def test_an_encoder_writes_nothing(bert: Model) -> None:
    """Every way to ask says what can be had, and embedding goes on."""
    asks: list[Callable[[], Any]] = [
        lambda: bert.generate([1, 2]),
        lambda: bert.logits([1, 2]),
        lambda: bert.score([1, 2, 3]),
        lambda: bert.submit([1]),
        lambda: bert.session(),
        lambda: bert.decoder.forward(None, None),  # type: ignore[arg-type]
        lambda: bert.decoder.logits(None),
    ]
    for ask in asks:
        with pytest.raises(WrongKindOfModel, match=r"an encoder.*embed") as error:
            ask()
        assert "hidden" in error.value.can
    assert bert.embed([[1, 2]]).shape == (1, 256)


def test_what_is_too_long(bert_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An error with the numbers; cut only when asked for, and said. The last token stays the last."""
    tokenizer = plain_tokenizer(300)
    ids = [int(i) for i in RNG.integers(3, 200, 600)]
    with Model(bert_path, n_threads=2, tokenizer=tokenizer) as bert:
        with pytest.raises(ContextOverflow) as error:
            bert.embed([ids])
        assert (error.value.need, error.value.have) == (600, 512)
        with pytest.raises(ContextOverflow):
            bert.hidden(ids)
        np.testing.assert_array_equal(bert.embed([ids], truncate=True), bert.embed([ids[:512]]))
        assert "600 tokens is cut to the 512" in caplog.text
        tokenizer.add_eos = True
        np.testing.assert_array_equal(bert.embed([ids], truncate=True), bert.embed([[*ids[:511], ids[-1]]]))


def test_what_is_refused(bert: Model) -> None:
    with pytest.raises(InvalidArgument, match="no tokens"):
        bert.embed([[1], []])
    with pytest.raises(UnknownName):
        bert.embed([[1]], "max")
    with pytest.raises(InvalidArgument, match="hidden"):
        bert.embed([[1]], "none")
    with pytest.raises(InvalidArgument, match="outside the vocabulary"):
        bert.hidden([1, 300])
    with pytest.raises(BadMetadata, match="pooling_type"):
        pooling_of({"general.architecture": "bert", "bert.pooling_type": 4})
    assert [pooling_of({"general.architecture": "x", "x.pooling_type": i}) for i in range(4)] == [
        "none", "mean", "cls", "last",
    ]  # fmt: skip


def test_not_a_number(bert_path: Path, tmp_path: Path) -> None:
    """Rows that are no numbers are an error, not an embedding."""
    raw = bytearray(bert_path.read_bytes())
    raw[-4:] = np.float32(np.nan).tobytes()  # the last value of the last tensor
    (tmp_path / "nan.gguf").write_bytes(raw)
    with Model(tmp_path / "nan.gguf", n_threads=1) as m, pytest.raises(NonFinite):
        m.hidden([1, 2, 3])


def test_closing_waits_for_the_step_that_runs(bert_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a step returns lies in the program's memory until it was copied: `close` must not take it away."""
    m = Model(bert_path, n_threads=1)
    m.embed([[1, 2]])
    m.scheduler.close()  # which waits for its own step only
    monkeypatch.setattr(m.scheduler, "close", lambda: None)
    with m.engine.lock:
        closing = threading.Thread(target=m.close)
        closing.start()
        closing.join(0.2)
        assert closing.is_alive() and m._embedder._program is not None
    closing.join(20)
    assert m._embedder._program is None and m.engine.closed
    with pytest.raises(ClosedError):
        m.embed([[1, 2]])


def test_a_forked_child_is_refused_before_it_waits(bert: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever held the lock when the process was forked is not there to release it."""
    seen: list[BaseException] = []

    def ask() -> None:
        try:
            bert.embed([[1, 2]])
        except ForkedContext as e:
            seen.append(e)

    pid = bert.engine.pid
    for _ in range(2):  # without an embedder, and with one
        asking = threading.Thread(target=ask, daemon=True)
        monkeypatch.setattr(bert.engine, "pid", pid - 1)
        with bert.engine.lock:
            asking.start()
            asking.join(5)
            assert not asking.is_alive()
        monkeypatch.setattr(bert.engine, "pid", pid)
        bert.embed([[1, 2]])
    assert len(seen) == 2


def test_texts_wait_for_pages(tmp_path: Path) -> None:
    """Where one text fits at a time, or two, the others wait and none fails. A state needs a page more than a text
    has."""
    with Model(converted("mamba", tmp_path), n_threads=2, n_ctx=128) as m:
        want = m.embed(TEXTS[:3])
        states = m._embedder.cache.classes[0]
        n = states.pages.n_pages
        for taken in range(n - 6, n - 1):
            states.promised = taken
            np.testing.assert_array_equal(m.embed(TEXTS[:3]), want)
            assert states.promised == taken
