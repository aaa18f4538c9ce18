"""Sizes, steps and noise of a private training, from public facts: the metadata, the number of rows, the budget."""

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

#: What the options leave open: widths and bins for so many rows of a step to each clipping norm of noise on a weight,
#: steps, and the learning rate of one unit of width.
_ROWS_TO_NOISE, _LEAST_WIDTH, _MOST_WIDTH, _STEPS, _LEARNING_RATE = 12.0, 8, 64, 400, 0.32
#: Rows of a step: as many as are cheap, where the table has them.
_LEAST_BATCH, _MOST_BATCH, _BATCHES = 2048, 8192, 24
#: Length of a step's noise, in units of the longest gradient that its rows can have: at 1.6, 3,000 rows of Adult scored
#: more than columns without any dependence (0.92 against 0.88), at 4.3 less (0.85).
_MOST_NOISE = 2.0


@dataclass(frozen=True)
class DpTrainingPlan:
    """A private training before a row is read.

    Attributes:
        options: The model's, completed.
        columns: Learned columns: so many histograms.
        rows: Training rows, as publicly known.
        bins: Codes of a numeric column.
        embedding: Width of the context.
        hidden: Width of each column's hidden layer.
        batch: Rows of a step in the mean.
        steps: Steps.
        weights: Weights of the network, about.
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
    def of(cls, given: Mapping[str, Any], coder: TableCoder, rows: int, epsilon: float, delta: float) -> DpTrainingPlan:
        """Plan for a table: the more noise the budget wants, the fewer weights that share it.

        Args:
            given: The model's options, as in the job.
            coder: The public codes.
            rows: Training rows, as publicly known.
            epsilon: Budget.
            delta: Budget.

        Raises:
            JobError: An option is unknown or impossible.
            ModelError: There is nothing to learn.
        """
        options = AutoregressiveOptions.parse(given)
        if not coder.columns or rows < 1:
            raise ModelError("privacy: no column or no row is left to learn from")
        batch = min(rows, options.batch_size or max(_LEAST_BATCH, min(rows // _BATCHES, _MOST_BATCH)))
        # What the noise will be, nearly: that of all rows in all steps, but for the share that a step sees.
        noise = scale_for(epsilon, delta, 2 * _STEPS).scale * batch / rows
        width = 2 ** round(math.log2(min(max(batch / noise / _ROWS_TO_NOISE, _LEAST_WIDTH), _MOST_WIDTH)))
        bins, embedding, hidden = options.bins or width, options.embedding or width, options.hidden or width
        steps = math.ceil(options.max_epochs * rows / batch) if "max_epochs" in given else _STEPS * max(1, width // 32)
        if "learning_rate" not in given:
            options = options.model_copy(update={"learning_rate": _LEARNING_RATE / width})
        codes = sum(min(c.n_coarse, options.max_categories if c.is_category else bins + 1) for c in coder.columns)
        weights = codes * (2 * embedding + hidden + 1) + len(coder.columns) * (embedding + 1) * hidden
        return cls(options, len(coder.columns), rows, bins, embedding, hidden, batch, steps, weights)

    @property
    def rate(self) -> float:
        """Probability of each row to be in a step."""
        return self.batch / self.rows

    def spend(self, epsilon: float, delta: float, histograms: Guarantee) -> Spent:
        """The least noise that keeps within the budget.

        Raises:
            ModelError: It would drown the gradients; says how large it is and what would help.
        """
        spent = plan_training(epsilon, delta, histograms, self.steps, self.rate)
        least = math.sqrt(self.weights) / self.batch
        noise = spent.multiplier * least
        if noise > _MOST_NOISE:
            # At a given budget, steps and rate, noise and gradients both are as long as they are: rows shorten it.
            wanted = self._bearable_epsilon(_MOST_NOISE / least, epsilon, delta)
            raise ModelError(
                f"privacy: epsilon {epsilon:.3g} at delta {delta:g} in {self.steps:,} steps needs noise of "
                f"{spent.multiplier:.3g} clipping norms on each of {self.weights:,} weights, {noise:.1f} times as long "
                f"as the gradients of {self.batch:,} rows can be: about {self.rows * noise / _MOST_NOISE:,.0f} rows, "
                f"fewer columns or an epsilon of {math.ceil(10 * wanted) / 10:.1f} are needed"
            )
        return spent

    def _bearable_epsilon(self, multiplier: float, low: float, delta: float) -> float:
        """Epsilon at which the noise is no more than this."""

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
