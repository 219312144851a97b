"""The measures by which golden tests judge, checked on numbers that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from golden_measures import coarse_kl, first_departure, kl, log_sum_exp, signs


def test_kl_of_two_outcomes() -> None:
    """KL((3/4, 1/4) || (1/2, 1/2)) = 3/4 log(3/2) + 1/4 log(1/2), whatever constant the logits carry."""
    p, q = np.log([[3.0, 1.0]]) + 7.0, np.full((1, 2), -5.0)
    assert kl(p, q)[0] == pytest.approx(0.75 * np.log(1.5) + 0.25 * np.log(0.5), rel=1e-12)
    assert kl(p, p)[0] == 0.0


def test_log_sum_exp_of_far_apart_values() -> None:
    """No overflow, and -inf adds nothing."""
    assert log_sum_exp([1000.0, 1000.0, -np.inf]) == pytest.approx(1000.0 + np.log(2.0))


def test_merging_outcomes_keeps_or_lowers_the_divergence() -> None:
    """With all tokens but one kept it is the full divergence; with few it is less, and above nothing."""
    rng = np.random.default_rng(0)
    p, q = rng.normal(0, 2, (5, 300)), rng.normal(0, 2, (5, 300))
    order = np.argsort(-p, axis=-1)
    found = []
    for k in (299, 50, 1):
        top, rest = order[:, :k], order[:, k:]
        ordered = np.take_along_axis(p, top, -1)
        found.append(coarse_kl(ordered, top, log_sum_exp(np.take_along_axis(p, rest, -1)), q))
    np.testing.assert_allclose(found[0], kl(p, q), rtol=1e-12)
    assert (found[0] > found[1]).all() and (found[1] > found[2]).all() and (found[2] > 0).all()


def test_signs_are_fixed_and_unrelated() -> None:
    """Only +1 and -1, the same everywhere, nearly orthogonal: a change of one column cannot hide from all of them."""
    s = signs(16, 1000)
    assert s.shape == (16, 1000) and set(np.unique(s)) == {-1.0, 1.0}
    assert np.abs(s @ s.T / 1000 - np.eye(16)).max() < 0.15
    assert [int(x) for x in s[0, :12]] == [-1, -1, -1, -1, -1, -1, -1, -1, 1, 1, -1, 1]


def test_first_departure() -> None:
    """The first index that differs, None for none; lengths that differ are an error."""
    assert first_departure([1, 2, 3], [1, 5, 4]) == 1
    assert first_departure([1, 2], [1, 2]) is None
    with pytest.raises(ValueError, match="longer"):
        first_departure([1], [1, 2])
