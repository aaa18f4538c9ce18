"""CTGAN and CopulaGAN: the ctgan package's networks and losses to 1e-5, and rows that depend on their number alone."""

from __future__ import annotations

import pytest
import torch
from tests.tables.layout import LAYOUT, stock_layout

from shardsynth.models.ctgan.networks import Discriminator, Generator, Spans, activate, condition_loss
from shardsynth.models.ctgan.options import DeepOptions


def test_the_generator_is_the_packages() -> None:
    stock = pytest.importorskip("ctgan.synthesizers.ctgan")
    theirs, ours = stock.Generator(14, (32, 24), 13), Generator(14, (32, 24), 13)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(50, 14)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=1e-5, atol=1e-5)


def test_the_critic_its_penalty_and_its_derivatives_are_the_packages() -> None:
    stock = pytest.importorskip("ctgan.synthesizers.ctgan")
    theirs, ours = stock.Discriminator(19, (32, 24), pac=5).eval(), Discriminator(19, (32, 24), pac=5)
    ours.load_state_dict(theirs.state_dict())
    real, fake = torch.randn(50, 19), torch.randn(50, 19)
    torch.testing.assert_close(ours(fake), theirs(fake), rtol=1e-5, atol=1e-5)

    torch.manual_seed(1)
    expected = theirs.calc_gradient_penalty(real, fake.requires_grad_(), "cpu", 5)
    expected.backward()
    torch.manual_seed(1)
    found = ours.gradient_penalty(ours.first(real), ours.first(fake), torch.rand(10, 1, 1)[:, 0])
    found.backward()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for (name, mine), its in zip(ours.named_parameters(), theirs.parameters()):
        if "bias" not in name:  # the input gradient of a piecewise linear network knows no bias
            torch.testing.assert_close(mine.grad, its.grad, rtol=1e-5, atol=1e-5)


def test_activation_and_its_derivative_are_those_of_the_columns_one_by_one() -> None:
    torch.manual_seed(0)
    spans = Spans(LAYOUT)
    x, noise = (8 * torch.randn(40, 13)).double().requires_grad_(), torch.randn(40, 13).double()
    spans.member = spans.member.double()
    weight = torch.randn(40, 13).double()
    parts, place = [], 0
    for column in stock_layout():
        for span in column:
            own = slice(place, place + span.dim)
            raw = x[:, own]
            parts.append(torch.tanh(raw) if span.activation_fn == "tanh" else ((raw + noise[:, own]) / 0.2).softmax(1))
            place += span.dim
    expected = torch.cat(parts, 1)
    (gradient,) = torch.autograd.grad((expected * weight).sum(), x)
    found = activate(x, noise, spans)
    (mine,) = torch.autograd.grad((found * weight).sum(), x)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(mine, gradient, rtol=1e-5, atol=1e-8)


def test_the_condition_loss_is_the_packages() -> None:
    stock = pytest.importorskip("ctgan")
    from ctgan.data_transformer import DataTransformer

    torch.manual_seed(0)
    theirs = stock.CTGAN(enable_gpu=False)
    theirs._transformer = DataTransformer()
    theirs._transformer.output_info_list = stock_layout()
    raw, column = torch.randn(60, 13), torch.randint(0, 2, (60,))
    category = torch.where(column == 0, torch.randint(0, 4, (60,)), torch.randint(0, 2, (60,)))
    spans = Spans(LAYOUT)
    flat = torch.as_tensor(LAYOUT.condition_start)[column] + category
    expected = theirs._cond_loss(raw, spans.conditions(flat), torch.nn.functional.one_hot(column, 2).float())
    torch.testing.assert_close(condition_loss(raw, column, category, spans), expected, rtol=1e-5, atol=1e-5)


def test_options_have_the_packages_names_and_defaults() -> None:
    stock = pytest.importorskip("ctgan")
    import inspect

    for family, theirs in (("ctgan", stock.CTGAN), ("tvae", stock.TVAE)):
        ours = DeepOptions(family=family)
        for name, parameter in inspect.signature(theirs.__init__).parameters.items():
            if name not in ("self", "verbose", "enable_gpu", "cuda"):
                assert getattr(ours, name) == parameter.default, name
