"""Random words made by torch are those that NumPy makes."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from shardsynth.sampling import device_streams, streams  # noqa: E402


@pytest.mark.parametrize(
    ("key", "first", "rows", "width", "layer"),
    [
        ((1, 2), 0, 1000, 38, 0),
        ((2**64 - 1, 2**63 + 5), 12_345_678_901_234, 777, 5, 3),
        ((7, 9), 2**61, 64, 3, 2**40),
        ((7, 9), 2**62 - 3, 64, 16, 0),  # the counter's first word wraps round
    ],
)
def test_words_lanes_and_uniforms_are_numpys(
    key: tuple[int, int], first: int, rows: int, width: int, layer: int
) -> None:
    expected = streams.random_words(key, first, rows, width, layer=layer)
    words = device_streams.random_words(key, first, rows, width, torch.device("cpu"), layer=layer)
    np.testing.assert_array_equal(words.numpy().view(np.uint64), expected)
    np.testing.assert_array_equal(device_streams.lanes(words).numpy(), streams.lanes(expected))
    np.testing.assert_array_equal(device_streams.uniforms(words).numpy(), streams.uniforms(expected))
