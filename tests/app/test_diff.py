"""`zl.diff`: two sides agree within their bounds, and an error planted in one is found at the op where it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import small_models
from architecture_models import Subject
from native_ops import usable_variants

from zigllama import errors
from zigllama.app import diff
from zigllama.app.diff_bounds import bound
from zigllama.app.lockstep import Side, compare, ulp_distance
from zigllama.app.main import main
from zigllama.foundation.runtime import REGISTRY, Op, Step
from zigllama.inference.engine import Engine

IDS = [int(i) for i in np.random.default_rng(3).integers(3, 200, 90)]  # more than one page of the cache


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: small_models.build(name, folder) for name in ("llama-f32", "llama-mix", "gemma3-mix")}


class Planted(Side):
    """The twins, with one output of one op changed: its `nth` run, times `factor` at one index."""

    def __init__(self, op: str, nth: int, index: tuple[int, ...], factor: float) -> None:
        super().__init__(f"planted in {op} {nth}", None)
        self.op, self.nth, self.index, self.factor, self.seen = op, nth, index, factor, 0

    def run(self, op: Op, args: tuple[Any, ...], params: Mapping[str, Any], step: Step) -> tuple[npt.NDArray[Any], ...]:
        out = super().run(op, args, params, step)
        if op.name == self.op:
            if self.seen == self.nth:
                if op.name == "kv_store":
                    args[3].v[step.tables[args[3].cls][0, 0], params["layer"]][self.index] *= self.factor
                else:
                    out[0][self.index] *= self.factor
            self.seen += 1
        return out


# --- agreement --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["llama-f32", "llama-mix", "gemma3-mix"])
def test_reference_and_native_agree(name: str, models: dict[str, Path]) -> None:
    report = diff.model(models[name], IDS, n_threads=2)
    assert report.ok and report.first_divergence is None, str(report)
    shares = report.shares()
    assert {"embed", "linear", "rms_norm", "rope", "kv_store", "attention", "glu", "add", "gather"} <= set(shares)
    for exact in ("embed", "kv_store", "gather", "add"):
        n, same, _ = shares[exact]
        assert n == same
    assert 0 < shares["linear"][2] <= 1
    whole = report.end_to_end
    assert whole is not None and whole.rows == len(IDS)
    assert 0 < whole.relative_rms <= whole.bound
    assert whole.kl < 1e-3
    assert whole.bound == (diff.END_TO_END_FLOAT if name == "llama-f32" else 2 * (whole.rounding or 0))


def test_every_usable_isa_variant_agrees_with_generic(models: dict[str, Path]) -> None:
    for isa in usable_variants():
        report = diff.model(models["llama-mix"], IDS[:20], a=isa, b="generic")
        assert report.ok, str(report)
        assert (report.a, report.b) == (isa, "generic")
        if isa == "generic":  # the same code twice: the same bits
            assert all(m.identical for m in report.ops) and report.end_to_end is not None
            assert report.end_to_end.relative_rms == 0


def test_the_end_to_end_run_is_what_a_model_gives(models: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from zigllama.inference.model import Model

    seen: list[npt.NDArray[np.float32]] = []
    genuine = diff._end_to_end

    def keep(x: npt.NDArray[np.float32], y: npt.NDArray[np.float32], *rest: Any) -> Any:
        seen.extend((x, y))
        return genuine(x, y, *rest)

    monkeypatch.setattr(diff, "_end_to_end", keep)
    diff.model(models["llama-mix"], IDS[:12])
    for backend, logits in zip(("reference", "native"), seen, strict=True):
        with Model(models["llama-mix"], backend=backend) as model:
            assert isinstance(model.engine, Engine)
            np.testing.assert_array_equal(model.logits(IDS[:12]), logits)


def test_a_real_model(smollm2_path: Path) -> None:
    report = diff.model(smollm2_path, "The capital of France is")
    assert report.ok, str(report)
    assert sum(n for n, _, _ in report.shares().values()) == 968  # 484 ops of 30 layers, in two steps


# --- planted errors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("op", "nth", "index", "layer", "operand"),
    [
        ("embed", 0, (3, 5), None, "token_embd"),
        ("rms_norm", 0, (4, 7), 0, "attn_norm"),
        ("rms_norm", 3, (4, 7), 1, "ffn_norm"),
        ("linear", 1, (10, 9), 0, "attn_k"),
        ("linear", 11, (0, 63), 1, "ffn_gate"),
        ("rope", 1, (2, 8), 0, ""),
        ("rope", 2, (2, 8), 1, ""),
        ("kv_store", 1, (0, 5, 6), 1, ""),
        ("attention", 1, (70, 33), 1, ""),
        ("glu", 0, (88, 1), 0, ""),
        ("add", 3, (1, 1), 1, ""),
        ("gather", 0, (0, 3), None, ""),
        ("rms_norm", 4, (0, 7), None, "output_norm"),
        ("linear", 14, (0, 17), None, "token_embd"),
    ],
)
@pytest.mark.parametrize("factor", [1.01, np.nan])
def test_a_planted_error_is_found_where_it_is(
    op: str, nth: int, index: tuple[int, ...], layer: int | None, operand: str, factor: float, models: dict[str, Path]
) -> None:
    """llama-mix has 2 layers: per step 5 norms, 15 products, 4 rotations, 2 attentions."""
    report = diff.model(models["llama-mix"], IDS, a="native", b=Planted(op, nth, index, factor), n_threads=1)
    found = report.first_divergence
    assert found is not None and not report.ok
    assert (found.op, found.layer, found.operand) == (op, layer, operand)
    assert found.beyond == 1
    if op != "kv_store":
        assert found.index == index
    if not np.isnan(factor):
        assert found.b == pytest.approx(found.a * 1.01, rel=2e-3)
        assert found.error > found.bound and found.ulp is not None and found.ulp > 10
    # one op only: what comes after it is given the same inputs again
    assert sum(m.divergence is not None for m in report.ops) == 1
    assert op in str(report)


@pytest.mark.parametrize("op", ["glu", "attention", "linear", "rope", "rms_norm"])
def test_a_twin_that_is_wrong_everywhere_is_found_at_its_first_run(
    op: str, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step left out of the formula: all ops of this kind are wrong, and so are the logits."""
    genuine = REGISTRY[op].ref
    monkeypatch.setattr(REGISTRY[op], "ref", lambda *args, **params: genuine(*args, **params) * np.float32(1.02))
    report = diff.model(models["llama-mix"], IDS[:9])
    found = report.first_divergence
    assert found is not None and found.op == op and found.layer == 0
    assert report.shares()[op][2] > 1


class Forgetful(Side):
    """The twins, but that one op leaves another state in the page of positions 0 to 63, in one layer."""

    def __init__(self, op: str, layer: int) -> None:
        super().__init__(f"forgetful in {op}", None)
        self.op, self.layer = op, layer

    def run(self, op: Op, args: tuple[Any, ...], params: Mapping[str, Any], step: Step) -> tuple[npt.NDArray[Any], ...]:
        out = super().run(op, args, params, step)
        if op.name == self.op and params["layer"] == self.layer and step.cache_pos[0] == 0:
            pages = args[-1]
            store = pages.k if op.name == "short_conv" else pages.v
            store[step.tables[pages.cls][0, 0], self.layer, 5] *= 1.01
        return out


@pytest.mark.parametrize("name", ["mamba", "mamba2"])
def test_states_are_compared_too(name: str, tmp_path: Path) -> None:
    """What an op returns may be right and what it remembers wrong: then later rows would be."""
    path = Subject(name, tmp_path).path
    report = diff.model(path, IDS)
    assert report.ok, str(report)
    for op in ("short_conv", "selective_scan" if name == "mamba" else "dual_scan"):
        found = diff.model(path, IDS, a="native", b=Forgetful(op, 1), n_threads=1).first_divergence
        assert found is not None and (found.op, found.layer, found.index, found.beyond) == (op, 1, (0, 5), 1)
        assert found.b == pytest.approx(found.a * 1.01, rel=2e-3)


def test_end_to_end_finds_what_no_single_op_shows(models: dict[str, Path]) -> None:
    """A bound that is asked for holds for the logits; nothing else is beyond its own."""
    report = diff.model(models["llama-mix"], IDS[:9], bound=1e-9)
    found = report.first_divergence
    assert found is not None and found.op == "logits" and found.layer is None
    assert all(m.divergence is None for m in report.ops)
    assert report.end_to_end is not None and report.end_to_end.rounding is None


# --- ops and kernels --------------------------------------------------------------------------------------------------


def test_op_and_kernel() -> None:
    x = np.random.default_rng(1).normal(size=(5, 67)).astype(np.float32)
    for report in (
        diff.op("silu", x),
        diff.op("rms_norm", x, x[0].copy(), eps=1e-5, a="generic", b=usable_variants()[0]),
        diff.kernel("softmax", x, scale=2.0),
        diff.kernel("matmul", x, x.T.copy()),
        diff.kernel("top_k", x, 5),
    ):
        assert report.ok and len(report.ops) == 1, str(report)
    planted = diff.op("softmax", x, a=Planted("softmax", 0, (2, 3), 1.0001), b="native")
    assert planted.first_divergence is not None and planted.first_divergence.index == (2, 3)
    assert planted.end_to_end is None


def test_blas_libraries_are_sides(stub_blas: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    """A library by path beside our own kernels, a kernel that no library touches, and what `native` takes."""
    path = str(stub_blas("libblis.so.4"))
    a, b = (np.random.default_rng(i).normal(size=(33, 33)).astype(np.float32) for i in (1, 2))
    report = diff.kernel("matmul", a, b, a=path, b="generic")
    assert report.ok and report.notes == () and report.b == f"native ({usable_variants()[0]})"
    assert diff.kernel("matmul", a, b, a=path, b="avx2" if "avx2" in usable_variants() else "native").ok
    report = diff.kernel("softmax", a, a=path, b="generic")
    assert report.ok and report.ops[0].identical
    assert report.notes[0].startswith(f"{path}: {path} was never called")
    assert report.to_json()["notes"] == list(report.notes)
    report = diff.kernel("matmul", a, b, blas=path)
    assert report.b == f"native ({usable_variants()[0]} with {path})" and report.notes == ()
    assert main(["diff", "--kernel", "softmax", "--a", path, "--b", "generic"]) == 0
    assert "note: " in capsys.readouterr().out
    with pytest.raises(errors.BlasUnavailable, match="nowhere"):
        diff.kernel("matmul", a, b, b="/nowhere/libblas.so")


def test_every_op_has_a_bound() -> None:
    from zigllama.app.diff_bounds import _BOUNDS

    assert set(_BOUNDS) == set(REGISTRY)
    with pytest.raises(errors.InvalidArgument, match="'frobnicate'"):
        bound("frobnicate", (), {}, np.zeros(1))


def test_errors(models: dict[str, Path]) -> None:
    with pytest.raises(errors.UnknownName, match="runtime, ISA variant or BLAS library 'avx3'"):
        diff.model(models["llama-f32"], IDS, b="avx3")
    with pytest.raises(errors.UnknownName, match="op 'sillu'"):
        diff.op("sillu", np.zeros((2, 2), np.float32))
    with pytest.raises(errors.UnknownName, match="kernel 'variants'"):
        diff.kernel("variants")
    with pytest.raises(errors.InvalidArgument, match="token ids"):
        diff.model(models["llama-f32"], [10**6])
    with pytest.raises(errors.InvalidArgument, match="token ids"):
        diff.model(models["llama-f32"], [])


# --- comparing --------------------------------------------------------------------------------------------------------


def test_compare_knows_nan_infinity_and_zero() -> None:
    nan, inf = np.nan, np.inf
    a = np.array([1, nan, inf, -inf, 0.0, 5], np.float32)
    assert compare("x", a, a, 0.0).identical
    assert compare("x", a, np.array([1, nan, inf, -inf, -0.0, 5], np.float32), 0.0).divergence is None
    for i, wrong in [(0, nan), (1, 1.0), (2, -inf), (3, 0.0), (4, 1e-30), (5, 5.0000005)]:
        b = a.copy()
        b[i] = wrong
        found = compare("x", a, b, 0.0).divergence
        assert found is not None and found.index == (i,) and found.beyond == 1
    near = compare("x", a, a * np.float32(1 + 1e-6), 1e-5)
    assert near.divergence is None and 0 < near.share < 1 and not near.identical
    # a bound that is itself not a number allows nothing but equality
    assert compare("x", a[:1], a[5:], nan).divergence is not None


def test_ulp_distance() -> None:
    one = float(np.nextafter(np.float32(1), np.float32(2)))
    assert ulp_distance(1.0, one) == 1
    assert ulp_distance(-1.0, -one) == 1
    assert ulp_distance(0.0, -0.0) == 0
    assert ulp_distance(2.0**-149, -(2.0**-149)) == 2
    assert ulp_distance(1.0, float("nan")) is None


# --- the command ------------------------------------------------------------------------------------------------------


def test_command_on_a_model(models: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    model = str(models["llama-mix"])
    assert main(["diff", model, "-p", "hello"]) == 0
    shown = capsys.readouterr()
    assert "agree: every op is within its bound" in shown.out and "linear" in shown.out
    assert main(["diff", model, "-p", "hello", "--a", "generic", "--b", "native", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ok"] is True
    assert main(["diff", model, "-p", "hello", "--bound", "1e-9", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["first_divergence"]
    assert found["op"] == "logits" and found["layer"] is None


def test_command_finds_a_planted_error(
    models: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = REGISTRY["glu"].ref
    monkeypatch.setattr(REGISTRY["glu"], "ref", lambda *a, **p: genuine(*a, **p) + np.float32(1e-3))
    assert main(["diff", str(models["llama-f32"]), "-p", "hello"]) == 1
    assert "differ first in glu in layer 0" in capsys.readouterr().out


def test_command_on_kernels(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from zigllama import kernels
    from zigllama.app.verbs.diff import samples

    assert set(samples()) == set(kernels.__all__) - {"variants"}
    assert main(["diff", "--kernel", "all"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(samples())
    assert main(["diff", "--kernel", "sofmax"]) == 2
    assert "did you mean 'softmax'" in capsys.readouterr().err
    assert main(["diff", "m.gguf", "--kernel", "softmax"]) == 2
    genuine = REGISTRY["silu"].ref
    monkeypatch.setattr(REGISTRY["silu"], "ref", lambda x: genuine(x) * np.float32(1 + 1e-5))
    assert main(["diff", "--kernel", "silu", "--json"]) == 1
