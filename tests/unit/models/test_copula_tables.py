"""The integer tables: probabilities come out right, and no sum is ever rounded."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr, ndtri

from shardsynth.data.values import Precision
from shardsynth.errors import ModelError
from shardsynth.models.columns.fitted import Marginal
from shardsynth.models.columns.forms import Spread
from shardsynth.models.copula.arrays import Arrays
from shardsynth.models.copula.factor import Factor
from shardsynth.models.copula.kernel import Channel, Kernel, Table
from shardsynth.models.copula.tables import (
    GRID,
    cell_table,
    check_exact,
    cut_marginal,
    even,
    factor_of,
    missing_cut,
    normal_levels,
)
from shardsynth.sampling.streams import stream_key

LEVELS = normal_levels()


def correlation(size: int, seed: int = 0, rank: int | None = None) -> np.ndarray:
    g = np.random.default_rng(seed).normal(size=(size, rank or size + 5))
    matrix = g @ g.T
    scale = np.sqrt(np.diag(matrix))
    return matrix / np.outer(scale, scale)


def test_the_deviates_are_odd_symmetric_and_normal():
    assert LEVELS.dtype == np.int32 and len(LEVELS) == 65_536
    assert (LEVELS & 1).all() and (np.diff(LEVELS) > 0).all() and np.array_equal(LEVELS, -LEVELS[::-1])
    e = LEVELS / GRID
    assert abs((e**2).mean() - 1) < 1e-7
    assert abs((e**4).mean() - 3) < 3e-4


@pytest.mark.parametrize(("size", "rank"), [(1, None), (2, None), (7, None), (40, None), (12, 4)])
def test_the_factor_keeps_the_correlations(size, rank):
    wanted = correlation(size, rank=rank)
    factor = factor_of(wanted)
    assert factor.shape == (size, max(size, 8))
    assert (factor.sum(axis=1) & 1).all()
    assert np.abs((factor / GRID) @ (factor / GRID).T - wanted).max() < 2e-6
    check_exact(factor.astype(np.int64), int(LEVELS.max()))


def test_what_is_no_correlation_matrix_is_refused():
    with pytest.raises(ModelError, match="positive semi-definite"):
        factor_of(np.array([[1.0, 0.9, -0.9], [0.9, 1.0, 0.9], [-0.9, 0.9, 1.0]]))


def test_sums_that_could_be_rounded_are_refused():
    with pytest.raises(ModelError, match="exact sums"):
        check_exact(np.full((1, 200), GRID), int(LEVELS.max()))


def exact_margin(row: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """P(z < edge) of a latent, by convolving the distributions of its terms on a grid of 2^-11."""
    step, half = 2.0**-11, 12.0
    size = int(2 * half / step)
    total = np.zeros(size)
    total[0] = 1.0
    spectrum = np.fft.rfft(total)
    for weight in row / GRID:
        place = weight * (LEVELS / GRID) / step
        floor = np.floor(place).astype(int)
        share = place - floor
        mass = np.bincount(floor % size, 1 - share, size) + np.bincount((floor + 1) % size, share, size)
        spectrum = spectrum * np.fft.rfft(mass / len(LEVELS))
    mass = np.fft.irfft(spectrum, size)
    grid = (np.arange(size) - size * (np.arange(size) >= size // 2)) * step
    order = np.argsort(grid)
    cumulative = np.cumsum(mass[order])
    return np.interp(edges, grid[order] + step / 2, cumulative)


@pytest.mark.parametrize("size", [1, 3, 17])
def test_margins_are_right_to_a_ten_thousandth(size):
    """Total variation from discretisation alone, in a margin of 1,000 segments."""
    factor = factor_of(correlation(size, 1))
    probability = np.random.default_rng(0).dirichlet(np.full(1000, 3.0))
    lo = np.arange(1000.0)
    marginal, cuts = cut_marginal(Marginal("axis", probability, lo, lo))
    for row in factor[[0, -1]]:
        cumulative = np.concatenate([[0.0], exact_margin(row, cuts / GRID), [1.0]])
        assert 0.5 * np.abs(np.diff(cumulative) - marginal.probability).sum() < 1e-4


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.integers(-8 * GRID // 2, 8 * GRID // 2), max_size=60, unique=True),
    tight=st.lists(st.integers(0, 4000), max_size=20, unique=True),
    seed=st.integers(0, 2**32),
)
def test_every_latent_finds_its_segment(cuts, tight, seed):
    cuts = np.unique(2 * np.array([*cuts, *tight], np.int64))
    table = cell_table(cuts)
    rng = np.random.default_rng(seed)
    # Odd multiples of 2^-44: near cuts, near cell borders, anywhere.
    near = [(c << 22) + o for c in cuts.tolist() for o in (-1, 1)]
    borders = [((2 * b + 1) << (43 - table.shift)) + o for b in range(-40, 40) for o in (-1, 1)]
    anywhere = (2 * rng.integers(-(2**45), 2**45, 500) + 1).tolist()
    z = np.array([*near, *borders, *anywhere], np.int64)
    z = z[np.abs(z) < 8 << 44]
    expected = np.searchsorted(cuts << 22, z)
    channel = Channel(cuts, (np.arange(len(cuts) + 1),))
    found = np.empty(len(z), np.int64)
    z_in_cells = z.astype(np.float64) * 2.0 ** (table.shift - 44)
    Table(Arrays(), channel, table).write(Arrays(), z_in_cells, [found], None)
    assert np.array_equal(found, expected)


def test_cuts_too_close_for_cells_are_searched():
    cuts = np.arange(0, 2 * 40, 2, dtype=np.int64)
    assert cell_table(cuts).search
    assert cell_table(cuts[:3]).passes == 2
    assert cell_table(np.zeros(0, np.int64)).passes == 0


def test_weightless_segments_vanish_and_heavy_ones_are_cut():
    marginal, cuts = cut_marginal(
        Marginal("axis", np.array([0.5, 1e-12, 0.5 - 1e-12]), np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0, 66.0]))
    )
    assert marginal.lo[0] == marginal.hi[0] == 0.0 and 1.0 not in marginal.lo
    assert len(marginal.lo) == 257 and marginal.hi[-1] == 66.0 and np.allclose(np.diff(marginal.lo[1:]), 0.25)
    assert len(cuts) == 256 and (cuts & 1 == 0).all() and (np.diff(cuts) > 0).all()
    assert np.allclose(ndtr(cuts / GRID), np.cumsum(marginal.probability)[:-1], atol=1e-6)


def test_segments_of_few_grid_points_become_atoms():
    grid = Precision("decimal", digits=1)
    wide = Marginal("axis", np.array([0.25, 0.25, 0.5]), np.array([0.0, 1.0, 1.2]), np.array([0.0, 1.2, 1.65]))
    marginal, cuts = cut_marginal(wide, grid)
    assert marginal.lo.tolist() == [0.0, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6] == marginal.hi.tolist()
    shares = [0.25, 0.0625, 0.125, 0.0625 + 0.5 / 9, 1 / 9, 1 / 9, 1 / 9, 1 / 9]
    assert np.allclose(marginal.probability, shares)
    assert np.allclose(ndtr(cuts / GRID), np.cumsum(shares)[:-1], atol=1e-6)
    # Without a grid, or with too many points on it, they stay.
    assert len(cut_marginal(wide)[0].lo) == 1 + 128 + 256
    fine = cut_marginal(wide, Precision("decimal", digits=6))[0]
    assert (fine.hi > fine.lo).any()


def test_large_latents_mean_missing():
    assert abs(missing_cut(0.05)[0] / GRID - ndtri(0.95)) < 1e-6


def test_spread_values_are_uniform_over_their_segment():
    spread = Spread(np.array([-0.498]), np.array([9.996]), np.dtype(np.int16), True, multiplier=5, offset=100)
    kernel = Kernel(Factor.of(factor_of(np.eye(1))), LEVELS, [Channel(np.zeros(0, np.int64), (), spread)])
    ((values,),) = kernel.draw(stream_key(0, "m"), 0, 200_000)
    assert values.dtype == np.int16
    points, counts = np.unique(values, return_counts=True)
    assert points.tolist() == list(range(100, 150, 5))
    assert np.abs(counts / 200_000 - 0.1).max() < 0.004


def test_cuts_are_even():
    assert even(np.array([0.5, 0.5 + 1.1 / GRID])).tolist() == [GRID // 2, GRID // 2 + 2]


@pytest.mark.parametrize("reach", [2.0**63, 1.7e308])
def test_a_marginal_as_wide_as_its_type_is_not_cut_into_atoms(reach):
    ends = np.array([-reach, 0.0, reach])
    marginal = Marginal("axis", np.array([0.5, 0.5]), ends[:-1], ends[1:])
    cut, _ = cut_marginal(marginal, Precision("integer"))
    assert (cut.hi > cut.lo).all() and cut.probability.sum() == pytest.approx(1)
