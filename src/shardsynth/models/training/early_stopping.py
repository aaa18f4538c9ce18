"""Stopping a training early: every few epochs the rows it would give are scored, and the best weights are kept."""

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
        measure: Score of a network, the higher the better; changes nothing about it.
        scores: So far, in order.
        best: Weights of the best one.
    """

    every: int
    patience: int
    measure: Callable[[nn.Module], float]
    scores: list[float] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)

    @property
    def stopped(self) -> bool:
        """Whether it has not become better for too long."""
        return bool(self.scores) and len(self.scores) - 1 - self.scores.index(max(self.scores)) >= self.patience

    def after_epoch(self, epoch: int, network: nn.Module) -> None:
        """To be called at the end of each epoch, counted from 0."""
        if (epoch + 1) % self.every:
            return
        score = self.measure(network)
        if not self.scores or score > max(self.scores):
            self.best = {key: value.detach().clone() for key, value in network.state_dict().items()}
        self.scores.append(score)

    def keep_best(self, network: nn.Module) -> None:
        """Give the network its best weights back."""
        if self.best:
            network.load_state_dict(self.best)

    def tensors(self) -> dict[str, Tensor]:
        """The state, for a checkpoint."""
        found = {f"check.best.{key}": value for key, value in self.best.items()}
        return {**found, "check.scores": torch.tensor(self.scores, dtype=torch.float64)}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Inverse of ``tensors``."""
        prefix = "check.best."
        self.scores = [float(score) for score in tensors["check.scores"]]
        self.best = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
