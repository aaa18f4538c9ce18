"""Memory that this process may take."""

from __future__ import annotations

import os
from pathlib import Path


def available_memory() -> int:
    """Free bytes of the machine, within its control group's limit."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for path, pick in (
        ("/proc/meminfo", lambda text: int(text.split("MemAvailable:")[1].split()[0]) * 1024),
        ("/sys/fs/cgroup/memory.max", int),
    ):
        try:
            limits.append(pick(Path(path).read_text(encoding="ascii")))
        except (OSError, ValueError, IndexError):
            continue
    return min(limits)
