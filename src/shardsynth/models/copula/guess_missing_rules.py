"""Guess rules on missing values (``missing_rules``) on the row sample, and verify them by the counts of all rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.coding import TableCoder
from shardsynth.models.columns.class_marginals import class_codes, is_present, lump_code
from shardsynth.models.columns.fitted import FittedColumn, Latent
from shardsynth.models.columns.marginals import Protection
from shardsynth.models.columns.relations import Relation
from shardsynth.models.copula.missing_rules import DRAWN, MISSING, PRESENT, MissingRule
from shardsynth.models.copula.tables import Integers
from shardsynth.summaries.counts import Counts
from shardsynth.summaries.persons import Hashes

Mask = NDArray[np.bool_]

#: Nats of evidence that a nested pair, and a category's word on a column, need: how improbable they would be if the
#: columns were independent. A pair by chance does no harm: it would hold on nearly all rows without the rule.
_NESTED, _CATEGORY = 5.0, 10.0
#: Rows in which a rule is looked for first; share of them that break it at most (one person may have many rows).
_FIRST_ROWS, _HARDLY = 5_000, 0.05
#: Share of the evidence of the column that decides most, from which another one that decides more latents is taken.
_ABOUT = 0.8
#: Most categories of a column that decides; most columns of categories that are looked at.
_MOST_CATEGORIES, _MOST_COLUMNS = 50, 100


@dataclass(frozen=True)
class _Sampled:
    """The row sample as rules see it.

    Attributes:
        absent: By number of a latent of kind ``missing``: bool[n].
        codes: By index of a column of categories: int64[n], its codes; the last one means missing.
        persons: int64[n], numbers of the rows' persons; None: each row is a person of its own.
    """

    absent: dict[int, Mask]
    codes: dict[int, Integers]
    persons: Integers | None

    @property
    def step(self) -> int:
        """Every how manieth row is looked at first."""
        return -(-max(map(len, self.absent.values())) // _FIRST_ROWS)

    def number(self, rows: Mask) -> int:
        """Persons of some rows."""
        return int(rows.sum()) if self.persons is None else len(np.unique(self.persons[rows]))


def guess_rules(
    columns: Sequence[FittedColumn],
    latents: Sequence[Latent],
    relations: Sequence[Relation],
    sample: pa.Table,
    coder: TableCoder,
    counts: Counts,
    protection: Protection,
    persons: Hashes | None,
) -> tuple[MissingRule, ...]:
    """The rules that hold, in the order in which they are applied.

    A rule is broken by fewer persons than ``min_count`` at most: what so few persons have is not learned. It is guessed
    on the row sample. If that is not the whole table, it is verified by the counts of all rows.

    Args:
        columns: One per column of the schema.
        latents: Dimensions of the Gaussian.
        relations: Computed columns.
        sample: Row sample of the training rows.
        coder: Their codes.
        counts: Of all training rows.
        protection: What the model may hold.
        persons: uint64[rows of the sample], hashes of their persons.
    """
    ruled = [k for k, latent in enumerate(latents) if latent.kind == "missing" and latent.p_missing > 0]
    if not ruled or protection.min_count < 1 or not sample.num_rows:
        return ()
    first = {k: columns[latents[k].columns[0]] for k in ruled}
    absent = {k: ~is_present(column, sample[column.name], coder) for k, column in first.items()}
    codes: dict[int, Integers] = {}
    for index, column in enumerate(columns):
        if column.treatment != "latent" or column.categories is None or len(codes) == _MOST_COLUMNS:
            continue
        if 2 <= len(column.categories) <= _MOST_CATEGORIES:
            found = class_codes(column, sample[column.name], lump_code(column, relations, coder, protection))
            plain = ~is_present(column, sample[column.name], coder)
            # A category that the model does not hold is no evidence: -2.
            codes[index] = np.where(plain, len(column.categories), np.where(found < 0, -2, found))
    numbers = None if persons is None else np.unique(persons, return_inverse=True)[1].reshape(-1)
    sampled = _Sampled(absent, codes, numbers)
    verified = _Verified(columns, latents, coder, counts, sample.num_rows == counts.rows, persons is not None)
    nested = _nested(latents, sampled, protection.min_count, verified)
    decided = _decided(columns, latents, sampled, protection.min_count, verified, nested)
    return tuple(decided + nested)


@dataclass(frozen=True)
class _Verified:
    """Verifies rules by the counts of all rows, where the sample is not the whole table."""

    columns: Sequence[FittedColumn]
    latents: Sequence[Latent]
    coder: TableCoder
    counts: Counts
    whole: bool
    persons: bool

    def nested(self, inner: int, outer: int, least: int) -> bool:
        """Whether on all rows the columns of ``inner`` are missing only where those of ``outer`` are."""
        if self.whole:
            return True
        i, j = self._index(inner), self._index(outer)
        place = {c: k for k, c in enumerate(self.coder.missing_columns)}
        if i not in place or j not in place:
            return False
        broken = int(self.counts.hist[i][-1]) - int(self.counts.missing_gram[place[i], place[j]])
        return broken == 0 if self.persons else broken < least

    def category(self, column: int, latent: int, code: int, state: int, least: int) -> bool:
        """Whether on all rows a category, or where it is missing, always or never goes with missing values."""
        if self.whole:
            return True
        if self.coder.wide:
            return False
        fitted, i, j = self.columns[column], self.coder.index[self.columns[column].name], self._index(latent)
        encoder, table = self.coder.columns[i], self.counts.pair(i, j)
        if int(table.sum()) != self.counts.rows or encoder.values is None or fitted.categories is None:
            return False
        if encoder.n_coarse - 1 != len(encoder.values):
            return False  # several categories share a coarse code
        value = None if code == len(fitted.categories) else fitted.categories[code].as_py()
        values = encoder.values.to_pylist()
        row = -1 if value is None else int(encoder.coarse[values.index(value)]) if value in values else None
        if row is None:
            return False
        broken = int(table[row, -1]) if state == PRESENT else int(table[row, :-1].sum())
        return broken == 0 if self.persons else broken < least

    def _index(self, latent: int) -> int:
        return self.coder.index[self.columns[self.latents[latent].columns[0]].name]


def _nested(latents: Sequence[Latent], sampled: _Sampled, least: int, verified: _Verified) -> list[MissingRule]:
    """Nested pairs, the inner ones first, without those that follow from two others."""
    share = {k: float(mask.mean()) for k, mask in sampled.absent.items()}
    order = sorted(sampled.absent, key=lambda k: (-share[k], k))
    some = np.stack([sampled.absent[k][:: sampled.step] for k in order]).astype(np.float32)
    alone = some @ (1.0 - some).T  # rows where one is missing and the other is not
    hardly = alone <= _HARDLY * some.sum(axis=1)[:, None]
    inside: dict[int, list[int]] = {k: [] for k in order}
    for place, inner in enumerate(order):
        mask = sampled.absent[inner]
        number = sampled.number(mask)
        if number < 4 * least:
            continue
        for outer in (order[k] for k in np.flatnonzero(hardly[place, :place]).tolist()):
            if share[outer] >= 1.0 or -number * np.log(share[outer]) < _NESTED:
                continue
            if sampled.number(mask & ~sampled.absent[outer]) < least and verified.nested(inner, outer, least):
                inside[inner].append(outer)
    rules = []
    for inner in reversed(order):
        follows = {far for outer in inside[inner] for far in inside[outer]}
        rules += [MissingRule("nested", inner, outer) for outer in inside[inner] if outer not in follows]
    return rules


def _decided(
    columns: Sequence[FittedColumn],
    latents: Sequence[Latent],
    sampled: _Sampled,
    least: int,
    verified: _Verified,
    nested: Sequence[MissingRule],
) -> list[MissingRule]:
    """For each latent the column of categories that decides most; columns that are themselves ruled decide nothing."""
    found: dict[int, dict[int, tuple[float, MissingRule]]] = {latent: {} for latent in sampled.absent}
    of_column = {i: k for k, latent in enumerate(latents) if latent.kind == "missing" for i in latent.columns}
    numbers = list(sampled.absent)
    some = np.stack([sampled.absent[k][:: sampled.step] for k in numbers]).T.astype(np.float32)
    for column, codes in sampled.codes.items():
        categories = columns[column].categories
        assert categories is not None
        states = np.full((len(numbers), len(categories) + 1), DRAWN)
        evidence = np.zeros(len(numbers))
        one_hot = (codes[None, :: sampled.step] == np.arange(len(categories) + 1)[:, None]).astype(np.float32)
        rows, missing = one_hot.sum(axis=1)[:, None], one_hot @ some
        hardly = (missing <= _HARDLY * rows) | (rows - missing <= _HARDLY * rows)
        for code, place in zip(*np.nonzero(hardly & (rows > 0))):
            latent = numbers[place]
            if of_column.get(column) == latent:
                continue
            absent, of_code = sampled.absent[latent], codes == code
            number, p = sampled.number(of_code), float(absent.mean())
            state = MISSING if 2.0 * missing[code, place] > rows[code, 0] else PRESENT
            nats = -number * float(np.log(max(p if state == MISSING else 1.0 - p, 1e-300)))
            if number < 4 * least or nats < _CATEGORY:
                continue
            broken = sampled.number(of_code & (~absent if state == MISSING else absent))
            if broken < least and verified.category(column, latent, int(code), state, least):
                states[place, code] = state
                evidence[place] += nats
        for place in np.flatnonzero(evidence > 2 * _CATEGORY).tolist():
            rule = MissingRule("category", numbers[place], column, tuple(states[place].tolist()))
            found[numbers[place]][column] = float(evidence[place]), rule
    # Latents are decided by the same column where they can be: nested ones then agree.
    total: dict[int, float] = {}
    for rules in found.values():
        for column, (weight, _) in rules.items():
            total[column] = total.get(column, 0.0) + weight
    chosen = []
    for rules in found.values():
        if rules:
            most = max(weight for weight, _ in rules.values())
            near = [column for column, (weight, _) in rules.items() if weight >= _ABOUT * most]
            chosen.append(rules[max(near, key=lambda column: (total[column], -column))])
    kept: list[MissingRule] = []
    for _, rule in sorted(chosen, key=lambda item: -item[0]):
        busy = {r.latent for r in kept}
        deciding = {of_column.get(r.given) for r in kept}
        if of_column.get(rule.given) not in busy and rule.latent not in deciding:
            kept.append(rule)
    return _consistent(kept, nested, of_column)


def _consistent(
    decided: list[MissingRule], nested: Sequence[MissingRule], of_column: Mapping[int, int]
) -> list[MissingRule]:
    """Rules of one column for nested latents: where the inner is missing so is the outer, and present likewise."""
    by_latent = {rule.latent: rule for rule in decided}
    for pair in (*reversed(nested), *nested):
        inner, outer = by_latent.get(pair.latent), by_latent.get(pair.given)
        if inner is None:
            continue
        if of_column.get(inner.given) == pair.given:  # it cannot decide about itself
            continue
        if outer is None:
            outer = replace(inner, latent=pair.given, states=tuple([DRAWN] * len(inner.states)))
        if outer.given != inner.given:
            continue
        both = list(zip(inner.states, outer.states))
        by_latent[pair.latent] = replace(inner, states=tuple(PRESENT if b == PRESENT else a for a, b in both))
        by_latent[pair.given] = replace(outer, states=tuple(MISSING if a == MISSING else b for a, b in both))
    return [rule for rule in by_latent.values() if any(state != DRAWN for state in rule.states)]
