"""The cost of training under dp, by Google's dp-accounting: privacy loss distributions of histograms and steps.

Neighbouring tables differ in one row that is replaced by another. To replace a row moves it from one cell to another in
each histogram: two discrete Gaussians shifted by one. In a step, the row is drawn with the sampling rate, and changes
the sum of clipped gradients by at most twice the clipping norm. (The RDP accountant of dp-accounting 0.6 takes the
clipping norm itself there, google/differential-privacy#378. Its privacy loss distributions do not; a test checks this.)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from shardsynth.errors import JobError
from shardsynth.models.dp.noise import ASSUMPTIONS, NEIGHBOURS, Guarantee, scale_for

#: Share of epsilon that the histograms would cost alone. Together with the training they add far less than this.
_HISTOGRAMS = 0.35
#: Privacy losses are rounded up to multiples of this.
_INTERVAL = 5e-4


@dataclass(frozen=True)
class Spent:
    """The budget that a training under dp spends.

    Attributes:
        epsilon: Of (epsilon, delta)-differential privacy, histograms and steps together.
        delta: Of the same.
        scale: Noise on each cell of the histograms.
        tables: Number of histograms.
        steps: Steps of the training.
        rate: Probability that a row is in a step.
        multiplier: Noise of a step, in units of the clipping norm.
        accountant: Library and version.
    """

    epsilon: float
    delta: float
    scale: float
    tables: int
    steps: int
    rate: float
    multiplier: float
    accountant: str

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, for ``run.json`` and the metrics."""
        return {
            "epsilon": self.epsilon,
            "delta": self.delta,
            "tables": self.tables,
            "noise": self.scale,
            "steps": self.steps,
            "sampling_rate": self.rate,
            "noise_multiplier": self.multiplier,
            "neighbours": NEIGHBOURS,
            "mechanism": f"DP-SGD (Abadi et al. 2016): {self.steps:,} steps of the Poisson-subsampled Gaussian, "
            f"sampling rate {self.rate:.4g}, noise {self.multiplier:.3g} times the clipping norm; discrete Gaussian "
            f"noise of {self.scale:.1f} a cell of {self.tables} histograms",
            "accountant": self.accountant,
            "assumptions": [*ASSUMPTIONS, "The noise of the training is floating-point numbers."],
        }


def histogram_noise(epsilon: float, delta: float, columns: int) -> Guarantee:
    """Noise of one histogram per column, where histograms and training together may cost ``epsilon``.

    Raises:
        JobError: OpenDP is not installed, or no noise is large enough.
    """
    return scale_for(_HISTOGRAMS * epsilon, delta, columns)


def plan_training(epsilon: float, delta: float, histograms: Guarantee, steps: int, rate: float) -> Spent:
    """The least noise with which a training and its histograms satisfy (epsilon, delta)-differential privacy.

    Args:
        epsilon: Budget.
        delta: Budget.
        histograms: Their noise.
        steps: Steps of the training.
        rate: Probability that a row is in a step.

    Raises:
        JobError: OpenDP or dp-accounting is not installed, or no noise is large enough.
    """

    def cost(multiplier: float) -> float:
        return epsilon_of(histograms, steps, rate, multiplier, delta)

    # Start from the noise for all rows in all steps, which costs more. From above: with little noise, a cost takes long
    # to compute.
    high = scale_for(epsilon, delta, 2 * steps).scale
    while cost(high) > epsilon:
        high *= 2
    low = high / 2
    while cost(low) <= epsilon:
        low, high = low / 2, low
    while high / low > 1.002:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if cost(middle) <= epsilon else (middle, high)
    accountant = f"dp-accounting {version('dp-accounting')}, privacy loss distributions"
    return Spent(cost(high), delta, histograms.scale, histograms.tables, steps, rate, high, accountant)


def epsilon_of(histograms: Guarantee, steps: int, rate: float, multiplier: float, delta: float) -> float:
    """Epsilon at ``delta`` of the histograms and a training with noise of ``multiplier`` clipping norms together."""
    both = _histograms(histograms.scale, histograms.tables).compose(_training(steps, rate, multiplier))
    return float(both.get_epsilon_for_delta(delta))


@lru_cache(8)
def _histograms(scale: float, tables: int) -> Any:
    """Privacy losses of the histograms: in each, two cells change by one."""
    cell = _losses().from_discrete_gaussian_mechanism(
        scale, value_discretization_interval=_INTERVAL, use_connect_dots=True
    )
    return cell.self_compose(2 * tables)


@lru_cache(8)
def _training(steps: int, rate: float, multiplier: float) -> Any:
    """Privacy losses of the steps."""
    losses = _losses()
    step = losses.from_gaussian_mechanism(
        multiplier,
        sampling_prob=rate,
        value_discretization_interval=_INTERVAL,
        neighboring_relation=losses.NeighborRel.REPLACE_ONE,
    )
    return step.self_compose(steps)


def _losses() -> Any:
    try:
        from dp_accounting.pld import privacy_loss_distribution
    except ImportError:
        raise JobError("privacy: needs dp-accounting, not installed here: pip install 'shardsynth[privacy]'") from None
    return privacy_loss_distribution
