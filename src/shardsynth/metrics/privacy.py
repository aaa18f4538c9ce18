"""Privacy against a holdout: is what a model made closer to the rows that it saw than to rows that it did not see?

Training and holdout rows come from the same table by hash, so any difference in how synthetic rows treat them is what
the model kept of its training rows. Every figure is one of the two sides, or both, compared; none is read by itself.

- *Closest record*: share of synthetic rows whose nearest real row is a training row, both sides cut to equal size, ties
  split in half (Platzer and Reutterer 2021). One half is what a model that memorised nothing reaches. The cut makes it
  blunt where the holdout is small, so beside it stands the *pull*: all real rows of both sides pooled, and the share of
  nearest rows on the training side above the training side's share of the rows, as a part of what it could be at most.
- *Exact and near matches*, *nearest-neighbour distance ratio*: of the synthetic rows, beside those of the holdout rows.
- *Membership inference* on the most isolated records: can the nearest synthetic row tell members from non-members?
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from shardsynth.metrics.gower import Nearest, Points, Space
from shardsynth.metrics.intervals import Z99, auc, wilson

if TYPE_CHECKING:
    from shardsynth.data.coding import TableCoder

Floats = npt.NDArray[np.float32]

#: Synthetic rows whose distances are taken, at most, and those of them that look through all training rows.
COMPARED_ROWS, SEARCHED_ROWS = 50_000, 10_000
#: Share of the most isolated records, and the fewest non-members that are attacked.
ISOLATED_SHARE, FEWEST_ISOLATED = 0.01, 25
#: Intervals are of 99 %: several measures stand side by side, and a chance finding costs trust.
Z = Z99
#: A holdout row in a hundred is nearer than this to a training row.
NEAR_QUANTILE = 0.01


class Reference:
    """The real side of every comparison.

    Attributes:
        space: How rows are compared.
        train: Training rows (a uniform sample of at most ``COMPARED_ROWS``).
        holdout: Holdout rows (likewise).
        equal: Numbers of as many training rows as there are holdout rows.
    """

    def __init__(self, coder: TableCoder, train: pa.Table, holdout: pa.Table, seed: int = 0) -> None:
        self._generator = np.random.default_rng([seed, 0x70726976])
        self.train_rows, self.holdout_rows = self._cut(train), self._cut(holdout)
        self.space = Space.of(coder, [self.train_rows, self.holdout_rows])
        self.train = self.space.encode(self.train_rows)
        self.holdout = self.space.encode(self.holdout_rows)
        size = min(len(self.train), len(self.holdout))
        self.equal = np.sort(self._generator.permutation(len(self.train))[:size])
        self._held_equal = np.sort(self._generator.permutation(len(self.holdout))[:size])
        self._candidates = np.sort(self._generator.permutation(len(self.train))[:SEARCHED_ROWS])

    def _cut(self, table: pa.Table) -> pa.Table:
        if table.num_rows <= COMPARED_ROWS:
            return table
        return table.take(pa.array(np.sort(self._generator.permutation(table.num_rows)[:COMPARED_ROWS])))

    @cached_property
    def equal_train(self) -> Points:
        """As many training rows as ``equal_holdout`` has."""
        return self.train.take(self.equal)

    @cached_property
    def equal_holdout(self) -> Points:
        """As many holdout rows as ``equal_train`` has."""
        return self.holdout.take(self._held_equal)

    @cached_property
    def holdout_nearest(self) -> Nearest:
        """The two nearest training rows of the holdout rows (of at most ``SEARCHED_ROWS``)."""
        return self.space.nearest(self.holdout.take(np.arange(min(len(self.holdout), SEARCHED_ROWS))), self.train, 2)

    @cached_property
    def isolated(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], float]:
        """Numbers of the training and holdout rows that lie farthest from any other training row, and their share."""
        held = self.holdout_nearest.distance[:, 0]
        share = min(1.0, max(ISOLATED_SHARE, FEWEST_ISOLATED / max(len(held), 1)))
        candidates = self.train.take(self._candidates)
        # The nearest but itself: of two neighbours, the one that is another row.
        found = self.space.nearest(candidates, self.train, 2)
        own = found.index[:, 0] == self._candidates
        lonely = np.where(own, found.distance[:, 1], found.distance[:, 0])
        return self._candidates[_largest(lonely, share)], _largest(held, share), share


def _largest(values: Floats, share: float) -> npt.NDArray[np.int64]:
    count = int(np.ceil(share * len(values)))
    return np.sort(np.argsort(-values, kind="stable")[:count])


@dataclass(frozen=True)
class Distances:
    """What synthetic rows have to do with the real ones; parts are concatenated.

    Attributes:
        train: float32[n], distance to the nearest of ``equal_train``.
        holdout: float32[n], distance to the nearest of ``equal_holdout``.
        winner: int64[n], the nearer of the two rows: a number in ``equal_train``, or -1 minus one in the holdout.
        searched: float32[s, 2], distances of some of the rows to their two nearest training rows, of all of them.
        searched_holdout: float32[s], distances of the same rows to the nearest of all holdout rows.
        searched_winner: int64[s], the nearer of the two, numbered like ``winner``.
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
        """Parts one after the other, inverse of ``to_arrays``."""
        return cls(**{name: np.concatenate([part[name] for part in parts]) for name in cls.__dataclass_fields__})


def compare(reference: Reference, rows: Points, searched: npt.NDArray[np.bool_]) -> Distances:
    """Distances of synthetic rows to the real ones.

    Args:
        reference: The real rows.
        rows: Synthetic rows, n.
        searched: bool[n], the rows that look through all training rows.
    """
    space = reference.space
    train = space.nearest(rows, reference.equal_train)
    held = space.nearest(rows, reference.equal_holdout)
    to_train, to_held = train.distance[:, 0], held.distance[:, 0]
    winner = np.where(to_train <= to_held, train.index[:, 0], -1 - held.index[:, 0])
    looking = rows.take(searched)
    near, near_held = space.nearest(looking, reference.train, 2), space.nearest(looking, reference.holdout)
    nearer = np.where(near.distance[:, 0] <= near_held.distance[:, 0], near.index[:, 0], -1 - near_held.index[:, 0])
    return Distances(to_train, to_held, winner, near.distance, near_held.distance[:, 0], nearer, rows.keys)


def privacy(
    reference: Reference, rows: Points, distances: Distances, released: int, attacked: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Privacy figures of a synthetic table, in the form of ``metrics/<model>.json``.

    Args:
        reference: The real rows.
        rows: The synthetic rows that ``distances`` are of.
        distances: As of ``compare``, in the same order.
        released: Synthetic rows that exist in all.
        attacked: Figures of ``shardsynth.metrics.attacks``, if they were made.

    Returns:
        A mapping per measure, and ``findings``: what is wrong, by measure.
    """
    if not len(rows) or not len(reference.holdout) or not reference.space.columns:
        return {}
    found: dict[str, Any] = {
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
    found["findings"] = findings(found)
    return found


def closest_record(distances: Distances) -> dict[str, Any]:
    """Share of the synthetic rows that lie closer to training than to holdout rows, ties in half, with its interval.

    The interval is Wilson's at the *effective* number of rows: a real row that is the nearest of many synthetic rows is
    one observation, not many (Kish 1965: n squared over the sum of squared cluster sizes).
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
    sizes = np.unique(winner, return_counts=True)[1].astype(np.float64)
    return float(len(winner) ** 2 / (sizes**2).sum()) if len(winner) else 0.0


def pull(reference: Reference, distances: Distances) -> dict[str, Any]:
    """How much more often the nearest of all real rows is a training row than chance has it.

    A model that memorised nothing treats training and holdout rows alike: the nearest is a training row with the
    training side's share e of the rows. A share m of copies of training rows makes that e + m (1 - e); m is given.
    """
    expected = len(reference.train) / (len(reference.train) + len(reference.holdout))
    train, held = distances.searched[:, 0], distances.searched_holdout
    share = float(np.where(train == held, expected, train < held).mean()) if len(train) else expected
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
    """Synthetic rows equal to a real row in every column, and whether training rows are hit more often than chance.

    Without memory a distinct real row is hit or not whichever side it is on: of the distinct rows hit, the number on
    the training side is binomial with the training side's share of the distinct rows. Rows on both sides are left out.
    """
    from scipy.stats import binom

    train, held, made = (np.unique(k) for k in (reference.train.keys, reference.holdout.keys, keys))
    both = np.intersect1d(train, held)
    only_train, only_held = np.setdiff1d(train, both), np.setdiff1d(held, both)
    hit_train = len(np.intersect1d(made, only_train))
    hit_held = len(np.intersect1d(made, only_held))
    chance = len(only_train) / max(1, len(only_train) + len(only_held))
    hits = hit_train + hit_held
    copies = int(np.isin(keys, train).sum())
    return {
        "rows": copies,
        "share": copies / len(keys),
        "released": round(copies / len(keys) * released),
        "holdout_rows": int(np.isin(reference.holdout.keys, train).sum()),
        "holdout_share": float(np.isin(reference.holdout.keys, train).mean()),
        "training_records_hit": hit_train,
        "holdout_records_hit": hit_held,
        "expected_training_share": chance,
        "p_value": float(binom.sf(hit_train - 1, hits, chance)) if hits else 1.0,
    }


def near_matches(reference: Reference, distances: Floats) -> dict[str, Any]:
    """Share of the synthetic rows nearer to a training row than 99 % of the holdout rows are, and the holdout's own."""
    held = reference.holdout_nearest.distance[:, 0]
    threshold = float(np.quantile(held, NEAR_QUANTILE, method="inverted_cdf"))
    share, own = float((distances <= threshold).mean()), float((held <= threshold).mean())
    low, high = wilson(share, len(distances), Z)
    held_low, held_high = wilson(own, len(held), Z)
    return {
        "distance": threshold,
        "share": share,
        "low": low,
        "high": high,
        "holdout_share": own,
        "holdout_low": held_low,
        "holdout_high": held_high,
        "rows": len(distances),
        "holdout_rows": len(held),
    }


def neighbour_ratio(reference: Reference, searched: Floats) -> dict[str, Any]:
    """Distance to the nearest over that to the second nearest training row; 0 is one row singled out, 1 is a crowd."""

    def quantiles(pairs: Floats) -> list[float]:
        pairs = pairs[np.isfinite(pairs).all(axis=1)].astype(np.float64)
        if not len(pairs):
            return [1.0, 1.0]
        ratio = np.divide(pairs[:, 0], pairs[:, 1], out=np.ones(len(pairs)), where=pairs[:, 1] > 0)
        return [float(q) for q in np.quantile(ratio, [0.05, 0.5])]

    made, held = quantiles(searched), quantiles(reference.holdout_nearest.distance)
    return {"fifth": made[0], "median": made[1], "holdout_fifth": held[0], "holdout_median": held[1]}


def membership(reference: Reference, rows: Points) -> dict[str, Any]:
    """Whether isolated training records lie closer to synthetic rows than equally isolated holdout records do."""
    members, others, share = reference.isolated
    inside = reference.space.nearest(reference.train.take(members), rows).distance[:, 0]
    outside = reference.space.nearest(reference.holdout.take(others), rows).distance[:, 0]
    area, low, high = auc(-inside.astype(np.float64), -outside.astype(np.float64), Z)
    return {
        "auc": area,
        "low": low,
        "high": high,
        "reference": 0.5,
        "members": len(members),
        "non_members": len(others),
        "isolated_share": share,
    }


_ATTACKED = {
    "singling_out_one": "A single value of a synthetic row singles out one training record",
    "singling_out_many": "A combination of values of a synthetic row singles out one training record",
    "linkability": "Synthetic rows link the two halves of training records",
    "inference": "Synthetic rows give away a value of training records",
}


def findings(found: dict[str, Any]) -> list[dict[str, str]]:
    """What a data steward has to know: ``level`` (``fail``, ``caution``), ``measure``, ``text``."""
    listed: list[dict[str, str]] = []

    def judge(measure: str, least: float, caution: float, fail: float, text: str) -> None:
        """Say ``text`` where what is certain of a measure (``least``) exceeds a bound."""
        if least > caution:
            listed.append({"level": "fail" if least > fail else "caution", "measure": measure, "text": text})

    closest, pulled, exact = found["closest_record"], found["pull"], found["exact_matches"]
    near, member = found["near_matches"], found["membership"]
    judge(
        "closest_record",
        *(closest["low"], 0.5, 0.55),
        f"{closest['closer_to_training']:.1%} of the rows lie closer to training than to unseen rows; 50 % is right.",
    )
    judge(
        "pull",
        *(pulled["low"], 0.0, 0.1),
        f"For {pulled['nearest_is_training']:.1%} of the rows the nearest real row is a training row, "
        f"{pulled['expected']:.1%} by chance: as if {pulled['share']:.0%} of them were copied.",
    )
    judge(
        "exact_matches",
        *(1 - exact["p_value"], 1 - 0.01, 1 - 1e-4),
        f"{exact['training_records_hit']:,} distinct training records were repeated value by value, against "
        f"{exact['holdout_records_hit']:,} unseen ones: more than chance repeats.",
    )
    judge(
        "near_matches",
        *(near["low"], near["holdout_high"], 2 * near["holdout_high"]),
        f"{near['share']:.1%} of the rows lie as near to a training record as only {near['holdout_share']:.1%} of "
        "unseen real rows do.",
    )
    judge(
        "membership",
        *(member["low"], 0.5, 0.6),
        f"An attacker tells isolated training records from unseen ones with an AUC of {member['auc']:.2f}; "
        "0.50 is guessing.",
    )
    for name, words in _ATTACKED.items():
        figures = (found.get("attacks") or {}).get(name)
        if figures:
            judge(
                f"attacks.{name}",
                *(figures["low"], 0.0, 0.05),
                f"{words} in {figures['attack']:.1%} of the attacks, {figures['control']:.1%} on unseen records: "
                f"a risk of {figures['risk']:.1%}.",
            )
    return listed
