"""The device of a training or a sampler, and the memory that it may use."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from shardsynth.errors import InputError
from shardsynth.standalone import memory


def choose_device(device: str) -> torch.device:
    """The device to compute on.

    Args:
        device: ``auto`` (a GPU where this process has one), ``cpu`` or ``cuda``.

    Raises:
        InputError: A GPU is wanted, or Slurm gave this task one, and it cannot be used; the error says why.
    """
    gpu_variables = [v for v in ("SLURM_JOB_GPUS", "SLURM_STEP_GPUS", "SLURM_GPUS_ON_NODE") if os.environ.get(v)]
    if device == "cpu" or (device == "auto" and not gpu_variables and not torch.cuda.is_available()):
        return torch.device("cpu")
    reason = _unusable_gpu()
    if reason is None:
        return torch.device("cuda")
    claim = "there is a GPU here"
    if device == "cuda":
        claim = "device: cuda was asked for"
    elif gpu_variables:
        claim = f"this task was given a GPU ({gpu_variables[0]})"
    raise InputError(f"{claim}, but it cannot be used: {reason}; or write device: cpu")


def _unusable_gpu() -> str | None:
    """Why no GPU can be used; None if one can."""
    if torch.version.cuda is None:
        return f"this torch ({torch.__version__}) is built without CUDA: install the CUDA build, or use the CUDA image"
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1", "NoDevFiles"):
        return "CUDA_VISIBLE_DEVICES hides every device: ask for a GPU (cluster.stages.fit.gpus)"
    if not Path("/proc/driver/nvidia/version").exists():
        return "there is no NVIDIA driver on this node: ask for a GPU node"
    if not Path("/dev/nvidiactl").exists():
        return "the driver's device files are not here: start the container with --nv"
    if not torch.cuda.is_available():
        try:
            torch.cuda.init()
        except RuntimeError as error:
            return (
                f"CUDA {torch.version.cuda} does not start ({str(error).splitlines()[0]}): is the driver older than it?"
            )
        return f"torch for CUDA {torch.version.cuda} sees no device: is the driver older than it?"
    major, minor = torch.cuda.get_device_capability()
    built = torch.cuda.get_arch_list()
    if not runs_on(built, major, minor):
        return f"its compute capability {major}.{minor} is not among those torch was built for ({', '.join(built)})"
    return None


def runs_on(built: Sequence[str], major: int, minor: int) -> bool:
    """Whether torch built for these architectures runs on a device of a compute capability.

    Machine code (``sm_86``) runs on devices of the same major version and the same or a later minor one. Code that the
    driver compiles (``compute_90``) runs on every device of the same or a later version. Machine code with a suffix
    (``sm_90a``) runs on the same version only.

    Args:
        built: Names of the architectures, as of ``torch.cuda.get_arch_list``.
        major: Major version of the compute capability.
        minor: Minor version.
    """
    for name in built:
        kind, _, number = name.partition("_")
        digits = number.rstrip("af")
        if not digits.isdigit():
            continue
        version = int(digits[:-1]), int(digits[-1])
        if kind == "compute" and version <= (major, minor):
            return True
        if (
            kind == "sm"
            and (number == digits or version == (major, minor))
            and version[0] == major
            and version[1] <= minor
        ):
            return True
    return False


def available_memory(device: torch.device) -> int:
    """Bytes that training may use: free ones of the GPU; else of the machine, within its control group's limit."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else memory.available_memory()
