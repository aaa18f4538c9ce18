"""The whole of tests/site/slurm on another release of Slurm than the one that is installed: 24.11, of Debian 13.

Its programs run from a folder that mmdebstrap fills once (tests/site/slurm/release.py); nothing is installed. Arguments
are pytest's, such as `-k failures`. Needs root, mmdebstrap and what tests/site/slurm needs.

Bar: every test passes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.site.slurm.cluster import leave_without_slurm
from tests.site.slurm.release import ROOT_VARIABLE, make_root

ROOT = Path(__file__).parents[1]


def main() -> None:
    leave_without_slurm()
    if shutil.which("mmdebstrap") is None:
        sys.exit("not measured: needs mmdebstrap")
    folder = ROOT / ".slurm-2411"
    make_root("trixie", folder)
    command = [sys.executable, "-m", "pytest", "tests/site/slurm", *sys.argv[1:]]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, ROOT_VARIABLE: str(folder)}, check=False)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
