"""Which rows may be missing: patterns that hold on every row, kept by construction.

Two kinds of rules stand on the latents that say whether columns are missing:

- nested: where one column is missing, another one is missing too (a second visit without a first one);
- by a category: in some categories a column is always missing, or never (no treatment after a failed screening).

A rule is applied after drawing. The inner column of a nested pair is made present where the outer one is; its value is
drawn in any case. A category says what it says. So that the share of missing values stays as it was counted, the cut of
the ruled latent is moved: below r for the correlation of two latents, the share that is left to draw is the one of the
latent given that the other one lies where nothing is decided.
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
from shardsynth.models.copula.classes import conditional, points
from shardsynth.models.copula.tables import Integers, even

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

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

    Args:
        rules: In the order in which they are applied.
        columns: One per column of the schema.
        latents: Dimensions of the Gaussian.
        cuts: Of each latent.
        correlation: float64[d, d].
    """
    value_of = {latent.columns[0]: k for k, latent in enumerate(latents) if latent.kind == "value"}
    missing_of = {i: k for k, latent in enumerate(latents) if latent.kind == "missing" for i in latent.columns}
    moved = list(cuts)
    for rule in rules:
        p = latents[rule.latent].p_missing
        if rule.kind == "nested":
            outer = latents[rule.given].p_missing
            if any(other.latent == rule.latent and other is not rule for other in rules) and outer > min(
                latents[other.given].p_missing
                for other in rules
                if other.kind == "nested" and other.latent == rule.latent
            ):
                continue  # the cut is that of the tightest pair
            given = conditional((1.0 - outer, 1.0), float(correlation[rule.latent, rule.given]))
            wanted = 1.0 - min(p / outer, 1.0)
        else:
            marginal, column = columns[rule.given].marginal, value_of[rule.given]
            assert marginal is not None
            absent = latents[missing_of[rule.given]].p_missing if rule.given in missing_of else 0.0
            states = np.array(rule.states)
            of_segment = states[marginal.lo.astype(np.int64)]
            ends = np.concatenate([[0.0], marginal.cumulative])
            mass = np.diff(ends) * (1.0 - absent)
            drawn = float(mass[of_segment == DRAWN].sum()) + (absent if states[-1] == DRAWN else 0.0)
            fixed = float(mass[of_segment == MISSING].sum()) + (absent if states[-1] == MISSING else 0.0)
            if drawn <= 0:
                continue
            parts = [
                (mass[k], conditional((ends[k], ends[k + 1]), float(correlation[rule.latent, column])))
                for k in np.flatnonzero(of_segment == DRAWN).tolist()
            ]
            if absent and states[-1] == DRAWN:
                latent = missing_of[rule.given]
                parts.append((absent, conditional((1.0 - absent, 1.0), float(correlation[rule.latent, latent]))))
            given = np.sum([weight * part for weight, part in parts], axis=0) / drawn
            wanted = 1.0 - min(max((p - fixed) / drawn, 0.0), 1.0)
        place = np.interp(wanted, np.maximum.accumulate(given) + np.arange(len(given)) * 1e-15, points())
        limit = float(points()[-1]) - 1e-3
        moved[rule.latent] = even(np.clip(np.array([place]), -limit, limit))
    return tuple(moved)


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
        elif rule.latent not in conditioned:
            ruled[rule.latent] = ruled[rule.latent] & ruled[rule.given]
        elif rule.given not in conditioned:
            ruled[rule.given] = ruled[rule.given] | ruled[rule.latent]
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
