"""The options of one column of numbers: its distribution, ends, rounding and transformation."""

# ruff: noqa: UP045
from __future__ import annotations  # pydantic evaluates the annotations below on Python 3.9 too

from typing import Annotated, Any, Optional

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, StrictBool, ValidationInfo, field_validator, model_validator

from shardsynth.errors import did_you_mean
from shardsynth.models.columns.distributions import FAMILIES
from shardsynth.models.columns.transform import Transform
from shardsynth.options import Number, Options, Whole

Floats = NDArray[np.float64]

EMPIRICAL = "empirical"
_TRANSFORMS = ("log", "logit")


def check_distribution(name: Any) -> str:
    """The name of a marginal distribution: ``empirical``, or one of SDV's.

    Raises:
        ValueError: No distribution has this name; the message names the nearest one.
    """
    valid = (EMPIRICAL, *FAMILIES)
    if str(name) not in valid:
        hint = did_you_mean(name, valid, 0.6) or f"; valid: {', '.join(valid)}"
        raise ValueError(f"there is no distribution {str(name)!r}{hint}")
    return str(name)


Distribution = Annotated[str, BeforeValidator(check_distribution), "`empirical`, or one of SDV's names"]


class ColumnOptions(Options):
    """Options of one column; an option that is None is not set."""

    marginal: Optional[Distribution] = Field(None, description="Its distribution; without it, the model's.")
    low: Optional[Number] = Field(
        None, alias="min", description="No value is below; without it, the protected minimum holds."
    )
    high: Optional[Number] = Field(
        None, alias="max", description="No value is above; without it, the protected maximum holds."
    )
    enforce: Optional[StrictBool] = Field(
        None, alias="enforce_min_max", description="A named distribution is clipped; without it, as the model says."
    )
    places: Optional[Whole] = Field(
        None, alias="decimal_places", ge=0, le=15, description="Decimal places of the values; without it, the input's."
    )
    transform: Annotated[Optional[Transform], "log or logit"] = Field(
        None, description="A named distribution is that of the transformed values, see below."
    )

    @field_validator("transform", mode="before")
    @classmethod
    def _between(cls, name: Any, info: ValidationInfo) -> Any:
        if name is None or isinstance(name, Transform):
            return name
        if name not in _TRANSFORMS:
            raise ValueError(f"there is no {name!r}; valid: {', '.join(_TRANSFORMS)}")
        low, high = info.data.get("low"), info.data.get("high")
        transform = Transform(str(name), low or 0.0, 1.0 if high is None else high)
        if name == "logit" and transform.base >= transform.top:
            raise ValueError("logit needs min below max (0 and 1 where they are not given)")
        return transform

    @model_validator(mode="after")
    def _check(self) -> ColumnOptions:
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"min {self.low:g} is not below max {self.high:g}")
        if self.enforce is False and (self.low is not None or self.high is not None):
            raise ValueError("enforce_min_max: false and min or max exclude each other")
        return self

    @property
    def numeric(self) -> bool:
        """Whether an option is set that makes sense for numbers only, not for dates."""
        return any(value is not None for value in (self.low, self.high, self.places, self.transform))
