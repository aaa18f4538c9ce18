"""From the output of the kernel to columns: which tables each latent needs, and how its output becomes values.

A relation whose only parent consists of atoms (education-num of education) is a table of the parent's segments: it
costs one more look-up. Any other relation is computed from its parents' codes or axis values after they are drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

import numpy as np

from shardsynth.models.columns.fitted import FittedColumn, Latent
from shardsynth.models.columns.forms import Array, Mask, StorageForm
from shardsynth.models.columns.operands import Values
from shardsynth.models.columns.relations import Relation
from shardsynth.models.copula.kernel import Channel
from shardsynth.models.copula.missing_rules import MissingRule, apply_rules
from shardsynth.models.copula.tables import Integers


@dataclass
class DrawPlan:
    """The channels of the kernel, and which output of theirs is which column.

    Attributes:
        forms: By column name: how its values are held; columns that are not learned have none.
        channels: One per latent.
        sources: Column name -> (latent, output) of its values in its form.
        codes: Column name -> (latent, output) of its category codes, for relations.
        masks: Column name -> latent that says whether the column is missing.
        constants: Column name -> its only value, in its form [1].
        computed: Relations to be applied after drawing, in order.
        rules: On missing values, in order.
        deciding: Index of each column that decides by its categories whether others are missing -> its name.
        conditioned: Latents that the rules leave as they are drawn.
    """

    forms: dict[str, StorageForm]
    channels: list[Channel] = field(default_factory=list)
    sources: dict[str, tuple[int, int]] = field(default_factory=dict)
    codes: dict[str, tuple[int, int]] = field(default_factory=dict)
    masks: dict[str, int] = field(default_factory=dict)
    constants: dict[str, Array] = field(default_factory=dict)
    computed: list[Relation] = field(default_factory=list)
    rules: tuple[MissingRule, ...] = ()
    deciding: dict[int, str] = field(default_factory=dict)
    conditioned: frozenset[int] = frozenset()

    def with_rules(
        self, rules: Sequence[MissingRule], columns: Sequence[FittedColumn], conditioned: Iterable[int] = ()
    ) -> DrawPlan:
        """The plan with rules on missing values of a model with these columns."""
        deciding = {rule.given: columns[rule.given].name for rule in rules if rule.kind == "category"}
        return replace(self, rules=tuple(rules), deciding=deciding, conditioned=frozenset(conditioned))


def make_draw_plan(
    columns: Sequence[FittedColumn],
    latents: Sequence[Latent],
    cuts: Sequence[Integers],
    relations: Sequence[Relation],
    forms: Mapping[str, StorageForm],
    uneven: Mapping[int, bool] | None = None,
) -> DrawPlan:
    """The draw plan of a model.

    Args:
        columns: One per column of the schema.
        latents: Dimensions of the Gaussian.
        cuts: Of each latent, in units of 2^-22.
        relations: In the order in which they are applied.
        forms: By column name.
        uneven: Of a model with groups, from ``uneven_latents``: then the plans of all groups use the same random bits
            for the same latents, and have the same outputs.
    """
    plan, uneven = DrawPlan(dict(forms)), uneven or {}
    for number, latent in enumerate(latents):
        if latent.kind == "missing":
            plan.masks.update({columns[i].name: number for i in latent.columns})
    for column in columns:
        if column.treatment == "constant" and column.marginal is not None:
            plan.constants[column.name] = forms[column.name].of_raw(column.marginal.lo[:1])
    tables = _relation_tables(plan, columns, relations, {columns[latents[k].columns[0]].name for k in uneven})
    relation_parents = {name for relation in plan.computed for name in relation.parents}
    for number, latent in enumerate(latents):
        if latent.kind == "missing":
            plan.channels.append(Channel(cuts[number]))
            continue
        column = columns[latent.columns[0]]
        needs_codes = column.name in relation_parents
        plan.channels.append(
            _value_channel(plan, number, column, cuts[number], tables, needs_codes, uneven.get(number))
        )
    return plan


def uneven_latents(latents: Sequence[Latent], groups: Sequence[Sequence[FittedColumn]]) -> dict[int, bool]:
    """Value latents whose segments differ between groups of rows, and whether a group spreads values over them.

    Args:
        latents: Dimensions of the Gaussian.
        groups: The columns of each group.
    """
    uneven = {}
    for number, latent in enumerate(latents):
        marginals = [columns[latent.columns[0]].marginal for columns in groups if latent.kind == "value"]
        ends = [(m.lo, m.hi) for m in marginals if m is not None]
        if any(not np.array_equal(a, b) for pair in ends for a, b in zip(pair, ends[0])):
            uneven[number] = any(not np.array_equal(lo, hi) for lo, hi in ends)
    return uneven


def _value_channel(
    plan: DrawPlan,
    number: int,
    column: FittedColumn,
    cuts: Integers,
    tables: dict[str, list[tuple[str, Array]]],
    needs_codes: bool,
    spreads: bool | None,
) -> Channel:
    """Channel of a value latent; enters its outputs in the plan.

    ``spreads`` is that of ``uneven_latents``, None for the others: the outputs of an uneven latent do not depend on
    what its segments hold in this group. (Atoms that are spread have the width 0.)
    """
    marginal, form = column.marginal, plan.forms[column.name]
    assert marginal is not None
    plan.sources[column.name] = (number, 0)
    outputs, spread = [], None
    if np.array_equal(marginal.lo, marginal.hi) and not spreads:
        outputs.append(np.ascontiguousarray(form.of_raw(marginal.lo)))
    else:
        spread = form.spread(marginal)
    for name, table in tables.get(column.name, []):
        plan.sources[name] = (number, len(outputs) + (spread is not None))
        outputs.append(table)
    if needs_codes and column.categories is not None:
        plan.codes[column.name] = (number, 0)
        if spreads is not None or not np.array_equal(outputs[0], marginal.lo):
            plan.codes[column.name] = (number, len(outputs))
            outputs.append(marginal.lo.astype(np.int32))
    bit = spreads is None and len(outputs) == 1 and len(cuts) == 1
    if bit and outputs[0].itemsize == 1 and outputs[0].tolist() == [0, 1]:
        return Channel(cuts)  # the comparison is the value
    return Channel(cuts, tuple(outputs), spread)


def _relation_tables(
    plan: DrawPlan, columns: Sequence[FittedColumn], relations: Sequence[Relation], uneven: Set[str]
) -> dict[str, list[tuple[str, Array]]]:
    """Parent -> (derived column, its value by segment of the parent). The other relations go to ``plan.computed``."""
    by_name = {column.name: column for column in columns}
    tables: dict[str, list[tuple[str, Array]]] = {}
    for relation in relations:
        table = None if not uneven.isdisjoint(relation.parents) else _segment_table(plan, by_name, relation)
        if table is None:
            plan.computed.append(relation)
            continue
        (parent,) = relation.parents
        tables.setdefault(parent, []).append((relation.name, table))
        if parent in plan.masks:
            plan.masks[relation.name] = plan.masks[parent]
    return tables


def _segment_table(plan: DrawPlan, columns: Mapping[str, FittedColumn], relation: Relation) -> Array | None:
    if len(relation.parents) != 1:
        return None
    parent = columns[relation.parents[0]]
    marginal = parent.marginal
    if parent.treatment != "latent" or marginal is None or not np.array_equal(marginal.lo, marginal.hi):
        return None
    size = len(marginal.lo)
    raw = np.append(marginal.lo, marginal.lo[0])
    values, absent = relation.apply({parent.name: (raw, np.arange(size + 1) == size)})
    if absent[:size].any() or (parent.name in plan.masks and not absent[size]):
        return None
    return np.ascontiguousarray(plan.forms[relation.name].of_raw(values[:size]))


def finished(plan: DrawPlan, outputs: Sequence[Sequence[Array]], n: int) -> dict[str, tuple[Array, Mask | None]]:
    """Values [n] in their forms, and masks, of every column that is drawn, computed or constant, by name."""
    masks = {name: outputs[latent][0] for name, latent in plan.masks.items()}
    drawn = {name: (np.repeat(value, n), masks.get(name)) for name, value in plan.constants.items()}
    for name, (latent, output) in plan.sources.items():
        values = outputs[latent][output]
        if values.dtype == np.bool_ and plan.channels[latent].is_bit:
            values = values.view(plan.forms[name].dtype)
        drawn[name] = (values, masks.get(name))
    if plan.rules:
        codes = {index: _relation_input(plan, drawn, outputs, name, n) for index, name in plan.deciding.items()}
        absent = {latent: outputs[latent][0] for latent in plan.masks.values()}
        ruled = apply_rules(plan.rules, absent, codes, plan.conditioned)
        for name, latent in plan.masks.items():
            if name in drawn:
                drawn[name] = (drawn[name][0], ruled[latent])
    for relation in plan.computed:
        parents = {name: _relation_input(plan, drawn, outputs, name, n) for name in relation.parents}
        raw, missing = relation.apply(parents)
        with np.errstate(invalid="ignore"):
            drawn[relation.name] = (plan.forms[relation.name].of_raw(_zero_where_missing(raw, missing)), missing)
    return drawn


def _zero_where_missing(raw: Array, missing: Mask) -> Array:
    """The values, with 0 for the missing ones: their arbitrary values might not fit the type of the column."""
    return np.where(missing, raw.dtype.type(0), raw) if missing.any() else raw


def _relation_input(
    plan: DrawPlan,
    drawn: Mapping[str, tuple[Array, Mask | None]],
    outputs: Sequence[Sequence[Array]],
    name: str,
    n: int,
) -> Values:
    """Codes or axis values of a column, and its mask, as ``Relation.apply`` takes them."""
    values, missing = drawn[name]
    form = plan.forms[name]
    if form.column.categories is None:
        values = form.axis(values)
    elif name in plan.codes:
        latent, output = plan.codes[name]
        values = outputs[latent][output]
        values = values.view(np.int8) if values.dtype == np.bool_ else values
    elif form.stored is not None:
        order = np.argsort(form.stored, kind="stable")
        values = order[np.searchsorted(form.stored, values, sorter=order)]
    return values, np.zeros(n, np.bool_) if missing is None else missing
