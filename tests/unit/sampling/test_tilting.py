"""Gaussian vectors in boxes: right probabilities, right moments, and an envelope that is never pierced."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import multivariate_normal, norm

from shardsynth.sampling.streams import random_words, stream_key, uniforms
from shardsynth.sampling.tilting import Boxes, TiltedSampler, cholesky

INF = np.inf
MIXED = np.array([[1.0, 0.5, -0.3], [0.5, 1.0, 0.4], [-0.3, 0.4, 1.0]])


def pair(r: float) -> np.ndarray:
    return np.array([[1.0, r], [r, 1.0]])


def equal(size: int, r: float) -> np.ndarray:
    return r * np.ones((size, size)) + (1 - r) * np.eye(size)


def sampler(correlation, low, high, weight=None) -> TiltedSampler:
    low, high = np.atleast_2d(np.array(low, float)), np.atleast_2d(np.array(high, float))
    return TiltedSampler(
        correlation, Boxes(low, high, np.ones(len(low)) if weight is None else np.array(weight, float))
    )


def proposals(tilted: TiltedSampler, n: int):
    return tilted.propose(uniforms(random_words(stream_key(0, "test"), 0, n, tilted.uniforms)))


def probability(correlation, low, high) -> float:
    """Of a box: exact for one common factor, where SciPy takes seconds; by SciPy to 1e-4 elsewhere."""
    r = correlation[0, 1] if len(low) > 3 else 0.0
    if r <= 0:
        return multivariate_normal.cdf(high, np.zeros(len(low)), correlation, lower_limit=low, abseps=0, releps=1e-4)
    factor, step = np.linspace(-12, 12, 20_001, retstep=True)
    ends = [(end[:, None] - np.sqrt(r) * factor) / np.sqrt(1 - r) for end in (low, high)]
    side = np.where(ends[0] > 0, -1, 1)  # differences of small numbers, not of numbers near one
    inside = np.abs(ndtr(side * ends[1]) - ndtr(side * ends[0])).prod(axis=0)
    return float((inside * norm.pdf(factor)).sum() * step)


@pytest.mark.parametrize(
    ("correlation", "low", "high", "least"),
    [
        (np.eye(1), [1.0], [1.5], 1.0),
        (pair(0.8), [1, -INF], [INF, -1], 0.9),
        (pair(0.8), [2, 2], [INF, INF], 0.85),
        (pair(0.999), [0.1, -INF], [INF, -0.1], 0.9),
        (pair(0.8), [3, -0.1], [3.1, 0.1], 0.99),
        (MIXED, [1, 1, 1], [INF] * 3, 0.8),
        (MIXED, [-1, 2, -INF], [1, 2.5, -2], 0.9),
        (equal(6, 0.95), [1, -INF, 1, -INF, 1, -INF], [INF, -1, INF, -1, INF, -1], 0.9),
        (equal(5, -0.2), [-0.5] * 5, [0.2] * 5, 0.9),
    ],
)
def test_acceptance_and_probability(correlation, low, high, least):
    tilted = sampler(correlation, low, high)
    points, accepted, _ = proposals(tilted, 100_000)
    assert ((np.array(low) <= points) & (points <= np.array(high))).all()
    assert accepted.mean() >= least
    exact = probability(correlation, np.array(low, float), np.array(high, float))
    assert abs(np.exp(tilted.log_envelope) * accepted.mean() / exact - 1) < 0.01


def test_a_weighted_union_has_the_right_moments():
    low, high, weight = [[-INF, 0, 1], [-INF, 1, -INF], [1, -1, -1]], [[0, 1, INF], [0, 2, 0], [2, INF, 1]], [1, 2, 0.5]
    points, accepted, box = proposals(sampler(MIXED, low, high, weight), 300_000)
    points = points[accepted]
    z = np.random.default_rng(0).multivariate_normal(np.zeros(3), MIXED, 3_000_000)
    weights = sum(w * np.all((z > np.array(a)) & (z < np.array(b)), axis=1) for a, b, w in zip(low, high, weight))
    shares = [np.all((z > np.array(a)) & (z < np.array(b)), axis=1).mean() * w for a, b, w in zip(low, high, weight)]
    assert np.allclose(np.bincount(box[accepted]) / len(points), np.array(shares) / sum(shares), atol=0.005)
    assert np.allclose(points.mean(axis=0), np.average(z, axis=0, weights=weights), atol=0.01)
    second = np.einsum("ni,nj->ij", points, points) / len(points)
    assert np.allclose(second, np.einsum("ni,nj,n->ij", z, z, weights) / weights.sum(), atol=0.02)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(2, 6), extra=st.integers(0, 3))
def test_the_envelope_is_never_pierced(seed, size, extra):
    rng = np.random.default_rng(seed)
    g = rng.normal(size=(size, size + extra))
    matrix = g @ g.T + 1e-3 * np.eye(size)
    matrix /= np.sqrt(np.outer(np.diag(matrix), np.diag(matrix)))
    low = rng.normal(size=(3, size)) * 1.5
    high = low + rng.exponential(1, size=(3, size))
    low[rng.random((3, size)) < 0.3] = -INF
    high[rng.random((3, size)) < 0.3] = INF
    tilted = TiltedSampler(matrix, Boxes(low, high, np.ones(3)))
    _, ratio = tilted._sequence(np.repeat(np.arange(3), 1000), rng.random((3000, size)))
    assert ratio.max() <= 1 + 1e-9
    assert ratio.mean() > 0.02


def test_many_boxes_are_prepared_at_once():
    edges = np.arange(-3, 3, 0.1)
    low = np.array([[a, b] for a in edges for b in edges])
    tilted = sampler(equal(2, 0.95), low, low + 0.05)
    assert proposals(tilted, 20_000)[1].mean() > 0.98


def test_cholesky_is_lapacks():
    assert np.allclose(cholesky(MIXED), np.linalg.cholesky(MIXED), atol=1e-15)
    assert np.isfinite(cholesky(np.ones((3, 3)))).all()
