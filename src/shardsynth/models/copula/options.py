"""Options of the native Gaussian copula, by SDV's names where SDV has them."""

from __future__ import annotations  # pydantic evaluates the annotations below on Python 3.9 too

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from shardsynth.errors import JobError, did_you_mean
from shardsynth.models.columns.asked import EMPIRICAL, Asked, Distribution, check_distribution
from shardsynth.models.options import Native, Options, Text, or_empty

__all__ = ["EMPIRICAL", "Distributions", "FitOptions", "check_named"]


class Distributions(Options):
    """Named distributions of numeric columns; parsed, SDV's names for them are ours."""

    marginals: Annotated[dict[str, str], "a distribution, or a mapping of columns, and of `default`, to them"] = Field(
        {}, description="Distributions of numbers and dates, of all or by column."
    )
    default_marginal: Distribution = Field(
        EMPIRICAL, alias="default_distribution", description="That of the columns that `marginals` do not name."
    )
    numerical_distributions: Annotated[None, "a mapping of columns to distributions"] = Field(
        None, exclude=True, description="`marginals` by column, by SDV's name."
    )

    @model_validator(mode="before")
    @classmethod
    def _by_column(cls, data: Any) -> Any:
        given = dict(data)
        marginals, named = given.pop("marginals", None), given.pop("numerical_distributions", None)
        default = EMPIRICAL if given.get("encoding") != "sdv" else "beta"
        found: dict[Any, Any] = {}
        if isinstance(marginals, Mapping):
            found = dict(marginals)
            default = found.pop("default", default)
        elif marginals is not None:
            default = marginals
        if not isinstance(named or {}, Mapping):
            raise ValueError("numerical_distributions: wanted a mapping of columns to distributions")
        found = {str(column): str(name) for column, name in {**found, **(named or {})}.items()}
        default = given.get("default_distribution") or default
        try:
            for name in (default, *found.values()):
                check_distribution(name)
        except ValueError as error:
            raise ValueError(f"marginals: {error}") from None
        return {**given, "marginals": found, "default_distribution": default}


class FitOptions(Distributions, Native):
    """How a copula is fitted."""

    columns: Annotated[
        dict[Text, Asked], BeforeValidator(or_empty), "a mapping such as `{marginal: gamma, min: 0}`"
    ] = Field({}, description="Column -> what is asked of it, see below.")
    enforce_min_max: bool = Field(
        True, alias="enforce_min_max_values", description="Named distributions are clipped to the protected ends."
    )
    enforce_rounding: bool = Field(True, description="Floats have the decimal places of the input.")
    encoding: Literal["native", "sdv"] = Field("native", description="How columns become normal scores, see below.")

    @classmethod
    def parse(cls, options: Mapping[str, Any] | FitOptions | None) -> FitOptions:
        """Options from a model's entry in a job file; JobError as of ``checked``."""
        return options if isinstance(options, FitOptions) else cls.checked("gaussian_copula", options or {})

    @model_validator(mode="after")
    def _check(self) -> FitOptions:
        if self.encoding == "sdv" and (self.columns or not self.enforce_rounding):
            raise ValueError("encoding: sdv has neither `columns` nor `enforce_rounding: false`")
        for name, one in self.columns.items():
            if one.transform is not None and self.family(name) == EMPIRICAL:
                raise ValueError(f"columns.{name}.transform: goes with a named distribution, as `marginal: norm`")
        return self

    def asked(self, name: str) -> Asked:
        """What is asked of a column."""
        return self.columns.get(name) or Asked()

    def family(self, name: str) -> str:
        """Marginal of a numeric column."""
        return self.asked(name).marginal or self.marginals.get(name, self.default_marginal)

    def check_columns(self, names: Collection[str]) -> None:
        """JobError if something is asked of a column that is not there."""
        check_named("gaussian_copula", names, columns=self.columns, marginals=self.marginals)


def check_named(family: str, names: Collection[str], **options: Mapping[str, Any]) -> None:
    """JobError, naming the family and the option, where an option names a column that is not among the names."""
    for option, by_column in options.items():
        for name in by_column:
            if name not in names:
                hint = did_you_mean(name, names, 0.6) or f"; valid: {', '.join(list(names)[:12])}"
                raise JobError(f"{family}: {option}: no numeric column is called {name!r}{hint}")
