"""Claim: a damaged model file never gives rows: each damage is one error with exit code 2 that names file and array.

A copula is fitted; its arrays and its card are damaged one by one in ways that once read out of bounds, gave garbage
with exit code 0, or ended in a traceback.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from parts.verdict import verdict
from safetensors.numpy import load_file, save_file

import shardsynth as ss
from shardsynth.errors import ShardsynthError

Arrays = dict[str, np.ndarray]


def _set(name: str, place: int, value: float) -> Callable[[Arrays, Any], None]:
    def change(arrays: Arrays, card: Any) -> None:
        arrays[name] = arrays[name].copy()
        arrays[name].reshape(-1)[place] = value

    return change


def _card(key: str, value: Any) -> Callable[[Arrays, Any], None]:
    return lambda arrays, card: card.update({key: value})


#: What is damaged -> how.
DAMAGES: dict[str, Callable[[Arrays, Any], None]] = {
    "a category that is not there": _set("lo", -1, 9.0),
    "a category below the first": _set("lo", -1, -7.0),
    "a value that is not a number": _set("hi", 0, np.nan),
    "an infinite value": _set("hi", 0, np.inf),
    "an infinite probability": _set("probability", 0, np.inf),
    "a part that ends before it starts": _set("lo.starts", 1, 10_000),
    "a cut out of order": _set("cuts", 0, 2**30),
    "a large factor": _set("factor", 0, 2**31 - 1),
    "deviates of another dtype": lambda arrays, card: arrays.update(levels=arrays["levels"].astype(np.float32)),
    "fewer deviates": lambda arrays, card: arrays.update(levels=arrays["levels"][:100]),
    "an array of nobody": lambda arrays, card: arrays.update(more=np.zeros(3)),
    "a column that is not there": lambda arrays, card: card["latents"][0].update(columns=[99]),
    "a treatment of its own": lambda arrays, card: card["columns"][0].update(treatment="exec"),
    "a name that is a number": _card("name", 7),
    "an unknown key": _card("pickle", "x"),
    "no columns": _card("columns", []),
}


def attack(folder: Path) -> list[str]:
    """Damages that were not refused as they should be; empty if the promise held."""
    rng = np.random.default_rng(0)
    table = pa.table({"a": rng.normal(size=300), "b": rng.choice(["x", "y", "z"], 300)})
    pq.write_table(table, folder / "s.parquet")
    job = {
        "input": str(folder / "s.parquet"),
        "output": str(folder / "run"),
        "models": {"gaussian_copula": {}},
        "sample": {"rows": 50},
        "cluster": {"workers": 1},
    }
    model = ss.run_job(ss.Job.parse(job)).dir.model("gaussian_copula")
    broken = []
    for name, damage in DAMAGES.items():
        copy = shutil.copytree(model, folder / "copy")
        arrays, card = load_file(copy / "model.safetensors"), json.loads((copy / "model.json").read_text())
        damage(arrays, card)
        save_file(arrays, copy / "model.safetensors")
        (copy / "model.json").write_text(json.dumps(card))
        try:
            ss.load_model(copy).sample(100)
            broken.append(f"{name}: gave rows")
        except ShardsynthError as error:
            if error.exit_code != 2 or "model." not in str(error):
                broken.append(f"{name}: {error}")
        except Exception as error:
            broken.append(f"{name}: {type(error).__name__}")
        shutil.rmtree(copy)
    return broken


if __name__ == "__main__":
    sys.exit(verdict(attack))
