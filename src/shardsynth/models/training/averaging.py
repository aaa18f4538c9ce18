"""Weights averaged over the last part of a training. A GAN's weights move around an optimum; their average is nearer.

Yazici et al. 2019, "The unusual effectiveness of averaging in GAN training". Older steps count less, by polynomial
decay (Shamir and Zhang 2013, "Stochastic gradient descent for non-smooth optimization", section 4). Its window grows
with the steps done, so one ``share`` suits short and long trainings.
"""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


class WeightAverage(Generic[Module]):
    """A network whose weights are the running average of another's.

    Args:
        network: The network that is trained.
        share: Share of the steps so far, in (0, 1], that the average is over. 1 is the plain mean of all steps. With
            0.1 the last tenth of the steps has two thirds of the weight, and the last fifth nine tenths.

    Attributes:
        network: The averaged network.
    """

    def __init__(self, network: Module, share: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self._share = share
        self._steps = torch.zeros((), device=next(network.parameters()).device)

    def begin(self, step: int) -> None:
        """Start, or resume, after so many steps."""
        self._steps.fill_(step)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def update(self, network: Module) -> None:
        """Call after each step. Copies nothing to the host, so that a CUDA graph can record it."""
        weight = 1.0 / (1.0 + self._share * self._steps)
        self._steps += 1
        for average, current in zip(self.network.parameters(), network.parameters()):
            average.lerp_(current, weight)
