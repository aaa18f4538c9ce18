"""Choose rows by hashes of their global row numbers: the holdout, and the row sample.

A row is chosen by the hash of the seed, a salt and its global row number, never by its position in a shard or batch. So
any split of the table chooses the same rows. The hash is splitmix64 (Steele, Lea, Flood 2014: Fast splittable
pseudorandom number generators), a bijection of the row number: two rows never have the same hash.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Hashes = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)
#: The largest hash. As a threshold it chooses every row.
EVERY_ROW = 2**64 - 1


def _key(seed: int, salt: str) -> np.uint64:
    digest = hashlib.blake2b(f"{seed}:{salt}".encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def _mix(x: Hashes) -> Hashes:
    """The finaliser of splitmix64, in place."""
    x ^= x >> np.uint64(30)
    x *= _MIX1
    x ^= x >> np.uint64(27)
    x *= _MIX2
    x ^= x >> np.uint64(31)
    return x


def hash_rows(seed: int, salt: str, first_row: int, n: int) -> Hashes:
    """Hashes of the rows ``first_row`` to ``first_row + n - 1``, uint64[n]; each purpose has its own ``salt``."""
    rows = np.arange(first_row, first_row + n, dtype=np.uint64)
    with np.errstate(over="ignore"):
        rows += np.uint64(1)
        rows *= _GOLDEN
        rows += _key(seed, salt)
        return _mix(rows)


def hash_row_numbers(seed: int, salt: str, rows: Hashes) -> Hashes:
    """Hashes of rows by their numbers ``rows``, uint64[n]; the same hashes as those of ``hash_rows``."""
    with np.errstate(over="ignore"):
        return _mix((rows.astype(np.uint64) + np.uint64(1)) * _GOLDEN + _key(seed, salt))


def holdout_mask(
    seed: int, fraction: float, first_row: int, n: int, group: pa.Array | None = None
) -> npt.NDArray[np.bool_]:
    """Which rows are in the holdout, bool[n].

    Args:
        seed: The job's seed.
        fraction: Expected share of the holdout, 0 to 1: of the rows or, with ``group``, of the keys.
        first_row: Global number of the first row.
        n: Number of rows.
        group: Key of each row [n] (the job's ``person``): rows of one key are all in the holdout, or none of them is. A
            row without a key is a group of its own.
    """
    hashes = hash_rows(seed, "holdout", first_row, n)
    if group is not None:
        hashes = hash_keys(seed, "holdout group", group, hashes)
    if fraction >= 1.0:
        return np.ones(n, np.bool_)
    return np.asarray(hashes < np.uint64(int(max(fraction, 0.0) * 2.0**64)), dtype=np.bool_)


def hash_keys(seed: int, salt: str, keys: pa.Array, otherwise: Hashes) -> Hashes:
    """Hashes of keys, uint64[n]: equal keys have equal hashes, in any batch.

    Args:
        seed: The job's seed.
        salt: Each purpose has its own.
        keys: [n], of any plain type, or a dictionary of it.
        otherwise: uint64[n], the hashes of rows without a key.
    """
    from pandas.util import hash_array

    encoded = (keys.dictionary_decode() if pa.types.is_dictionary(keys.type) else keys).dictionary_encode()
    distinct = encoded.dictionary.cast(pa.string()).to_numpy(zero_copy_only=False)
    if not len(distinct):
        return otherwise
    has_key = np.asarray(encoded.indices.is_valid().to_numpy(zero_copy_only=False), dtype=np.bool_)
    with np.errstate(over="ignore"):
        by_key = _mix(hash_array(distinct.astype(object), categorize=False) + _key(seed, salt))
    codes = encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)
    return np.where(has_key, by_key[codes], otherwise)


def sample_threshold(k: int, total: int) -> int:
    """Hash below which the ``k`` rows of smallest hash are, of ``total`` rows.

    About 1.1 k rows have a smaller hash. The probability that fewer than k have one is below 1e-12.

    Args:
        k: Rows of the sample.
        total: Number of rows that are candidates. Of training rows: all rows times one minus the holdout.
    """
    expected = max(1.1 * k, k + 8.0 * math.sqrt(k) + 64.0)
    if total <= 0 or expected >= total:
        return EVERY_ROW
    return min(EVERY_ROW, int(expected / total * 2.0**64))


def share_threshold(k: int, total: int) -> int:
    """Hash below which about ``k`` of ``total`` rows are; ``EVERY_ROW`` where there are at most k rows."""
    return EVERY_ROW if total <= k else int(k / total * 2.0**64)
