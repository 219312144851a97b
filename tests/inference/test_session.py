"""Sessions: what was read is not read again, also after a save and a load; a damaged or hostile file is an error and
changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zigllama import errors
from zigllama.inference.model import Model
from zigllama.inference.session import Session
from zigllama.models.chat_templates import RenderedChat

Small = Callable[[str], Path]
OPTIONS: dict[str, Any] = {"max_tokens": 40, "temperature": 1.0, "seed": 4, "ignore_eos": True}
TURNS = ["the first thing that is said, and it is not short", "another", "and a third one"]


def render(self: Model, messages: Sequence[Mapping[str, Any]], *rest: Any, **more: Any) -> RenderedChat:
    """A template that every tokenizer can do: the bytes of what was said, as token ids from 3 on."""
    text = "".join(f"{m['role'][0]}:{m['content']}\n" for m in messages) + "a:"
    return RenderedChat(text, [3 + b % 197 for b in text.encode("utf-8", "surrogatepass")])


@pytest.fixture(autouse=True)
def _template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Model, "render_chat", render)


@pytest.fixture(params=["llama-mix", "gemma3-mix"])
def path(request: pytest.FixtureRequest, small_model: Small) -> Path:
    return small_model(request.param)


@pytest.mark.parametrize("cache_type", [None, "Q8_0"])
def test_a_saved_session_goes_on_with_the_same_bits(path: Path, tmp_path: Path, cache_type: str | None) -> None:
    file = tmp_path / "s.zls"
    with Model(path, n_threads=2, n_ctx=1024, cache_type=cache_type) as m, m.session(system="be brief") as s:
        for text in TURNS[:2]:
            s.chat(text, **OPTIONS)
            assert s._sequence.reserved == s._sequence.length  # between turns it may have no more than it holds
        s.save(file)
        held = s._sequence.length
        want = s.chat(TURNS[2], **OPTIONS)
        assert s.messages[0] == {"role": "system", "content": "be brief"} and len(s.messages) == 7
    with Model(path, n_threads=1, n_ctx=1024, cache_type=cache_type) as m, m.session() as s:
        s.load(file)
        got = s.chat(TURNS[2], **OPTIONS)
        # random bytes, once they are text, need not come back as the same tokens: then the last page is read again.
        # What is written differs from one ISA variant to the next.
        assert 64 < got.usage["cached_tokens"] <= held // 64 * 64
        assert (got.text, got.token_ids) == (want.text, want.token_ids)
        assert len(s.messages) == 7
        with m.session() as fresh:  # and as if everything had been read here
            fresh.messages = s.messages[:-2]
            assert fresh.chat(TURNS[2], **OPTIONS).token_ids == want.token_ids
        m.generate([5] * 70, max_tokens=1)
    assert sorted(os.listdir(tmp_path)) == ["s.zls"]


def test_what_a_file_claims_is_nobody_elses(path: Path, tmp_path: Path) -> None:
    """Pages from a file are not found by others who begin with the same tokens."""
    file = tmp_path / "s.zls"
    with Model(path, n_threads=1, n_ctx=1024) as m, m.session() as s:
        s.chat(TURNS[0], **OPTIONS)
        s.save(file)
    with Model(path, n_threads=1, n_ctx=1024) as m:
        with m.session() as s:
            s.load(file)
            s.chat(TURNS[1], **OPTIONS)
            tokens = list(s._sequence.tokens)
            assert m.generate(tokens, max_tokens=1).usage["cached_tokens"] == 0
        assert m.engine.cache.used_bytes == 0


def uses(s: Session, folder: Path) -> list[Callable[[], Any]]:
    return [lambda: s.chat("x"), lambda: s.save(folder / "x"), lambda: s.load(folder / "x")]


def test_a_session_speaks_to_one_at_a_time(path: Path, tmp_path: Path) -> None:
    with Model(path, n_threads=1, n_ctx=1024) as m, m.session() as s:
        stream = s.chat(TURNS[0], stream=True, **OPTIONS)
        next(stream)
        for use in uses(s, tmp_path):
            with pytest.raises(errors.SessionBusy):
                use()
        stream.close()
        assert s.messages == []
        with pytest.raises(errors.ContextOverflow):
            s.chat("x" * 2000)
        assert s.messages == []
        result = s.chat(TURNS[0], deadline=0.0, **OPTIONS)
        assert result.finish_reason == "deadline"
    for use in uses(s, tmp_path):
        with pytest.raises(errors.ClosedError):
            use()


def test_beside_a_batch(path: Path) -> None:
    with Model(path, n_threads=2, n_ctx=1024) as m:
        with m.session() as s:
            want = [s.chat(text, **OPTIONS).token_ids for text in TURNS]
        handles = [m.submit([i, i + 1], temperature=0.0, ignore_eos=True) for i in range(5, 9)]
        with m.session() as s:
            assert [s.chat(text, **OPTIONS).token_ids for text in TURNS] == want
        for handle in handles:
            handle.cancel()
            handle.result(timeout=20)
        assert m.engine.cache.used_bytes == 0


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(small_model: Small, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Model, bytes]:
    """A model that stays open, and a file of it."""
    folder = tmp_path_factory.mktemp("saved")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Model, "render_chat", render)
        m = Model(small_model("gemma3-mix"), n_threads=1, n_ctx=640)
        with m.session() as s:
            s.chat(TURNS[0], **OPTIONS | {"max_tokens": 80})
            s.save(folder / "s.zls")
    return folder, m, (folder / "s.zls").read_bytes()


def summed(raw: bytes) -> bytes:
    """With the checksum that belongs to it: what somebody could write on purpose."""
    return raw + hashlib.sha256(raw).digest()


def rebuilt(raw: bytes, **fields: Any) -> bytes:
    """The file with other fields in its head."""
    length = struct.unpack("<I", raw[12:16])[0]
    head = json.loads(raw[16 : 16 + length]) | fields
    text = json.dumps({k: v for k, v in head.items() if v is not ...}).encode()
    return summed(raw[:12] + struct.pack("<I", len(text)) + text + raw[16 + length : -32])


def refused(m: Model, file: Path, raw: bytes, kind: type[Exception] = errors.SessionFileError) -> Exception:
    """Loading it raises, and leaves the session as it was."""
    file.write_bytes(raw)
    with m.session() as s:
        s.messages = [{"role": "user", "content": "as it was"}]
        before = m.engine.cache.used_bytes
        with pytest.raises(kind) as e:
            s.load(file)
        assert m.engine.cache.used_bytes == before and len(s.messages) == 1 and s._sequence.slot >= 0
    return e.value


def test_hostile_files(saved: tuple[Path, Model, bytes]) -> None:
    folder, m, raw = saved
    file = folder / "hostile.zls"
    body, length = raw[:-32], struct.unpack("<I", raw[12:16])[0]
    n = json.loads(raw[16 : 16 + length])["n_tokens"]
    assert n == 128
    at = 16 + length
    counts: list[Any] = [-64, 64, 127, 192, 2**40, 1.0, True, None, "128", ...]
    said: list[Any] = ["x", [1], [{}], [{"role": "user"}], [{"role": 1, "content": ""}], {"role": "a"}, ...]
    cases = {
        "empty": b"",
        "magic": b"GGUF" + raw[4:],
        "magic alone": raw[:8],
        "version": summed(raw[:8] + struct.pack("<I", 2) + body[12:]),
        "head beyond the end": summed(raw[:12] + struct.pack("<I", 2**32 - 1) + body[16:]),
        "head into the checksum": summed(raw[:12] + struct.pack("<I", len(body) - 15) + body[16:]),
        "not JSON": summed(body[:16] + b"{" * length + body[at:]),
        "nested": summed(body[:12] + struct.pack("<I", 200_000) + b"[" * 200_000),
        "not UTF-8": summed(body[:16] + b"\xff" * length + body[at:]),
        "no object": summed(body[:12] + struct.pack("<I", 2) + b"[]" + body[at:]),
        "more at the end": summed(body + b"\0"),
        "less at the end": summed(body[:-1]),
        "token id": summed(body[:at] + struct.pack("<i", 10**6) + body[at + 4 :]),
        "negative token": summed(body[:at] + struct.pack("<i", -1) + body[at + 4 :]),
        **{f"n_tokens {k}": rebuilt(raw, n_tokens=k) for k in counts},
        **{f"messages {k}": rebuilt(raw, messages=k) for k in said},
        "field too much": rebuilt(raw, more=1),
        "model type": rebuilt(raw, model=[1]),
    }
    for name, bad in cases.items():
        assert str(file) in str(refused(m, file, bad)), name
    mismatch = refused(m, file, rebuilt(raw, fingerprint="isa=mmx"), errors.SessionMismatch)
    assert isinstance(mismatch, errors.SessionMismatch) and mismatch.found == "isa=mmx"
    for field in ("model", "cache_type"):
        refused(m, file, rebuilt(raw, **{field: "F64"}), errors.SessionMismatch)
    refused(m, file, body + bytes(32))


@settings(max_examples=60)
@given(st.data())
def test_any_damage_is_found(saved: tuple[Path, Model, bytes], data: st.DataObject) -> None:
    folder, m, raw = saved
    if data.draw(st.booleans()):
        bad = raw[: data.draw(st.integers(0, len(raw) - 1))]
    else:
        at = data.draw(st.integers(0, len(raw) - 1))
        bad = raw[:at] + bytes([raw[at] ^ data.draw(st.integers(1, 255))]) + raw[at + 1 :]
    refused(m, folder / "damaged.zls", bad)


def test_pages_of_nonsense_hurt_their_session_alone(saved: tuple[Path, Model, bytes]) -> None:
    """Keys of NaN with a right checksum: the answer is an error, and the model goes on."""
    folder, m, raw = saved
    length = struct.unpack("<I", raw[12:16])[0]
    at = 16 + length + 4 * 128
    file = folder / "nan.zls"
    file.write_bytes(summed(raw[:at] + np.full((len(raw) - 32 - at) // 2, np.nan, np.float16).tobytes()))
    with m.session() as s:
        s.load(file)
        request = m.request([*s._sequence.tokens, 5], sequence=s._sequence, **OPTIONS)
        m.scheduler.submit(request, alone=True)
        with pytest.raises(errors.NonFinite):
            m.scheduler.finish(request)
    assert m.generate([5, 6], max_tokens=3).finish_reason in ("stop", "length")


def test_places_that_are_no_files(saved: tuple[Path, Model, bytes], tmp_path: Path) -> None:
    _, m, _ = saved
    os.mkfifo(tmp_path / "fifo")
    with m.session() as s:
        for place in (tmp_path, tmp_path / "fifo", "/dev/zero"):
            with pytest.raises(errors.SessionFileError):
                s.load(place)
            with pytest.raises(errors.SessionFileError):
                s.save(place)
        with pytest.raises(FileNotFoundError):
            s.load(tmp_path / "none")
        with pytest.raises(FileNotFoundError):
            s.save(tmp_path / "no folder" / "s.zls")


def test_a_failed_save_leaves_the_old_file(
    saved: tuple[Path, Model, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, m, raw = saved
    file = tmp_path / "s.zls"
    file.write_bytes(raw)

    def fail(fd: int) -> None:
        raise OSError(28, "No space left on device")

    with m.session() as s:
        s.load(file)
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space"):
            s.save(file)
    assert file.read_bytes() == raw and os.listdir(tmp_path) == ["s.zls"]
    assert m.engine.cache.used_bytes == 0


def test_another_model_is_told_from_this_one(small_model: Small, tmp_path: Path) -> None:
    """One weight that differs, in the middle of a tensor, makes another model; another cache type another session."""
    source = small_model("llama-f32")
    raw = bytearray(source.read_bytes())
    with Model(source, n_threads=1, n_ctx=256) as m, m.session() as s:
        t = m._loader.reader.tensors["blk.1.ffn_up.weight"]
        raw[t.offset + t.n_bytes // 2 + 9] ^= 1
        s.chat(TURNS[0], **OPTIONS)
        s.save(tmp_path / "s.zls")
    (tmp_path / "other.gguf").write_bytes(raw)
    others: list[dict[str, Any]] = [{"path": tmp_path / "other.gguf"}, {"path": source, "cache_type": "F16"}]
    for options in others:
        with Model(**options, n_threads=1, n_ctx=256) as m, m.session() as s, pytest.raises(errors.SessionMismatch):
            s.load(tmp_path / "s.zls")
