"""What the container tests share: an image and how to start things in it, the host's command line, checksums."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from shardsynth.executors.slurm.container import Mount

PACKAGE = "/opt/shardsynth/lib/python3.11/site-packages/shardsynth"
SHARDSYNTH = [sys.executable, "-m", "shardsynth.cli"]


class Image:
    """An image, and how to start things in it as a user would."""

    def __init__(self, path: Path, binds: list[str]) -> None:
        self.path = path
        self.binds = binds

    def command(self, *arguments, action="run", mounts=(), flags=(), pwd=None):
        """An Apptainer command line with everything closed; mounts are ``(path, "rw" or "ro")``."""
        options = ["--containall", "--no-home", *flags]
        for bind in self.binds:
            options += ["--bind", bind]
        for path, mode in mounts:
            options += ["--mount", str(Mount(str(path), str(path), writable=mode == "rw"))]
        if pwd is not None:
            options += ["--pwd", str(pwd)]
        return ["apptainer", action, *options, str(self.path), *map(str, arguments)]

    def call_plainly(self, action, *flags):
        """An Apptainer command that looks at the image without starting it."""
        return subprocess.run(
            ["apptainer", action, *flags, str(self.path)], capture_output=True, text=True, check=True
        ).stdout

    def call(self, *arguments, code=0, before=(), env=None, timeout=300, **options):
        """Run it; standard output and error together."""
        done = subprocess.run(
            [*before, *self.command(*arguments, **options)],
            env={**os.environ, **(env or {})},
            capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == code, f"{arguments}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr


def shardsynth(*arguments, code=0, python=None, **options):
    """The host's command line in a process of its own."""
    command = [python, "-m", "shardsynth.cli"] if python else SHARDSYNTH
    done = subprocess.run(
        [*command, *map(str, arguments)],
        capture_output=True, text=True, timeout=300, check=False, stdin=subprocess.DEVNULL, **options,
    )  # fmt: skip
    assert done.returncode == code, f"{arguments}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def outcome(root) -> dict[str, str]:
    """Checksums of all models and samples."""
    files = [path for name in ("samples", "models") for path in (Path(root) / name).rglob("*") if path.is_file()]
    wanted = [p for p in files if p.suffix in (".parquet", ".safetensors") or p.name == "model.json"]
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in wanted}
