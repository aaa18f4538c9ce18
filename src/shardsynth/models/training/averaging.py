"""Weights averaged over the last part of a training: a GAN circles about what it looks for, its average lies inside.

Yazici et al. 2019, "The unusual effectiveness of averaging in GAN training". Older steps count less by polynomial
decay (Shamir and Zhang 2013, "Stochastic gradient descent for non-smooth optimization", section 4), whose window grows
with the steps done: short trainings and long ones want no other number.
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
        network: The one that is trained.
        share: Of the steps so far, in (0, 1]: 1 is their plain mean; with 0.1 the last tenth has two thirds of the
            weight, the last fifth nine tenths.
    """

    def __init__(self, network: Module, share: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False)
        self._share = share
        self._steps = torch.zeros((), device=next(network.parameters()).device)

    def begin(self, step: int) -> None:
        """Go on after so many steps."""
        self._steps.fill_(step)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def update(self, network: Module) -> None:
        """To be called after a step; makes no copy to the host, so that CUDA graphs can hold it."""
        weight = 1.0 / (1.0 + self._share * self._steps)
        self._steps += 1
        for own, other in zip(self.network.parameters(), network.parameters()):
            own.lerp_(other, weight)
