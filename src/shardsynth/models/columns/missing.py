"""Which columns are missing on exactly the same rows."""

from __future__ import annotations

from collections.abc import Sequence

from shardsynth.summaries.counts import Counts


def missing_groups(counts: Counts, columns: Sequence[int]) -> list[tuple[int, ...]]:
    """Group the columns that are missing on exactly the same rows.

    Args:
        counts: Of the training rows.
        columns: Indices of the columns to look at.

    Returns:
        Groups of column indices. A column without missing values, or with no other values, is in no group.
    """
    place = {c: k for k, c in enumerate(counts.coder.missing_columns)}
    gram = counts.missing_gram
    groups: list[list[int]] = []
    for i in columns:
        absent = int(counts.hist[i][-1])
        if i not in place or not 0 < absent < counts.rows:
            continue
        for group in groups:
            first = group[0]
            if int(counts.hist[first][-1]) == absent == int(gram[place[first], place[i]]):
                group.append(i)
                break
        else:
            groups.append([i])
    return [tuple(group) for group in groups]
