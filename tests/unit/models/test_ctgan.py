"""CTGAN and CopulaGAN: the ctgan package's networks and losses to 1e-5, and rows that depend on their number alone."""

from __future__ import annotations

import numpy as np
import torch
from tests.tables.layout import LAYOUT

from shardsynth.models.ctgan.ctgan import Conditions, settle_normalisation
from shardsynth.models.ctgan.networks import Discriminator, Generator


def test_condition_vectors_by_their_positions_are_the_same_products() -> None:
    torch.manual_seed(0)
    generator, critic = Generator(14, (32, 24), 13), Discriminator(13, (32, 24), pac=5, condition_width=6)
    noise, rows, flat = torch.randn(50, 8), torch.randn(50, 13), torch.randint(0, 6, (50,))
    vectors = torch.nn.functional.one_hot(flat, 6).float()
    table = vectors.reshape(10, 30) @ critic.table
    for whole, parts, network in (
        (generator(torch.cat([noise, vectors], 1)), generator(noise, flat), generator),
        (critic.first(rows) + table, critic.first(rows, flat), critic),
    ):
        torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)
        weight = torch.randn_like(whole)
        parameters = [p for p in network.parameters() if p.requires_grad]
        expected = torch.autograd.grad((whole * weight).sum(), parameters, allow_unused=True)
        found = torch.autograd.grad((parts * weight).sum(), parameters, allow_unused=True)
        for mine, its in zip(found, expected):
            assert (mine is None) == (its is None)
            if mine is not None:
                torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-5)


def test_the_penalty_of_rows_under_conditions_is_that_of_one_layer_for_both() -> None:
    torch.manual_seed(0)
    critic, whole = Discriminator(13, (32, 24), pac=5, condition_width=6), Discriminator(13 + 6, (32, 24), pac=5)
    with torch.no_grad():
        for mine, its in zip(critic.linears[1:], whole.linears[1:]):
            its.load_state_dict(mine.state_dict())
        rows, vectors = critic.linears[0].weight.view(32, 5, 13), critic.table.t().reshape(32, 5, 6)
        whole.linears[0].weight.copy_(torch.cat([rows, vectors], 2).view(32, -1))
    real, fake, alpha = torch.randn(10, 32), torch.randn(10, 32), torch.rand(10, 1)
    found, expected = critic.gradient_penalty(real, fake, alpha), whole.gradient_penalty(real, fake, alpha)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    found.backward()
    expected.backward()
    together = torch.cat([critic.linears[0].weight.grad.view(32, 5, 13), critic.table.grad.t().reshape(32, 5, 6)], 2)
    torch.testing.assert_close(together.view(32, -1), whole.linears[0].weight.grad, rtol=1e-4, atol=1e-6)


def test_conditions_are_even_over_columns_logarithmic_within_them_and_met_by_the_rows() -> None:
    rng = np.random.default_rng(0)
    codes = torch.from_numpy(np.stack([rng.choice(k, 5000, p=p) for k, p in ((3, [0.5, 0.3, 0.2]), (4, [0.9, 0.05, 0.05, 0.0]), (2, [0.5, 0.5]), (2, [0.99, 0.01]))], 1).astype(np.int8))  # fmt: skip
    conditions = Conditions.of(codes, LAYOUT, log_frequency=True)
    assert conditions is not None
    random = torch.Generator().manual_seed(0)
    flat = conditions.draw(40_000, random)
    column, category = conditions.column[flat], conditions.category[flat]
    for number, span in enumerate(LAYOUT.conditional.tolist()):
        count = torch.bincount(codes[:, span].long(), minlength=int(LAYOUT.size[span])).double()
        expected = 0.5 * torch.log1p(count) / torch.log1p(count).sum()
        found = torch.bincount(category[column == number], minlength=len(count)).double() / 40_000
        torch.testing.assert_close(found, expected, rtol=0, atol=0.01)
        assert found[count == 0].sum() == 0
    rows = conditions.matching_rows(flat, random)
    span = torch.as_tensor(LAYOUT.conditional)[column]
    assert torch.equal(codes[rows, span].long(), category)


def test_settled_normalisation_gives_what_the_batch_of_all_rows_would() -> None:
    torch.manual_seed(0)
    generator = Generator(6, (8, 8), 5)
    chunks = [torch.randn(100, 6) for _ in range(4)]
    with torch.no_grad():
        expected = generator(torch.cat(chunks))
    settle_normalisation(generator, lambda chunk: chunks[chunk], 4)
    torch.testing.assert_close(generator(chunks[1]), expected[100:200], rtol=1e-4, atol=1e-5)
