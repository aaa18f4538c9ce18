"""The sampler's forms of the networks are the networks; its draws follow their softmax."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from shardsynth.models.ctgan.codes import Layout
from shardsynth.models.ctgan.ctgan import settle_normalisation
from shardsynth.models.ctgan.networks import Decoder, Generator
from shardsynth.models.ctgan.sampler import Sampler
from shardsynth.models.training.averaging import WeightAverage

#: A number of three modes, one of 70, and categories of 2, 1 and 5 codes: no width is a round number.
SIZES, AXES = [3, 70, 2, 1, 5], 2
EMBEDDING = 7


def layout() -> Layout:
    start, tanh, width = [], [], 0
    for number, size in enumerate(SIZES):
        if number < AXES:
            tanh.append(width)
            width += 1
        start.append(width)
        width += size
    return Layout(width, *(np.array(a, np.int64) for a in (start, SIZES, tanh, [2, 3, 4])))


def reached() -> np.ndarray:
    return np.concatenate([i + np.cumsum(np.full(size, 1 / size)).round(12) for i, size in enumerate(SIZES[AXES:])])


def generator(where: Layout) -> Generator:
    torch.manual_seed(0)
    made = Generator(EMBEDDING + where.condition_width, [20, 12, 9], where.width)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(2)
        settle_normalisation(made, lambda chunk: torch.randn(500, EMBEDDING + where.condition_width), 2)
    return made.eval()


@pytest.mark.parametrize(("half", "off"), [(False, 1e-5), (True, 0.05)])
def test_the_generators_forms_are_the_generator(half: bool, off: float) -> None:
    where = layout()
    network = generator(where)
    noise, flat = torch.randn(50, EMBEDDING), torch.randint(where.condition_width, (50,))
    vectors = torch.nn.functional.one_hot(flat, where.condition_width).float()
    sampler = Sampler(network, where, EMBEDDING, reached(), half=half)
    wanted = network(torch.cat([noise, vectors], dim=1))
    check(sampler, sampler.forward(noise, flat), wanted.t(), off)


@pytest.mark.parametrize(("half", "off"), [(False, 1e-5), (True, 0.05)])
def test_a_generator_without_conditions_and_a_decoder(half: bool, off: float) -> None:
    where, noise = layout(), torch.randn(50, EMBEDDING)
    torch.manual_seed(0)
    plain, decoder = Generator(EMBEDDING, [20, 12], where.width).eval(), Decoder(EMBEDDING, [20, 12], where.width)
    for network, wanted in ((plain, plain(noise)), (decoder, decoder(noise)[0])):
        sampler = Sampler(network, where, EMBEDDING, np.zeros(0), half=half)
        check(sampler, sampler.forward(noise, None), wanted.t(), off)


def check(sampler: Sampler, found: torch.Tensor, wanted: torch.Tensor, off: float) -> None:
    """Raw outputs agree, but for the order of the positions."""
    where = sampler.layout
    order = [
        *where.tanh,
        *(p for s in sampler.order_of_spans for p in range(where.start[s], where.start[s] + SIZES[s])),
    ]
    assert found.dtype == torch.float32 and found.shape == wanted.shape
    assert (found - wanted[order]).abs().max() <= off * wanted.abs().max()


@pytest.mark.parametrize("half", [False, True])
def test_codes_are_drawn_from_the_softmax_and_rows_depend_on_their_number(half: bool) -> None:
    where = layout()
    sampler = Sampler(generator(where), where, EMBEDDING, reached(), half=half)
    key, n = (3, 4), 40_000
    drawn = sampler.draw(key, 0, n)
    part = sampler.draw(key, 12_345, 10)
    assert (part.codes == drawn.codes[:, 12_345:12_355]).all() and (part.places == drawn.places[:, 12_345:12_355]).all()
    expected = np.zeros(where.width)
    with torch.inference_mode():
        for block in range(10):
            noise, _, _, uniform = sampler._random(key, block * sampler.block_rows, sampler.block_rows)
            raw = sampler.forward(noise, sampler._conditions(uniform, None))
            at = len(where.tanh)
            for span in sampler.order_of_spans:
                own = slice(where.start[span], where.start[span] + SIZES[span])
                expected[own] += torch.softmax(raw[at : at + SIZES[span]], 0).mean(1).numpy() / 10
                at += SIZES[span]
    for span, size in enumerate(SIZES):
        found = np.bincount(drawn.codes[span], minlength=size) / n
        assert np.abs(found - expected[where.start[span] :][:size]).max() < 4 * 0.5 / np.sqrt(n), span


@pytest.mark.parametrize("share", [1.0, 0.1])
def test_weights_are_averaged_by_polynomial_decay(share: float) -> None:
    network, steps = torch.nn.Linear(1, 1), 400
    average = WeightAverage(network, share)
    for step in range(steps):
        network.weight.data.fill_(float(step >= 0.9 * steps))
        average.update(network)
    # All alike; or the last tenth has 1 - 0.9^10 of the weight.
    assert average.network.weight.item() == pytest.approx(0.1 if share == 1 else 1 - 0.9**10, abs=1e-2)
    resumed = WeightAverage(network, share)
    resumed.network.load_state_dict(average.network.state_dict())
    resumed.begin(steps)
    for one in (average, resumed):
        network.weight.data.fill_(3.0)
        one.update(network)
    assert torch.equal(average.network.weight, resumed.network.weight)
