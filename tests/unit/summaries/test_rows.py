from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from shardsynth.summaries.rows import (
    EVERY_ROW,
    hash_row_numbers,
    hash_rows,
    holdout_mask,
    sample_threshold,
    share_threshold,
)


@given(st.integers(0, 2**40), st.integers(0, 50), st.integers(0, 50))
def test_the_hash_of_a_row_does_not_depend_on_its_batch(first: int, n: int, more: int) -> None:
    whole = hash_rows(7, "sample", first, n + more)
    assert np.array_equal(whole[n:], hash_rows(7, "sample", first + n, more))
    assert np.array_equal(whole, hash_row_numbers(7, "sample", np.arange(first, first + n + more, dtype=np.uint64)))


def test_hashes_are_fixed_for_ever() -> None:
    # A changed hash would change every holdout and every sample of a seed.
    assert hash_rows(0, "sample", 0, 2).tolist() == [9778033044134376767, 8296562432582614478]


def test_hashes_are_uniform_and_differ_by_seed_and_salt() -> None:
    n = 100_000
    draws = [hash_rows(0, "sample", 0, n), hash_rows(0, "holdout", 0, n), hash_rows(1, "sample", 0, n)]
    for hashes in draws:
        assert len(np.unique(hashes)) == n
        counts = np.bincount((hashes >> np.uint64(60)).astype(np.int64), minlength=16)
        assert ((counts - n / 16) ** 2 / (n / 16)).sum() < 45  # chi-squared, 15 degrees of freedom
    for k in (1, 2):
        assert abs(np.corrcoef(draws[0].astype(float), draws[k].astype(float))[0, 1]) < 0.02


def test_the_holdout_is_its_share_of_the_rows() -> None:
    assert abs(holdout_mask(0, 0.1, 0, 100_000).mean() - 0.1) < 0.005
    assert not holdout_mask(0, 0.0, 0, 1000).any()
    assert holdout_mask(0, 1.0, 0, 1000).all()


def test_a_group_is_on_one_side_whatever_its_type_or_shard() -> None:
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 500, 5000)
    text = pa.array([None if k < 20 else f"p{k}" for k in keys])
    held = holdout_mask(0, 0.3, 0, 5000, text)
    for key in set(keys.tolist()) - set(range(20)):
        assert len(set(held[keys == key].tolist())) == 1
    assert 0 < held[keys < 20].mean() < 1  # rows without a key are on their own
    assert abs(held.mean() - 0.3) < 0.08
    parts = [holdout_mask(0, 0.3, k, 1000, text.slice(k, 1000).dictionary_encode()) for k in range(0, 5000, 1000)]
    assert np.array_equal(held, np.concatenate(parts))
    numbers = holdout_mask(0, 0.3, 0, 5000, pa.array(keys))
    assert all(len(set(numbers[keys == key].tolist())) == 1 for key in set(keys.tolist()))


def test_thresholds_hold_enough_rows() -> None:
    assert sample_threshold(10, 5) == EVERY_ROW
    for k, total in ((1, 1000), (100, 10_000), (5000, 1_000_000)):
        held = (hash_rows(0, "sample", 0, total) <= np.uint64(sample_threshold(k, total))).sum()
        assert k <= held <= 1.1 * k + 10 * np.sqrt(k) + 120
    held = (hash_rows(0, "fit", 0, 100_000) <= np.uint64(share_threshold(20_000, 100_000))).sum()
    assert abs(held - 20_000) < 700
    assert share_threshold(5, 5) == EVERY_ROW
