"""What is imported only where it is needed: a login node, a quick command and a sampler wait for no torch and no SDV."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("numpy", "pandas", "pyarrow", "torch", "sdv", "scipy", "pydantic", "submitit", "jinja2", "sklearn", "PIL")


def said_by(code: str) -> str:
    """Output of some Python in a process of its own."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['shardsynth', '--help']\n"
        "from shardsynth.cli import app\n"
        "try:\n    app()\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', [m for m in {HEAVY!r} if m in sys.modules])"
    )
    out = said_by(code)
    assert "Synthetic tables from sharded Parquet" in out
    assert "LOADED []" in out


NEED_NOTHING = {
    "metadata on a login node": (
        "import sys, pyarrow as pa; from shardsynth.data import metadata as md, personal;"
        "m = {'tables': {'table': {'columns': {'x': {'sdtype': 'numerical', 'range_min': 1}}}}};"
        "md.columns(m, pa.schema([('x', pa.int8())])); md.public(m); md.keys_of(m);",
        ("sdv", "torch", "pandas", "scipy"),
    ),
    "the check of a stock model's options": (
        "import sys; from shardsynth.models.sdv.options import validate_options;"
        "validate_options('ctgan', {'generator_dim': [64, 64]});",
        ("sdv", "torch", "pandas", "scipy"),
    ),
    "the check of every family's options": (
        "import sys, pyarrow as pa; from shardsynth.models.families import NATIVE;"
        "[family.check({'epochs': 3} if name[-3:] in ('gan', 'vae') else {}, pa.schema([('x', pa.int8())]), None)"
        " for name, family in NATIVE.items()];",
        ("sdv", "torch", "pandas", "scipy"),
    ),
    "making ids": (
        "import sys, pyarrow as pa; from shardsynth.sampling import identifiers as i;"
        "from shardsynth.data.columns import Column;"
        "g = i.learn(Column('c', pa.string(), 'id', 'id'), pa.array(['a1', 'b2']), {}); i.make(g, pa.string(), 0, 9);",
        ("sdv", "rdt", "faker", "torch", "scipy"),
    ),
}


@pytest.mark.parametrize("what", NEED_NOTHING)
def test_what_needs_neither_sdv_nor_torch_imports_neither(what: str) -> None:
    code, absent = NEED_NOTHING[what]
    assert said_by(f"{code}print([name for name in {absent!r} if name in sys.modules])") == "[]"
