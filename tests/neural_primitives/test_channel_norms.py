"""GroupNorm and BatchNorm: against torch (tests/golden/blocks.*), natively as the twins, on the tape; and what else
layer 3 has against torch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from block_cases import PIECE_ROWS, PIECE_WIDTH, piece
from native_ops import THREADS, context, usable_variants

from zigllama.errors import InvalidArgument, ShapeError
from zigllama.foundation.runtime import F32, EagerRuntime, Op, Step
from zigllama.foundation.shared_context import shared_context
from zigllama.foundation.tape import TapeProgram, record
from zigllama.linear_algebra.linear import Weight, embed, linear
from zigllama.neural_primitives.activations import ACTIVATIONS, geglu, glu, swiglu
from zigllama.neural_primitives.fusion import FUSIONS
from zigllama.neural_primitives.normalization import BatchNorm, GroupNorm, LayerNorm, RMSNorm, layer_norm

WANT = np.load(Path(__file__).parents[1] / "golden" / "blocks.npz")
X = piece("x", PIECE_ROWS, PIECE_WIDTH)
Y = piece("y", PIECE_ROWS, PIECE_WIDTH)
W, B = piece("w", PIECE_WIDTH), piece("b", PIECE_WIDTH)
MEAN, VAR = piece("mean", PIECE_WIDTH), piece("var", PIECE_WIDTH, low=0.1, high=3.0)


def alone(op: Op) -> Callable[[Any, Any], Any]:
    """Of the first of two operands."""
    return lambda x, y: op(x)


PIECES: dict[str, Callable[[Any, Any], Any]] = {
    "layer_norm": lambda x, y: LayerNorm(W, B, 1e-3)(x),
    "rms_norm": lambda x, y: RMSNorm(W, 1e-3)(x),
    "group_norm": lambda x, y: GroupNorm(4, W, B, 1e-3)(x),
    "group_norm_plain": lambda x, y: GroupNorm(3)(x),
    "batch_norm": lambda x, y: BatchNorm(MEAN, VAR, W, B, 1e-3)(x),
    "batch_norm_plain": lambda x, y: BatchNorm(MEAN, VAR)(x),
    "glu": lambda x, y: glu(x, y),
    "geglu": lambda x, y: geglu(x, y),
    "swiglu": lambda x, y: swiglu(x, y),
    **{name: alone(op) for name, (op, _) in ACTIVATIONS.items() if f"piece/{name}" in WANT},
}


def test_every_piece_of_the_golden_file_is_here() -> None:
    assert {name[6:] for name in WANT.files if name.startswith("piece/")} == set(PIECES)


@pytest.mark.parametrize("name", PIECES)
def test_as_torch_has_it(name: str) -> None:
    """Some ten operations on numbers of size one: 4e-6 is 60 u."""
    want = WANT[f"piece/{name}"]
    np.testing.assert_allclose(PIECES[name](X, Y), want, rtol=4e-6, atol=4e-6)
    for isa in usable_variants():
        first: bytes | None = None
        for n_threads in THREADS:
            runtime = EagerRuntime(context(isa, n_threads), Step.of_rows(PIECE_ROWS))
            got = PIECES[name](runtime.rows(X), runtime.rows(Y)).array
            assert first is None or got.tobytes() == first
            first = got.tobytes()
            np.testing.assert_allclose(got, want, rtol=4e-6, atol=4e-6, err_msg=isa)


def test_one_group_is_layer_norm_and_epsilon_counts() -> None:
    np.testing.assert_allclose(GroupNorm(1, W, B, 0.5)(X), layer_norm(X, W, B, eps=0.5), rtol=1e-6, atol=1e-6)
    for norm in (lambda eps: GroupNorm(4, eps=eps), lambda eps: BatchNorm(MEAN, VAR, eps=eps)):
        assert np.abs(norm(0.5)(X) - norm(1e-5)(X)).max() > 0.05
    np.testing.assert_array_equal(GroupNorm(PIECE_WIDTH, W, B)(X), np.tile(B, (PIECE_ROWS, 1)))


def test_one_row_for_all_is_nobodys_residual() -> None:
    """A shift after a product is a sum with a constant: the passes leave it alone, and the bits."""
    ctx, width = shared_context(None, 2), PIECE_WIDTH
    weight = Weight.from_array(piece("weight", width, width), "weight")
    door = Weight.from_array(np.zeros((1, width), np.float32), "no token's row")
    norm = BatchNorm(MEAN, VAR, W, B)

    def run(passes: Any) -> F32:
        program = TapeProgram(record(lambda s: norm(linear(embed(s, door), weight)), passes), ctx, PIECE_ROWS)
        step = Step.of_rows(PIECE_ROWS)
        step.tokens, step.inputs = np.full(PIECE_ROWS, -1, np.int32), X
        program.run(ctx.make_step(step))
        result = program.result(0, PIECE_ROWS).copy()
        program.close()
        return result

    np.testing.assert_array_equal(run(FUSIONS), run(()))
    np.testing.assert_allclose(run(()), norm(linear(X, weight)), rtol=1e-4, atol=1e-5)


def test_errors() -> None:
    with pytest.raises(InvalidArgument, match="0 groups"):
        GroupNorm(0)
    with pytest.raises(ShapeError, match="24 channels do not divide into 5"):
        GroupNorm(5)(X)
    for wrong in (W[:5], W[None]):
        for make in (lambda w: GroupNorm(2, W, w), lambda w: BatchNorm(MEAN, w), lambda w: BatchNorm(MEAN, VAR, W, w)):
            with pytest.raises(ShapeError, match="shape"):
                make(wrong)
    with pytest.raises(ShapeError):
        GroupNorm(2, W[:12], B[:12])(X)
    with pytest.raises(ShapeError):
        BatchNorm(MEAN[:5], VAR[:5])(X)
    for eps in (-1e-5, float("nan"), float("inf")):
        with pytest.raises(InvalidArgument, match="eps"):
            GroupNorm(2, eps=eps)
        with pytest.raises(InvalidArgument, match="eps"):
            BatchNorm(MEAN, VAR, eps=eps)
    for variance, eps in ((-0.5, 1.0), (float("nan"), 1.0), (float("inf"), 1.0), (0.0, 0.0)):
        with pytest.raises(InvalidArgument, match="variances from"):
            BatchNorm(MEAN, np.where(np.arange(PIECE_WIDTH) == 3, np.float32(variance), VAR), eps=eps)
