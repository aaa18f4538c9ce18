"""Privacy against a holdout: are synthetic rows closer to the rows that the model saw than to rows that it did not see?

Training and holdout rows come from the same table, split by hash. So if synthetic rows are related to the two in
different ways, the model remembers its training rows. Every figure compares the two sides; none means anything alone.

- *Closest record*: the share of synthetic rows whose nearest real row is a training row. Both sides are cut to equal
  size, and ties count half (Platzer and Reutterer 2021). A model that memorised nothing reaches one half. With a small
  holdout the cut makes the figure weak.
- *Pull*: the same with all rows of both sides. It is the share of synthetic rows whose nearest real row is a training
  row, minus the training side's share of the real rows, divided by the largest possible difference.
- *Exact and near matches*, *nearest-neighbour distance ratio*: of the synthetic rows, beside those of the holdout rows.
- *Membership inference* on the most isolated records: does the nearest synthetic row tell members from non-members?

Where the real rows know their persons, a person counts once: rows with the same nearest person are a cluster, exact
matches count the persons that are hit, the second nearest row is another person's, and a record is one row of a person.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.metrics.features import random_rows
from shardsynth.metrics.gower import Space
from shardsynth.metrics.intervals import Z99, auc, wilson
from shardsynth.metrics.nearest import Nearest, Points
from shardsynth.metrics.persons import one_row_each, other_persons, persons_of_both, persons_with, winning_persons
from shardsynth.metrics.privacy_findings import findings

if TYPE_CHECKING:
    from shardsynth.data.coding import TableCoder

Floats = npt.NDArray[np.float32]

#: At most: synthetic rows whose distances are computed, and those that are compared with all training rows.
COMPARED_ROWS, SEARCHED_ROWS = 50_000, 10_000
#: Share of the records that count as isolated, and the fewest non-members that are attacked.
ISOLATED_SHARE, FEWEST_ISOLATED = 0.01, 25
#: Intervals are of 99 %: there are several measures, and a finding by chance costs trust.
Z = Z99
#: Neighbours among which another person's row is searched.
_NEIGHBOURS = 16
#: A holdout row in a hundred is nearer than this to a training row.
NEAR_QUANTILE = 0.01


class Reference:
    """The real side of every comparison.

    Attributes:
        space: How rows are compared.
        train_rows: Training rows, a uniform sample of at most ``COMPARED_ROWS``.
        holdout_rows: Holdout rows, likewise.
        train: ``train_rows`` as points.
        holdout: ``holdout_rows`` as points.
        equal: Indices of as many training rows as there are holdout rows.
        persons: uint64[train], uint64[holdout]: persons of the rows; None where each row is a person of its own.
    """

    def __init__(self, coder: TableCoder, train: pa.Table, holdout: pa.Table, seed: int = 0) -> None:
        self._generator = np.random.default_rng([seed, 0x70726976])
        self.train_rows = random_rows(train, COMPARED_ROWS, self._generator)
        self.holdout_rows = random_rows(holdout, COMPARED_ROWS, self._generator)
        self.space = Space.of(coder, [self.train_rows, self.holdout_rows])
        self.train = self.space.encode(self.train_rows)
        self.holdout = self.space.encode(self.holdout_rows)
        size = min(len(self.train), len(self.holdout))
        self.equal = np.sort(self._generator.permutation(len(self.train))[:size])
        self._equal_holdout_rows = np.sort(self._generator.permutation(len(self.holdout))[:size])
        self.persons = persons_of_both(self.train_rows, self.holdout_rows)
        train_persons, holdout_persons = self.persons or (None, None)
        self._records = one_row_each(train_persons, len(self.train), self._generator)
        self._holdout_records = one_row_each(holdout_persons, len(self.holdout), self._generator)
        chosen = np.sort(self._generator.permutation(len(self._records))[:SEARCHED_ROWS])
        self._candidates = self._records[chosen]

    @cached_property
    def equal_train(self) -> Points:
        """Training rows, as many as ``equal_holdout`` has."""
        return self.train.take(self.equal)

    @cached_property
    def equal_holdout(self) -> Points:
        """Holdout rows, as many as ``equal_train`` has."""
        return self.holdout.take(self._equal_holdout_rows)

    @cached_property
    def holdout_nearest(self) -> Nearest:
        """The two nearest training rows of each holdout row (of at most ``SEARCHED_ROWS`` of them)."""
        return self.two_nearest(self.holdout.take(np.arange(min(len(self.holdout), SEARCHED_ROWS))))

    def two_nearest(self, rows: Points) -> Nearest:
        """The two nearest training rows of each row; the second one is another person's."""
        nearest = self.space.nearest(rows, self.train, 2 if self.persons is None else _NEIGHBOURS)
        if self.persons is None:
            return nearest
        second = other_persons(self.persons[0], nearest.index)
        both = np.stack([np.zeros_like(second), second], axis=1)
        return Nearest(np.take_along_axis(nearest.distance, both, 1), np.take_along_axis(nearest.index, both, 1))

    def clusters(self, winner: npt.NDArray[np.int64], *, equal: bool) -> npt.NDArray[np.int64]:
        """The winning rows, or their persons; ``equal``: whether they are of ``equal_train`` and ``equal_holdout``."""
        if self.persons is None:
            return winner
        train, holdout = self.persons
        if equal:
            train, holdout = train[self.equal], holdout[self._equal_holdout_rows]
        return winning_persons(winner, train, holdout)

    @cached_property
    def isolated(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], float]:
        """Indices of the training and holdout rows farthest from any other training row, and their share."""
        records, own, others = self.train, self._candidates, self._holdout_records[:SEARCHED_ROWS]
        holdout = self.holdout_nearest.distance[:, 0]
        if self.persons is not None:
            records, own = self.train.take(self._records), np.searchsorted(self._records, self._candidates)
            holdout = self.space.nearest(self.holdout.take(others), records).distance[:, 0]
        share = min(1.0, max(ISOLATED_SHARE, FEWEST_ISOLATED / max(len(holdout), 1)))
        candidates = self.train.take(self._candidates)
        # A candidate may be its own nearest row: then the second nearest counts.
        nearest = self.space.nearest(candidates, records, 2)
        itself = nearest.index[:, 0] == own
        train = np.where(itself, nearest.distance[:, 1], nearest.distance[:, 0])
        return self._candidates[_largest(train, share)], others[_largest(holdout, share)], share


def _largest(values: Floats, share: float) -> npt.NDArray[np.int64]:
    """Sorted indices of this share of the values, the largest ones."""
    count = int(np.ceil(share * len(values)))
    return np.sort(np.argsort(-values, kind="stable")[:count])


@dataclass(frozen=True)
class Distances:
    """Distances of n synthetic rows to the real ones. Those of several parts can be concatenated.

    Attributes:
        train: float32[n], distance to the nearest of ``equal_train``.
        holdout: float32[n], distance to the nearest of ``equal_holdout``.
        winner: int64[n], the nearer of the two rows: index i in ``equal_train`` as i, in ``equal_holdout`` as -1 - i.
            Where persons are known: the row's person.
        searched: float32[s, 2], distances of s of the rows to their two nearest rows of all training rows.
        searched_holdout: float32[s], distances of the same rows to the nearest of all holdout rows.
        searched_winner: int64[s], the nearer of the two rows, written like ``winner``.
        keys: uint64[n], hash of each row's exact values.
    """

    train: Floats
    holdout: Floats
    winner: npt.NDArray[np.int64]
    searched: Floats
    searched_holdout: Floats
    searched_winner: npt.NDArray[np.int64]
    keys: npt.NDArray[np.uint64]

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """As arrays for an archive."""
        return dict(self.__dict__)

    @classmethod
    def joined(cls, parts: list[dict[str, Any]]) -> Distances:
        """Concatenates parts; the inverse of ``to_arrays``."""
        return cls(**{name: np.concatenate([part[name] for part in parts]) for name in cls.__dataclass_fields__})


def compare(reference: Reference, rows: Points, searched: npt.NDArray[np.bool_]) -> Distances:
    """Distances of synthetic rows to the real ones.

    Args:
        reference: The real rows.
        rows: Synthetic rows, n.
        searched: bool[n], the rows that are compared with all real rows.
    """
    space = reference.space
    train = space.nearest(rows, reference.equal_train)
    holdout = space.nearest(rows, reference.equal_holdout)
    some = rows.take(searched)
    all_train, all_holdout = reference.two_nearest(some), space.nearest(some, reference.holdout)
    return Distances(
        train.distance[:, 0],
        holdout.distance[:, 0],
        reference.clusters(_winner(train, holdout), equal=True),
        all_train.distance,
        all_holdout.distance[:, 0],
        reference.clusters(_winner(all_train, all_holdout), equal=False),
        rows.keys,
    )


def _winner(train: Nearest, holdout: Nearest) -> npt.NDArray[np.int64]:
    """The nearer of the two nearest rows, as ``Distances.winner``; a training row wins a tie."""
    return np.where(train.distance[:, 0] <= holdout.distance[:, 0], train.index[:, 0], -1 - holdout.index[:, 0])


def privacy(
    reference: Reference, rows: Points, distances: Distances, released: int, attacked: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Privacy figures of a synthetic table, in the form of ``metrics/<model>.json``.

    Args:
        reference: The real rows.
        rows: The synthetic rows that were compared.
        distances: Their distances from ``compare``, in the same order.
        released: Number of all synthetic rows.
        attacked: Figures of ``shardsynth.metrics.attacks``, if there are any.

    Returns:
        A mapping per measure, and ``findings``; empty without synthetic rows, holdout rows or compared columns.
    """
    if not len(rows) or not len(reference.holdout) or not reference.space.columns:
        return {}
    figures: dict[str, Any] = {
        "rows": {
            "synthetic": len(rows),
            "training": len(reference.train),
            "holdout": len(reference.holdout),
            "compared": len(reference.equal),
            "released": released,
        },
        "closest_record": closest_record(distances),
        "pull": pull(reference, distances),
        "exact_matches": exact_matches(reference, distances.keys, released),
        "near_matches": near_matches(reference, distances.searched[:, 0]),
        "neighbour_ratio": neighbour_ratio(reference, distances.searched),
        "membership": membership(reference, rows),
        **({"attacks": attacked} if attacked else {}),
    }
    figures["findings"] = findings(figures)
    return figures


def closest_record(distances: Distances) -> dict[str, Any]:
    """Share of the synthetic rows that are closer to training than to holdout rows, and its interval; ties count half.

    The interval is Wilson's with the *effective* number of rows. Synthetic rows with the same nearest real row are a
    cluster, and not independent (Kish 1965: n squared over the sum of the squared cluster sizes).
    """
    closer, tied = distances.train < distances.holdout, distances.train == distances.holdout
    share = float((closer + 0.5 * tied).mean())
    effective = _effective(distances.winner)
    low, high = wilson(share, effective, Z)
    return {
        "closer_to_training": share,
        "low": low,
        "high": high,
        "ties": float(tied.mean()),
        "strictly_closer": float(closer.mean()),
        "effective_rows": effective,
        "median_distance": float(np.median(distances.train)),
        "median_distance_to_holdout": float(np.median(distances.holdout)),
        "reference": 0.5,
    }


def _effective(winner: npt.NDArray[np.int64]) -> float:
    """Kish's effective number of rows."""
    sizes = np.unique(winner, return_counts=True)[1].astype(np.float64)
    return float(len(winner) ** 2 / (sizes**2).sum()) if len(winner) else 0.0


def pull(reference: Reference, distances: Distances) -> dict[str, Any]:
    """How much more often than by chance the nearest of all real rows is a training row.

    If a model memorised nothing, the nearest row is a training row with probability e, the training side's share of the
    real rows. If a share m of the synthetic rows are copies of training rows, it is e + m (1 - e). ``share`` is m.
    """
    expected = len(reference.train) / (len(reference.train) + len(reference.holdout))
    train, holdout = distances.searched[:, 0], distances.searched_holdout
    share = float(np.where(train == holdout, expected, train < holdout).mean()) if len(train) else expected
    low, high = wilson(share, _effective(distances.searched_winner), Z)
    excess, least, most = ((value - expected) / (1 - expected) for value in (share, low, high))
    return {
        "share": excess,
        "low": least,
        "high": most,
        "nearest_is_training": share,
        "expected": expected,
        "reference": 0.0,
    }


def exact_matches(reference: Reference, keys: npt.NDArray[np.uint64], released: int) -> dict[str, Any]:
    """Synthetic rows equal to a real row in every column, and a test whether they are training rows by chance.

    If a model memorised nothing, its rows hit distinct real rows of both sides with equal probability. Then, of the
    distinct rows that are hit, the number of training rows is binomial with the training side's share of the distinct
    rows. Rows that are on both sides are left out.

    Args:
        reference: The real rows.
        keys: uint64[n], keys of the synthetic rows.
        released: Number of all synthetic rows.
    """
    from scipy.stats import binom

    train, holdout, synthetic = (np.unique(k) for k in (reference.train.keys, reference.holdout.keys, keys))
    both = np.intersect1d(train, holdout)
    only_train, only_holdout = np.setdiff1d(train, both), np.setdiff1d(holdout, both)
    hit_train = len(np.intersect1d(synthetic, only_train))
    hit_holdout = len(np.intersect1d(synthetic, only_holdout))
    candidates = (len(only_train), len(only_holdout))
    if reference.persons is not None:
        sides = list(zip((reference.train.keys, reference.holdout.keys), reference.persons))
        hit_train, hit_holdout = (persons_with(np.setdiff1d(synthetic, both), *side) for side in sides)
        candidates = (persons_with(only_train, *sides[0]), persons_with(only_holdout, *sides[1]))
    chance = candidates[0] / max(1, sum(candidates))
    hits = hit_train + hit_holdout
    copies = int(np.isin(keys, train).sum())
    return {
        "rows": copies,
        "share": copies / len(keys),
        "released": round(copies / len(keys) * released),
        "holdout_rows": int(np.isin(reference.holdout.keys, train).sum()),
        "holdout_share": float(np.isin(reference.holdout.keys, train).mean()),
        "training_records_hit": hit_train,
        "holdout_records_hit": hit_holdout,
        "expected_training_share": chance,
        "p_value": float(binom.sf(hit_train - 1, hits, chance)) if hits else 1.0,
    }


def near_matches(reference: Reference, distances: Floats) -> dict[str, Any]:
    """Share of the synthetic rows that are nearer to a training row than 99 % of the holdout rows are.

    The same share of the holdout rows is beside it. (It can exceed 1 %: many may have equal distances.)

    Args:
        reference: The real rows.
        distances: float32[s], of synthetic rows to their nearest training row.
    """
    holdout = reference.holdout_nearest.distance[:, 0]
    threshold = float(np.quantile(holdout, NEAR_QUANTILE, method="inverted_cdf"))
    share, holdout_share = float((distances <= threshold).mean()), float((holdout <= threshold).mean())
    low, high = wilson(share, len(distances), Z)
    independent = len(holdout)
    if reference.persons is not None:
        independent = len(np.unique(reference.persons[1][: len(holdout)]))
    holdout_low, holdout_high = wilson(holdout_share, independent, Z)
    return {
        "distance": threshold,
        "share": share,
        "low": low,
        "high": high,
        "holdout_share": holdout_share,
        "holdout_low": holdout_low,
        "holdout_high": holdout_high,
        "rows": len(distances),
        "holdout_rows": len(holdout),
    }


def neighbour_ratio(reference: Reference, searched: Floats) -> dict[str, Any]:
    """Distance to the nearest training row, divided by that to the second nearest: its 5 % quantile and median.

    Near 0 a row is close to one training row only; near 1 other training rows are equally close.

    Args:
        reference: The real rows.
        searched: float32[s, 2], as in ``Distances``.
    """

    def quantiles(pairs: Floats) -> list[float]:
        pairs = pairs[np.isfinite(pairs).all(axis=1)].astype(np.float64)
        if not len(pairs):
            return [1.0, 1.0]
        ratio = np.divide(pairs[:, 0], pairs[:, 1], out=np.ones(len(pairs)), where=pairs[:, 1] > 0)
        return [float(q) for q in np.quantile(ratio, [0.05, 0.5])]

    synthetic, holdout = quantiles(searched), quantiles(reference.holdout_nearest.distance)
    return {
        "fifth": synthetic[0],
        "median": synthetic[1],
        "holdout_fifth": holdout[0],
        "holdout_median": holdout[1],
    }


def membership(reference: Reference, rows: Points) -> dict[str, Any]:
    """Whether isolated training records are closer to synthetic rows than equally isolated holdout records are.

    The AUC is that of an attacker who calls a record a member if a synthetic row is near.
    """
    members, non_members, share = reference.isolated
    inside = reference.space.nearest(reference.train.take(members), rows).distance[:, 0]
    outside = reference.space.nearest(reference.holdout.take(non_members), rows).distance[:, 0]
    area, low, high = auc(-inside.astype(np.float64), -outside.astype(np.float64), Z)
    return {
        "auc": area,
        "low": low,
        "high": high,
        "reference": 0.5,
        "members": len(members),
        "non_members": len(non_members),
        "isolated_share": share,
    }
