"""How many CPUs this process may use, how libraries are held to a number of threads, and how much memory it took."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "ARROW_NUM_THREADS",
)


def available_cpus() -> int:
    """The smallest of the scheduler's grant, the CPU affinity and the cgroup quota; at least 1."""
    limits = [len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1]
    # The second one where a whole node is given; the last one by scripts for PBS and Grid Engine.
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE", "SHARDSYNTH_CPUS"):
        with contextlib.suppress(ValueError):
            limits.append(int(os.environ.get(name, "")))
    quota = _cgroup_quota()
    if quota is not None:
        limits.append(max(1, int(quota)))
    return max(1, min(limits))


def _cgroup_quota() -> float | None:
    """CPUs that the cgroup's quota allows (version 2, then 1), or None where there is no limit."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        line = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
        folder = Path("/sys/fs/cgroup") / line[3:].lstrip("/")
        quotas = []
        for group in (folder, *folder.parents):  # a quota of any group above also counts
            if group == Path("/sys/fs"):
                break
            with contextlib.suppress(OSError, ValueError):
                quota, period = (group / "cpu.max").read_text().split()
                if quota != "max":
                    quotas.append(int(quota) / int(period))
        if quotas:
            return min(quotas)
    with contextlib.suppress(OSError, ValueError):
        folder = Path("/sys/fs/cgroup/cpu")
        quota_us = int((folder / "cpu.cfs_quota_us").read_text())
        if quota_us > 0:
            return quota_us / int((folder / "cpu.cfs_period_us").read_text())
    return None


def thread_environment(threads: int) -> dict[str, str]:
    """Environment variables that limit the threads of torch, OpenMP and BLAS; to be set before these are imported.

    Threads of OpenMP sleep while they wait for each other, unless the user's ``OMP_WAIT_POLICY`` says otherwise: where
    other processes want the CPUs, waiting in a loop makes a training ten times slower.
    """
    waiting = os.environ.get("OMP_WAIT_POLICY", "PASSIVE")
    return {**{name: str(threads) for name in _VARIABLES}, "OMP_WAIT_POLICY": waiting}


def allowed_threads() -> int:
    """Threads that this process may compute on: what ``limit_threads`` or the user set, else one per CPU."""
    text = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(text)) if text.isdigit() else available_cpus()


def limit_threads(threads: int) -> None:
    """Limit the threads of this process: by the environment, and in the libraries that are already imported."""
    os.environ.update(thread_environment(threads))
    if "pyarrow" in sys.modules:
        import pyarrow as pa

        pa.set_cpu_count(threads)
        pa.set_io_thread_count(max(1, threads))
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)


def peak_memory() -> dict[str, int]:
    """``peak_bytes``: the most memory of this process until now; nothing where the system does not tell."""
    try:
        import resource
    except ImportError:
        return {}
    unit = 1 if sys.platform == "darwin" else 1024
    return {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
