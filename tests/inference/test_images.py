"""Images in prompts: rows that are the embeddings of tokens give those tokens' bits, whatever runs them and with whom;
images meet nobody else's cache; what does not fit together is a typed error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import vision_files
from vision_files import PIXELS

from zigllama import errors
from zigllama.inference.images import same_until, split_text
from zigllama.inference.model import Model
from zigllama.inference.vision import ImageRows, Vision
from zigllama.linear_algebra.quantization import dequantize
from zigllama.models.chat_templates import ChatTemplates

Small = Callable[[str], Path]
GREEDY: dict[str, Any] = {"max_tokens": 12, "temperature": 0.0, "ignore_eos": True}
IDS = [int(i) for i in np.random.default_rng(3).integers(3, 190, 90)]
WIDTH = 192  # of llama-mix, as of its towers here


@pytest.fixture(params=["llama-mix", "gemma3-mix"])
def path(request: pytest.FixtureRequest, small_model: Small) -> Path:
    return small_model(request.param)


@pytest.fixture
def tower(tmp_path: Path) -> Path:
    return vision_files.write(tmp_path / "mmproj.gguf", n_out=WIDTH)


@pytest.fixture
def seeing(small_model: Small, tower: Path) -> Iterator[Model]:
    with Model(small_model("llama-mix"), n_threads=2, n_ctx=700, vision=tower) as m:
        yield m


def embedded(m: Model, ids: list[int]) -> np.ndarray[Any, Any]:
    """The rows that `embed` makes of tokens."""
    t = m._loader.reader.tensors["token_embd.weight"]
    table = dequantize(m._loader.reader.tensor_bytes("token_embd.weight"), t.type.name).reshape(t.shape)
    rows: np.ndarray[Any, Any] = table[ids] * np.float32(m.spec.embedding_scale)
    return rows


@pytest.mark.parametrize("tape", ["1", "0"])
@pytest.mark.parametrize(("start", "end"), [(0, 7), (20, 85), (83, 90)])
def test_rows_of_tokens_are_those_tokens(
    path: Path, start: int, end: int, tape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZIGLLAMA_TAPE", tape)
    with Model(path, n_threads=2, n_ctx=256) as m:
        rows = embedded(m, IDS[start:end])
        got = m.logits(IDS[:start] + IDS[end:], image=rows, image_at=start)
        np.testing.assert_array_equal(got, m.logits(IDS))


def test_several_images_and_the_twins(path: Path) -> None:
    places, rest = [0, 30, 30], IDS[:40]
    with Model(path, n_threads=2, n_ctx=256) as m, Model(path, backend="reference", n_ctx=256) as twin:
        rows = np.random.default_rng(0).normal(0, 0.5, (9, m.spec.n_embd)).astype(np.float32)
        parts = [rows[:2], rows[2:3], rows[3:]]
        got = m.logits(rest, image=parts, image_at=places)
        assert got.shape == (49, m.spec.n_vocab)
        joined = m.logits(rest[:30] + rest[30:], image=[rows[:2], rows[2:]], image_at=[0, 30])
        np.testing.assert_array_equal(got, joined)
        want = twin.logits(rest, image=parts, image_at=places)
        assert np.abs(got - want).max() < 0.3 * want.std()  # activations in 8 bits; a lost row is far beyond it
        lost = twin.logits(rest, image=[rows[:2], rows[3:]], image_at=[0, 30])
        assert np.abs(got[33:] - lost[32:]).max() > 0.5 * want.std()


def test_generation_with_images(small_model: Small, tower: Path) -> None:
    """Alone, in a batch, in chunks: the tokens are those of the same rows as tokens; others see nothing of them."""
    long = [int(i) for i in np.random.default_rng(5).integers(3, 190, 600)]
    with Model(small_model("llama-mix"), n_threads=2, n_ctx=700, vision=tower) as m:
        plain, plain_long = m.generate(IDS, **GREEDY), m.generate(long, **GREEDY)
        tile = ImageRows(embedded(m, IDS[10:26]).astype(np.float32), 0, 0)
        prompt = [*IDS[:10], -1, *IDS[26:]]
        far = ImageRows(embedded(m, long[505:521]).astype(np.float32), 0, 0)  # across the border of two chunks
        assert m.generate(prompt, images=[tile], **GREEDY).token_ids == plain.token_ids
        many = m.generate_batch(
            [prompt, [*long[:505], -1, *long[521:]], IDS], images=[[tile], [far], None], reuse=False, **GREEDY
        )
        assert [r.token_ids for r in many] == [plain.token_ids, plain_long.token_ids, plain.token_ids]
        assert many[0].usage["prompt_tokens"] == len(IDS)
        twice = m.generate(prompt, images=[tile.embeddings], repeat_penalty=1.3, lookup=True, **GREEDY)
        assert twice.token_ids == m.generate(prompt, images=[tile], repeat_penalty=1.3, **GREEDY).token_ids
        with pytest.raises(errors.InvalidArgument, match="3 prompts"):
            m.generate_batch([prompt, IDS, IDS], images=[[tile]], **GREEDY)


def test_other_images_are_not_taken_from_the_cache(seeing: Model) -> None:
    """The same ids with another image are another text, also where 64 rows make a whole page."""
    rng = np.random.default_rng(1)
    a, b = (rng.normal(0, 1, (16, WIDTH)).astype(np.float32) for _ in range(2))
    prompt = [*IDS[:64], *[-1] * 5, *IDS[64:]]
    first = seeing.generate(prompt, images=[a] * 5, **GREEDY)
    again = seeing.generate(prompt, images=[a] * 5, **GREEDY)
    other = seeing.generate(prompt, images=[a, a, b, a, a], **GREEDY)
    fresh = seeing.generate(prompt, images=[a, a, b, a, a], reuse=False, **GREEDY)
    assert first.token_ids == again.token_ids and again.usage["cached_tokens"] == 64
    assert other.token_ids == fresh.token_ids != first.token_ids


def test_rows_are_the_requests_own(seeing: Model) -> None:
    """Who changes his array afterwards changes neither a request that waits nor what a session has read."""
    rows = np.random.default_rng(7).normal(0, 1, (16, WIDTH)).astype(np.float32)
    made = seeing.prompt([5, -1, 6], [rows])
    before = rows.copy()
    rows[:] = 0
    np.testing.assert_array_equal(made.images[0][1], before)


def test_text_with_images(seeing: Model) -> None:
    """`<image>` is a place only where images are given; pixels, a file and its rows are the same image."""
    assert seeing.vision is not None
    rows = seeing.vision.encode(PIXELS)
    results = [
        seeing.generate("what is <image> here", images=[image], **GREEDY)
        for image in (PIXELS, rows, seeing.vision.rows(PIXELS))
    ]
    assert len({tuple(r.token_ids) for r in results}) == 1
    ids = split_text("what is <image> here", seeing.tokenizer)
    assert ids.count(-1) == 1 and results[0].usage["prompt_tokens"] == len(ids) - 1 + 16
    before, after = "what is ", " here"
    assert ids == [*seeing.tokenizer.encode(before), -1, *seeing.tokenizer.encode(after, add_special=False)]
    plain = seeing.generate("what is <image> here", **GREEDY)
    assert plain.usage["prompt_tokens"] == len(seeing.tokenizer.encode("what is <image> here"))
    assert split_text("<image><image>", seeing.tokenizer)[-2:] == [-1, -1]


def test_what_does_not_fit(seeing: Model, small_model: Small, tower: Path) -> None:
    row = np.zeros((1, WIDTH), np.float32)
    error: type[Exception]
    for images, error in (
        ([], errors.PlaceholderMismatch),
        ([PIXELS, PIXELS], errors.PlaceholderMismatch),
        ([row], errors.ShapeError),
        ([ImageRows(row, 1, 1)], errors.ShapeError),
        ([b"no image"], errors.BadImage),
        ([b"no image", PIXELS], errors.PlaceholderMismatch),  # counted before any is read
        ("cat.png", errors.InvalidArgument),
        (PIXELS, errors.InvalidArgument),
        (5, errors.InvalidArgument),
    ):
        with pytest.raises(error):
            seeing.generate("a <image>", images=images, max_tokens=1)
    image: Any
    for image, at, error in (
        (row, 4, errors.InvalidArgument),
        (row, -1, errors.InvalidArgument),
        (row, None, errors.InvalidArgument),
        (None, 0, errors.InvalidArgument),
        ([row, row], [2, 1], errors.InvalidArgument),
        ([row], [1, 2], errors.InvalidArgument),
        (row[:, :-1], 0, errors.ShapeError),
        (row[:0], 0, errors.ShapeError),
        (row * np.nan, 0, errors.NonFinite),
        ([row], 1, errors.InvalidArgument),
        (5, 1, errors.InvalidArgument),
        (["row"], [1], errors.ShapeError),
    ):
        with pytest.raises(error):
            seeing.logits([5, 6, 7], image=image, image_at=at)
    with pytest.raises(errors.InvalidArgument, match="token id -2"):
        seeing.generate([5, -2], images=[PIXELS])
    with pytest.raises(errors.InvalidArgument, match="token id -1"):
        seeing.generate([5, -1])
    with Model(small_model("llama-f32"), n_threads=1) as blind:
        with pytest.raises(errors.VisionMissing, match="mmproj"):
            blind.generate([5, -1], images=[PIXELS])
        with pytest.raises(errors.PlaceholderMismatch):
            blind.generate([5, -1], images=[])
    with pytest.raises(errors.BadTensor, match="192 channels, the text model has 96"):
        Model(small_model("llama-f32"), vision=tower)


def test_not_finite_is_blamed(seeing: Model) -> None:
    """Logits that are not finite name an op, with the image's rows in the step that is run again."""
    wrong = np.full((16, WIDTH), np.nan, np.float32)
    with pytest.raises(errors.NonFinite, match="embed"):
        seeing.generate([5, -1, 6], images=[wrong], **GREEDY)
    assert seeing.generate(IDS, **GREEDY).token_ids  # and nobody else is touched


def test_whose_tower_it_is(small_model: Small, tower: Path) -> None:
    """A tower that was opened for the model is closed with it; one that was handed over is not."""
    with Vision(tower, n_threads=1) as v:
        with Model(small_model("llama-mix"), n_threads=1, vision=v) as m:
            assert m.vision is v
        assert not v.closed
        with Model(small_model("llama-mix"), n_threads=1, vision=tower) as m:
            own = m.vision
        assert own is not None and own.closed


PARTS = (
    "{% for m in messages %}{% for p in m.content %}{{ '<image>' if p.type == 'image' else p.text }}{% endfor %}"
    "{% endfor %}"
)
TEXTS = "{% for m in messages %}{{ m.role + ': ' + m.content }}{% endfor %}"


@pytest.mark.parametrize("template", [PARTS, TEXTS])
def test_chat_with_images(seeing: Model, template: str, tmp_path: Path) -> None:
    """Templates that walk over parts, and those that want texts; what a user writes is no place for an image."""
    parts = [{"type": "text", "text": "this <image> is not:"}, {"type": "image", "image": PIXELS}]
    chat = seeing.render_chat([{"role": "user", "content": parts}], template=template)
    assert chat.ids.count(-1) == 1 and chat.ids[-1] == -1 and chat.images[0] is PIXELS
    assert chat.text.endswith("this <image> is not:<image>")
    seeing._templates = ChatTemplates(template, seeing.tokenizer)
    answer = seeing.chat([{"role": "user", "content": parts}], **GREEDY)
    assert answer.usage["prompt_tokens"] == len(chat.ids) + 15
    with seeing.session() as s:
        one = s.chat(parts, **GREEDY)
        assert one.token_ids == answer.token_ids and one.usage["cached_tokens"] == 0
        two = s.chat([{"type": "text", "text": "and now?"}], **GREEDY)
        assert two.usage["cached_tokens"] >= answer.usage["prompt_tokens"] - 1  # the image is not read again
        with pytest.raises(errors.SessionFileError, match="images"):
            s.save(tmp_path / "s.zls")
        # another image in its place, which its ids do not show: it is read again from there
        s.messages[0] = {"role": "user", "content": [parts[0], {"type": "image", "image": 255 - PIXELS}]}
        three = s.chat([{"type": "text", "text": "and now?"}], **GREEDY)
        assert three.usage["cached_tokens"] <= len(chat.ids) - 1
    with pytest.raises(errors.TemplateError, match="0 of the 1 images"):
        seeing.render_chat([{"role": "user", "content": parts}], template="nothing {{ 1 }}")


def test_same_until() -> None:
    a, b = np.zeros((2, 3), np.float32), np.ones((2, 3), np.float32)
    assert same_until(((4, a), (9, b)), ((4, a), (9, b), (20, a))) is None
    assert same_until(((4, a), (9, b)), ((4, a), (9, a))) == 9
    assert same_until(((4, a),), ((3, a),)) == 3
    assert same_until(((4, a),), ((4, a[:1]),)) == 4
