"""Runs as a login shell starts them, and what must be equal whoever ran a job."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

SHARDSYNTH = [sys.executable, "-m", "shardsynth.cli"]


def shardsynth(*arguments, code=0, **options):
    """The command line in a process of its own, as a login shell would call it."""
    done = subprocess.run(
        [*SHARDSYNTH, *(str(a) for a in arguments)],
        capture_output=True, text=True, timeout=300, check=False, stdin=subprocess.DEVNULL, **options,
    )  # fmt: skip
    assert done.returncode == code, f"{arguments}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def outcome(root):
    """Checksums of what may leave the house and must not depend on who ran it."""
    root = Path(root)
    files = [p for name in ("samples", "models") for p in (root / name).rglob("*") if p.is_file()]
    wanted = [p for p in files if p.suffix in (".parquet", ".safetensors") or p.name == "model.json"]
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in wanted}
