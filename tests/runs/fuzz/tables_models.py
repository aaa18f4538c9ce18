"""Changed files of a model of several tables: refused by one clear error, or rows that fit together."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from random import Random

import pyarrow as pa
import pyarrow.compute as pc
from safetensors.numpy import load_file
from tests.here import run_here
from tests.runs.fuzz.frame import Subject, Wrong
from tests.runs.fuzz.model_files import Files, Prepared, change_array, change_bytes, change_card, write_files
from tests.tables.cohort import METADATA, cohort, write_cohort

from shardsynth import Job
from shardsynth.models.autoregressive.subjects.model import SubjectsModel

SUBJECTS = 40


def prepare(folder: Path) -> Prepared:
    """A small model of three tables; its files by their folder inside the model's."""
    write_cohort(folder / "data", cohort(80), 1)
    job = {
        "tables": {name: str(folder / "data" / name) for name in METADATA["tables"]},
        "metadata": str(folder / "data" / "metadata.json"),
        "output": str(folder / "run"),
        "models": {"autoregressive": {"max_epochs": 1, "embedding": 4, "hidden": 4}},
    }
    model = run_here(Job.parse(job), "fit").dir.model("autoregressive")
    files = {}
    for card in sorted(model.rglob("model.json")):
        arrays = card.with_name("model.safetensors")
        own = load_file(arrays) if arrays.exists() else {}
        files[str(card.parent.relative_to(model))] = Files(json.loads(card.read_text()), own, None)
    return Prepared(files, folder / "changed")


def attempt(prepared: Prepared, random: Random) -> str:
    """Change one to three things in the files of one folder; load the model, draw subjects and look at their references."""
    chosen = random.choice(sorted(prepared.models))
    shutil.rmtree(prepared.folder, ignore_errors=True)
    for name in sorted(prepared.models):
        files, raw = prepared.models[name], {}
        if name == chosen:
            files = copy.deepcopy(files)
            for _ in range(random.choice((1, 1, 1, 2, 3))):
                changes = (
                    change_card,
                    change_card,
                    change_bytes,
                    *((change_array, change_array) if files.arrays else ()),
                )
                random.choice(changes)(files, raw, random)
        (prepared.folder / name).mkdir(parents=True, exist_ok=True)
        write_files(prepared.folder / name, files, raw, random)
    model = SubjectsModel.load(prepared.folder)
    first = random.choice((0, 5, 10**6))
    drawn: dict[str, list[pa.RecordBatch]] = {}
    for name, batch, _ in model.draw_subjects(1, range(first, first + SUBJECTS)):
        batch.validate(full=True)
        drawn.setdefault(name, []).append(batch)
    tables = {name: pa.Table.from_batches(batches, model.schemas[name]) for name, batches in drawn.items()}
    for table in model.tree.tables:
        if table.name not in tables:
            continue
        rows = tables[table.name]
        if table.key is not None and pc.count_distinct(rows[table.key]).as_py() != rows.num_rows:
            raise Wrong(f"{table.name}: a key stands twice")
        owner = model.tree.by_name[table.owner] if table.owner is not None else None
        if owner is not None and owner.key is not None and owner.name in tables:
            named = rows[table.owner_column].drop_null()
            keys = tables[owner.name][owner.key].combine_chunks()
            if len(named) and not pc.all(pc.is_in(named, value_set=keys)).as_py():
                raise Wrong(f"{table.name}: a row whose owner is not there")
    return "rows that fit together"


SUBJECT = Subject("tables-models", prepare, attempt)
