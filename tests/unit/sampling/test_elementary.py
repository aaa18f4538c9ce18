"""The normal distribution by elementary operations, against mpmath and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from shardsynth.sampling import elementary

mp = pytest.importorskip("mpmath")  # comes with torch

LOW = np.array([-np.inf, -1.0, 2.0, 10.0, -3.0, 0.0, -np.inf, 8.0, 50.0, -110.0, 25.0, -2.0, -1e-6, -8.5])
HIGH = np.array([-8.0, 1.0, 2.1, 11.0, np.inf, 0.1, np.inf, np.inf, np.inf, -100.0, 25.0001, 0.0, 1e-6, 9.5])


def exact(low: float, high: float):
    """P(low < Z < high) to fifty digits."""
    with mp.workdps(60):
        a, b, root = mp.mpf(low), mp.mpf(high), mp.sqrt(2)
        if low > 0:
            return (mp.erfc(a / root) - mp.erfc(b / root)) / 2
        return (mp.erfc(-b / root) - mp.erfc(-a / root)) / 2


def test_exp_and_log():
    x = np.linspace(-700, 600, 50_001)
    assert np.abs(elementary.exp(x) / np.exp(x) - 1).max() < 5e-16
    assert elementary.exp(np.array([-np.inf, -800.0, 0.0])).tolist() == [0.0, 0.0, 1.0]
    x = np.exp(np.linspace(-700, 700, 50_001))
    assert np.abs(elementary.log(x) - np.log(x)).max() < 2e-13
    x = np.linspace(0.6, 1.7, 10_001)
    assert np.abs(elementary.log(x) - np.log(x)).max() < 3e-16


def test_tails_and_quantiles():
    x = np.linspace(0, 37, 20_001)
    assert np.abs(elementary.upper_tail(x) / special.ndtr(-x) - 1).max() < 1e-12
    x = x[x < 9]
    assert np.abs(elementary._tail(x) / special.ndtr(-x) - 1).max() < 1e-11
    p = np.concatenate([np.exp(np.linspace(-700, -0.7, 20_001)), np.linspace(0.5, 1 - 1e-9, 9_999)])
    assert np.abs(elementary.quantile(p) - special.ndtri(p)).max() < 1e-13


def test_intervals_wherever_they_lie():
    found = elementary.interval(LOW, HIGH)
    drawn = elementary.Truncated(LOW, HIGH)
    for i, (low, high) in enumerate(zip(LOW.tolist(), HIGH.tolist())):
        true = exact(low, high)
        assert abs(float(mp.log(true)) - found.log_probability[i]) < 1e-9
        assert abs(float(mp.npdf(low) / true) - found.at_low[i]) < 1e-9 * (1 + found.at_low[i])
        assert abs(float(mp.npdf(high) / true) - found.at_high[i]) < 1e-9 * (1 + found.at_high[i])
        assert abs(np.log(drawn.factor[i]) + drawn.exponent[i] - found.log_probability[i]) < 1e-8


@pytest.mark.parametrize("u", [1e-12, 0.001, 0.3, 0.9, 1 - 1e-12])
def test_truncated_normals_are_quantiles(u):
    z = elementary.Truncated(LOW, HIGH).draw(np.full(len(LOW), u))
    assert ((z >= LOW) & (z <= HIGH)).all()
    for low, high, value in zip(LOW.tolist(), HIGH.tolist(), z.tolist()):
        passed = float(exact(low, value) / exact(low, high))
        assert min(abs(passed - u), abs(passed - (1 - u))) < 1e-8  # intervals on the left are drawn mirrored
