from __future__ import annotations

import re

import pytest
import typer.main
from tests.tools import ROOT

from shardsynth.cli import app
from shardsynth.commands.reference import option_tables, page_in_step

PAGES = sorted([ROOT / "README.md", *ROOT.glob("[!.]*/*.md"), *ROOT.glob("jobs/*.yaml")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_what_a_page_names_exists(page):
    text = page.read_text()
    known = set(vars(typer.main.get_command(app))["commands"])
    named = set(re.findall(r"^ {4,}shardsynth ([a-z][\w-]*)|`shardsynth ([a-z][\w-]*) ", text, re.M))
    assert {one or other for one, other in named} - {"submit"} <= known
    for target in re.findall(r"(?<!!)\[[^\]]*\]\(([^)#]+)", text):
        assert (page.parent / target).exists(), target


def test_the_readme_lists_every_command():
    listed = set(re.findall(r"^\| `([a-z][\w-]*)", (ROOT / "README.md").read_text(), re.M))
    assert listed == set(vars(typer.main.get_command(app))["commands"])


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_generated_tables_are_those_of_the_code(page):
    assert page.read_text() == page_in_step(page), "run: python -m shardsynth.commands.reference docs/*.md"


def test_every_table_of_options_is_on_a_page():
    pages = "".join(page.read_text() for page in (ROOT / "docs").glob("*.md"))
    assert sorted(re.findall("<!-- options:([a-z_]+) -->", pages)) == sorted(option_tables())
