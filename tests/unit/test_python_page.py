"""docs/python.md names every public name of the package, with its signature, and every error with its exit code."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import shardsynth
from shardsynth import errors

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
CLASSES = [name for name in shardsynth.__all__ if inspect.isclass(getattr(shardsynth, name))]
FUNCTIONS = [name for name in shardsynth.__all__ if inspect.isfunction(getattr(shardsynth, name))]


class Bare(str):
    """An annotation as it stands in the source."""

    def __repr__(self) -> str:
        return str(self)


def signature(function) -> str:
    found = inspect.signature(function)
    return str(
        found.replace(
            parameters=[
                each.replace(annotation=Bare(each.annotation)) if isinstance(each.annotation, str) else each
                for each in found.parameters.values()
            ],
            return_annotation=Bare(found.return_annotation),
        )
    )


def members():
    for owner in CLASSES:
        for name, member in vars(getattr(shardsynth, owner)).items():
            if name.startswith("_"):
                continue
            if isinstance(member, property):
                yield f"{owner}.{name} -> {member.fget.__annotations__['return']}"
            elif isinstance(member, classmethod) or inspect.isfunction(member):
                yield f"{owner}.{name}{signature(getattr(getattr(shardsynth, owner), name))}"


@pytest.mark.parametrize("name", shardsynth.__all__)
def test_a_public_name_stands_on_the_page(name):
    assert f"`{name}" in PAGE


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_has_its_signature(name):
    assert f"### `{name}{signature(getattr(shardsynth, name))}`\n" in PAGE


@pytest.mark.parametrize("text", members())
def test_a_method_has_its_signature(text):
    assert f"### `{text}`\n" in PAGE


def test_nothing_else_has_a_heading():
    named = {line for line in PAGE.splitlines() if line.startswith("### ")}
    functions = {f"### `{name}{signature(getattr(shardsynth, name))}`" for name in FUNCTIONS}
    assert named == functions | {f"### `{text}`" for text in members()}


def test_every_error_has_its_exit_code():
    known = {
        name: error.exit_code
        for name, error in vars(errors).items()
        if inspect.isclass(error) and issubclass(error, errors.ShardsynthError) and error is not errors.ShardsynthError
    }
    for name, code in known.items():
        assert f"| `{name}` | {code} |" in PAGE
