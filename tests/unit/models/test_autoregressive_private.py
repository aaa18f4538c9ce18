"""The private autoregressive model: clipping of single rows, what the accountant is told, codes from metadata alone."""

from __future__ import annotations

import math
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy import optimize, stats
from tests.tables.public import COLUMNS, SCHEMA, counted, planned, rows

from shardsynth import Job
from shardsynth.data.public_codes import public_coder
from shardsynth.errors import JobError, ModelError
from shardsynth.models.autoregressive.dp_fit import dp_coding
from shardsynth.models.autoregressive.dp_gradients import clipped_sums
from shardsynth.models.autoregressive.dp_plan import DpTrainingPlan
from shardsynth.models.autoregressive.network import Network, draw_orders
from shardsynth.models.dp.accounting import epsilon_of, histogram_noise, plan_training
from shardsynth.models.dp.noise import Guarantee
from shardsynth.models.dp.tables import draw_histograms

pytest.importorskip("opendp")
pytest.importorskip("dp_accounting")

#: Histograms that cost nothing that can be seen.
FREE = Guarantee(0.0, 1e-6, 1e5, 1, "")


def a_network(random: torch.Generator, smooth: bool) -> tuple[Network, torch.Tensor]:
    sizes = [2, 7, 30, 3, 4, 1]
    axis = [None, None, np.append(np.linspace(0.01, 0.99, 29), np.nan), None, np.array([0.1, 0.4, 0.6, 0.9]), None]
    network = Network(sizes, 8, 6, axis if smooth else None).start([np.full(s, 1 / s) for s in sizes], random)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=random))
    return network, torch.stack([torch.randint(0, s, (24,), generator=random) for s in sizes])


@pytest.mark.parametrize("smooth", [False, True])
def test_ghost_clipping_is_clipping_of_every_rows_own_gradient(smooth: bool) -> None:
    random = torch.Generator().manual_seed(5)
    network, codes = a_network(random, smooth)
    order = draw_orders(2, 6, random, fixed=False)[1]
    wanted = {name: torch.zeros_like(weight) for name, weight in network.named_parameters()}
    norms = []
    for row in range(codes.shape[1]):
        network.zero_grad()
        network.losses(codes[:, row : row + 1], order[None]).sum().backward()
        norms.append(math.sqrt(sum(float(weight.grad.square().sum()) for weight in network.parameters())))
        for name, weight in network.named_parameters():
            wanted[name] += weight.grad * min(1.0, 9.0 / norms[-1])
    sums, found = clipped_sums(network, codes, order, 9.0)
    assert min(norms) < 9.0 < max(norms)
    assert found.numpy() == pytest.approx(np.array(norms), rel=1e-5)
    assert sums.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert sums[name].numpy() == pytest.approx(gradient.numpy(), abs=1e-5), name


def test_a_row_adds_no_more_than_the_clipping_norm_and_the_same_beside_any_others() -> None:
    random = torch.Generator().manual_seed(6)
    network, codes = a_network(random, True)
    order = draw_orders(2, 6, random, fixed=False)[1]
    all_rows, without, alone = (
        clipped_sums(network, part, order, 2.0)[0] for part in (codes, codes[:, 1:], codes[:, :1])
    )
    assert sum(float(g.square().sum()) for g in alone.values()) <= 2.0**2 * (1 + 1e-5)
    for name, gradient in alone.items():
        assert (all_rows[name] - without[name]).numpy() == pytest.approx(gradient.numpy(), abs=1e-5)


def gaussian_epsilon(distance: float, delta: float) -> float:
    """Of noise N(0, 1) on values so far apart (Balle & Wang 2018, theorem 8)."""

    def excess(epsilon: float) -> float:
        a, b = distance / 2 - epsilon / distance, -distance / 2 - epsilon / distance
        return float(stats.norm.cdf(a) - math.exp(epsilon) * stats.norm.cdf(b)) - delta

    return float(optimize.brentq(excess, 0.0, 200.0))


def test_a_replaced_row_moves_a_step_by_twice_the_clipping_norm() -> None:
    # 16 steps of all rows are one Gaussian of a quarter of the noise.
    assert epsilon_of(FREE, 16, 1.0, 10.0, 1e-6) == pytest.approx(gaussian_epsilon(2 / 2.5, 1e-6), rel=2e-3)


def test_histograms_cost_what_their_distance_does() -> None:
    spent = Guarantee(0.0, 1e-6, 50.0, 15, "")
    assert epsilon_of(spent, 1, 1.0, 1e5, 1e-6) == pytest.approx(gaussian_epsilon(math.sqrt(30) / 50, 1e-6), rel=1e-2)


def test_the_noise_is_the_least_within_the_budget() -> None:
    histograms = histogram_noise(1.0, 1e-6, 15)
    spent = plan_training(1.0, 1e-6, histograms, 400, 0.05)
    assert 0.98 < spent.epsilon <= 1.0
    assert epsilon_of(histograms, 400, 0.05, 0.98 * spent.multiplier, 1e-6) > 1.0
    assert spent.to_json()["mechanism"].startswith("DP-SGD (Abadi et al. 2016): 400 steps")


def test_a_rows_codes_depend_on_no_other_row() -> None:
    table = rows(500)
    coder = public_coder(COLUMNS, 500, 0)
    plan = planned(500, 20.0)
    tables = draw_histograms(counted(coder, table), coder, histogram_noise(20.0, 1e-6, 4))
    spent = plan_training(20.0, 1e-6, tables.guarantee, 10, 1.0)
    coding = dp_coding(plan, spent, tables, coder, SCHEMA)
    odd = pa.Table.from_pylist([{"n": None, "x": 99.0, "c": "not listed", "d": None}], SCHEMA)
    both = pa.concat_tables([odd, table.slice(1)])
    first, second = (coding.encode(coder, t.combine_chunks(), None) for t in (table, both))
    assert np.array_equal(first[1:], second[1:]) and not np.array_equal(first[0], second[0])


def test_replacing_a_row_moves_no_cell_and_no_category() -> None:
    first, second = (public_coder(COLUMNS, 500, 0) for _ in range(2))
    one, other = counted(first, rows(500)), counted(second, rows(500, seed=1))
    for i, (a, b) in enumerate(zip(first.columns, second.columns)):
        assert np.array_equal(a.cuts, b.cuts) and (a.values is None or a.values.equals(b.values))
        assert len(one.hist[i]) == len(other.hist[i])
    assert DpTrainingPlan.of({}, first, 500, 1.0, 1e-6) == DpTrainingPlan.of({}, second, 500, 1.0, 1e-6)


def test_a_missing_library_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting.pld", None)
    with pytest.raises(JobError, match=r"needs dp-accounting, not installed here: pip install 'shardsynth\[privacy\]'"):
        plan_training(1.0, 1e-6, histogram_noise(1.0, 1e-6, 3), 7, 0.3)


def test_noise_that_drowns_the_gradients_is_refused_with_figures() -> None:
    plan = planned(300, 0.5)
    with pytest.raises(
        ModelError, match=r"needs noise of .* clipping norms .* times as long .* rows, fewer columns or"
    ) as refused:
        plan.spend(0.5, 1e-6, histogram_noise(0.5, 1e-6, 4))
    told = float(str(refused.value).split("epsilon of ")[1].split(" ")[0])
    assert plan.spend(told, 1e-6, histogram_noise(told, 1e-6, 4)).epsilon <= told


@pytest.mark.parametrize("option", ["dropout", "patience", "validation", "balance"])
def test_options_that_look_at_rows_have_no_private_version(option: str) -> None:
    plain = {"input": "x", "output": "y", "metadata": "m.json", "privacy": {"epsilon": 1}}
    assert Job.parse({**plain, "models": {"autoregressive": {"order": "fixed", "hidden": 16}}}).privacy
    with pytest.raises(JobError, match=f"autoregressive.{option} cannot be used under differential privacy"):
        Job.parse({**plain, "models": {"autoregressive": {option: 1}}})
