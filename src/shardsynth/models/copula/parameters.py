"""The native Gaussian copula as plain data: made from a fit, saved and loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from shardsynth.data.columns import Column, schema_to_text
from shardsynth.data.layouts import layout_of
from shardsynth.errors import ModelError
from shardsynth.models.columns.card import Card, Count, ModelCard, RelationCard, Share
from shardsynth.models.columns.checks import Array
from shardsynth.models.columns.files import (
    ARRAYS,
    column_arrays,
    column_card,
    load_columns,
    read_files,
    write_files,
)
from shardsynth.models.columns.fitted import CopulaFit, FittedColumn, Latent
from shardsynth.models.columns.model import ColumnModel
from shardsynth.models.columns.ragged import Ragged
from shardsynth.models.columns.relations import Relation
from shardsynth.models.copula.classes import ClassesFit, Group, group_entries, groups_of
from shardsynth.models.copula.factor import BLOCK, Factor, common_factor
from shardsynth.models.copula.missing_rules import (
    MissingRule,
    MissingRuleCard,
    described,
    load_rules,
    moved_cuts,
)
from shardsynth.models.copula.saved_classes import ClassesCard, load_groups
from shardsynth.models.copula.tables import (
    GRID,
    LEVELS,
    MIN_LANES,
    REACH,
    Integers,
    check_exact,
    check_factor,
    cut_marginal,
    factor_of,
    missing_cut,
    normal_levels,
)
from shardsynth.sampling.identifiers import make

if TYPE_CHECKING:
    from typing_extensions import Self

_FORMAT, _FORMAT_WITH_CLASSES, _FORMAT_WITH_RULES, _FORMAT_WITH_FACTORS = 1, 2, 3, 4
#: Most rules that the notes name.
_MOST_NAMED = 20
#: What the probabilities of a column's segments may miss: up to 2e-7 for each segment that is left out.
_THINNED = 1e-2


class LatentCard(Card):
    """See ``fitted.Latent``."""

    kind: Literal["value", "missing"]
    columns: list[Count]
    p_missing: Share


class CopulaCard(ModelCard):
    """``model.json`` of a copula."""

    family: Literal["gaussian_copula"]
    latents: list[LatentCard]
    relations: list[RelationCard]
    classes: ClassesCard = ClassesCard(target=0, groups=[])
    missing_rules: list[MissingRuleCard] = []
    factors: Count = 0


@dataclass(frozen=True)
class CopulaParameters(ColumnModel):
    """The data of a fitted copula.

    Attributes:
        schema: Arrow schema of the input, and of every batch drawn.
        columns: One per field; their marginals are cut for sampling (see ``cut_marginal``).
        latents: Dimensions of the Gaussian.
        cuts: For each latent int64[m - 1], in units of 2^-22.
        factor: int32[d, m], in units of 2^-22: latents are ``factor @ deviates``, or with ``own`` their common part.
        levels: int32[65536], the deviates, in units of 2^-22.
        relations: How computed columns are computed, in this order.
        generators: By column name, for ids and personal data (see ``sampling.identifiers``).
        formats: By column name: the format of datetimes that the table holds as text or integers.
        name: Part of the key of its random stream.
        notes: Facts for the report.
        groups: Rows of no rare class of the target, then those of each rare class (see ``classes``); mostly none.
        target: Index of the column of these classes; -1: there are none.
        rules: On missing values, in the order in which they are applied.
        own: int32[d, 16], in units of 2^-22: what each latent has of the deviates of its block (see ``factor``), in
            wide tables whose correlations few factors give; None: nothing.
    """

    schema: pa.Schema
    columns: tuple[FittedColumn, ...]
    latents: tuple[Latent, ...]
    cuts: tuple[Integers, ...]
    factor: NDArray[np.int32]
    levels: NDArray[np.int32]
    relations: tuple[Relation, ...] = ()
    generators: dict[str, dict[str, Any]] = field(default_factory=dict)
    formats: dict[str, str] = field(default_factory=dict)
    name: str = "gaussian_copula"
    notes: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()
    target: int = -1
    rules: tuple[MissingRule, ...] = ()
    own: NDArray[np.int32] | None = None

    @classmethod
    def from_fit(
        cls,
        fit: CopulaFit,
        schema: pa.Schema,
        columns: Sequence[Column] = (),
        *,
        generators: Mapping[str, dict[str, Any]] | None = None,
        name: str = "gaussian_copula",
    ) -> Self:
        """The data of a fit, on the fixed-point grid of ``tables``.

        Args:
            fit: From ``fit_copula``, or built from a stock model.
            schema: Arrow schema of the input.
            columns: The table's columns, for the ``datetime_format`` of datetimes that are held as text.
            generators: From ``identifiers.learn_all``, for columns of treatment ``id`` and ``pii``.
            name: The model's name in its run. Models of one run have different names, so they draw different rows.

        Raises:
            ModelError: The fit does not belong to the schema, or its correlations are not a correlation matrix.
        """
        if [c.name for c in fit.columns] != schema.names:
            raise ModelError("the fitted copula does not have the columns of the schema")
        fitted, cuts = list(fit.columns), []
        for latent in fit.latents:
            if latent.kind == "missing":
                cuts.append(missing_cut(latent.p_missing))
                continue
            column = fitted[latent.columns[0]]
            if column.marginal is None:
                raise ModelError(f"column {column.name!r}: a latent without a marginal")
            marginal, latent_cuts = cut_marginal(column.marginal, column.precision)
            fitted[latent.columns[0]] = replace(column, marginal=marginal)
            cuts.append(latent_cuts)
        levels, own = normal_levels(), None
        if fit.loadings is None:
            factor = factor_of(np.asarray(fit.correlation, np.float64))
        else:
            factor, own = common_factor(fit.loadings)
        check_exact(Factor.of(factor, own).whole, int(levels.max()))
        return cls(
            schema,
            tuple(fitted),
            tuple(fit.latents),
            tuple(cuts),
            factor,
            levels,
            tuple(fit.relations),
            dict(generators or {}),
            {c.name: text for c in columns if (text := layout_of(c)) is not None},
            name,
            tuple(fit.notes),
            own=own,
        )

    def with_classes(self, fit: ClassesFit) -> Self:
        """The model with rare classes of a column."""
        groups = groups_of(fit, self.columns, self.latents, self.cuts, self.correlation)
        if not groups:
            return self
        names = ", ".join(self.schema.names[index] for index in sorted(fit.rest))
        target = self.schema.names[fit.target]
        note = f"{len(groups) - 1} rare class(es) of {target!r} have distributions of their own of {names}"
        return replace(self, groups=groups, target=fit.target, notes=(*self.notes, note))

    def with_rules(self, rules: Sequence[MissingRule]) -> Self:
        """The model with rules on missing values."""
        if not rules:
            return self
        cuts = moved_cuts(rules, self.columns, self.latents, self.cuts, self.correlation)
        notes = [described(rule, self.columns, self.latents) for rule in rules[:_MOST_NAMED]]
        if len(rules) > _MOST_NAMED:
            notes.append(f"{len(rules) - _MOST_NAMED} more rules on missing values")
        return replace(self, rules=tuple(rules), cuts=cuts, notes=(*self.notes, *notes))

    @property
    def fitted(self) -> tuple[FittedColumn, ...]:
        """One per field of the schema."""
        return self.columns

    @property
    def dictionary_columns(self) -> list[str]:
        """Columns of few distinct values, worth a Parquet dictionary."""
        return [c.name for c in self.columns if c.categories is not None or _few_values(c) or c.treatment == "relation"]

    @property
    def correlation(self) -> NDArray[np.float64]:
        """Correlations of the latents as they are drawn, float64[d, d]."""
        return self.mixing.correlation

    @property
    def mixing(self) -> Factor:
        """How the latents are made of deviates."""
        return Factor.of(self.factor, self.own)

    def save(self, folder: Path) -> None:
        """Write ``model.json`` and ``model.safetensors``: the same bytes for the same model."""
        card: dict[str, Any] = {
            "format": _FORMAT,
            "family": "gaussian_copula",
            "engine": "native",
            "name": self.name,
            "schema": schema_to_text(self.schema),
            "columns": [column_card(c) for c in self.columns],
            "latents": [{"kind": x.kind, "columns": list(x.columns), "p_missing": x.p_missing} for x in self.latents],
            "relations": [r.to_json() for r in self.relations],
            "generators": self.generators,
            "formats": self.formats,
            "notes": list(self.notes),
        }
        more: dict[str, Ragged] = {}
        if self.groups:
            card["classes"], more = group_entries(self.groups, self.target)
            card["format"] = _FORMAT_WITH_CLASSES
        if self.rules:
            card["missing_rules"] = [rule.to_json() for rule in self.rules]
            card["format"] = _FORMAT_WITH_RULES
        tensors: dict[str, NDArray[Any]] = {"factor": self.factor, "levels": self.levels[len(self.levels) // 2 :]}
        if self.own is not None:
            card |= {"format": _FORMAT_WITH_FACTORS, "factors": self.factor.shape[1]}
            tensors["own"] = self.own
        ragged = {"cuts": Ragged.of(list(self.cuts), np.int32), **column_arrays(self.columns), **more}
        write_files(folder, card, tensors, ragged)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what ``save`` wrote. Runs no code from the folder.

        Raises:
            ModelError: The folder holds no such model, or one of a later format.
        """
        file = read_files(folder, ["gaussian_copula"], "a native Gaussian copula", _FORMAT_WITH_FACTORS, CopulaCard)
        # an imported model may draw "missing" as a category; segments that are never drawn are left out
        schema, columns, relations = load_columns(file, least_code=-1, within=_THINNED)
        latents = tuple(Latent(x.kind, tuple(x.columns), x.p_missing) for x in file.card.latents)
        check_latents(file.wrong, latents, columns)
        names = [_latent_name(latent, columns) for latent in latents]
        segments = [2 if x.kind == "missing" else len(_segments(columns[x.columns[0]])) for x in latents]
        wide = file.card.factors or max(len(latents), MIN_LANES)
        blocks = {"own": Array("int32", (len(latents), BLOCK))} if file.card.factors else {}
        ragged = file.check(
            {
                "factor": Array("int32", (len(latents), wide)),
                **blocks,
                "levels": Array("int32", (LEVELS // 2,), minimum=1, maximum=REACH * GRID, increasing=True, parity=1),
                "cuts": Array(
                    "int32", parts=names, lengths=np.array(segments) - 1, minimum=-REACH * GRID, maximum=REACH * GRID,
                    increasing=True, parity=0,
                ),
            }
        )  # fmt: skip
        groups = load_groups(file, columns, latents, _THINNED)
        file.refuse_others()
        upper, factor = file.arrays["levels"], file.arrays["factor"]
        own, with_own = (file.arrays["own"], " with 'own'") if blocks else (None, "")
        try:
            check_factor(Factor.of(factor, own).whole, int(upper[-1]))
        except ModelError as error:
            raise file.wrong(f"array 'factor'{with_own}: {error}", ARRAYS) from None
        return cls(
            schema,
            columns,
            latents,
            tuple(ragged["cuts"][i].astype(np.int64) for i in range(len(latents))),
            factor,
            np.concatenate([-upper[::-1], upper]),
            relations,
            file.plain["generators"],
            file.plain["formats"],
            file.card.name,
            tuple(file.card.notes),
            groups,
            file.card.classes.target if groups else -1,
            load_rules(file, file.card.missing_rules, columns, latents),
            own,
        )

    def array(self, index: int, drawn: Mapping[str, Any], first: int, n: int) -> pa.Array:
        """Arrow array [n] of one column.

        Args:
            index: Of the column in the schema.
            drawn: By name of each drawn, computed or constant column: its values in their form, and its mask.
            first: Global number of the first row.
            n: Number of rows.

        Raises:
            ModelError: The model has no generator for an id or personal column.
        """
        column, data_type = self.columns[index], self.schema.field(index).type
        if column.treatment == "empty":
            return pa.nulls(n, data_type)
        if column.treatment in ("id", "pii"):
            return self._identifiers(column, data_type, first, n)
        return self.forms[column.name].array(*drawn[column.name])

    def _identifiers(self, column: FittedColumn, data_type: pa.DataType, first: int, n: int) -> pa.Array:
        if column.name not in self.generators:
            raise ModelError(f"column {column.name!r}: the model has no generator for it")
        return make(self.generators[column.name], data_type, first, n)


def _segments(column: FittedColumn) -> NDArray[np.float64]:
    assert column.marginal is not None
    return column.marginal.lo


def _latent_name(latent: Latent, columns: Sequence[FittedColumn]) -> str:
    return f"{columns[latent.columns[0]].name}{' is missing' if latent.kind == 'missing' else ''}"


def check_latents(
    wrong: Callable[[str], ModelError], latents: Sequence[Latent], columns: Sequence[FittedColumn]
) -> None:
    """Check that each column of treatment ``latent`` has one latent for its value, and at most one for being missing.

    Raises:
        ModelError: From ``wrong``, which gets what is wrong.
    """
    for kind in ("value", "missing"):
        driven = [column for latent in latents if latent.kind == kind for column in latent.columns]
        if len(set(driven)) < len(driven) or any(column >= len(columns) for column in driven):
            raise wrong(f"latents: of kind {kind} name a column twice, or one that is not there")
        if kind == "value" and {columns[i].name for i in driven} != {
            c.name for c in columns if c.treatment == "latent"
        }:
            raise wrong("latents: those of kind value are not of the learned columns")
    if any(not latent.columns or (latent.kind == "value" and len(latent.columns) > 1) for latent in latents):
        raise wrong("latents: one has no column, or several for one value")


def _few_values(column: FittedColumn) -> bool:
    """Whether all values are atoms."""
    marginal = column.marginal
    return marginal is not None and bool(np.array_equal(marginal.lo, marginal.hi))
