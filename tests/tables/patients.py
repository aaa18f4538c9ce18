"""Patients with planted secrets, and jobs over them."""

from __future__ import annotations

import secrets
from pathlib import Path

import numpy as np
import pyarrow as pa

from shardsynth import Job

HOSPITALS = [f"Klinikum {place}" for place in ("Rotenfels", "Blaustein", "Gruenwald", "Weissach", "Schwarzach")]
NAMES = [f"Ottokar{n:04d} Wundersam" for n in range(600)]
SECRET_MAXIMUM = 98765.4321
SECRET_CATEGORY = "Morbus-Geheimnis"
SECRET_NOTE = "saw patient Zacharias Quittenbaum of Hintertupfing in tears"


def patients(rows: int = 600) -> pa.Table:
    rng = np.random.default_rng(0)
    value = np.round(rng.gamma(2, 50, rows), 1)
    value[7] = SECRET_MAXIMUM
    disease = rng.choice(["AML", "MDS", "CML"], rows).astype(object)
    disease[11] = SECRET_CATEGORY
    notes = [f"visit {n} went well, patient {n} feels {n % 7} of 7 today" for n in range(rows)]
    notes[13] = SECRET_NOTE
    place = rng.choice(5, rows)
    return pa.table(
        {
            "name": NAMES[:rows],
            "mail": [f"ottokar.{n}@wundersam.example" for n in range(rows)],
            "hospital": pa.array([HOSPITALS[p] for p in place]).dictionary_encode(),
            "site": pa.array(place + 770_000_123),
            "disease": disease.tolist(),
            "value": value,
            "notes": notes,
        }
    )


def job(folder: Path, **changes) -> Job:
    plain = {
        "input": str(folder / "shards"),
        "output": str(folder / "run"),
        "models": {"gaussian_copula": {}},
        "sample": {"rows": 800, "rows_per_shard": 400},
        "evaluate": {"holdout": 0},
        "cluster": {"rows_per_task": 200},
    }
    return Job.parse({**plain, **changes})


def key_file(path: Path, key: bytes | None = None) -> str:
    path.write_bytes(secrets.token_bytes(32) if key is None else key)
    path.chmod(0o600)
    return str(path)
