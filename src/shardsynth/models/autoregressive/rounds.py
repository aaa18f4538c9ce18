"""A training in rounds of steps: each ends with a check on what is held out, which says how training goes on.

What is checked, and what becomes the model, are weights averaged over the last rounds: with them the rate may be large.
The rate stays constant until the loss on the held-out rows has not improved for ``patience`` checks. Then training goes
back to the best weights and lowers the rate to zero, over three quarters of the time that it took to get these weights.
Weights are refused if the attack gains more than its bound. If it gained little until then, dropout falls with the
rate: there is room to learn more of what ties the columns.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from shardsynth.models.autoregressive.options import AutoregressiveOptions
from shardsynth.models.training.checkpoint import TrainingState, Watch

#: Largest number of steps between two checks.
_ROUND = 1000
_WARM_UP = 50
#: Share of the largest advantage at which the rate begins to fall: it still grows in the steps after that.
_TURN = 0.9
#: Rounds that the averaged weights are over.
_AVERAGED = 2
#: Share of the dropout that is left when the rate is zero, if the attack gained little.
_LEFT_DROPOUT = 0.0


@dataclass(frozen=True)
class Schedule:
    """Where training stands, as a function of the losses of the checks so far.

    Attributes:
        turn: Number of checks after which the rate begins to fall; None as long as it is constant.
        end: Number of checks after which training is over.
        best: Index of the check, from 0, whose weights are the best so far.
        bounded: Whether the rate falls because of what an attacker gains.
    """

    turn: int | None
    end: int
    best: int
    bounded: bool = False

    @classmethod
    def of(
        cls, losses: Sequence[float], advantages: Sequence[float], patience: int, most: int, largest: float
    ) -> Schedule:
        """Schedule after these checks.

        Args:
            losses: Losses on the held-out rows, one per check so far.
            advantages: What an attacker gains (0: nothing), one per check.
            patience: Checks without improvement after which the rate falls.
            most: Largest number of checks.
            largest: Largest advantage with which weights may become the model; the first check's always may.
        """
        best, turn, end, bounded = 0, None, most, False
        forced = math.ceil(most * 4 / 7)
        for number in range(1, len(losses) + 1):
            if advantages[number - 1] <= largest and losses[number - 1] < losses[best]:
                best = number - 1
            gained = advantages[number - 1] > _TURN * largest
            if turn is None and (gained or number - 1 - best >= patience or number >= forced):
                turn, end, bounded = number, min(most, number + math.ceil(0.75 * (best + 1))), gained
        return cls(turn, end, best, bounded)

    def scale(self, rounds: float) -> float:
        """Factor of the learning rate, 0 to 1, after so many rounds (a round is the steps between two checks)."""
        if self.turn is None:
            return 1.0
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, (rounds - self.turn) / max(self.end - self.turn, 1))))

    def dropout(self, rounds: float) -> float:
        """Factor of the dropout, 0 to 1, after so many rounds."""
        if self.bounded:
            return 1.0
        return _LEFT_DROPOUT + (1.0 - _LEFT_DROPOUT) * self.scale(rounds)


def schedule_of(history: Tensor, patience: int, most: int, membership: float) -> Schedule:
    """Schedule after the checks of a history, float32[checks, 4] as ``train`` returns it; see ``Schedule.of``."""
    losses, aucs, slacks = history[:, 1:].T.tolist()
    advantages = [auc - slack - 0.5 for auc, slack in zip(aucs, slacks)]
    return Schedule.of(losses, advantages, patience, most, membership - 0.5)


class Rounds:
    """The rounds of one training.

    Args:
        network: With its first weights, or those of a checkpoint after ``watch`` began.
        adam: Its optimiser.
        random: Draws what a step leaves out.
        options: How to train.
        steps_per_epoch: Steps of an epoch.
        watch: Makes the watch from the largest number of steps and the number of steps per epoch.
        device: Where to train.
        rate: Learning rate, before it falls.
        averaged: Whether averaged weights are checked and kept.
        kept: What else goes into a checkpoint, by name.

    Attributes:
        average: The network that is to be checked: with averaged weights, or the one that is trained.
        best: The network with the best weights so far.
        state: All that the next step needs.
        steps: Steps of a round.
        most: Largest number of rounds.
        schedule: After the checks so far.
    """

    def __init__(
        self,
        network: nn.Module,
        adam: torch.optim.Optimizer,
        random: torch.Generator,
        options: AutoregressiveOptions,
        steps_per_epoch: int,
        watch: Callable[[int, int], Watch],
        device: torch.device,
        *,
        rate: float,
        averaged: bool,
        kept: Mapping[str, nn.Module] | None = None,
    ) -> None:
        self._network, self._adam, self._options, self._rate = network, adam, options, rate
        self.steps = min(steps_per_epoch, _ROUND)
        self.most = max(2, math.ceil(options.max_epochs * steps_per_epoch / self.steps))
        self.best = copy.deepcopy(network)
        history = torch.zeros(self.most, 4, device=device)
        modules = {"network": network, "best": self.best, **(kept or {})}
        self.average = network
        if averaged:
            self.average = modules["average"] = copy.deepcopy(network).requires_grad_(False)
        self._weights = [list(module.parameters()) for module in (self.average, network)]
        self.state = TrainingState(modules, {"adam": adam}, random, history)
        self._watch = watch(self.most * self.steps, steps_per_epoch)
        self._watch.begin(self.state)
        self.schedule = self._schedule()

    @property
    def go_on(self) -> bool:
        """Whether there is another step."""
        return bool(self.state.step < self.schedule.end * self.steps)

    @property
    def history(self) -> Tensor:
        """float32[checks, 4] on the CPU, as ``training.train`` returns it."""
        return self.state.history[: self.schedule.end].cpu()

    def begin_step(self) -> float:
        """Set the learning rate of the next step; returns the factor of its dropout, 0 to 1."""
        step = self.state.step
        rate, rounds = self._rate * min(1.0, (step + 1) / _WARM_UP), step / self.steps
        for group in self._adam.param_groups:
            group["lr"] = rate * self.schedule.scale(rounds)
        return self.schedule.dropout(rounds)

    def end_step(self, loss: Tensor, check: Callable[[], tuple[Tensor, Tensor, Tensor]]) -> None:
        """Count a step that was made; at the end of a round, check.

        Args:
            loss: Mean loss of the step, in nats per row.
            check: The mean loss on what is held out, and the AUC of the attack with its standard error.

        Raises:
            Saved: Asked to stop; all that the next step needs is in the checkpoint.
        """
        state, number = self.state, self.state.step // self.steps
        state.history[number, 0] += loss.detach() / self.steps
        state.step += 1
        if self.average is not self._network:
            share = max(1 / (_AVERAGED * self.steps), _WARM_UP / 5 / (state.step + _WARM_UP / 5))
            with torch.no_grad():
                torch._foreach_lerp_(*self._weights, min(share, 1.0))
        if state.step % self.steps == 0:
            state.history[number, 1:] = torch.stack(check())
            self.schedule = self._schedule()
            if self.schedule.best == number:
                self.best.load_state_dict(self.average.state_dict())
            if self.schedule.turn == number + 1:
                for network in {self._network, self.average}:
                    network.load_state_dict(self.best.state_dict())
        self._watch.after(state)

    def _schedule(self) -> Schedule:
        history = self.state.history[: self.state.step // self.steps]
        return schedule_of(history, self._options.patience, self.most, self._options.membership)
