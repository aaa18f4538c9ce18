"""The image: what takes space in it, and how long it takes to start.

usage: python benchmarks/image.py [IMAGE]      (default: shardsynth.sif at the top, built on a Debian base if it is absent)

The tables: megabytes of each part, unpacked and compressed by itself (zstd, level 3); seconds from Apptainer to the first
line of Python and to `shardsynth --version`, mounted, with --unsquash, and from an unpacked sandbox (best of three, but
--unsquash once). Bars: 900 MB for CPUs, 4.5 GB for CUDA; 2 s when mounted.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from results import record

from shardsynth.standalone.image import identify

ROOT = Path(__file__).parents[1]
SITE = "opt/shardsynth/lib/python3.11/site-packages"
PARTS = {
    "torch's library": ["torch/lib"],
    "CUDA's libraries": ["nvidia", "cuda", "cusparselt", "nvshmem"],
    "triton": ["triton"],
    "pyarrow": ["pyarrow"],
    "scipy": ["scipy", "scipy.libs"],
    "sympy, networkx, mpmath": ["sympy", "networkx", "mpmath"],
    "numpy": ["numpy", "numpy.libs"],
    "plotly": ["plotly"],
    "pandas": ["pandas"],
    "scikit-learn": ["sklearn", "scikit_learn.libs"],
    "faker": ["faker"],
    "sdv, rdt, ctgan, copulas, deepecho, sdmetrics": ["sdv", "rdt", "ctgan", "copulas", "deepecho", "sdmetrics"],
    "shardsynth": ["shardsynth"],
}
FIRST_LINE = "import os, time; print(time.time() - float(os.environ['STARTED']))"


def main(image: Path) -> None:
    """Measure and record."""
    facts = identify(image)
    lines = [f"{image.name}: {image.stat().st_size / 1e6:.0f} MB, {facts['device']}, torch {facts['torch']}", ""]
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        sandbox = Path(folder) / "sandbox"
        run("apptainer", "--quiet", "build", "--sandbox", str(sandbox), str(image))
        lines += sizes(sandbox)
        lines += ["", f"{'start':<30} {'first line':>11} {'--version':>11}"]
        for name, target, flags, times in (
            ("mounted", image, [], 3),
            ("unpacked folder", sandbox, [], 3),
            ("--unsquash", image, ["--unsquash"], 1),
        ):
            first, version = start(target, flags, times)
            lines.append(f"{name:<30} {first:>9.2f} s {version:>9.2f} s")
    record("image" if facts["device"] == "cpu" else "image_cuda", lines)


def sizes(sandbox: Path) -> list[str]:
    """Table of the parts."""
    lines = [f"{'part':<46} {'MB':>6} {'compressed':>11}"]
    packages = sandbox / SITE
    rest = [str((packages / name).relative_to(sandbox)) for names in PARTS.values() for name in names]
    rows: dict[str, tuple[float, float]] = {}
    for name, folders in PARTS.items():
        present = [f"{SITE}/{folder}" for folder in folders if (packages / folder).exists()]
        if present:
            rows[name] = measure(sandbox, present)
    rows["torch's Python"] = measure(sandbox, [f"{SITE}/torch", f"{SITE}/torchgen"], [f"{SITE}/torch/lib"])
    rows["other packages"] = measure(sandbox, ["opt"], [*rest, f"{SITE}/torch", f"{SITE}/torchgen"])
    rows["Debian and Python"] = measure(sandbox, ["."], ["./opt"])
    for name, (size, compressed) in sorted(rows.items(), key=lambda item: -item[1][1]):
        lines.append(f"{name:<46} {size:>6.0f} {compressed:>11.0f}")
    lines.append(f"{'all':<46} {sum(s for s, _ in rows.values()):>6.0f} {sum(c for _, c in rows.values()):>11.0f}")
    return lines


def measure(root: Path, paths: list[str], without: list[str] | None = None) -> tuple[float, float]:
    """Megabytes of these paths, as an archive and compressed."""
    command = ["tar", "-C", str(root), "-c", *(f"--exclude={path}" for path in without or []), *paths]
    size = int(run("bash", "-c", '"$@" 2>/dev/null | wc -c', "-", *command))
    compressed = int(run("bash", "-c", '"$@" 2>/dev/null | zstd -q -3 | wc -c', "-", *command))
    return size / 1e6, compressed / 1e6


def start(target: Path, flags: list[str], times: int) -> tuple[float, float]:
    """Seconds to Python's first line, and until `shardsynth --version` has ended."""
    closed = ["--containall", "--no-home", *flags]
    first, version = [], []
    for _ in range(times):
        stamp = ["--env", f"STARTED={time.time()}"]
        first.append(float(run("apptainer", "exec", *closed, *stamp, str(target), "python3", "-c", FIRST_LINE)))
        began = time.monotonic()
        run("apptainer", "run", *closed, str(target), "--version")
        version.append(time.monotonic() - began)
    return min(first), min(version)


def run(*command: str) -> str:
    """Output of a command that must succeed."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "shardsynth.sif"
    if not path.exists():
        subprocess.run([ROOT / "containers" / "build.sh", "--base", "debian", "-o", path], check=True)
    main(path)
