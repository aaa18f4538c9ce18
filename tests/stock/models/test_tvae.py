"""TVAE: the ctgan package's networks and loss to 1e-5, and learning what is in a table."""

from __future__ import annotations

import pytest
import torch
from tests.tables.layout import LAYOUT, stock_layout

from shardsynth.models.ctgan.networks import Decoder, Encoder, Spans, elbo


def test_networks_and_loss_are_the_packages() -> None:
    stock = pytest.importorskip("ctgan.synthesizers.tvae")
    torch.manual_seed(0)
    encoder, decoder = Encoder(13, (24, 16), 6), Decoder(6, (16, 24), 13)
    theirs = stock.Encoder(13, (24, 16), 6), stock.Decoder(6, (16, 24), 13)
    theirs[0].load_state_dict(encoder.state_dict())
    theirs[1].load_state_dict(decoder.state_dict())
    spans = Spans(LAYOUT)
    codes = torch.stack([torch.randint(0, size, (50,)) for size in LAYOUT.size.tolist()], 1)
    real = spans.one_hot(codes.to(torch.int8), torch.rand(50, 2) * 2 - 1)
    noise = torch.randn(50, 6)

    losses = []
    for enc, dec in ((encoder, decoder), theirs):
        mean, std, log_variance = enc(real)
        raw, sigma = dec(noise * std + mean)
        if enc is encoder:
            losses.append(elbo(raw, real, sigma, mean, log_variance, spans, 2.0))
        else:
            losses.append(stock._loss_function(raw, real, sigma, mean, log_variance, stock_layout(), 2.0))
        sum(losses[-1]).backward()
    for mine, its in zip(*losses):
        torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-5)
    for mine, its in zip(
        [*encoder.parameters(), *decoder.parameters()], [*theirs[0].parameters(), *theirs[1].parameters()]
    ):
        gradient = torch.zeros_like(its) if its.grad is None else its.grad
        torch.testing.assert_close(mine.grad, gradient, rtol=1e-5, atol=1e-5)
