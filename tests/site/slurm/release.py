"""Another release of Slurm than the one that is installed: its daemons and commands run from a Debian root folder.

    python tests/site/slurm/release.py trixie /tmp/slurm-trixie      # as root: Slurm 24.11, in a minute
    SHARDSYNTH_SLURM_ROOT=/tmp/slurm-trixie python -m pytest tests/site/slurm

Nothing of that folder is installed. Its programs are changed to use the folder's own loader and libraries, and links to
them stand first on the PATH of the cluster. Jobs see this machine, as ever. The folder must stay where it was made.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

#: Names a root folder made by `make_root`; the cluster's own Slurm then comes from there.
ROOT_VARIABLE = "SHARDSYNTH_SLURM_ROOT"
_PACKAGES = "slurm-wlm,slurm-wlm-basic-plugins,slurm-wlm-mysql-plugin,slurmdbd,slurm-client,munge,patchelf"


def root() -> Path | None:
    """The root folder that the environment names; None: the Slurm that is installed."""
    name = os.environ.get(ROOT_VARIABLE)
    return None if name is None else Path(name).resolve()


def plugins(folder: Path) -> Path:
    """Slurm's plugins in a root folder."""
    return next(folder.glob("usr/lib/*/slurm-wlm"))


def link_commands(folder: Path, bin_folder: Path) -> None:
    """Link each of Slurm's programs in a root folder under its own name.

    Args:
        folder: The root folder.
        bin_folder: Where the links go.
    """
    bin_folder.mkdir(exist_ok=True)
    for name, program in _programs(folder).items():
        link = bin_folder / name
        if not link.is_symlink():
            link.symlink_to(program)


def _programs(folder: Path) -> dict[str, Path]:
    """Slurm's programs in a root folder, by name. Debian's links of alternatives would lead out of the folder."""
    pattern = re.compile(r"s(acct|acctmgr|batch|cancel|control|info|queue|run|lurmctld|lurmd|lurmdbd|lurmstepd)")
    found = [path for path in [*folder.glob("usr/bin/s*"), *folder.glob("usr/sbin/s*")] if pattern.fullmatch(path.name)]
    return {path.name: path.with_name(f"{path.name}-wlm") if path.is_symlink() else path for path in found}


def make_root(suite: str, folder: Path) -> None:
    """Install a Debian release with its Slurm into a folder, from the mirror that this machine's apt uses."""
    if shutil.which("mmdebstrap") is None:
        sys.exit("not here: mmdebstrap; apt-get install mmdebstrap")
    if (folder / "usr/bin/sbatch").exists():
        return
    sources = Path("/etc/apt/sources.list.d/debian.sources")
    text = sources.read_text() if sources.exists() else Path("/etc/apt/sources.list").read_text()
    mirror = re.search(r"^(?:URIs:|deb(?: \[.*?\])?) *(\S+)", text, re.MULTILINE)
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={_PACKAGES}", suite, str(folder)]
    subprocess.run(command + ([mirror[1]] if mirror else []), check=True)
    # With a wrapper that calls the loader, /proc/self/exe would be the loader, and slurmctld starts itself again by it.
    loader = next(folder.glob("usr/lib/*/ld-linux*.so.*"))
    libraries = f"{loader.parent}:{plugins(folder)}"
    for program in _programs(folder).values():
        inside = f"/{program.relative_to(folder)}"
        change = ["--set-interpreter", str(loader), "--force-rpath", "--set-rpath", libraries]
        subprocess.run(["chroot", str(folder), "patchelf", *change, inside], check=True)


if __name__ == "__main__":
    make_root(sys.argv[1], Path(sys.argv[2]))
