from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shardsynth.sampling.streams import chunk_seed, lanes, random_words, stream_key, uniforms

KEY = stream_key(0, "copula")


def test_a_key_depends_on_seed_and_model_and_never_changes():
    assert KEY == (7332147720599419349, 3990216131446092568)
    assert len({stream_key(seed, model) for seed in range(50) for model in "ab"}) == 100
    assert stream_key(1, "1a") != stream_key(11, "a")


def test_the_words_are_philox_as_published():
    # Known answer of the Random123 distribution: counter 0, key 0 -> 16554d9eca36314c db20fe9d672d0fdc ...
    # NumPy steps the counter before each block, so that its first block with counter 2^256 - 1 is the one of counter 0.
    generator = np.random.Philox(key=0, counter=2**256 - 1)
    assert [hex(w) for w in generator.random_raw(2)] == ["0x16554d9eca36314c", "0xdb20fe9d672d0fdc"]
    expected = np.random.Philox(key=np.array(KEY, np.uint64), counter=0).random_raw(12)
    assert random_words(KEY, 0, 3, 4).ravel().tolist() == expected.tolist()


@settings(max_examples=60, deadline=None)
@given(
    first=st.integers(0, 2**62),
    sizes=st.lists(st.integers(0, 40), min_size=1, max_size=6),
    width=st.integers(1, 23),
    layer=st.integers(0, 2**40),
)
def test_any_split_gives_the_same_words(first, sizes, width, layer):
    whole = random_words(KEY, first, sum(sizes), width, layer=layer)
    parts, row = [], first
    for size in sizes:
        parts.append(random_words(KEY, row, size, width, layer=layer))
        row += size
    assert np.array_equal(np.concatenate(parts), whole)
    assert whole.shape == (sum(sizes), width)


def test_rows_layers_and_keys_do_not_share_words():
    seen = [random_words(stream_key(s, "m"), 0, 500, 5, layer=layer).ravel() for s in (0, 1) for layer in (0, 1, 2)]
    words = np.concatenate(seen)
    assert len(np.unique(words)) == len(words)


def test_lanes_are_uniform_and_independent():
    u = lanes(random_words(KEY, 10**12, 200_000, 2)).astype(np.float64) / 65536
    assert u.shape == (200_000, 8)
    assert np.abs(u.mean(axis=0) - 0.5).max() < 5 * np.sqrt(1 / 12 / 200_000)
    assert np.abs(np.corrcoef(u.T) - np.eye(8)).max() < 5 / np.sqrt(200_000)
    counts = np.bincount((u[:, 0] * 256).astype(int), minlength=256)
    assert ((counts - 200_000 / 256) ** 2 / (200_000 / 256)).sum() < 255 + 5 * np.sqrt(2 * 255)


def test_uniforms_are_inside_the_open_interval():
    edge = uniforms(np.array([[0, 2**64 - 1]], np.uint64))
    assert edge.tolist() == [[2.0**-53, 1 - 2.0**-53]]


@pytest.mark.parametrize("chunk", [0, 1, 10**9])
def test_chunk_seeds_are_stable_and_distinct(chunk):
    assert chunk_seed(0, "m", chunk) == chunk_seed(0, "m", chunk) != chunk_seed(0, "m", chunk + 1)
    assert 0 <= chunk_seed(3, "m", chunk) < 2**63
