"""A transformation of a numeric column: its named distribution then describes the transformed values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Transform:
    """``log``: log(x - base). ``logit``: log((x - base) / (top - x)).

    Attributes:
        name: ``log`` or ``logit``.
        base: Values lie above it.
        top: Values lie below it (``logit`` only).
    """

    name: str
    base: float = 0.0
    top: float = 1.0

    def to(self, values: Floats) -> Floats:
        """Transformed values float64[n]; infinite for values at ``base`` or ``top``, or beyond them."""
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
        """Values moved to where they can be transformed, a quarter of a grid unit from ``base`` and ``top``."""
        step = 0.25 * unit or 1e-9 * max(float(np.abs(values - self.base).max()), 1e-300)
        return np.clip(values, self.base + step, np.inf if self.name == "log" else self.top - step)

    def refuses(self, low: Floats, high: Floats, *, grid: bool) -> NDArray[np.bool_]:
        """Which cells hold values that have no transformed value, bool[m]; on a grid, ``base`` and ``top`` have one."""
        below = low < self.base if grid else low <= self.base
        above = high > self.top if grid else high >= self.top
        return np.asarray(below if self.name == "log" else below | above)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, for a model's file."""
        return {"name": self.name, "base": self.base, **({"top": self.top} if self.name == "logit" else {})}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Transform:
        """Inverse of ``to_json``."""
        return cls(str(data["name"]), float(data["base"]), float(data.get("top", 1.0)))
