"""Options that native families share, and those of the Gaussian copula; by SDV's names where SDV has them."""

# ruff: noqa: UP045
from __future__ import annotations  # pydantic evaluates the annotations below on Python 3.9 too

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from shardsynth.data.values import kind_of
from shardsynth.errors import JobError, ModelError, did_you_mean
from shardsynth.models.columns.column_options import EMPIRICAL, ColumnOptions, Distribution, check_distribution
from shardsynth.models.columns.marginals import Protection
from shardsynth.options import Extremes, Options, Rare, Text, or_empty

if TYPE_CHECKING:
    import pyarrow as pa

    from shardsynth.data.columns import Column

Parsed = TypeVar("Parsed", bound="NativeOptions")


class NativeOptions(Options):
    """Options of all native families. A field marked ``exclude`` is not in a model's file under its own name."""

    rare: Annotated[Rare, BeforeValidator(or_empty), "a mapping such as `{min_count: 5, as: drop}`"] = Field(
        Rare(), exclude=True, description="What may be held of rare values; without it, the job's `rare` holds."
    )
    extremes: Extremes = Field(
        "tail",
        exclude=True,
        description="What lies beyond the fifth most extreme values; without it, the job's `extremes` holds.",
    )
    locales: Any = Field(None, exclude=True, description="Faker's locales for generated columns, such as `[en_US]`.")

    @property
    def protection(self) -> Protection:
        """What the model may hold of rare values."""
        return Protection(self.rare.min_count, self.rare.as_, self.extremes)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, for a model's file."""
        fields = type(self).model_fields
        return {**{k: v for k, v in self if not fields[k].exclude}, "protection": _Protection.of(self.protection)}

    @classmethod
    def from_json(cls: type[Parsed], data: Mapping[str, Any]) -> Parsed:
        """Inverse of ``to_json``; each value is checked alone.

        Raises:
            ModelError: An option that this version does not have, or a value that it cannot have.
        """
        try:
            protection = _Protection.model_validate(data["protection"])
        except (ValidationError, KeyError):
            raise ModelError("options.protection: wanted min_count, rare, and extremes or clip") from None
        options = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items() if k != "protection"}
        fields = {key: info for key, info in cls.model_fields.items() if not info.exclude}
        if unknown := set(options) - set(fields):
            names = ", ".join(key[:80] for key in sorted(unknown))
            raise ModelError(f"the model has options that this version does not know: {names}")
        for key, value in options.items():
            try:
                kind: Any = Annotated[(fields[key].annotation, *fields[key].metadata, None)]
                TypeAdapter(kind).validate_python(value)
            except ValidationError:
                raise ModelError(f"options.{key}: a value that the option cannot have") from None
        options["rare"] = Rare().model_copy(update={"min_count": protection.min_count, "as_": protection.rare})
        return cls().model_copy(update={**options, "extremes": protection.kind})


class _Protection(BaseModel):
    """``marginals.Protection`` in a model's file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    min_count: int
    rare: Literal["other", "drop", "keep"]
    clip: Optional[bool] = None
    extremes: Optional[Literal["tail"]] = None

    @model_validator(mode="after")
    def _one_of_two(self) -> _Protection:
        if (self.clip is None) == (self.extremes is None):
            raise ValueError("wanted one of the two")
        return self

    @classmethod
    def of(cls, protection: Protection) -> dict[str, Any]:
        """As a JSON object; without tails as models had it before there were any."""
        ends = {"extremes": "tail"} if protection.extremes == "tail" else {"clip": protection.clip}
        return {"min_count": protection.min_count, "rare": protection.rare, **ends}

    @property
    def kind(self) -> str:
        """The option ``extremes``."""
        return self.extremes or ("clip" if self.clip else "keep")


class Distributions(Options):
    """Named distributions of numeric columns. After parsing, SDV's names of these options have become ours."""

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
        options = dict(data)
        marginals, by_sdv_name = options.pop("marginals", None), options.pop("numerical_distributions", None)
        default = EMPIRICAL if options.get("encoding") != "sdv" else "beta"
        by_column: dict[Any, Any] = {}
        if isinstance(marginals, Mapping):
            by_column = dict(marginals)
            default = by_column.pop("default", default)
        elif marginals is not None:
            default = marginals
        if not isinstance(by_sdv_name or {}, Mapping):
            raise ValueError("numerical_distributions: wanted a mapping of columns to distributions")
        by_column = {str(column): str(name) for column, name in {**by_column, **(by_sdv_name or {})}.items()}
        default = options.get("default_distribution") or default
        try:
            for name in (default, *by_column.values()):
                check_distribution(name)
        except ValueError as error:
            raise ValueError(f"marginals: {error}") from None
        return {**options, "marginals": by_column, "default_distribution": default}


class FitOptions(Distributions, NativeOptions):
    """How a copula is fitted."""

    columns: Annotated[
        dict[Text, ColumnOptions], BeforeValidator(or_empty), "a mapping such as `{marginal: gamma, min: 0}`"
    ] = Field({}, description="Column -> what is asked of it, see below.")
    enforce_min_max: bool = Field(
        True, alias="enforce_min_max_values", description="Named distributions are clipped to the protected ends."
    )
    enforce_rounding: bool = Field(True, description="Floats have the decimal places of the input.")
    encoding: Literal["native", "sdv"] = Field("native", description="How columns become normal scores, see below.")

    @classmethod
    def parse(cls, options: Mapping[str, Any] | FitOptions | None) -> FitOptions:
        """Options from a model's entry in a job file.

        Raises:
            JobError: See ``Options.checked``.
        """
        return options if isinstance(options, FitOptions) else cls.checked("gaussian_copula", options or {})

    @model_validator(mode="after")
    def _check(self) -> FitOptions:
        if self.encoding == "sdv" and (self.columns or not self.enforce_rounding):
            raise ValueError("encoding: sdv has neither `columns` nor `enforce_rounding: false`")
        for name, column in self.columns.items():
            if column.transform is not None and self.family(name) == EMPIRICAL:
                raise ValueError(f"columns.{name}.transform: goes with a named distribution, as `marginal: norm`")
        return self

    def column_options(self, name: str) -> ColumnOptions:
        """Options of a column."""
        return self.columns.get(name) or ColumnOptions()

    def family(self, name: str) -> str:
        """Name of the marginal of a numeric column: ``empirical``, or one of SDV's."""
        return self.column_options(name).marginal or self.marginals.get(name, self.default_marginal)

    def check_table(self, schema: pa.Schema, columns: Sequence[Column] | None) -> None:
        """Check the options of single columns.

        Args:
            schema: The table's.
            columns: Its columns, where they are known already.

        Raises:
            JobError: A column is not there, or cannot have such options.
        """
        self.check_columns(schema.names)
        for name, column_options in self.columns.items():
            kind = kind_of(schema.field(name).type)
            if kind not in ("integer", "float", "decimal", *(() if column_options.numeric else ("temporal", "text"))):
                raise JobError(f"columns.{name}: is of type {schema.field(name).type}; such options are for numbers")
        if columns is not None:
            self.check_columns([c.name for c in columns if c.role in ("number", "datetime", "empty")])

    def check_columns(self, names: Collection[str]) -> None:
        """JobError if an option names a column that is not among the names."""
        check_named("gaussian_copula", names, columns=self.columns, marginals=self.marginals)


def check_named(family: str, names: Collection[str], **options: Mapping[str, Any]) -> None:
    """JobError where an option names a column that is not among the names; it says the family and the option."""
    for option, by_column in options.items():
        for name in by_column:
            if name not in names:
                hint = did_you_mean(name, names, 0.6) or f"; valid: {', '.join(list(names)[:12])}"
                raise JobError(f"{family}: {option}: no numeric column is called {name!r}{hint}")
