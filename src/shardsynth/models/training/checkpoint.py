"""Between two training steps: progress, checkpoints, stopping. A resumed training gives the same model.

A checkpoint is a safetensors file: weights, Adam's moments, the random state, the loss history and the step. It is
written under a temporary name and renamed, so there is always a complete one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
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
        history: float32[epochs or checks, figures], on the device.
        step: Number of steps done.
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
        tensors: dict[str, Tensor] = {"history": self.history, "random": self.generator.get_state()}
        for name, module in self.modules.items():
            tensors.update({f"module.{name}.{key}": value for key, value in module.state_dict().items()})
        for name, optimiser in self.optimisers.items():
            for number, moments in optimiser.state_dict()["state"].items():
                tensors.update({f"optimiser.{name}.{number}.{key}": value for key, value in moments.items()})
        if self.check is not None:
            tensors.update(self.check.tensors())
        return {key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}

    def restore(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Set the state to what ``tensors`` returned, after so many steps."""
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
        identity: Hash of options, data and seed: says which training this is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        save_file(state.tensors(), temporary, {"step": str(state.step), "identity": identity})


def load_checkpoint(path: Path, state: TrainingState, identity: str) -> bool:
    """Restore the state from a checkpoint of the same training; False if there is none that can be read."""
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
    """Called after every step: reports progress, saves checkpoints, and stops the training when asked to.

    Attributes:
        total: Number of steps of the whole training.
        steps_per_epoch: Number of steps of an epoch, for the progress.
        path: Checkpoint file; None: no checkpoints.
        identity: Hash of options, data and seed; a checkpoint with another one is not used.
        every: Seconds between two checkpoints.
        should_stop: Called after each step; True stops the training.
        progress: Gets a line every ten seconds.
        steps_per_second: Speed since ``begin``.
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
        """Start the clock; resume from the checkpoint if there is one."""
        if self.path is not None and load_checkpoint(self.path, state, self.identity):
            self._tell(f"resumed at step {state.step} of {self.total}")
        self._saved = self._reported = self._begun = time.perf_counter()
        self._first = state.step

    def after(self, state: TrainingState) -> None:
        """Call when a step is done and counted in the state.

        Raises:
            Saved: Asked to stop. The state is saved, if there is a checkpoint file.
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
        if now - self._reported >= _PROGRESS_SECONDS:
            self._reported = now
            left = (self.total - state.step) / max(self.steps_per_second, 1e-9)
            self._tell(
                f"epoch {state.step / self.steps_per_epoch:.1f} of {self.total // self.steps_per_epoch}, "
                f"{self.steps_per_second:.1f} steps/s, {left / 60:.1f} minutes left"
            )

    def _tell(self, line: str) -> None:
        if self.progress is not None:
            self.progress(line)
