"""What happens between two training steps: progress, checkpoints, stopping; and resuming as if never stopped.

A checkpoint is a safetensors file: weights, Adam's moments, the random state, the loss history and the step. It is
written beside itself and renamed, so that there is always a whole one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from shardsynth.errors import Saved
from shardsynth.models.training.early_stopping import QualityCheck
from shardsynth.standalone.files import replacing

_PROGRESS_SECONDS = 10.0


@dataclass
class TrainingState:
    """All that the next step depends on.

    Attributes:
        modules: Networks by name.
        optimisers: Optimisers by name.
        generator: The one source of randomness.
        history: Losses, float32[epochs, losses], on the device.
        step: Steps done.
        check: The quality check; None without one.
    """

    modules: Mapping[str, nn.Module]
    optimisers: Mapping[str, torch.optim.Optimizer]
    generator: torch.Generator
    history: Tensor
    step: int = 0
    check: QualityCheck | None = None

    def tensors(self) -> dict[str, Tensor]:
        """The state as named tensors on the CPU."""
        found: dict[str, Tensor] = {"history": self.history, "random": self.generator.get_state()}
        for name, module in self.modules.items():
            found.update({f"module.{name}.{key}": value for key, value in module.state_dict().items()})
        for name, optimiser in self.optimisers.items():
            for number, moments in optimiser.state_dict()["state"].items():
                found.update({f"optimiser.{name}.{number}.{key}": value for key, value in moments.items()})
        if self.check is not None:
            found.update(self.check.tensors())
        return {key: value.detach().cpu().contiguous().clone() for key, value in found.items()}

    def restore(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Set the state to what ``tensors`` gave."""
        for name, module in self.modules.items():
            prefix = f"module.{name}."
            module.load_state_dict({k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)})
        for name, optimiser in self.optimisers.items():
            moments: dict[int, dict[str, Tensor]] = {}
            for key, value in tensors.items():
                if key.startswith(f"optimiser.{name}."):
                    number, field_name = key.split(".")[2:]
                    moments.setdefault(int(number), {})[field_name] = value
            optimiser.load_state_dict({**optimiser.state_dict(), "state": moments})
        self.generator.set_state(tensors["random"])
        self.history.copy_(tensors["history"])
        if self.check is not None:
            self.check.restore(tensors)
        self.step = step


def save_checkpoint(path: Path, state: TrainingState, identity: str) -> None:
    """Write a checkpoint atomically.

    Args:
        path: The file; its folder is made.
        state: What to save.
        identity: Says which training this is: options, data, seed.
    """
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        save_file(state.tensors(), temporary, {"step": str(state.step), "identity": identity})


def load_checkpoint(path: Path, state: TrainingState, identity: str) -> bool:
    """Restore the state from a checkpoint of the same training; False where there is none."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return False
    try:
        with safe_open(path, "pt") as file:
            head = file.metadata() or {}
            if head.get("identity") != identity:
                return False
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError:
        return False
    state.restore(tensors, int(head["step"]))
    return True


@dataclass
class Watch:
    """Called after every step: tells progress, saves when it is time, and stops when asked to.

    Attributes:
        total: Steps of the whole training.
        steps_per_epoch: To tell epochs.
        path: Checkpoint file; None for none.
        identity: Of the training.
        every: Seconds between two checkpoints.
        should_stop: Asked after each step.
        progress: Gets a line every ten seconds.
        rows_per_step: To tell rows a second.
    """

    total: int
    steps_per_epoch: int
    path: Path | None = None
    identity: str = ""
    every: float = 600.0
    should_stop: Callable[[], bool] | None = None
    progress: Callable[[str], None] | None = None
    steps_per_second: float = field(default=0.0, init=False)

    def begin(self, state: TrainingState) -> None:
        """Resume from the checkpoint if there is one."""
        if self.path is not None and load_checkpoint(self.path, state, self.identity):
            self._tell(f"resumed at step {state.step} of {self.total}")
        self._saved = self._told = self._begun = time.perf_counter()
        self._first = state.step

    def after(self, state: TrainingState) -> None:
        """To be called when a step is done and counted.

        Raises:
            Saved: Asked to stop; the state is saved, or there is no place to save it.
        """
        now = time.perf_counter()
        if self.should_stop is not None and self.should_stop():
            if self.path is not None:
                save_checkpoint(self.path, state, self.identity)
            raise Saved(f"training stopped at step {state.step} of {self.total}, saved: run it again to go on")
        if self.path is not None and now - self._saved >= self.every:
            save_checkpoint(self.path, state, self.identity)
            self._saved = time.perf_counter()
        self.steps_per_second = (state.step - self._first) / max(now - self._begun, 1e-9)
        if now - self._told >= _PROGRESS_SECONDS:
            self._told = now
            left = (self.total - state.step) / max(self.steps_per_second, 1e-9)
            self._tell(
                f"epoch {state.step / self.steps_per_epoch:.1f} of {self.total // self.steps_per_epoch}, "
                f"{self.steps_per_second:.1f} steps/s, {left / 60:.1f} minutes left"
            )

    def _tell(self, line: str) -> None:
        if self.progress is not None:
            self.progress(line)
