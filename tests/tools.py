"""What a machine may lack, looked for here and nowhere else: tools, shared data, a GPU, a second CPU.

A test says ``@pytest.mark.needs("shellcheck")`` and skips where that is absent; a fixture calls ``require``. Under
``SHARDSYNTH_NO_SKIP=1`` such a skip is a failure (noskip_plugin.py), but for a GPU, which nobody can install.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.site.slurm.cluster import missing_programs

ROOT = Path(__file__).parents[1]
SHARED_DATA = ROOT.parent / "shared" / "data"


def program(*names: str) -> str | None:
    """Path of the first of these programs that is here, None where none is."""
    return next((found for name in names if (found := shutil.which(name))), None)


def chromium() -> str | None:
    """Path of Chromium or Chrome."""
    return program("chromium", "chromium-browser", "google-chrome")


def _no_program(name: str) -> Callable[[], str]:
    return lambda: "" if program(name) else f"{name} is absent (.ci/run installs it)"


def _no_slurm() -> str:
    absent = missing_programs()
    if absent:
        return f"no Slurm to start here: {', '.join(absent)} absent (.ci/run installs them)"
    return "" if os.geteuid() == 0 else "the cluster's daemons start as root only"


def _no_chromium() -> str:
    return "" if chromium() else "no chromium on PATH: the page was not rendered (apt-get install chromium)"


def _no_gpu() -> str:
    import torch

    return "" if torch.cuda.is_available() else "no GPU here"


def _a_gpu() -> str:
    return "there is a GPU" if not _no_gpu() else ""


def _one_cpu() -> str:
    from shardsynth.standalone.cpus import available_cpus

    return "" if available_cpus() >= 2 else "this machine has one CPU"


def _no_other_users() -> str:
    if not program("setpriv"):
        return "setpriv is absent"
    if os.geteuid() != 0:
        return "only root can become other users"
    command = ["setpriv", "--reuid=40001", "--regid=40001", "--clear-groups", sys.executable, "-c", "import shardsynth"]
    done = subprocess.run(command, capture_output=True, cwd="/", check=False)
    return "another user cannot start this Python" if done.returncode else ""


def _no_file(path: str) -> Callable[[], str]:
    return lambda: "" if Path(path).exists() else f"no {path} on this system"


def _no_data(name: str) -> Callable[[], str]:
    return lambda: "" if (SHARED_DATA / name).is_dir() else f"../shared/data/{name} is absent"


#: Each gives the reason why a test that needs it cannot run here, or "".
_WHY_NOT: dict[str, Callable[[], str]] = {
    "shellcheck": _no_program("shellcheck"),
    "slurm": _no_slurm,
    "apptainer": _no_program("apptainer"),
    "mmdebstrap": _no_program("mmdebstrap"),
    "chromium": _no_chromium,
    "a GPU": _no_gpu,
    "no GPU": _a_gpu,
    "two CPUs": _one_cpu,
    "other users": _no_other_users,
    "/dev/full": _no_file("/dev/full"),
    "/proc": _no_file("/proc/self/status"),
    "environment-modules": _no_file("/usr/share/modules/init/bash"),
    "adult": _no_data("adult"),
    "mds": _no_data("mds"),
}


def require(*names: str) -> None:
    """Skip the test that asks, with the reason, where this machine lacks one of these."""
    for name in names:
        reason = _WHY_NOT[name]()
        if reason:
            pytest.skip(reason)


def shared_folder(name: str) -> Path:
    """Folder of a real table; skips where it is absent."""
    require(name)
    return SHARED_DATA / name


def assert_shellcheck(*scripts: Path) -> None:
    """Shell scripts are clean; the test that asks is marked as one that needs shellcheck."""
    done = subprocess.run(["shellcheck", *map(str, scripts)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
