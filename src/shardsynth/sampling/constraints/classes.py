"""Finds a user's own constraint class by its dotted name or its file."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from shardsynth.errors import JobError, of_library


def find_class(path: str) -> Any:
    """A user's class by its import path: ``package.module:Class``, ``package.module.Class`` or ``file.py:Class``.

    Raises:
        JobError: It cannot be imported, or is not derived from SDV's ProgrammableConstraint.
    """
    module_name, _, name = path.rpartition(":") if ":" in path else path.rpartition(".")
    try:
        if module_name.endswith(".py"):
            module = _module_of(Path(module_name))
        else:
            if "" not in sys.path:
                sys.path.insert(0, "")
            module = importlib.import_module(module_name)
    except Exception as error:
        raise JobError(
            f"constraint {path!r}: {module_name!r} cannot be imported here ({of_library(error)}); "
            "check the name, and that it can be imported where the tasks run"
        ) from None
    from sdv.cag import ProgrammableConstraint

    loaded = getattr(module, name, None)
    if not (isinstance(loaded, type) and issubclass(loaded, ProgrammableConstraint)):
        what = "has no class of that name" if loaded is None else "is not derived from sdv.cag.ProgrammableConstraint"
        raise JobError(f"constraint {path!r}: {module_name!r} {what}")
    return loaded


def _module_of(path: Path) -> Any:
    """The module of a file. Its name follows from the path, so that a pickle of its objects can be loaded later."""
    resolved = path.resolve()
    name = "shardsynth_constraint_" + hashlib.sha256(str(resolved).encode()).hexdigest()[:16]
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, resolved)
        if spec is None or spec.loader is None or not resolved.exists():
            raise FileNotFoundError(f"no file {path}")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]
