"""Values of the table get into messages by one door."""

from __future__ import annotations

from shardsynth.errors import SHOW_VALUES, cell, cells, of_library
from shardsynth.sampling.conditions import Condition, Conditions


def test_values_are_hidden_unless_they_are_asked_for(monkeypatch):
    monkeypatch.delenv(SHOW_VALUES, raising=False)
    assert cell("Smith") == "(--show-values quotes it)"
    assert cells("; did you mean 'Smith'?") == "; --show-values names what is near"
    assert cells("") == ""
    assert of_library(ValueError("Smith is no number\nat row 3")) == "ValueError"
    monkeypatch.setenv(SHOW_VALUES, "1")
    assert cell("Smith") == "'Smith'"
    assert cells("; did you mean 'Smith'?") == "; did you mean 'Smith'?"
    assert of_library(ValueError("Smith is no number\nat row 3")) == "ValueError: Smith is no number"


def test_conditions_of_the_user_are_shown_and_those_of_the_table_are_not(monkeypatch):
    monkeypatch.delenv(SHOW_VALUES, raising=False)
    own, of_table = Condition("name", "in", ("Smith",)), Condition("name", "in", ("Smith",), from_data=True)
    assert Conditions((own,)).said == str(own) == "name == 'Smith'"
    assert Conditions((of_table,)).said == "a condition on 'name' (--show-values quotes it)"
    assert own == of_table
