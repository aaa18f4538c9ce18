"""Which rows may be missing: patterns that hold on every row, kept by construction.

Two kinds of rules stand on the latents that say whether columns are missing:

- nested: where one column is missing, another one is missing too (a second visit without a first one);
- by a category: in some categories a column is always missing, or never (no treatment after a failed screening).

A rule is applied after drawing. A category says what it says. The outer column of a nested pair is made missing where
the inner one is. So that the share of missing values stays as it was counted, the cuts of the ruled latents are moved.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from shardsynth.models.columns.card import Card, Count
from shardsynth.models.columns.files import ModelFile
from shardsynth.models.columns.fitted import FittedColumn, Latent
from shardsynth.models.copula.tables import GRID, REACH, Integers, even

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: Rows that are drawn to move the cuts.
_ROWS = 1 << 16
#: What a category says of a column: drawn as usual, never missing, always missing.
DRAWN, PRESENT, MISSING = -1, 0, 1


class MissingRuleCard(Card):
    """See ``MissingRule``."""

    kind: Literal["nested", "category"]
    latent: Count
    given: Count
    states: list[Literal[-1, 0, 1]] = []


@dataclass(frozen=True)
class MissingRule:
    """A rule on one latent that says whether columns are missing.

    Attributes:
        kind: ``nested``: its columns are missing only where those of another such latent are. ``category``: a column of
            categories decides.
        latent: The ruled latent.
        given: The other latent (``nested``), or the index of the column in the schema (``category``).
        states: For each code of the column's categories, then for missing: ``DRAWN``, ``PRESENT`` or ``MISSING``.
    """

    kind: str
    latent: int
    given: int
    states: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"kind": self.kind, "latent": self.latent, "given": self.given, "states": list(self.states)}


def moved_cuts(
    rules: Sequence[MissingRule],
    columns: Sequence[FittedColumn],
    latents: Sequence[Latent],
    cuts: Sequence[Integers],
    correlation: Floats,
) -> tuple[Integers, ...]:
    """The cuts of all latents, those of ruled ones moved so that as many values are missing as were counted.

    Rows are drawn, and the rules applied to one latent after the other. What is left to it, where no category decides
    and no inner column is missing, is cut where the counted share is reached.

    Args:
        rules: In the order in which they are applied.
        columns: One per column of the schema.
        latents: Dimensions of the Gaussian.
        cuts: Of each latent.
        correlation: float64[d, d].
    """
    value_of = {latent.columns[0]: k for k, latent in enumerate(latents) if latent.kind == "value"}
    missing_of = {i: k for k, latent in enumerate(latents) if latent.kind == "missing" for i in latent.columns}
    used = {rule.latent for rule in rules} | {rule.given for rule in rules if rule.kind == "nested"}
    deciding = {rule.given for rule in rules if rule.kind == "category"}
    used |= {value_of[i] for i in deciding} | {missing_of[i] for i in deciding if i in missing_of}
    drawn = _drawn(sorted(used), correlation)
    masks = {k: drawn[k] > cuts[k][0] / GRID for k in used if latents[k].kind == "missing"}
    moved = list(cuts)
    ruled = {rule.latent if rule.kind == "category" else rule.given for rule in rules}
    for latent in sorted(ruled, key=lambda k: (latents[k].p_missing, k)):  # inner ones first
        free, forced = np.ones(_ROWS, np.bool_), np.zeros(_ROWS, np.bool_)
        for rule in rules:
            if rule.kind == "nested" and rule.given == latent:
                forced = forced | masks[rule.latent]
            elif rule.kind == "category" and rule.latent == latent:
                marginal, states = columns[rule.given].marginal, np.array(rule.states)
                assert marginal is not None
                value = value_of[rule.given]
                segment = np.searchsorted(cuts[value] / GRID, drawn[value])
                state = states[marginal.lo.astype(np.int64)][segment]
                if rule.given in missing_of:
                    state = np.where(masks[missing_of[rule.given]], states[-1], state)
                free, forced = state == DRAWN, forced | (state == MISSING)
        left = drawn[latent][free & ~forced]
        if len(left):
            wanted = min(max(latents[latent].p_missing * _ROWS - int(forced.sum()), 0.0), float(len(left)))
            place = float(np.quantile(left, 1.0 - wanted / len(left)))
            moved[latent] = even(np.clip(np.array([place]), -REACH + 1e-3, REACH - 1e-3))
        masks[latent] = forced | (free & (drawn[latent] > moved[latent][0] / GRID))
    return tuple(moved)


def _drawn(chosen: Sequence[int], correlation: Floats) -> dict[int, Floats]:
    """Normal latents float64[_ROWS] with the correlations of the chosen ones; the same in each call."""
    values, vectors = np.linalg.eigh(correlation[np.ix_(chosen, chosen)])
    factor = vectors * np.sqrt(np.maximum(values, 0.0))
    rows = np.random.default_rng(17).standard_normal((_ROWS, len(chosen))) @ factor.T
    return {latent: rows[:, place] for place, latent in enumerate(chosen)}


def apply_rules(
    rules: Sequence[MissingRule],
    masks: Mapping[int, Mask],
    codes: Mapping[int, tuple[Integers, Mask | None]],
    conditioned: Collection[int] = (),
) -> dict[int, Mask]:
    """Masks after the rules, by latent.

    Args:
        rules: In their order.
        masks: By latent, bool[n], as they were drawn.
        codes: By index of a column that a rule asks for: its codes int64[n], and where it is missing as it was drawn.
        conditioned: Latents that are conditions: they stay as they were drawn.
    """
    ruled = dict(masks)
    for rule in rules:
        if rule.kind == "category":
            if rule.latent in conditioned:
                continue
            drawn, missing = codes[rule.given]
            states = np.array(rule.states, np.int8)
            state = states[drawn] if missing is None else np.where(missing, states[-1], states[drawn])
            ruled[rule.latent] = np.where(state == DRAWN, ruled[rule.latent], state == MISSING)
        elif rule.given not in conditioned:
            ruled[rule.given] = ruled[rule.given] | ruled[rule.latent]
        elif rule.latent not in conditioned:
            ruled[rule.latent] = ruled[rule.latent] & ruled[rule.given]
    return ruled


def described(rule: MissingRule, columns: Sequence[FittedColumn], latents: Sequence[Latent]) -> str:
    """A rule in words, without data values."""
    name = columns[latents[rule.latent].columns[0]].name
    if rule.kind == "nested":
        return f"{name} is missing only where {columns[latents[rule.given].columns[0]].name} is"
    return f"whether {name} is missing is decided by categories of {columns[rule.given].name}"


def load_rules(
    file: ModelFile, cards: Sequence[MissingRuleCard], columns: Sequence[FittedColumn], latents: Sequence[Latent]
) -> tuple[MissingRule, ...]:
    """The rules of a model's file, checked.

    Raises:
        ModelError: A rule names what is not there.
    """
    rules = tuple(MissingRule(card.kind, card.latent, card.given, tuple(card.states)) for card in cards)
    value_of = {latent.columns[0] for latent in latents if latent.kind == "value"}
    for rule in rules:
        if rule.latent >= len(latents) or latents[rule.latent].kind != "missing":
            raise file.wrong("missing_rules: rule a latent that says nothing of missing values")
        if rule.kind == "nested":
            missing = rule.given < len(latents) and latents[rule.given].kind == "missing"
            wrong = not missing or bool(rule.states) or rule.given == rule.latent
        else:
            held = columns[rule.given].categories if rule.given in value_of else None
            wrong = held is None or len(rule.states) != len(held) + 1
        if wrong:
            raise file.wrong("missing_rules: name a column that cannot decide")
    return rules
