"""What a user may ask of one column of numbers: its distribution, ends, rounding and transformation."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shardsynth.errors import JobError

Floats = NDArray[np.float64]

_KEYS = ("marginal", "min", "max", "enforce_min_max", "decimal_places", "transform")
_TRANSFORMS = ("log", "logit")
_MOST_PLACES = 15


@dataclass(frozen=True)
class Transform:
    """A named distribution is that of the transformed value: ``log(x - base)`` or ``log((x - base) / (top - x))``."""

    name: str
    base: float = 0.0
    top: float = 1.0

    def to(self, values: Floats) -> Floats:
        """Transformed values; infinite at the ends of what can be transformed and beyond."""
        with np.errstate(divide="ignore", invalid="ignore"):
            above = np.log(np.maximum(values - self.base, 0.0))
            return np.asarray(
                above if self.name == "log" else above - np.log(np.maximum(self.top - values, 0.0)), np.float64
            )

    def back(self, values: Floats) -> Floats:
        """Inverse of ``to``."""
        with np.errstate(over="ignore"):
            if self.name == "log":
                return np.asarray(self.base + np.exp(values), np.float64)
            return np.asarray(self.base + (self.top - self.base) / (1.0 + np.exp(-values)), np.float64)

    def inside(self, values: Floats, unit: float) -> Floats:
        """Values moved to where they can be transformed, by a quarter of a grid unit at most."""
        step = 0.25 * unit or 1e-9 * max(float(np.abs(values - self.base).max()), 1e-300)
        return np.clip(values, self.base + step, np.inf if self.name == "log" else self.top - step)

    def refuses(self, low: Floats, high: Floats, *, grid: bool) -> NDArray[np.bool_]:
        """Which cells hold values that have no transformed value; on a grid, the ends themselves have one."""
        below = low < self.base if grid else low <= self.base
        above = high > self.top if grid else high >= self.top
        return np.asarray(below if self.name == "log" else below | above)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"name": self.name, "base": self.base, **({"top": self.top} if self.name == "logit" else {})}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Transform:
        """Inverse of ``to_json``."""
        return cls(str(data["name"]), float(data["base"]), float(data.get("top", 1.0)))


@dataclass(frozen=True)
class Asked:
    """Options of one column.

    Attributes:
        marginal: ``empirical``, one of SDV's names, or None: as the model's other columns.
        low: Values are not below this; None: not below the protected minimum.
        high: Values are not above this.
        enforce: Whether a named distribution is clipped; None: as the model says.
        places: Decimal places to round to; None: as in the input.
        transform: Of a named distribution, or None.
    """

    marginal: str | None = None
    low: float | None = None
    high: float | None = None
    enforce: bool | None = None
    places: int | None = None
    transform: Transform | None = None

    @property
    def numeric(self) -> bool:
        """Whether anything is asked that makes sense for numbers only, not for dates."""
        return any(value is not None for value in (self.low, self.high, self.places, self.transform))

    @classmethod
    def parse(cls, name: str, given: Any) -> Asked:
        """Options of the column ``name``.

        Raises:
            JobError: An unknown key, a wrong value, or two that exclude each other.
        """
        where = f"columns.{name}"
        if not isinstance(given, Mapping):
            raise JobError(f"{where}: wanted a mapping such as `{{marginal: gamma, min: 0}}`")
        for key in given:
            if key not in _KEYS:
                near = difflib.get_close_matches(str(key), _KEYS, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; valid: {', '.join(_KEYS)}"
                raise JobError(f"{where}: no option is called {key!r}{hint}")
        low, high = (_number(where, key, given.get(key)) for key in ("min", "max"))
        enforce, places, kind = (given.get(key) for key in ("enforce_min_max", "decimal_places", "transform"))
        marginal = None if given.get("marginal") is None else str(given["marginal"])
        if low is not None and high is not None and low >= high:
            raise JobError(f"{where}: min {low:g} is not below max {high:g}")
        if enforce is not None and not isinstance(enforce, bool):
            raise JobError(f"{where}.enforce_min_max: wanted true or false, found {type(enforce).__name__}")
        if enforce is False and (low is not None or high is not None):
            raise JobError(f"{where}: enforce_min_max: false and min or max exclude each other")
        if places is not None and (isinstance(places, bool) or places not in range(_MOST_PLACES + 1)):
            raise JobError(f"{where}.decimal_places: wanted a whole number from 0 to {_MOST_PLACES}")
        transform = None
        if kind is not None:
            if kind not in _TRANSFORMS:
                raise JobError(f"{where}.transform: there is no {kind!r}; valid: {', '.join(_TRANSFORMS)}")
            transform = Transform(str(kind), low or 0.0, 1.0 if high is None else high)
            if kind == "logit" and transform.base >= transform.top:
                raise JobError(f"{where}: transform: logit needs min below max (0 and 1 where they are not given)")
        return cls(marginal, low, high, enforce, places, transform)


def _number(where: str, key: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        raise JobError(f"{where}.{key}: wanted a number, found {type(value).__name__}")
    return float(value)
