"""Sizes, steps and noise of a training under differential privacy.

They follow from public facts: the metadata, the number of rows, the budget.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shardsynth.data.coding import TableCoder
from shardsynth.errors import ModelError
from shardsynth.models.autoregressive.options import AutoregressiveOptions
from shardsynth.models.dp.accounting import Spent, epsilon_of, histogram_noise, plan_training
from shardsynth.models.dp.noise import Guarantee, scale_for

#: Used where the options say nothing. Width = rows of a step / (noise in clipping norms * this), within two limits;
#: steps (of a width below 64); learning rate = this / width.
_ROWS_TO_NOISE, _LEAST_WIDTH, _MOST_WIDTH, _STEPS, _LEARNING_RATE = 12.0, 8, 64, 400, 0.32
#: Rows of a step: rows of the table / ``_BATCHES``, within two limits.
_LEAST_BATCH, _MOST_BATCH, _BATCHES = 2048, 8192, 24
#: Largest length of a step's noise, in units of the longest gradient that its rows can have. With 3,000 rows of Adult,
#: quality at 1.6 was better than that of independent columns (0.92 against 0.88), at 4.3 worse (0.85).
_MOST_NOISE = 2.0


@dataclass(frozen=True)
class DpTrainingPlan:
    """A training under differential privacy, planned before a row is read.

    Attributes:
        options: The model's options, with a learning rate.
        columns: Number of learned columns, which is also that of the histograms.
        rows: Number of training rows, as publicly known.
        bins: About how many codes a numeric column gets.
        embedding: Width of the context.
        hidden: Width of each column's hidden layer.
        batch: Mean number of rows of a step.
        steps: Number of steps.
        weights: About how many weights the network has.
    """

    options: AutoregressiveOptions
    columns: int
    rows: int
    bins: int
    embedding: int
    hidden: int
    batch: int
    steps: int
    weights: int

    @classmethod
    def of(
        cls, job_options: Mapping[str, Any], coder: TableCoder, rows: int, epsilon: float, delta: float
    ) -> DpTrainingPlan:
        """Plan for a table. The more noise the budget needs, the fewer weights the network gets.

        Args:
            job_options: The model's options, as in the job.
            coder: The public codes.
            rows: Number of training rows, as publicly known.
            epsilon: The budget's epsilon.
            delta: The budget's delta.

        Raises:
            JobError: An option is unknown or impossible.
            ModelError: There is no column or no row to learn from.
        """
        options = AutoregressiveOptions.parse(job_options)
        if not coder.columns or rows < 1:
            raise ModelError("privacy: no column or no row is left to learn from")
        batch = min(rows, options.batch_size or max(_LEAST_BATCH, min(rows // _BATCHES, _MOST_BATCH)))
        # An estimate of the noise: that of steps with all rows, times the share of the rows that a step sees.
        noise = scale_for(epsilon, delta, 2 * _STEPS).scale * batch / rows
        width = 2 ** round(math.log2(min(max(batch / noise / _ROWS_TO_NOISE, _LEAST_WIDTH), _MOST_WIDTH)))
        bins, embedding, hidden = options.bins or width, options.embedding or width, options.hidden or width
        steps = (
            math.ceil(options.max_epochs * rows / batch)
            if "max_epochs" in job_options
            else _STEPS * max(1, width // 32)
        )
        if options.learning_rate is None:
            options = options.model_copy(update={"learning_rate": _LEARNING_RATE / width})
        codes = sum(min(c.n_coarse, options.max_categories if c.is_category else bins + 1) for c in coder.columns)
        weights = codes * (2 * embedding + hidden + 1) + len(coder.columns) * (embedding + 1) * hidden
        return cls(options, len(coder.columns), rows, bins, embedding, hidden, batch, steps, weights)

    @property
    def rate(self) -> float:
        """Probability that a row is in a step."""
        return self.batch / self.rows

    def spend(self, epsilon: float, delta: float, histograms: Guarantee) -> Spent:
        """The smallest noise that keeps within the budget.

        Args:
            epsilon: The budget's epsilon.
            delta: The budget's delta.
            histograms: What the noisy histograms have cost already.

        Raises:
            ModelError: The noise is too large for the gradients; the error says how large, and what would help.
        """
        spent = plan_training(epsilon, delta, histograms, self.steps, self.rate)
        least = math.sqrt(self.weights) / self.batch
        noise = spent.multiplier * least
        if noise > _MOST_NOISE:
            # With more rows at the same steps and rate, gradients get longer and the noise stays: so rows help.
            enough = self._bearable_epsilon(_MOST_NOISE / least, epsilon, delta)
            raise ModelError(
                f"privacy: epsilon {epsilon:.3g} at delta {delta:g} in {self.steps:,} steps needs noise of "
                f"{spent.multiplier:.3g} clipping norms on each of {self.weights:,} weights, {noise:.1f} times as long "
                f"as the gradients of {self.batch:,} rows can be: about {self.rows * noise / _MOST_NOISE:,.0f} rows, "
                f"fewer columns or an epsilon of {math.ceil(10 * enough) / 10:.1f} are needed"
            )
        return spent

    def _bearable_epsilon(self, multiplier: float, low: float, delta: float) -> float:
        """Smallest epsilon, within 2 %, at which the noise is at most ``multiplier`` clipping norms.

        Args:
            multiplier: Noise in clipping norms.
            low: An epsilon that is too small.
            delta: The budget's delta.
        """

        def enough(epsilon: float) -> bool:
            histograms = histogram_noise(epsilon, delta, self.columns)
            return epsilon_of(histograms, self.steps, self.rate, multiplier, delta) <= epsilon

        high = 2 * low
        while not enough(high):
            low, high = high, 2 * high
        while high / low > 1.02:
            middle = math.sqrt(low * high)
            low, high = (low, middle) if enough(middle) else (middle, high)
        return high
