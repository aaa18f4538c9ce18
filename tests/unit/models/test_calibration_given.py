"""Rows under conditions: the columns that are not tested come as often as in unconditional rows that meet them."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from shardsynth.models.autoregressive.calibration_given import biases_given, calibrated_by  # noqa: E402
from shardsynth.models.autoregressive.network import Network  # noqa: E402
from shardsynth.models.autoregressive.sampler import BLOCK, Drawing, Sampler, lanes_of  # noqa: E402
from shardsynth.models.training.torch_threads import torch_threads  # noqa: E402
from shardsynth.sampling.streams import stream_key  # noqa: E402

SIZES = (4, 6, 3, 5, 3)
TESTED = 4


def drawn(drawing: Drawing, blocks: int, name: str) -> torch.Tensor:
    key = stream_key(0, name)
    with torch_threads(1):
        return torch.from_numpy(
            np.concatenate([drawing.block(lanes_of(key, b, len(SIZES))) for b in range(blocks)], axis=1)
        )


def frequencies(codes: torch.Tensor) -> list[np.ndarray]:
    return [torch.bincount(codes[c].long(), minlength=size).numpy() / codes.shape[1] for c, size in enumerate(SIZES)]


def farthest(first: torch.Tensor, second: torch.Tensor) -> float:
    """Largest total variation of a column's frequencies."""
    pairs = zip(frequencies(first), frequencies(second))
    return max(float(np.abs(a - b).sum()) / 2 for a, b in pairs)


@pytest.fixture
def sampler() -> Sampler:
    """Columns of a network that was not trained: its orders do not agree."""
    random = torch.Generator().manual_seed(3)
    network = Network(SIZES, 16, 16).start([np.full(size, 1 / size) for size in SIZES], random)
    with torch.no_grad():
        for weights in network.outer:
            weights.normal_(0.0, 0.12, generator=random)
    return Sampler(network, torch.zeros(sum(SIZES)))


@pytest.mark.parametrize("together", [(), ((1, 3),)])
def test_frequencies_are_those_of_unconditional_rows_that_meet_the_conditions(sampler: Sampler, together) -> None:
    plain = Drawing(sampler, range(len(SIZES)), calibrated=True, together=together)
    order, allowed = [TESTED, 0, 1, 2, 3], {TESTED: np.array([0.0, 1.0, 0.0])}

    def under(of: Sampler, calibrated: bool) -> Drawing:
        return Drawing(of, order, calibrated=calibrated, allowed=allowed, together=together)

    every = drawn(plain, 12, "plain")
    meeting = every[:, every[TESTED] == 1]
    drawing = under(sampler, calibrated=False)
    before = drawn(drawing, 4, "before")
    biases = biases_given(drawing, plain, before, 1, seed=0)
    after = drawn(under(calibrated_by(sampler, biases), calibrated=True), 6, "after")
    assert before.shape[1] == 4 * BLOCK
    assert (before[TESTED] == 1).all() and (after[TESTED] == 1).all()
    assert farthest(before, meeting) > 0.1
    assert farthest(after, meeting) < 0.2 * farthest(before, meeting)
    for group in together:
        absent = [after[column] == SIZES[column] - 1 for column in group]
        assert torch.equal(*absent)


def test_columns_that_are_tested_have_no_bias(sampler: Sampler) -> None:
    plain = Drawing(sampler, range(len(SIZES)), calibrated=True)
    drawing = Drawing(sampler, [TESTED, 0, 1, 2, 3], allowed={TESTED: np.array([1.0, 0.5, 0.0])})
    biases = biases_given(drawing, plain, drawn(drawing, 1, "rows"), 2, seed=0)
    assert not biases[TESTED].any() and not biases[0].any()
    assert all(bias.any() for bias in biases[1:TESTED])
