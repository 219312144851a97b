"""`Distortion`: the figures by their formulas, whatever the pieces in which a tensor is added."""

from __future__ import annotations

import numpy as np
import pytest
import random_weights

from zigllama.errors import ShapeError
from zigllama.linear_algebra import distortion as module
from zigllama.linear_algebra.distortion import Distortion


def test_the_formulas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE", 300)  # three rows at a time
    rng = random_weights.Stream("distortion")
    x, e = rng.uniform(-2, 2, 17, 96).astype(np.float32), rng.uniform(-0.1, 0.3, 17, 96).astype(np.float32)
    w = rng.uniform(0, 5, 96).astype(np.float32)
    y = x + e
    d = Distortion()
    d.add(x[:5], y[:5], w)
    d.add(x[5:], y[5:], w)
    a, b = x.astype(np.float64), y.astype(np.float64)
    assert d.n == 17 * 96
    assert d.rmse == pytest.approx(np.sqrt(((b - a) ** 2).mean()), rel=1e-12)
    assert d.rms == pytest.approx(np.sqrt((a**2).mean()), rel=1e-12)
    assert d.largest == np.abs(b - a).max()
    assert d.cosine == pytest.approx((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b), rel=1e-12)
    weighted = np.sqrt((w * (b - a) ** 2).sum() / (17 * w.sum(dtype=np.float64)))
    assert d.weighted_rmse == pytest.approx(weighted, rel=1e-6)


def test_the_borders() -> None:
    zero, one = np.zeros((2, 32), np.float32), np.ones((2, 32), np.float32)
    nothing = Distortion()
    assert (nothing.rmse, nothing.rms, nothing.cosine, nothing.weighted_rmse) == (0, 0, 1, None)
    same, gone, turned, unweighed = (Distortion() for _ in range(4))
    same.add(zero, zero)
    gone.add(one, zero)
    turned.add(one, -one)
    unweighed.add(one, zero, np.zeros(32, np.float32))
    assert (same.cosine, same.rmse) == (1, 0)
    assert (gone.cosine, gone.rmse, gone.largest) == (0, 1, 1)
    assert turned.cosine == pytest.approx(-1) and turned.rmse == 2
    assert unweighed.weighted_rmse == 0


@pytest.mark.parametrize(
    ("x", "y", "w"), [((2, 32), (2, 31), None), ((64,), (64,), None), ((2, 32), (2, 32), (31,)), ((2, 3), (3, 2), (3,))]
)
def test_shapes(x: tuple[int, ...], y: tuple[int, ...], w: tuple[int, ...] | None) -> None:
    weights = None if w is None else np.ones(w, np.float32)
    with pytest.raises(ShapeError, match="want twice"):
        Distortion().add(np.zeros(x, np.float32), np.zeros(y, np.float32), weights)
