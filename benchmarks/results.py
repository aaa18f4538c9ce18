"""Prints a benchmark's table and keeps it under benchmarks/results/ with date, commit and machine."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path


def machine() -> str:
    """Processor, CPUs and memory, as text."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cpus = len(os.sched_getaffinity(0))
    return f"{model or platform.machine()}, {cpus} CPUs, {memory:.0f} GiB, Python {platform.python_version()}"


def peak_mib() -> float:
    """Peak resident set of this process alone (`ru_maxrss` would carry a parent's peak across exec)."""
    return next(int(line.split()[1]) / 1024 for line in _lines("/proc/self/status") if line.startswith("VmHWM"))


def record(name: str, lines: Sequence[str]) -> None:
    """Print the lines and write them to ``results/<name>.txt``."""
    root = Path(__file__).parent
    commit = subprocess.run(
        ["git", "-C", str(root), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    head = [
        f"# {name}: {time.strftime('%Y-%m-%d')}, commit {commit.stdout.strip() or 'unknown'}",
        f"# {machine()}",
        "",
    ]
    text = "\n".join([*head, *lines]) + "\n"
    print(text, end="", flush=True)
    (root / "results").mkdir(exist_ok=True)
    (root / "results" / f"{name}.txt").write_text(text, encoding="utf-8")


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
