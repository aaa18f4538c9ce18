"""Discrete Gaussian noise and its accounting, by OpenDP: how much noise a budget needs, and drawing it once.

Neighbouring tables differ in one row that is replaced by another; the number of rows is public. To replace a row moves
it from one cell to another in every table of counts: each of T tables changes by +1 and -1, so that the L2 distance is
sqrt(2 T). The random numbers come from the operating system and are not stored: noise from a known seed can be
subtracted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from shardsynth.errors import JobError

Integers = npt.NDArray[np.int64]

MECHANISM = "discrete Gaussian (Canonne, Kamath, Steinke 2020)"
NEIGHBOURS = "one row replaced by another; the number of rows is public"
_LARGEST_SCALE = 1e7


@dataclass(frozen=True)
class Guarantee:
    """The budget that noisy counts spend.

    Attributes:
        epsilon: Of (epsilon, delta)-differential privacy, as the accountant computes it for the noise.
        delta: Of the same.
        scale: Parameter of the noise on every cell: nearly its standard deviation.
        tables: Tables of counts that were published with noise.
        accountant: Library and version.
    """

    epsilon: float
    delta: float
    scale: float
    tables: int
    accountant: str

    @property
    def sensitivity(self) -> float:
        """L2 distance of the counts of neighbouring tables."""
        return l2_sensitivity(self.tables)

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, for ``run.json`` and the metrics."""
        return {
            "epsilon": self.epsilon,
            "delta": self.delta,
            "noise": self.scale,
            "tables": self.tables,
            "sensitivity": self.sensitivity,
            "neighbours": NEIGHBOURS,
            "mechanism": f"{MECHANISM} noise of {self.scale:.1f} a cell on {self.tables:,} tables, L2 sensitivity "
            f"{self.sensitivity:.2f}",
            "accountant": self.accountant,
            "assumptions": list(ASSUMPTIONS),
        }


ASSUMPTIONS = (
    "The unit is one row: a person with k rows is protected k times less.",
    "The schema, the metadata file (ranges, categories, id formats) and the number of rows are public.",
    "Every run on the same rows spends its own budget; the budgets add up.",
    "Only the model and rows drawn from it are covered: figures and plots compare with real rows and stay internal.",
)


def l2_sensitivity(tables: int) -> float:
    """L2 distance of the counts of neighbouring tables: the square root of twice the number of tables of counts."""
    return math.sqrt(2.0 * tables)


def epsilon_of(scale: float, delta: float, tables: int) -> float:
    """Epsilon at ``delta`` of ``tables`` tables of counts with noise of ``scale`` on every cell.

    Infinite where it is too large for OpenDP to compute.

    Raises:
        JobError: OpenDP is not installed.
    """
    dp = _opendp()
    try:
        return float(dp.c.make_zCDP_to_approxDP(_mechanism(dp, scale)).map(l2_sensitivity(tables)).epsilon(delta))
    except dp.OpenDPException as error:
        if error.variant == "Overflow":
            return math.inf
        raise


def scale_for(epsilon: float, delta: float, tables: int) -> Guarantee:
    """The least noise with which ``tables`` tables of counts satisfy (epsilon, delta)-differential privacy.

    Raises:
        JobError: OpenDP is not installed, or no noise is large enough.
    """
    low, high = 1e-3, 1.0
    while epsilon_of(high, delta, tables) > epsilon:
        low, high = high, 2 * high
        if high > _LARGEST_SCALE:
            raise JobError(f"privacy: no noise gives epsilon {epsilon:g} at delta {delta:g} on {tables} tables")
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if epsilon_of(middle, delta, tables) <= epsilon else (middle, high)
    return Guarantee(
        epsilon_of(high, delta, tables), delta, high, tables, f"OpenDP {_version()}, zCDP to approximate DP"
    )


def with_noise(counts: Integers, scale: float) -> Integers:
    """Counts, int64 in any shape, with discrete Gaussian noise of ``scale`` added; every call draws new noise.

    Raises:
        JobError: OpenDP is not installed.
    """
    dp = _opendp()
    noisy = _mechanism(dp, scale)([int(count) for count in counts.ravel()])
    return np.asarray(noisy, np.int64).reshape(counts.shape)


def _mechanism(dp: Any, scale: float) -> Any:
    return dp.m.make_gaussian(dp.vector_domain(dp.atom_domain(T=int)), dp.l2_distance(T=float), scale=scale)


def _opendp() -> Any:
    try:
        import opendp.prelude as dp
    except ImportError:
        raise JobError("privacy: needs opendp, not installed here: pip install 'shardsynth[privacy]'") from None
    dp.enable_features("contrib")
    return dp


def _version() -> str:
    return version("opendp")
