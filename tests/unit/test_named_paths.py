"""The files that CONTRIBUTING and the developer pages name are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "shardsynth"
PAGES = [ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs" / "developer").glob("*.md"))]
#: What stands for a file that a reader would add.
INVENTED = ("forest", "<")


def named(page: Path) -> set[str]:
    code = re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8"))
    paths = {
        text for text in code if re.fullmatch(r"(?:[\w.<>-]+/)*[\w.<>-]+\.(?:py|j2|sh)|(?:src|tests)/[\w./<>-]+", text)
    }
    return {path for path in paths if not any(word in path for word in INVENTED)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_named_file_exists(page):
    if (SOURCE / "pipeline" / "plan.py").exists():
        return  # the tree before its folders: these pages describe the one after
    known = {path.name for folder in (SOURCE, ROOT / "tests") for path in folder.rglob("*") if path.is_file()}
    for path in sorted(named(page)):
        there = any((base / path).exists() for base in (ROOT, SOURCE, SOURCE / "models"))
        assert there or ("/" not in path and path in known), f"{page.name} names {path}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_somewhere(page):
    for target in re.findall(r"\[[^\]]*\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"
