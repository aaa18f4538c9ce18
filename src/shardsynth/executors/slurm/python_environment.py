"""Variables without which the Python that submits would not start, or not find its packages: they go with the job.

Pythons of EasyBuild and Spack are made of modules that set LD_LIBRARY_PATH and PYTHONPATH. Jobs start in a clean
environment, so only what this process itself lives on is taken along, and it is named.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path

#: Packages that tasks may import.
_PACKAGES = (
    "shardsynth", "jinja2", "numpy", "pandas", "PIL", "pyarrow", "pydantic", "yaml", "rich", "safetensors", "scipy",
    "sklearn", "submitit", "sdv", "torch", "opendp", "dp_accounting",
)  # fmt: skip
#: Lists of folders: libraries and packages are searched there.
_SEARCHED = ("LD_LIBRARY_PATH", "PYTHONPATH", "EBPYTHONPREFIXES")


def needed_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables that this process found its libraries or packages by, name -> value."""
    needed = {}
    for name in _SEARCHED:
        folders = [entry for entry in environment.get(name, "").split(":") if entry]
        files = _mapped_files() if name == "LD_LIBRARY_PATH" else _package_files()
        if folders and _any_below(files, folders):
            needed[name] = ":".join(os.path.abspath(folder) for folder in folders)
    if environment.get("PYTHONUSERBASE") and _any_below(_package_files(), [environment["PYTHONUSERBASE"]]):
        needed["PYTHONUSERBASE"] = environment["PYTHONUSERBASE"]
    if environment.get("PYTHONHOME"):
        needed["PYTHONHOME"] = environment["PYTHONHOME"]
    return needed


def export_lines() -> list[str]:
    """Lines of a batch script that set these variables; a path that is set there already comes after ours."""
    lines = []
    for name, value in needed_variables().items():
        rest = f'"${{{name}:+:${name}}}"' if name in _SEARCHED else ""
        lines.append(f"export {name}={shlex.quote(value)}{rest}")
    return lines


def what_goes_along() -> str:
    """A line for people that names the variables; empty if there are none."""
    names = list(needed_variables())
    return f"with the jobs go {' and '.join(names)}: the Python here needs them" if names else ""


@functools.lru_cache(maxsize=1)
def _package_files() -> tuple[str, ...]:
    """Where the packages are; nothing is imported."""
    specs = []
    for name in _PACKAGES:
        try:
            specs.append(importlib.util.find_spec(name))
        except (ImportError, ValueError):
            continue
    return tuple(spec.origin for spec in specs if spec is not None and spec.origin)


def _mapped_files() -> tuple[str, ...]:
    """Files that are mapped into this process, its libraries among them."""
    try:
        lines = Path("/proc/self/maps").read_text(errors="replace").splitlines()
    except OSError:
        return ()
    return tuple({line[line.index("/") :] for line in lines if "/" in line})


def _any_below(files: Iterable[str], folders: Iterable[str]) -> bool:
    """Whether a file lies in one of the folders, or below it; links are followed."""
    roots = {os.path.realpath(folder).rstrip("/") + "/" for folder in folders} | {
        os.path.abspath(folder).rstrip("/") + "/" for folder in folders
    }
    return any(path.startswith(tuple(roots)) or os.path.realpath(path).startswith(tuple(roots)) for path in files)
