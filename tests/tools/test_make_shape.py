"""The generator of random models: blocks with the deviation asked for, files that our reader and PyPI's gguf open."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from bench.blocks import FORMATS, random_blocks
from bench.rows import FAMILIES, ROWS, choose
from bench.shapes import SHAPES, Shape, llama
from make_shape import MIXED, PURE, fixed, make, types

import zigllama as zl
from zigllama.errors import BadMetadata
from zigllama.foundation.ggml_types import GGML_TYPES
from zigllama.linear_algebra.quantization import dequantize

TINY = llama(n_embd=256, n_layer=9, n_head=4, n_head_kv=2, n_ff=512, n_vocab=400, n_ctx=64)
# What a shape of each kind becomes so that a test can run it.
SMALLER = {
    "embedding_length": 256,
    "block_count": 2,
    "feed_forward_length": 512,
    "attention.head_count": 4,
    "expert_feed_forward_length": 256,
    "expert_shared_feed_forward_length": 512,
    "ssm.inner_size": 512,
}


def smaller(shape: Shape) -> Shape:
    """The same architecture with the same keys, small enough for a test."""
    keys = {key: SMALLER.get(key, value) if value else value for key, value in shape.keys.items()}
    kv = keys.get("attention.head_count_kv", 0)
    return Shape(shape.architecture, 400, keys | {"attention.head_count_kv": min(kv, 4)} if kv else keys, shape.tied)


def blocks(kind: str, n: int, std: float, seed: int = 1, name: str = "w") -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.concatenate([piece.reshape(-1) for piece in random_blocks(kind, n, std, seed=seed, name=name)])


@pytest.mark.parametrize("kind", FORMATS)
def test_values_have_the_deviation_asked_for_and_mean_zero(kind: str) -> None:
    """Within 2% (a quarter up or down of the scale adds 1%) and 5 standard errors: blocks share scales, so the mean of
    half a million values is at least as sure as that of as many whole blocks."""
    n, std = 1 << 19, 0.022
    x = dequantize(blocks(kind, n, std), kind).astype(np.float64)
    assert x.size == n and np.isfinite(x).all()
    assert abs(x.std() / std - 1) < 0.02
    assert abs(x.mean()) < 5 * std / math.sqrt(n / FORMATS[kind][0])


def test_formats_are_as_large_as_their_types_say() -> None:
    for kind, (size, n_bytes, _) in FORMATS.items():
        assert (size, n_bytes) == (GGML_TYPES[kind].block_size, GGML_TYPES[kind].block_bytes)


def test_bytes_depend_on_seed_and_name_alone_and_pieces_are_small() -> None:
    a = blocks("Q4_K", 1 << 14, 1.0)
    assert a.tobytes() == blocks("Q4_K", 1 << 14, 1.0).tobytes()
    assert a.tobytes() != blocks("Q4_K", 1 << 14, 1.0, seed=2).tobytes()
    assert a.tobytes() != blocks("Q4_K", 1 << 14, 1.0, name="v").tobytes()
    sizes = [piece.nbytes for piece in random_blocks("F32", 3 << 20, 1.0, seed=1, name="w")]
    assert sum(sizes) == 12 << 20 and max(sizes) <= 4 << 20


def test_a_cut_block_is_an_error() -> None:
    with pytest.raises(ValueError, match="100 values are no whole number of Q4_0 blocks of 32"):
        blocks("Q4_0", 100, 1.0)


def test_types_are_those_of_llama_quantize() -> None:
    """What its rule gives for 22 layers: the first two, the last three, every third between."""
    found = types(SHAPES["1.1b"], "Q4_K_M")
    better = [i for i in range(22) if found[f"blk.{i}.attn_v.weight"] == "Q6_K"]
    assert better == [0, 1, 4, 7, 10, 13, 16, 19, 20, 21]
    assert found["output.weight"] == found["blk.21.ffn_down.weight"] == "Q6_K"
    assert found["token_embd.weight"] == found["blk.2.attn_v.weight"] == found["blk.0.attn_q.weight"] == "Q4_K"
    assert found["blk.0.attn_norm.weight"] == "F32"
    assert SHAPES["1.1b"].n_params == 1_100_048_384


@pytest.mark.parametrize("name", PURE)
def test_a_pure_file_is_of_the_type_it_is_named_after(name: str) -> None:
    assert types(SHAPES["1.1b"], name)["blk.3.ffn_up.weight"] == name


def test_types_of_a_pure_file_and_of_a_tied_one() -> None:
    """One type but for the output, which is the embedding where that is tied."""
    pure = types(SHAPES["1.1b"], "IQ4_XS")
    assert {kind for name, kind in pure.items() if name != "output.weight"} == {"IQ4_XS", "F32"}
    assert pure["output.weight"] == "Q6_K"
    tied = types(SHAPES["gpt2-355m"], "Q3_K")
    assert tied["token_embd.weight"] == "Q6_K" and tied["blk.3.attn_qkv.weight"] == "Q3_K"
    assert tied["position_embd.weight"] == "F32" and "output.weight" not in tied


@pytest.mark.parametrize("name", FAMILIES)
def test_shapes_of_the_families_are_about_500m_and_have_rows(name: str) -> None:
    assert 350e6 < SHAPES[name].n_params < 570e6
    assert abs(SHAPES[name].n_params / 1e6 - int(name.rpartition("-")[2].removesuffix("m"))) < 6  # the name is right
    rows = [row for row in choose(["families"]) if row.model == f"{name}-q4_0"]
    assert [row.test for row in rows] == ["pp512", "tg64"] and all(row in ROWS and row.floor == 1.0 for row in rows)


def test_keys_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(BadMetadata, match="3 does not divide 256 channels"):
        _ = llama(256, 2, 3, 3, 512).n_params


def test_what_steers_a_scan_is_as_training_begins_with_it() -> None:
    a = fixed("blk.0.ssm_a", (3, 4))
    assert a is not None and a.tolist() == [[-1, -2, -3, -4]] * 3
    a = fixed("blk.0.ssm_a", (16, 1))
    assert a is not None and a.reshape(-1).tolist() == [-i for i in range(1, 17)]
    dt = fixed("blk.0.ssm_dt.bias", (9,))
    assert dt is not None
    steps = np.log1p(np.exp(dt.astype(np.float64)))
    np.testing.assert_allclose(steps, 10.0 ** np.linspace(-3, -1, 9), rtol=1e-4)
    assert fixed("blk.0.ssm_norm.weight", (2, 2)) is not None and fixed("blk.0.ssm_conv1d.weight", (2, 4)) is None


@pytest.mark.parametrize("mix", ["Q4_0", "Q8_0", "F16"])
@pytest.mark.parametrize("name", FAMILIES)
def test_a_small_model_of_every_kind_loads_and_runs(name: str, mix: str, tmp_path: Path) -> None:
    path, shape = tmp_path / "small.gguf", smaller(SHAPES[name])
    make(path, shape, mix, label="small")
    with zl.Model(path, n_threads=1) as m:
        assert m.info.architecture == shape.architecture and m.info.n_params == shape.n_params
        logits = m.logits(m.tokenizer.encode("a small house."))
    assert 0.8 < logits.std() < 1.25 and np.ptp(logits, axis=0).min() > 0.01  # every row its own


@pytest.mark.parametrize("mix", [*MIXED, *PURE])
def test_a_tiny_shape_loads_and_runs(mix: str, tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    make(path, TINY, mix, label="tiny")
    with zl.Model(path, n_threads=1) as m:
        assert m.info.n_params == TINY.n_params
        assert m.tokenizer.n_vocab == TINY.n_vocab
        text = "a small house."
        ids = m.tokenizer.encode(text)
        assert len(ids) < len(text) and m.tokenizer.decode(ids) == text
        logits = m.logits(ids)
    assert logits.shape == (len(ids), TINY.n_vocab)
    # The last hidden row has rms 1, and the output's deviation is C^-0.5: the logits' is 1, nearly.
    assert 0.8 < logits.std() < 1.25


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make(tmp_path / name, TINY, "Q4_0", seed=seed)
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c


@pytest.mark.parametrize("n", [319, 800_000])
def test_a_vocabulary_that_cannot_be_made_is_an_error(n: int, tmp_path: Path) -> None:
    shape = llama(256, 1, 4, 2, 512, n_vocab=n)
    with pytest.raises(ValueError, match=f"a vocabulary of {n} tokens"):
        make(tmp_path / "m.gguf", shape, "Q8_0")
    assert not list(tmp_path.iterdir())


def test_gguf_of_pypi_reads_the_same_values(tmp_path: Path) -> None:
    oracle = pytest.importorskip("gguf", reason="gguf is not installed")
    path = tmp_path / "tiny.gguf"
    for mix in ("Q5_K_M", "Q5_1", "BF16"):
        make(path, TINY, mix)
        reader = oracle.GGUFReader(path)
        expected = types(TINY, mix)
        found = {t.name: t for t in reader.tensors}
        assert {n: found[n].tensor_type.name for n in expected} == expected
        assert len(reader.fields["tokenizer.ggml.tokens"].data) == TINY.n_vocab
        with zl.gguf.open(path) as ours:
            for name in ("output.weight", "blk.2.ffn_down.weight", "blk.3.attn_v.weight"):
                theirs = oracle.quants.dequantize(found[name].data, found[name].tensor_type).reshape(-1)
                values = dequantize(np.asarray(ours.tensor_bytes(name)), expected[name])
                assert values.tobytes() == np.ascontiguousarray(theirs, np.float32).tobytes()
