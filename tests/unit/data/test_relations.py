"""Metadata of several tables as a tree of owners: what it is, what is refused and how."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.tables.cohort import METADATA, cohort

from shardsynth.data.relations import Reference, TableTree, read_tables
from shardsynth.errors import MetadataError

SCHEMAS = {name: table.schema for name, table in cohort(20).items()}


def read(tmp_path: Path, metadata: dict[str, Any], names: tuple[str, ...] = tuple(SCHEMAS)) -> TableTree:
    path = tmp_path / "metadata.json"
    path.write_text(json.dumps(metadata))
    return read_tables(path, {name: SCHEMAS[name] for name in names})[0]


def test_owners_come_before_what_they_own(tmp_path: Path) -> None:
    tree = read(tmp_path, METADATA, ("labs", "visits", "patients"))
    assert [(table.name, table.owner) for table in tree.tables] == [
        ("patients", None),
        ("visits", "patients"),
        ("labs", "visits"),
    ]
    assert [table.name for table in tree.path("labs")] == ["labs", "visits", "patients"]
    assert TableTree.from_json(json.loads(json.dumps(tree.to_json()))) == tree
    assert tree.drawing({"labs": 3}) == [
        "patients",
        "└─ visits: patient -> patients, in the order of seen",
        "   └─ labs (3 rows): visit -> visits",
    ]


def test_a_table_with_a_sequence_key_has_an_implied_root(tmp_path: Path) -> None:
    visits = {**METADATA["tables"]["visits"], "sequence_key": "patient"}
    metadata = {**METADATA, "tables": {"visits": visits}, "relationships": []}
    tree = read(tmp_path, metadata, ("visits",))
    assert [(t.name, t.implied, t.key, t.owner_column) for t in tree.tables] == [
        ("subjects", True, "patient", None),
        ("visits", False, "visit", "patient"),
    ]


def test_keys_are_ids_whatever_the_metadata_say(tmp_path: Path) -> None:
    metadata = copy.deepcopy(METADATA)
    metadata["tables"]["labs"]["columns"]["visit"] = {"sdtype": "numerical"}
    path = tmp_path / "metadata.json"
    path.write_text(json.dumps(metadata))
    single = read_tables(path, SCHEMAS)[1]["labs"]["tables"]["table"]
    assert single["columns"]["visit"] == {"sdtype": "id"}
    assert list(single["columns"]) == SCHEMAS["labs"].names


def changed(where: str, value: Any) -> dict[str, Any]:
    metadata = copy.deepcopy(METADATA)
    *path, last = where.split("/")
    node: Any = metadata
    for part in path:
        node = node[int(part)] if isinstance(node, list) else node[part]
    node[int(last) if isinstance(node, list) else last] = value
    return metadata


LINK = METADATA["relationships"][1]


@pytest.mark.parametrize(
    ("metadata", "why"),
    [
        (changed("METADATA_SPEC_VERSION", "V1"), "wanted SDV's Metadata V2 of several tables"),
        (changed("tables/visit", {"columns": {}}), "the table 'visit' is not in the job; did you mean 'visits'"),
        (changed("tables/labs/columns/testt", {"sdtype": "id"}), "column 'testt' of the metadata is not in the shards"),
        (changed("tables/visits/primary_key", "vist"), "primary_key: no column is called 'vist'; did you mean 'visit'"),
        (changed("tables/visits/sequence_index", "ward"), "sequence_index 'ward' is of type string"),
        (changed("relationships/0", {**LINK, "parent_table_name": "ward"}), "relationships: no table is called 'ward'"),
        (changed("relationships/0", {"child": 1}), "relationships: wanted a list of mappings"),
        (
            changed("relationships", METADATA["relationships"][:1]),
            "wanted one table that no other owns.*patients, labs",
        ),
        (
            changed(
                "relationships/1",
                {**LINK, "parent_primary_key": "ward", "child_foreign_key": "test"},
            ),
            "visits -> labs: 'ward' is not the primary_key of visits",
        ),
        (
            changed("relationships", [*METADATA["relationships"], LINK]),
            "table 'labs' has two parents",
        ),
    ],
)
def test_mistakes_are_named(tmp_path: Path, metadata: dict[str, Any], why: str) -> None:
    with pytest.raises(MetadataError, match=why):
        read(tmp_path, metadata)


def test_one_table_without_a_sequence_key_is_a_job_of_one_table(tmp_path: Path) -> None:
    metadata = {**METADATA, "tables": {"patients": METADATA["tables"]["patients"]}, "relationships": []}
    with pytest.raises(MetadataError, match="has no sequence_key"):
        read(tmp_path, metadata, ("patients",))


def test_a_list_to_be_copied_is_no_table_of_the_tree(tmp_path: Path) -> None:
    metadata = copy.deepcopy(METADATA)
    metadata["tables"]["tests"] = {"primary_key": "test", "columns": {"test": {"sdtype": "id"}}}
    link = {
        "parent_table_name": "tests",
        "parent_primary_key": "test",
        "child_table_name": "labs",
        "child_foreign_key": "test",
    }
    metadata["relationships"].append(link)
    path = tmp_path / "metadata.json"
    path.write_text(json.dumps(metadata))
    schemas = {**SCHEMAS, "tests": pa.schema([("test", pa.string())])}
    tree, single, references = read_tables(path, schemas, ["tests"])
    assert [table.name for table in tree.tables] == ["patients", "visits", "labs"]
    assert single["labs"]["tables"]["table"]["columns"]["test"] == {"sdtype": "categorical"}
    assert references == (Reference("labs", "test", "tests", "test"),)
    with pytest.raises(MetadataError, match="table 'labs' has two parents.*`copy: true`"):
        read_tables(path, schemas)
    metadata["relationships"][-1] = {**METADATA["relationships"][0], "child_table_name": "tests"}
    metadata["relationships"][-1]["child_foreign_key"] = "test"
    path.write_text(json.dumps(metadata))
    with pytest.raises(MetadataError, match="'tests' is a list to be copied .* take the relationship out"):
        read_tables(path, schemas, ["tests"])
