"""Ids and personal data: made from the row number, unique, in the format seen, never a real value on purpose."""

from __future__ import annotations

from shardsynth.sampling.personal import FUNCTIONS


def test_faker_functions_are_those_of_rdt() -> None:
    from rdt.transformers.pii.anonymization import SDTYPE_ANONYMIZERS

    theirs = {name: entry["function_name"] for name, entry in SDTYPE_ANONYMIZERS.items()}
    assert {name: function for name, function in theirs.items() if name != function} == FUNCTIONS
