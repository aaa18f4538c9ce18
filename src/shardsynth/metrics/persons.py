"""The persons of real rows, as one more column of a table: rows keep their persons wherever they are chosen.

Without them, each row counts as a person of its own.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Integers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

#: No column of a file is called so.
_NAME = "\x00person"


def with_persons(table: pa.Table, persons: Hashes | None) -> pa.Table:
    """A table that knows its persons, uint64[rows]; unchanged where they are None."""
    return table if persons is None else table.append_column(_NAME, pa.array(persons, pa.uint64()))


def persons_of(table: pa.Table) -> Hashes | None:
    """Hashes of the persons of a table's rows, uint64[rows]; None where each row is a person of its own."""
    if _NAME not in table.column_names:
        return None
    return np.asarray(table.column(_NAME).combine_chunks().to_numpy(zero_copy_only=False), np.uint64)


def persons_of_both(train: pa.Table, holdout: pa.Table) -> tuple[Hashes, Hashes] | None:
    """Those of training and holdout rows; None where each row is a person of its own."""
    persons = persons_of(train), persons_of(holdout)
    return None if persons[0] is None or persons[1] is None else (persons[0], persons[1])


def one_row_each(persons: Hashes | None, rows: int, generator: np.random.Generator) -> Integers:
    """Sorted indices of one random row of each person; of every row where ``persons`` is None."""
    if persons is None:
        return np.arange(rows)
    order = generator.permutation(rows)
    return np.sort(order[np.unique(persons[order], return_index=True)[1]])


def one_row_of_each(table: pa.Table, generator: np.random.Generator) -> pa.Table:
    """A table's rows, one random row of each person; the same table where each row is a person of its own."""
    persons = persons_of(table)
    return table if persons is None else table.take(pa.array(one_row_each(persons, table.num_rows, generator)))


def folds(persons: Hashes | None, rows: int, generator: np.random.Generator) -> Integers:
    """Fold 0 or 1 of each row, int64[rows], at random: half of the rows each or, about, half of the persons."""
    if persons is None:
        return np.asarray(generator.permutation(np.arange(rows) % 2))
    codes = np.unique(persons, return_inverse=True)[1]
    return np.asarray(generator.permutation(np.arange(int(codes.max(initial=-1)) + 1) % 2)[codes])


def resamples(persons: Hashes | None, rows: int, times: int, generator: np.random.Generator) -> list[Integers]:
    """Bootstrap samples of rows, as indices: rows are drawn with replacement or, with persons, whole persons are."""
    if persons is None:
        return [generator.integers(0, rows, rows) for _ in range(times)]
    codes = np.unique(persons, return_inverse=True)[1]
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes))
    own = np.split(order, ends[:-1])
    drawn = (generator.integers(0, len(own), len(own)) for _ in range(times))
    return [np.concatenate([own[k] for k in chosen.tolist()]) for chosen in drawn]


def other_persons(persons: Hashes, index: Integers) -> Integers:
    """Of neighbours int64[n, k] in order (-1: none), the place of the first that is not the person of the nearest one.

    The last place where all are the same person.
    """
    of_neighbour = persons[index]
    place = np.argmax((of_neighbour != of_neighbour[:, :1]) & (index >= 0), axis=1)
    return np.asarray(np.where(place > 0, place, index.shape[1] - 1), np.int64)


def winning_persons(winner: Integers, train: Hashes, holdout: Hashes) -> Integers:
    """A number int64[n] per winning person; ``winner`` has index i in ``train`` as i, in ``holdout`` as -1 - i."""
    is_train = winner >= 0
    hashes = np.where(is_train, train[np.where(is_train, winner, 0)], holdout[np.where(is_train, 0, -1 - winner)])
    return np.where(is_train, 1, -1) * (hashes >> np.uint64(2)).astype(np.int64)


def persons_with(wanted: Hashes, keys: Hashes, persons: Hashes) -> int:
    """Number of persons with a row whose key is wanted."""
    return len(np.unique(persons[np.isin(keys, wanted)]))
