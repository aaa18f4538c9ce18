"""Every shell script of the repository is clean."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.tools import ROOT, assert_shellcheck

SCRIPTS = [ROOT / ".ci" / "run", *sorted((ROOT / "containers").glob("*.sh"))]
SCRIPTS += [path for path in sorted((ROOT / "slurm").iterdir()) if path.suffix in (".sbatch", ".sh")]


@pytest.mark.needs("shellcheck")
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_script_is_clean(script: Path) -> None:
    assert_shellcheck(script)
