"""Options of the native Gaussian copula, by SDV's names where SDV has them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from shardsynth.data.columns import Column
from shardsynth.data.values import kind_of
from shardsynth.errors import JobError
from shardsynth.models.columns.asked import Asked
from shardsynth.models.columns.distributions import FAMILIES
from shardsynth.models.columns.marginals import Protection

EMPIRICAL = "empirical"
_KEYS = (
    "columns",
    "marginals",
    "default_distribution",
    "numerical_distributions",
    "enforce_min_max_values",
    "enforce_rounding",
    "encoding",
    "rare",
    "extremes",
    "locales",
)


@dataclass(frozen=True)
class FitOptions:
    """How a copula is fitted.

    Attributes:
        default: Marginal of the numeric columns: ``empirical`` or one of SDV's names.
        marginals: Marginal by column name.
        enforce_min_max: Named distributions are clipped to the protected minimum and maximum.
        encoding: ``native``, or ``sdv``: categories are intervals in the order of their first appearance, missing
            is a category or an independent coin, correlations are Pearson's of normal scores, relations are not used.
        protection: What the model may hold of rare values.
        columns: What is asked of single columns.
        enforce_rounding: False: floats are written as they are drawn, not rounded to the input's decimals.
    """

    default: str = EMPIRICAL
    marginals: Mapping[str, str] = field(default_factory=dict)
    enforce_min_max: bool = True
    encoding: str = "native"
    protection: Protection = field(default_factory=Protection)
    columns: Mapping[str, Asked] = field(default_factory=dict)
    enforce_rounding: bool = True

    @classmethod
    def parse(cls, options: Mapping[str, Any] | FitOptions | None, *, family: str = "gaussian_copula") -> FitOptions:
        """Options from a model's entry in a job file.

        Args:
            options: ``columns`` (by name, ``marginal``, ``min``, ``max``, ``enforce_min_max``, ``decimal_places``,
                ``transform``: see ``columns.asked``); ``marginals`` (a name, or a mapping of columns with
                ``default``), or SDV's ``default_distribution`` and ``numerical_distributions``;
                ``enforce_min_max_values``; ``enforce_rounding`` (false: floats keep all their digits); ``encoding``;
                ``rare`` (``{"min_count": 5, "as": "drop"}``); ``extremes`` (``clip`` or ``keep``); ``locales`` (of
                generated columns).
            family: What errors call the model; other families share some of the options.

        Raises:
            JobError: An unknown key or value, with the nearest valid one.
        """
        if isinstance(options, FitOptions):
            return options
        given = dict(options or {})
        for key in given:
            _known(key, _KEYS, f"{family}: no option is called")
        encoding = str(given.get("encoding", "native"))
        _known(encoding, ("native", "sdv"), f"{family}: encoding: there is no")
        default = "beta" if encoding == "sdv" else EMPIRICAL
        named: dict[str, str] = {}
        marginals = given.get("marginals")
        if isinstance(marginals, Mapping):
            named = {str(k): str(v) for k, v in marginals.items()}
            default = named.pop("default", default)
        elif marginals is not None:
            default = str(marginals)
        default = str(given.get("default_distribution") or default)
        named.update({str(k): str(v) for k, v in (given.get("numerical_distributions") or {}).items()})
        columns = {str(name): Asked.parse(str(name), one) for name, one in (given.get("columns") or {}).items()}
        named.update({name: one.marginal for name, one in columns.items() if one.marginal is not None})
        for name in (default, *named.values()):
            _known(name, (EMPIRICAL, *FAMILIES), f"{family}: marginals: there is no distribution")
        rare = given.get("rare") or {}
        extremes = str(given.get("extremes", "clip"))
        _known(extremes, ("clip", "keep"), f"{family}: extremes: there is no")
        treatment = str(rare.get("as", "drop"))
        _known(treatment, ("other", "drop", "keep"), f"{family}: rare.as: there is no")
        protection = Protection(int(rare.get("min_count", 5)), treatment, extremes == "clip")
        enforce = bool(given.get("enforce_min_max_values", True))
        rounds = bool(given.get("enforce_rounding", True))
        if encoding == "sdv" and (columns or not rounds):
            raise JobError(f"{family}: encoding: sdv has neither `columns` nor `enforce_rounding: false`")
        for name, one in columns.items():
            if one.transform is not None and named.get(name, default) == EMPIRICAL:
                raise JobError(
                    f"{family}: columns.{name}.transform: goes with a named distribution, as `marginal: norm`"
                )
        return cls(default, named, enforce, encoding, protection, columns, rounds)

    def asked(self, name: str) -> Asked:
        """What is asked of a column."""
        return self.columns.get(name, Asked())

    def family(self, name: str) -> str:
        """Marginal of a numeric column."""
        return self.marginals.get(name, self.default)

    def check_table(
        self, schema: pa.Schema, columns: Sequence[Column] | None, *, family: str = "gaussian_copula"
    ) -> None:
        """JobError, naming the family, for options of columns that are not there, or cannot have them.

        Args:
            schema: The table's.
            columns: Its columns, where they are known already.
            family: What errors call the model.
        """
        self.check_columns(schema.names, family=family)
        for name, asked in self.columns.items():
            kind = kind_of(schema.field(name).type)
            if kind not in ("integer", "float", "decimal", *(() if asked.numeric else ("temporal", "text"))):
                raise JobError(f"columns.{name}: is of type {schema.field(name).type}; such options are for numbers")
        if columns is not None:
            axes = [column.name for column in columns if column.role in ("number", "datetime", "empty")]
            self.check_columns(axes, family=family)

    def check_columns(self, names: list[str], *, family: str = "gaussian_copula") -> None:
        """JobError, naming the family, if a marginal is given for a column that is not there."""
        for name in (*self.marginals, *self.columns):
            option = "columns" if name in self.columns else "marginals"
            _known(name, tuple(names), f"{family}: {option}: no numeric column is called")


def _known(value: str, valid: tuple[str, ...], problem: str) -> None:
    if value in valid:
        return
    near = difflib.get_close_matches(value, valid, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; valid: {', '.join(valid[:12])}"
    raise JobError(f"{problem} {value!r}{hint}")
