"""`zl.kernels`: each kernel against its twin on every ISA variant, its errors, and that nothing native lacks a twin."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import random_weights
import tolerances
from format_samples import random_blocks
from native_ops import THREADS, assert_within, doubles, usable_variants

import zigllama
from zigllama import errors, kernels
from zigllama.foundation import native
from zigllama.foundation.runtime import REGISTRY

HEADER = Path(__file__).parents[1] / "ckernels" / "include" / "zl_api.h"
LAYERS = ("foundation", "linear_algebra", "neural_primitives", "transformers", "models", "inference")

# Which op (or entry of foundation.native) runs each native kernel. A kernel is added here when its op has a twin.
RUN_BY = {
    "rms_norm": "rms_norm",
    "layer_norm": "layer_norm",
    "softmax": "softmax",
    "rope_table": "rope",
    "rope": "rope",
    "unary": "silu",
    "glu": "glu",
    "add": "add",
    "mul": "mul",
    "scale": "scale",
    "softcap": "softcap",
    "top_k": "top_k",
    "row_best": "native_rows.weights",
    "row_weights": "native_rows.weights",
    "row_moments": "native_rows.moments",
    "row_near": "native_rows.near",
    "row_sample": "native_rows.cut",
    "row_keep": "native_rows.keep",
    "row_list": "native_rows.gather",
    "short_conv": "short_conv",
    "selective_scan": "selective_scan",
    "dual_scan": "dual_scan",
    "matmul": "native_context.matmul",
    "quantize_activation": "linear",
    "linear_quant": "linear",
    "quantize_group": "linear",
    "linear_float": "linear",
    "interleave_group": "linear",
    "interleave_bf16": "linear",
    "pack": "linear",
    "dequantize": "embed",
    "unpack_row": "embed",
    "kv_store": "kv_store",
    "kv_load": "attention",
    "kv_store_q8": "kv_store",
    "kv_load_q8": "attention",
    "attention_span": "attention",
    "attention_merge": "attention",
    "attention_finish": "attention",
    "probe_read": "native_probe.read",
    "quantize": "native_formats.quantize_rows",
    "probe_int8": "native_probe.peak",
    "probe_f32": "native_probe.peak",
}


def normal(*shape: int, seed: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def everywhere(kernel: Any, *args: Any, **params: Any) -> Iterator[tuple[str, Any]]:
    """(ISA variant, result), having checked that threads change no bit."""
    for isa in usable_variants():
        results = [kernel(*args, isa=isa, n_threads=n, **params) for n in THREADS]
        first = results[0]
        for other in results[1:]:
            for a, b in zip(*((r if isinstance(r, tuple) else (r,)) for r in (first, other)), strict=True):
                assert a.tobytes() == b.tobytes(), f"{kernel} on {isa}: the bits depend on threads"
        yield isa, first


# --- nothing native without a twin ------------------------------------------------------------------------------------


def import_all_layers() -> None:
    for layer in LAYERS:
        package = importlib.import_module(f"zigllama.{layer}")
        for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            importlib.import_module(module.name)


def opcodes_without_op(header: str) -> set[str]:
    """Opcodes of the header that no registered op has."""
    body = re.search(r"enum zl_opcode \{(.*?)\n\};", re.sub(r"/\*.*?\*/", "", header, flags=re.DOTALL), re.DOTALL)
    assert body is not None
    codes = {int(number): name for name, number in re.findall(r"(ZL_OP_\w+)\s*=\s*(\d+)", body[1])}
    assert len(codes) >= 16
    return {codes[c] for c in set(codes) - {int(op.code) for op in REGISTRY.values()}}


def test_every_opcode_of_the_header_has_an_op_with_a_twin() -> None:
    import_all_layers()
    text = HEADER.read_text("utf-8")
    assert not opcodes_without_op(text)
    assert all(callable(op.ref) and op.__doc__ for op in REGISTRY.values())
    planted = text.replace("ZL_OP_TOP_K = 16", "ZL_OP_FROBNICATE = 99, ZL_OP_TOP_K = 16")
    assert opcodes_without_op(planted) == {"ZL_OP_FROBNICATE"}


def test_every_unary_of_the_header_has_a_twin() -> None:
    from zigllama.neural_primitives.activations import ACTIVATIONS

    body = re.search(r"enum zl_unary \{(.*?)\};", HEADER.read_text("utf-8"), re.DOTALL)
    assert body is not None
    assert {int(n) for n in re.findall(r"= (\d+)", body[1])} == {int(fn) for _, fn in ACTIVATIONS.values()}


def test_every_native_kernel_is_run_by_an_op() -> None:
    import_all_layers()
    assert set(native.kernel_names()) == set(RUN_BY)
    assert {op for op in RUN_BY.values() if not op.startswith("native")} <= set(REGISTRY)
    entries = [name.rpartition(".") for name in RUN_BY.values() if name.startswith("native")]
    assert all(hasattr(importlib.import_module(f"zigllama.foundation.{home}"), name) for home, _, name in entries)


def test_variants_tell_what_exists_what_runs_and_what_is_chosen() -> None:
    best = usable_variants()[0]
    for isa in usable_variants():
        found = kernels.variants(isa)
        assert set(found) == set(native.kernel_names())
        for v in found.values():
            assert v.exist == tuple(n for n, _ in native.isa_variants())
            assert v.usable == usable_variants() and v.in_use == isa
    assert kernels.variants(best)["rms_norm"].in_use == best


def test_every_public_kernel_has_a_twin_and_says_its_keywords() -> None:
    for name in set(kernels.__all__) - {"variants"}:
        kernel = getattr(zigllama.kernels, name)
        assert callable(kernel.ref) and kernel.__doc__ and repr(kernel) == f"<kernel {name}>"
        assert {"isa", "n_threads", "out"} <= set(inspect.signature(kernel).parameters)


# --- against the twins ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (2, 3, 67), (0, 4)])
@pytest.mark.parametrize("name", ["silu", "gelu", "gelu_tanh"])
def test_activations(name: str, shape: tuple[int, ...]) -> None:
    x = 4 * normal(*shape, 33)
    kernel = getattr(kernels, name)
    want = kernel.ref(doubles(x))
    assert want.shape == x.shape
    for isa, got in everywhere(kernel, x):
        bound = tolerances.activation(name, doubles(x), doubles(want)) + tolerances.U * np.abs(x) * 8
        assert_within(got, doubles(want), bound, f"{name} on {isa}")


def test_gelu_has_both_forms() -> None:
    x = 3 * normal(2, 40)
    np.testing.assert_array_equal(kernels.gelu(x, approximate=True), kernels.gelu_tanh(x))
    assert np.abs(kernels.gelu(x) - kernels.gelu_tanh(x)).max() > 1e-5
    np.testing.assert_array_equal(kernels.gelu.ref(x, approximate=True), kernels.gelu_tanh.ref(x))


def test_norms() -> None:
    x, w, b = normal(2, 3, 64), normal(32, seed=2), normal(32, seed=3)
    g = doubles(x).reshape(2, 3, 2, 32)
    want = kernels.rms_norm.ref(x, w, eps=1e-3)
    for isa, got in everywhere(kernels.rms_norm, x, w, eps=1e-3):
        bound = 2 * tolerances.rms_norm(g, doubles(want).reshape(g.shape), doubles(w)).reshape(x.shape)
        assert_within(got, doubles(want), bound, f"rms_norm on {isa}")
    want = kernels.layer_norm.ref(x, w, b, eps=1e-3)
    for isa, got in everywhere(kernels.layer_norm, x, w, b, eps=1e-3):
        bound = 2 * tolerances.layer_norm(g, doubles(w), doubles(b), 1e-3).reshape(x.shape)
        assert_within(got, doubles(want), bound, f"layer_norm on {isa}")


def test_softmax() -> None:
    x = normal(2, 3, 77)
    want = kernels.softmax.ref(x, scale=3.0)
    for isa, got in everywhere(kernels.softmax, x, scale=3.0):
        assert_within(got, doubles(want), 2 * tolerances.softmax(3 * doubles(x), doubles(want)), f"softmax on {isa}")


@pytest.mark.parametrize("interleaved", [True, False])
def test_rope(interleaved: bool) -> None:
    x, positions = normal(4, 3, 20), np.array([0, 5, 1000, 7])
    params = {"rope_dim": 16, "base": 500.0, "factor": 2.0, "interleaved": interleaved, "scale": 1.5}
    want = kernels.rope.ref(x, positions, **params)
    bound = np.full(x.shape, 16 * tolerances.U * np.abs(x).max() * 1.5)
    for isa, got in everywhere(kernels.rope, x, positions, **params):
        assert_within(got, doubles(want), bound, f"rope on {isa}")
    # against the formula, for one pair: channels (2, 3) or (1, 9), angle 5 * 500^(-2/16) / 2
    i, j = (2, 3) if interleaved else (1, 9)
    angle = 5 * 500 ** (-2 / 16) / 2
    assert want[1, 2, i] == pytest.approx(1.5 * (x[1, 2, i] * np.cos(angle) - x[1, 2, j] * np.sin(angle)), abs=1e-5)
    assert np.array_equal(got[:, :, 16:], x[:, :, 16:])


def test_top_k() -> None:
    x = np.round(normal(3, 500) * 4)  # many ties
    mask = np.arange(500) % 3 == 1
    for kept in (None, mask):
        values, ids = kernels.top_k.ref(x, 40, mask=kept)
        assert ids.dtype == np.int32 and (kept is None or kept[ids].all())
        for _, got in everywhere(kernels.top_k, x, 40, mask=kept):
            np.testing.assert_array_equal(got[0], values)
            np.testing.assert_array_equal(got[1], ids)


@pytest.mark.parametrize(
    ("t", "p", "params"),
    [
        (5, 5, {}),
        (1, 130, {}),
        (90, 200, {"window": 33, "softcap": 2.0}),
        (70, 9, {"causal": False}),
        (3, 67, {"cache_type": "F16", "scale": 0.5}),
    ],
)
def test_attention(t: int, p: int, params: dict[str, Any]) -> None:
    q, k, v = normal(t, 4, 24), normal(p, 2, 24, seed=2), normal(p, 2, 16, seed=3)
    want = kernels.attention.ref(q, k, v, **params)
    assert want.shape == (t, 4, 16)
    for isa, got in everywhere(kernels.attention, q, k, v, **params):
        # scores of size 10 are off by 30 u each: a factor e^(2 * 300 u) on weights that sum to 1
        np.testing.assert_allclose(got, want, rtol=0, atol=1000 * tolerances.U * np.abs(v).max(), err_msg=isa)


def test_attention_is_the_formula() -> None:
    q, k, v = normal(3, 2, 8), normal(6, 1, 8, seed=2), normal(6, 1, 8, seed=3)
    got = kernels.attention(q, k, v)
    for t in range(3):
        for h in range(2):
            s = k[: t + 4, 0] @ q[t, h] / np.sqrt(8)
            w = np.exp(s - s.max())
            np.testing.assert_allclose(got[t, h], w @ v[: t + 4, 0] / w.sum(), atol=1e-6)


def weight_bytes(kind: str) -> npt.NDArray[np.uint8]:
    """A (19, 512) matrix in a number format."""
    if kind in ("IQ4_XS", "IQ2_S", "TQ1_0"):
        return random_blocks(kind, 19 * 512 // 256, finite=True).reshape(19, -1)
    if kind not in ("Q5_1", "Q5_K"):
        return np.asarray(random_weights.tensor("w", kind, (19, 512), 512**-0.5)).reshape(19, -1)
    per, size = (32, 24) if kind == "Q5_1" else (256, 176)
    blocks = np.random.default_rng(4).integers(0, 256, (19 * 512 // per, size), dtype=np.uint8)
    blocks[:, :4] = np.array([0.003, -0.04], np.float16).view(np.uint8)  # two half-precision scales come first
    return blocks.reshape(19, -1)


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K",
                                  "IQ4_XS", "IQ2_S", "TQ1_0"])  # fmt: skip
@pytest.mark.parametrize("t", [1, 3, 11])
def test_quant_matmul(kind: str, t: int) -> None:
    data = weight_bytes(kind)
    x = normal(t, 512)
    want = kernels.quant_matmul.ref(x, data, kind)
    w = np.abs(doubles(zigllama.linear_algebra.quantization.dequantize(data.reshape(-1), kind))).reshape(19, 512)
    # 16 scales of x at most and a few roundings for each, or 512 products, each below the sum of magnitudes (offset
    # codes: 3 times)
    bound = 2 * tolerances.product(3 * (np.abs(doubles(x)) + np.abs(x).max() / 100), w.T)
    for isa, got in everywhere(kernels.quant_matmul, x, data, kind):
        assert_within(got, doubles(want), bound, f"{kind} on {isa}")
    out = np.empty((t, 19), np.float32)
    assert kernels.quant_matmul(x, data, kind, out=out) is out
    np.testing.assert_array_equal(out, kernels.quant_matmul(x, data, kind))


def test_matmul() -> None:
    a, b = normal(7, 33), normal(33, 20, seed=2)
    want = kernels.matmul.ref(a, b)
    bound = tolerances.product(doubles(a), doubles(b)) + tolerances.U * np.abs(want)
    for isa, got in everywhere(kernels.matmul, a, b):
        assert_within(got, doubles(want), bound, f"matmul on {isa}")
    out = np.empty_like(want)
    assert kernels.matmul(a, b, out=out, blas="generic") is out
    np.testing.assert_array_equal(out, kernels.matmul(a, b))


# --- out, and errors --------------------------------------------------------------------------------------------------


def test_out_is_written_and_checked() -> None:
    x = normal(3, 40)
    out = np.full((3, 40), np.nan, np.float32)
    assert kernels.silu(x, out=out) is out
    np.testing.assert_array_equal(out, kernels.silu(x))
    with pytest.raises(errors.ShapeError, match=r"\(3, 40\).*\(3, 41\)"):
        kernels.silu(x, out=np.empty((3, 41), np.float32))
    with pytest.raises(errors.DTypeError, match="float64"):
        kernels.silu(x, out=np.empty((3, 40)))  # type: ignore[arg-type]
    with pytest.raises(errors.InvalidArgument, match="overlaps"):
        kernels.silu(x, out=x)
    with pytest.raises(errors.InvalidArgument, match="two results"):
        kernels.top_k(x, 2, out=out)


def test_errors() -> None:
    x = normal(3, 64)
    with pytest.raises(errors.UnknownName, match="avx3"):
        kernels.softmax(x, isa="avx3")
    with pytest.raises(errors.UnknownName, match=r"'openbla'.*'openblas'"):
        kernels.matmul(x, x.T, blas="openbla")
    with pytest.raises(errors.DTypeError, match="complex"):
        kernels.softmax(x.astype(np.complex64))
    with pytest.raises(errors.ShapeError):
        kernels.softmax(1.0)
    with pytest.raises(errors.ShapeError, match=r"64 in Q8_0 take 68 bytes, found 34"):
        kernels.quant_matmul(x, np.zeros((4, 34), np.uint8), "Q8_0")
    with pytest.raises(errors.ShapeError):
        kernels.attention(normal(5, 4, 8), normal(3, 2, 8), normal(3, 2, 8))
    with pytest.raises(errors.ShapeError):
        kernels.rope(normal(2, 3, 8), [1, 2, 3])
    with pytest.raises(errors.ShapeError):
        kernels.top_k(x, 2, mask=np.ones(3, np.bool_))


def test_a_named_blas_in_the_environment_is_no_silent_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIGLLAMA_BLAS", "/nowhere/libmkl_rt.so")
    with pytest.raises(errors.BlasUnavailable, match=r"/nowhere/libmkl_rt\.so"):
        kernels.matmul(normal(2, 2), normal(2, 2))
