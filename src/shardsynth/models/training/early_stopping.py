"""Early stopping: every few epochs, rows of the network are drawn and scored; the best weights become the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


@dataclass
class QualityCheck:
    """Scores a network every few epochs.

    Attributes:
        every: Epochs between two checks.
        patience: Checks without a better score after which training stops.
        measure: Score of a network, higher is better; it does not change the network.
        scores: Scores of the checks so far.
        best: Weights of the best check.
    """

    every: int
    patience: int
    measure: Callable[[nn.Module], float]
    scores: list[float] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    @property
    def stopped(self) -> bool:
        """Whether the last ``patience`` checks gave no better score."""
        return bool(self.scores) and len(self.scores) - 1 - self.scores.index(max(self.scores)) >= self.patience

    def after_epoch(self, epoch: int, network: nn.Module) -> None:
        """Call at the end of each epoch; ``epoch`` counts from 0."""
        if (epoch + 1) % self.every:
            return
        score = self.measure(network)
        if not self.scores or score > max(self.scores):
            self.best = {key: value.detach().clone() for key, value in network.state_dict().items()}
        self.scores.append(score)

    def keep_best(self, network: nn.Module) -> None:
        """Load the best weights into the network."""
        if self.best:
            network.load_state_dict(self.best)

    def tensors(self) -> dict[str, Tensor]:
        """The state, for a checkpoint."""
        weights = {f"check.best.{key}": value for key, value in self.best.items()}
        return {**weights, "check.scores": torch.tensor(self.scores, dtype=torch.float64)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Set the state to what ``tensors`` returned."""
        prefix = "check.best."
        self.scores = [float(score) for score in tensors["check.scores"]]
        self.best = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
