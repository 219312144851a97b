"""Mixes: the types they choose are llama-quantize's (golden), the notation says what it means, wrong options are named.

The golden file was made by tools/make_mixes_golden.py from models without data, which this test makes again.
"""

from __future__ import annotations

import json
from pathlib import Path

import hollow_models
import pytest

from zigllama.app import mixes
from zigllama.app.mixes import CONDITIONS, MIXES, Facts, Place, fitting, is_quantizable, mix_by_name, more_bits
from zigllama.app.quantize_plan import Options, make_plan
from zigllama.errors import BadMetadata, InvalidArgument, UnknownName
from zigllama.foundation.ggml_types import type_by_name
from zigllama.foundation.gguf_format import GGUFReader
from zigllama.models.importance import Importance

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "quantize_mixes.json").read_text("utf-8"))


def options(words: list[str]) -> Options:
    """llama-quantize's flags as options."""
    types: dict[str, str] = {}
    found: dict[str, str] = {}
    it = iter(words)
    for word in it:
        if word == "--tensor-type":
            pattern, _, kind = next(it).partition("=")
            types[pattern] = kind
        elif word.endswith("-type"):
            found[word.strip("-").replace("-", "_")] = next(it)
    flags = {flag: f"--{flag.replace('_', '-')}" in words for flag in ("pure", "leave_output_tensor")}
    return Options(types, **found, **flags)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", hollow_models.MODELS)
def test_types_are_the_oracle_s(name: str, tmp_path: Path) -> None:
    runs = GOLDEN["models"][name]
    assert len(runs) > 35
    with GGUFReader(hollow_models.build(name, tmp_path)) as reader:
        for run, expected in runs.items():
            mix, *words = run.split()
            importance = Importance({}) if words == ["imatrix"] else None
            plan = make_plan(reader, mix, options(words), importance)
            assert hollow_models.compact({s.name: s.target.name for s in plan.steps}) == expected, run
            if not words and f"{run} imatrix" not in runs:
                weighed = make_plan(reader, mix, Options(), Importance({}))
                assert [s.target for s in weighed.steps] == [s.target for s in plan.steps], run


def test_golden_has_every_mix_and_says_whose_it_is() -> None:
    assert "llama-quantize" in GOLDEN["about"]["oracle"]
    for runs in GOLDEN["models"].values():
        assert {mix_by_name(run.split()[0]).name for run in runs} == set(MIXES)


def test_names_aliases_and_numbers() -> None:
    assert mix_by_name("q4_k") is MIXES["Q4_K_M"]
    assert mix_by_name("MXFP4") is MIXES["MXFP4_MOE"]
    assert mix_by_name("15") is MIXES["Q4_K_M"]
    assert len({m.file_type for m in MIXES.values()}) == len(MIXES)
    with pytest.raises(UnknownName, match=r"unknown mix 'Q4_K_X'.*Q4_K_S"):
        mix_by_name("Q4_K_X")


def test_the_notation() -> None:
    rules = mixes._rules("first2:Q5_K robust+!plain:Q3_K Q4_K")
    for i, architecture, weighed, expected in (
        (1, "llama", False, "Q5_K"),
        (2, "falcon", True, "Q3_K"),
        (2, "falcon", False, "Q4_K"),
        (2, "llama", True, "Q4_K"),
    ):
        facts = Facts(architecture, 8, 8, 1, 0, False, weighed)
        assert mixes._first(rules, Place(i, 8, facts)) == expected
    assert mixes._first(mixes._rules("first2:Q5_K"), Place(2, 8, facts)) is None
    with pytest.raises(KeyError, match="frist2"):
        mixes._rules("frist2:Q5_K")
    with pytest.raises(UnknownName, match="Q5_X"):
        mixes._rules("first2:Q5_X")
    used = {
        c.removeprefix("!") for m in MIXES.values() for rules in m.rules.values() for names, _ in rules for c in names
    }
    assert used == set(CONDITIONS)


def test_more_bits_by_hand() -> None:
    assert [i for i in range(16) if more_bits(i, 16)] == [0, 1, 4, 7, 10, 13, 14, 15]


def test_what_is_quantised() -> None:
    for name, shape, expected in (
        ("blk.0.attn_q.weight", (64, 64), True),
        ("blk.0.ffn_up_exps.weight", (4, 1, 64), True),
        ("blk.0.attn_q.bias", (64, 64), False),
        ("blk.0.attn_q.weight", (1, 64), False),
        ("blk.0.attn_q.weight", (64,), False),
        ("blk.0.attn_q_norm.weight", (64, 64), False),
        ("blk.0.ffn_gate_inp.weight", (8, 64), False),
        ("position_embd.weight", (64, 64), False),
        ("blk.0.time_mix_lerp_fused.weight", (5, 64), False),
    ):
        assert is_quantizable(name, shape) is expected, name


def test_fallback() -> None:
    for kind, width, expected in (
        ("Q4_K", 256, "Q4_K"), ("Q4_K", 288, "Q5_0"), ("Q5_K", 32, "Q5_1"), ("Q6_K", 32, "Q8_0"),
        ("IQ4_XS", 32, "IQ4_NL"),
        ("TQ1_0", 32, "Q4_0"), ("Q6_K", 33, "F16"), ("Q8_0", 33, "F16"), ("F32", 33, "F32"),
    ):  # fmt: skip
        assert fitting(type_by_name(kind), width).name == expected
    with pytest.raises(InvalidArgument, match="Q8_K has quant blocks of 256, which do not divide a row of 32"):
        fitting(type_by_name("Q8_K"), 32)


def test_wrong_options_are_named(tmp_path: Path) -> None:
    with GGUFReader(hollow_models.build("odd", tmp_path)) as reader:
        for given, says in (
            (Options({"attn_w": "Q8_0"}), "no tensor that is quantised has a name with 'attn_w'"),
            (Options({"output_norm": "Q8_0"}), "has a name with 'output_norm'"),
            (Options({"(": "Q8_0"}), r"'\(' is no regular expression"),
            (Options({"attn_v": "I32"}), "I32 is no type of weights that can be made"),
            (Options(output_tensor_type="Q8_1"), "Q8_1 is no type of weights"),
            (Options(token_embedding_type="Q9"), "unknown GGML type 'Q9'"),
        ):
            with pytest.raises(InvalidArgument, match=says):
                make_plan(reader, "Q4_0", given)


def test_hyper_parameters_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experts = hollow_models.MODELS["eight-experts"]
    for extra, says in (
        ({"attention.head_count": "many"}, "llama.attention.head_count.*'many' is not a count"),
        ({"expert_count": -8}, "llama.expert_count.*-8 is not a count"),
    ):
        model = hollow_models.Hollow(**(vars(experts) | {"extra": experts.extra | extra}))
        monkeypatch.setitem(hollow_models.MODELS, "bad", model)
        with GGUFReader(hollow_models.build("bad", tmp_path)) as reader, pytest.raises(BadMetadata, match=says):
            make_plan(reader, "Q4_K_M", Options())
    model = hollow_models.Hollow(**(vars(experts) | {"extra": experts.extra | {"block_count": 3}}))
    monkeypatch.setitem(hollow_models.MODELS, "bad", model)
    with (
        GGUFReader(hollow_models.build("bad", tmp_path)) as reader,
        pytest.raises(InvalidArgument, match=r"'blk\.3\.ffn_down_exps\.weight': its name tells no layer from 0 to 2"),
    ):
        make_plan(reader, "Q4_K_M", Options())
