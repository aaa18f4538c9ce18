"""How an attack ends: the last line of its output and its exit code."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path


def verdict(attack: Callable[[Path], list[str]]) -> int:
    """Try the attack in a temporary folder; print ``held`` and return 0 if it broke nothing, else say what and 1."""
    with tempfile.TemporaryDirectory() as temporary:
        found = attack(Path(temporary))
    print("broken: " + "; ".join(found) if found else "held")
    return int(bool(found))
