"""Which rows: hashes of global row numbers, the holdout, the bottom-k sample.

A row is chosen by the hash of (seed, salt, its global row number), never by its place in a shard or a batch, so that
any split of the table chooses the same rows. The generator is splitmix64 (Steele, Lea, Flood 2014), a bijection of the
row number: two rows never tie.
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
#: The largest hash: as a threshold, "every row".
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
    """Hashes of the rows ``first_row`` to ``first_row + n - 1``, uint64[n]."""
    rows = np.arange(first_row, first_row + n, dtype=np.uint64)
    with np.errstate(over="ignore"):
        rows += np.uint64(1)
        rows *= _GOLDEN
        rows += _key(seed, salt)
        return _mix(rows)


def hash_row_numbers(seed: int, salt: str, rows: Hashes) -> Hashes:
    """``hash_rows`` of any row numbers, uint64[n]."""
    with np.errstate(over="ignore"):
        return _mix((rows.astype(np.uint64) + np.uint64(1)) * _GOLDEN + _key(seed, salt))


def holdout_mask(
    seed: int, fraction: float, first_row: int, n: int, group: pa.Array | None = None
) -> npt.NDArray[np.bool_]:
    """Which rows are held out, bool[n].

    Args:
        seed: The job's seed.
        fraction: Expected share of the rows (of the groups, with ``group``), 0 to 1.
        first_row: Global number of the first row.
        n: Rows.
        group: Key of each row (``evaluate.group``), length n: rows of one key fall on the same side. A row without a
            key is its own group.
    """
    hashes = hash_rows(seed, "holdout", first_row, n)
    if group is not None:
        from pandas.util import hash_array

        encoded = (group.dictionary_decode() if pa.types.is_dictionary(group.type) else group).dictionary_encode()
        keys = encoded.dictionary.cast(pa.string()).to_numpy(zero_copy_only=False)
        known = np.asarray(encoded.indices.is_valid().to_numpy(zero_copy_only=False), dtype=np.bool_)
        if len(keys):
            with np.errstate(over="ignore"):
                by_key = _mix(hash_array(keys.astype(object), categorize=False) + _key(seed, "holdout group"))
            codes = encoded.indices.fill_null(0).to_numpy(zero_copy_only=False)
            hashes = np.where(known, by_key[codes], hashes)
    if fraction >= 1.0:
        return np.ones(n, np.bool_)
    return np.asarray(hashes < np.uint64(int(max(fraction, 0.0) * 2.0**64)), dtype=np.bool_)


def sample_threshold(k: int, total: int) -> int:
    """Largest hash that a row of the sample may have, so that the k smallest of ``total`` rows lie under it.

    About 1.1 k rows do; that fewer than k do has a probability below 1e-12.

    Args:
        k: Rows of the sample.
        total: Rows that are candidates (of the training side: total rows times one minus the holdout).
    """
    wanted = max(1.1 * k, k + 8.0 * math.sqrt(k) + 64.0)
    if total <= 0 or wanted >= total:
        return EVERY_ROW
    return min(EVERY_ROW, int(wanted / total * 2.0**64))


def share_threshold(k: int, total: int) -> int:
    """Hash under which about ``k`` of ``total`` rows lie; every row when there are no more than k."""
    return EVERY_ROW if total <= k else int(k / total * 2.0**64)
