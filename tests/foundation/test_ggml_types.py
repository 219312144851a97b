"""The geometry of the GGML types against PyPI's gguf, and the helpers around it."""

from __future__ import annotations

import pytest

from zigllama.errors import ShapeError, UnknownName
from zigllama.foundation.ggml_types import GGML_TYPES, RETIRED, row_bytes, type_by_id, type_by_name

# gguf still lists the first form of Q8_1, with two f32 before the codes; ggml's block has had two f16 since 2024.
DIFFERS = {"Q8_1": (32, 40)}


def test_every_type_gguf_lists_is_here_with_the_same_geometry() -> None:
    constants = pytest.importorskip("gguf.constants", reason="gguf is not installed")
    for listed in constants.GGMLQuantizationType:
        ours = type_by_id(listed.value)
        expected = constants.GGML_QUANT_SIZES[listed]
        assert ours.name == listed.name
        assert DIFFERS.get(ours.name, (ours.block_size, ours.block_bytes)) == tuple(expected), ours.name


def test_names_and_ids_are_unique_and_lead_back() -> None:
    assert len({t.id for t in GGML_TYPES.values()}) == len(GGML_TYPES)
    for name, t in GGML_TYPES.items():
        assert t.name == name == str(t)
        assert type_by_id(t.id) is t
        assert type_by_name(name.lower()) is t
    assert not RETIRED.keys() & {t.id for t in GGML_TYPES.values()}


def test_bits_per_weight_of_the_known_formats() -> None:
    known = {
        "F32": 32,
        "Q4_0": 4.5,
        "Q8_0": 8.5,
        "Q4_K": 4.5,
        "Q6_K": 6.5625,
        "Q2_K": 2.625,
        "IQ2_XXS": 2.0625,
        "TQ1_0": 1.6875,
    }
    assert {name: GGML_TYPES[name].bits_per_weight for name in known} == known
    assert not GGML_TYPES["BF16"].is_quantized
    assert GGML_TYPES["Q8_0"].is_quantized


@pytest.mark.parametrize(
    ("name", "n", "expected"), [("F32", 5, 20), ("Q4_0", 64, 36), ("Q4_K", 512, 288), ("Q4_K", 0, 0)]
)
def test_row_bytes(name: str, n: int, expected: int) -> None:
    assert row_bytes(type_by_name(name), n) == expected


@pytest.mark.parametrize(("name", "n"), [("Q4_0", 31), ("Q4_K", 32), ("F32", -1), ("Q8_0", -32)])
def test_row_bytes_refuses_cut_blocks(name: str, n: int) -> None:
    with pytest.raises(ShapeError, match=f"{n} elements"):
        row_bytes(type_by_name(name), n)


def test_unknown_names_and_ids() -> None:
    with pytest.raises(UnknownName, match=r"id 31 \(Q4_0_4_4, withdrawn"):
        type_by_id(31)
    with pytest.raises(UnknownName, match="id 999"):
        type_by_id(999)
    with pytest.raises(UnknownName) as e:
        type_by_name("q4_kk")
    assert e.value.nearest == "Q4_K"
