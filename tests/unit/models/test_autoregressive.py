"""The autoregressive model's network, orders, schedule and options, by hand and without any training."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.tables.autoregressive import fit, prepared_people  # noqa: E402
from tests.tables.deep import Prepared  # noqa: E402

from shardsynth.errors import JobError  # noqa: E402
from shardsynth.models.autoregressive.network import Network, draw_orders  # noqa: E402
from shardsynth.models.autoregressive.options import AutoregressiveOptions  # noqa: E402
from shardsynth.models.autoregressive.rounds import Schedule  # noqa: E402
from shardsynth.models.autoregressive.sampler import Drawing, Sampler  # noqa: E402
from shardsynth.models.autoregressive.training import (  # noqa: E402
    LossAttack,
    Shape,
    bounded_by_attack,
    own_weights,
)


@pytest.fixture(scope="module")
def source() -> Prepared:
    return prepared_people()


def test_the_tables_of_the_first_columns_are_the_same_on_any_threads() -> None:
    sizes = [10] * 12
    network = Network(sizes, 128, 128).start([np.full(10, 0.1)] * 12, torch.Generator().manual_seed(1))
    with torch.no_grad():
        for number, weights in enumerate(network.parameters()):
            weights.add_(torch.randn(weights.shape, generator=torch.Generator().manual_seed(number)), alpha=0.1)
    before, found = torch.get_num_threads(), []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        found.append(Drawing(Sampler(network, torch.zeros(sum(sizes))), range(len(sizes)))._tables)
    torch.set_num_threads(before)
    assert len(found[0]) == 4
    for tables in found[1:]:
        assert all(torch.equal(a.cdf, b.cdf) for a, b in zip(found[0], tables))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"balance": "grad"}, "no category column that is learned; did you mean 'grade'"),
        ({"balance": "grade"}, "order: any"),
    ],
)
def test_what_cannot_be_balanced_is_said_before_training(
    source: Prepared, options: dict[str, object], message: str
) -> None:
    with pytest.raises(JobError, match=message):
        fit(source, {**options, "order": "fixed", "max_epochs": 100_000})


def test_the_sampler_computes_the_networks_probabilities() -> None:
    random = torch.Generator().manual_seed(3)
    sizes = [2, 7, 30, 3, 4]
    network = Network(sizes, 8, 6).start([np.full(s, 1 / s) for s in sizes], random)
    for parameter in network.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=random) * (parameter.data > -1e8)
    codes = torch.stack([torch.randint(0, s, (16,), generator=random) for s in sizes])
    orders = draw_orders(4, 5, random, fixed=False)
    with torch.no_grad():
        losses = network.losses(codes, orders).mean(1)
    total, sampler = torch.zeros(5), Sampler(network, torch.zeros(sum(sizes)))
    for part, order in enumerate(orders.tolist()):
        own, rows = codes[:, 4 * part : 4 * part + 4], sampler.begin(4)
        for column in order:
            weights = sampler.weights(rows, column)
            share = (weights / weights.sum(0)).gather(0, own[column][None])[0]
            total[column] -= torch.log(share).sum() / 16
            sampler.enter(rows, column, own[column].to(torch.int16))
    assert losses.numpy() == pytest.approx(total.numpy(), rel=1e-4)


def test_contexts_of_wide_tables_are_running_sums_of_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    random = torch.Generator().manual_seed(3)
    sizes = [2, 7, 30, 3, 4]
    network = Network(sizes, 8, 6).start([np.full(s, 1 / s) for s in sizes], random)
    codes = torch.stack([torch.randint(0, s, (16,), generator=random) for s in sizes])
    orders = draw_orders(4, 5, random, fixed=False)
    product = network.contexts(codes, orders).detach()
    monkeypatch.setattr("shardsynth.models.autoregressive.network._FEW_COLUMNS", 0)
    assert network.contexts(codes, orders).detach().numpy() == pytest.approx(product.numpy(), abs=1e-5)


def test_a_folded_network_is_the_same() -> None:
    random = torch.Generator().manual_seed(3)
    sizes, places = [2, 9, 3], [None, np.append(np.linspace(0, 1, 8), np.nan), None]
    network = Network(sizes, 8, 6, places).start([np.full(s, 1 / s) for s in sizes], random)
    for parameter in network.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=random) * (parameter.data > -1e8)
    codes = torch.stack([torch.randint(0, s, (16,), generator=random) for s in sizes])
    orders = draw_orders(4, 3, random, fixed=False)
    with torch.no_grad():
        assert network.folded().losses(codes, orders).numpy() == pytest.approx(
            network.losses(codes, orders).numpy(), rel=1e-5
        )
    assert not network.folded().smooth and network.smooth


def test_a_bin_of_few_rows_has_no_weights_of_its_own() -> None:
    share, place = np.array([0.1, 0.5, 0.2, 0.1, 0.1]), np.array([0.05, 0.35, 0.7, 0.85, np.nan])
    own = [own_weights(share, place, 1000), own_weights(np.full(2, 0.5), None, 10)]
    assert own[0].tolist() == [False, True, False, False, True] and own[1].all()
    assert own_weights(share, place, 10_000).all()
    random = torch.Generator().manual_seed(3)
    network = Network([5, 2], 8, 6, [place, None], own).start([share, np.full(2, 0.5)], random)
    codes = torch.stack([torch.randint(0, s, (40,), generator=random) for s in (5, 2)])
    network.losses(codes, draw_orders(4, 2, random, fixed=False)).sum().backward()
    number, row = network._place(0)
    learned = network.embeddings[number].grad[row].abs().sum(1), network.outer[number].grad[row].abs().sum(0)
    for gradient in learned:
        assert (gradient[:5] > 0).tolist() == own[0].tolist()
    smooth = network.smooth_outer[number].grad[row]
    assert (smooth != 0).any()  # through these a row of any bin is learned from
    folded = network.folded()
    assert folded.embedding(0).abs().sum(1).min() > 0


def test_orders_are_the_schemas_or_have_some_columns_first() -> None:
    orders = draw_orders(200, 6, torch.Generator().manual_seed(0), fixed=False)
    assert (orders.sort(1).values == torch.arange(6)).all()
    assert (orders[::2] == torch.arange(6)).all()
    for order in orders[1::2].tolist():
        rest = next(k for k in range(6, -1, -1) if k == 0 or order[k - 1 :] != sorted(order[k - 1 :]))
        assert order[rest:] == sorted(order[rest:])
    assert len({tuple(o) for o in orders[1::2].tolist()}) > 20
    assert (draw_orders(8, 6, torch.Generator(), fixed=True) == torch.arange(6)).all()


def test_schedule() -> None:
    def schedule(losses: list[float], gaps: list[float] | None = None, patience: int = 2, most: int = 100) -> Schedule:
        return Schedule.of(losses, gaps or [0.0] * len(losses), patience, most, 4.0)

    assert schedule([5, 4, 3, 2.5]) == Schedule(None, 100, 3)
    assert schedule([5, 4, 3, 3.1, 3.2]) == Schedule(5, 8, 2)
    assert schedule([5, 4, 3, 3.1, 3.2, 1, 0]) == Schedule(5, 8, 6)  # a turn is not taken back
    assert schedule([9, 8, 7, 6, 5, 4], patience=3, most=10) == Schedule(6, 10, 5)  # in time before the most
    # An attacker may gain 3.6 before the turn, and four after it.
    assert schedule([9, 8, 7, 6], [0, 1, 2, 3]) == Schedule(None, 100, 3)
    assert schedule([9, 8, 7, 6], [0, 1, 2, 3.7]) == Schedule(4, 7, 3, bounded=True)
    assert schedule([9, 8, 7, 6], [0, 1, 2, 5]) == Schedule(4, 7, 2, bounded=True)
    assert schedule([9, 8, 7, 6, 5, 4], [0, 1, 2, 5, 3.9, 4.1]) == Schedule(4, 7, 4, bounded=True)
    assert [Schedule(5, 9, 4).scale(r) for r in (5, 7, 9)] == pytest.approx([1, 0.5, 0])
    # Dropout falls with the rate, unless the rate falls for what an attacker gains.
    assert [Schedule(5, 9, 4).dropout(r) for r in (5, 7, 9)] == pytest.approx([1, 0.5, 0])
    assert [Schedule(5, 9, 4, bounded=True).dropout(r) for r in (5, 7, 9)] == [1, 1, 1]


def test_the_attack_by_the_loss_compares_every_held_out_row_with_every_training_row() -> None:
    unseen, trained = torch.tensor([3.0, 1.0, 2.0, 2.0]), torch.tensor([0.0, 2.0, 1.5])
    pairs = [(u > t) + 0.5 * (u == t) for u in unseen.tolist() for t in trained.tolist()]
    auc, _ = LossAttack.of(torch.ones(4), torch.ones(3)).auc(unseen, trained)
    assert float(auc) == pytest.approx(np.mean(pairs))


def test_the_attack_by_the_loss_is_on_persons() -> None:
    persons = np.array([3, 3, 5], np.uint64), np.array([7, 7, 7, 9, 11, 11], np.uint64)
    unseen, trained = torch.tensor([4.0, 2.0, 1.0]), torch.tensor([0.0, 0.0, 3.0, 5.0, 2.0, 0.0])
    auc, _ = LossAttack.of(torch.ones(3), torch.ones(6), persons).auc(unseen, trained)
    assert float(auc) == pytest.approx((1 + 0 + 1 + 0.5 + 0 + 0.5) / 6)  # held out 3 and 1; trained 1, 5 and 1


def test_unusual_rows_that_are_held_out_by_chance_are_no_attack() -> None:
    random = torch.Generator().manual_seed(0)
    found = []
    for _ in range(40):
        before = torch.randn(400, generator=random)
        after = before + 0.5 * torch.randn(400, generator=random)
        known = after - 0.3 * (torch.arange(400) >= 100)
        for losses in (after, known):
            plain, _ = LossAttack.of(torch.ones(100), torch.ones(300)).auc(losses[:100], losses[100:])
            found.append(
                [float(plain), *map(float, LossAttack.of(before[:100], before[100:]).auc(losses[:100], losses[100:]))]
            )
    plain, auc, error = np.array(found).reshape(40, 2, 3).transpose(2, 1, 0)
    assert auc.std(1).max() < 0.6 * plain.std(1).min()
    assert auc[0].mean() == pytest.approx(0.5, abs=0.01) and auc[1].mean() == pytest.approx(plain[1].mean(), abs=0.02)
    assert error.mean() == pytest.approx(auc.std(1).mean(), rel=0.3)


def test_a_bound_on_the_attack_is_told_where_it_ended_the_training() -> None:
    def bounded(aucs: list[float], membership: float = 0.54) -> bool:
        losses = [9.0, 8.0, 7.0, 6.0, 5.0]
        history = torch.tensor([[0.0, loss, auc, 0.01] for loss, auc in zip(losses, aucs)])
        return bounded_by_attack(history, AutoregressiveOptions.parse({"membership": membership}))

    assert not bounded([0.5, 0.51, 0.52, 0.53, 0.535])
    assert bounded([0.5, 0.51, 0.52, 0.5475, 0.53])  # the rate fell for it
    assert bounded([0.5, 0.51, 0.52, 0.53, 0.56])  # weights were refused
    assert not bounded([0.5, 0.51, 0.52, 0.55, 0.56], membership=1)


def test_a_plan_of_an_older_version_may_hold_its_bound() -> None:
    assert AutoregressiveOptions.parse({"widest_gap": 3.0, "bins": 8}).bins == 8
    # A job of that time means what it meant: a wide gap was no bound.
    assert AutoregressiveOptions.parse({"widest_gap": 4.5}).membership == AutoregressiveOptions().membership
    assert AutoregressiveOptions.parse({"widest_gap": 1000}).membership == 1.0


def test_small_tables_get_narrow_networks_more_dropout_and_one_thread() -> None:
    options = AutoregressiveOptions.parse({})
    shapes = [Shape.of(options, rows, 10) for rows in (2_000, 10_000, 100_000, 1_000_000)]
    assert [(s.embedding, s.dropout) for s in shapes] == [(32, 0.4), (64, 0.3), (64, 0.2), (128, 0.2)]
    assert [s.cosines for s in shapes] == [8, 12, 12, 12]
    assert Shape.of(options, 10_000, 40).cosines == 8 and Shape.of(options, 100_000, 400).cosines == 12
    assert [s.threads(10, 8) for s in shapes] == [1, 1, 8, 8]
    given = Shape.of(AutoregressiveOptions.parse({"dropout": 0, "hidden": 9}), 2_000, 10)
    assert (given.embedding, given.hidden, given.dropout) == (32, 9, 0.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ordr": "any"}, "no option is called 'ordr'; did you mean 'order'"),
        ({"order": "random"}, "order is one of any, fixed"),
        ({"bins": 2.5}, "bins: wanted a whole number from 0 to 1000, found 2.5"),
        ({"top_p": 0}, "top_p: wanted a number from 0.01 to 1"),
        ({"calibrate": "yes"}, "calibrate: wanted true or false, found str"),
    ],
)
def test_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(JobError, match=message):
        AutoregressiveOptions.parse(options)
    assert AutoregressiveOptions.from_json(AutoregressiveOptions().to_json()) == AutoregressiveOptions()
